// Spatial graph and statistics of a sample.
process SPATIAL {
    tag "${meta.id}"
    label 'process_medium'
    label 'process_gpu'

    input:
    tuple val(meta), path(store), path(preprocess), path(cluster)
    path interactions
    val options
    val backend
    val seed
    path library

    output:
    tuple val(meta), path("${meta.id}.spatial.h5ad"), emit: delta
    path 'tables/*.csv', emit: tables
    path "${meta.id}.spatial.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    spatial.py \\
        --store ${store} \\
        --preprocess ${preprocess} \\
        --cluster ${cluster} \\
        --sample ${meta.id} \\
        --output ${meta.id}.spatial.h5ad \\
        --tables tables \\
        --backend ${backend} \\
        --seed ${seed} \\
        --interactions ${interactions} ${meta.spatial ? '' : '--dissociated'} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} ${meta.id}.spatial.h5ad.run.json > versions.yml
    """

    stub:
    """
    mkdir tables
    touch ${meta.id}.spatial.h5ad tables/${meta.id}.moran.csv
    echo '{"stage": "spatial", "versions": {"stub": "0"}}' > ${meta.id}.spatial.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} ${meta.id}.spatial.h5ad.run.json > versions.yml
    """
}
