// Activity of regulators or pathways in each cell, by the methods for one network.

// Start of the names of a network's files; the network of --network has no name.
def prefix(meta) {
    return meta.name ? "activity.${meta.name}" : 'activity'
}

process ACTIVITY {
    tag "${meta.name ?: 'all samples'}"
    label 'process_high'
    label 'process_gpu'

    input:
    tuple val(meta), path(network), val(methods), path(store), path(preprocess), path(cluster)
    val options
    val backend
    val seed
    path library

    output:
    path "${prefix(meta)}.h5ad", emit: delta
    path 'tables/*.csv', emit: tables
    path "${prefix(meta)}.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    activity.py \\
        --store ${store} \\
        --preprocess ${preprocess} \\
        --cluster ${cluster} \\
        --network ${Shell.quote(network.name)} \\
        --network-name ${Shell.quote(meta.name)} \\
        --activity-methods ${methods} \\
        --output ${prefix(meta)}.h5ad \\
        --tables tables \\
        --backend ${backend} \\
        --seed ${seed} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} ${prefix(meta)}.h5ad.run.json > versions.yml
    """

    stub:
    """
    mkdir tables
    touch ${prefix(meta)}.h5ad tables/${prefix(meta).replace('.', '_')}_ulm.csv
    echo '{"stage": "activity", "versions": {"stub": "0"}}' > ${prefix(meta)}.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} ${prefix(meta)}.h5ad.run.json > versions.yml
    """
}
