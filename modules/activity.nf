// Activity of regulators or pathways in each cell.
process ACTIVITY {
    tag "all samples"
    label 'process_high'
    label 'process_gpu'

    input:
    path store
    path preprocess
    path cluster
    path network
    val options
    val backend
    val seed
    path library

    output:
    path 'activity.h5ad', emit: delta
    path 'tables/*.csv', emit: tables
    path "activity.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    activity.py \\
        --store ${store} \\
        --preprocess ${preprocess} \\
        --cluster ${cluster} \\
        --network ${Shell.quote(network.name)} \\
        --output activity.h5ad \\
        --tables tables \\
        --backend ${backend} \\
        --seed ${seed} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} activity.h5ad.run.json > versions.yml
    """

    stub:
    """
    mkdir tables
    touch activity.h5ad tables/activity_ulm.csv
    echo '{"stage": "activity", "versions": {"stub": "0"}}' > activity.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} activity.h5ad.run.json > versions.yml
    """
}
