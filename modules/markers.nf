// Genes that tell the clusters apart.
process MARKERS {
    tag "all samples"
    label 'process_high'
    label 'process_gpu'

    input:
    path store
    path preprocess
    path cluster
    val options
    val backend
    path library

    output:
    path 'markers.h5ad', emit: delta
    path 'tables/*.csv', emit: tables
    path 'tables/*.parquet', emit: parquet
    path "markers.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    markers.py \\
        --store ${store} \\
        --preprocess ${preprocess} \\
        --cluster ${cluster} \\
        --output markers.h5ad \\
        --tables tables \\
        --backend ${backend} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} markers.h5ad.run.json > versions.yml
    """

    stub:
    """
    mkdir tables
    touch markers.h5ad tables/markers_wilcoxon.csv tables/markers_wilcoxon.parquet
    echo '{"stage": "markers", "versions": {"stub": "0"}}' > markers.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} markers.h5ad.run.json > versions.yml
    """
}
