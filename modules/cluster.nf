// Communities of the graph.
process CLUSTER {
    tag "all samples"
    label 'process_low'
    label 'process_gpu'

    input:
    path neighbors
    path representation
    val options
    val backend
    val seed
    path library

    output:
    path 'cluster.h5ad', emit: delta
    path "cluster.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    cluster.py \\
        --neighbors ${neighbors} \\
        --representation ${representation} \\
        --output cluster.h5ad \\
        --backend ${backend} \\
        --seed ${seed} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} cluster.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch cluster.h5ad
    echo '{"stage": "cluster", "versions": {"stub": "0"}}' > cluster.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} cluster.h5ad.run.json > versions.yml
    """
}
