// Graph of nearest neighbours.
process NEIGHBORS {
    tag "all samples"
    label 'process_medium'
    label 'process_gpu'

    input:
    path representation
    path store
    val options
    val backend
    val seed
    path library

    output:
    path 'neighbors.h5ad', emit: delta
    path "neighbors.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    neighbors.py \\
        --representation ${representation} \\
        --store ${store} \\
        --output neighbors.h5ad \\
        --backend ${backend} \\
        --seed ${seed} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} neighbors.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch neighbors.h5ad
    echo '{"stage": "neighbors", "versions": {"stub": "0"}}' > neighbors.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} neighbors.h5ad.run.json > versions.yml
    """
}
