// Metrics of a sample's cells, and which cells pass.
process QC {
    tag "${meta.id}"
    label 'process_low'
    label 'process_gpu'

    input:
    tuple val(meta), path(store)
    val options
    val backend
    path library

    output:
    tuple val(meta), path("${meta.id}.qc.h5ad"), emit: delta
    path "${meta.id}.qc.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    qc.py \\
        --store ${store} \\
        --sample ${meta.id} \\
        --output ${meta.id}.qc.h5ad \\
        --backend ${backend} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} ${meta.id}.qc.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch ${meta.id}.qc.h5ad
    echo '{"stage": "qc", "versions": {"stub": "0"}}' > ${meta.id}.qc.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} ${meta.id}.qc.h5ad.run.json > versions.yml
    """
}
