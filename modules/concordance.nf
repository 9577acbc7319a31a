// Some cells again by the other backend or the reference libraries, step by step.
process CONCORDANCE {
    tag "all samples"
    label 'process_medium'
    label 'process_gpu'

    input:
    path store
    path cluster
    val options
    val backend
    val seed
    path library

    output:
    path 'tables/concordance.csv', emit: table
    path 'tables/concordance.csv.run.json', emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    concordance.py \\
        --store ${store} \\
        --cluster ${cluster} \\
        --output tables/concordance.csv \\
        --backend ${backend} \\
        --seed ${seed} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} tables/concordance.csv.run.json > versions.yml
    """

    stub:
    """
    mkdir tables
    touch tables/concordance.csv
    echo '{"stage": "concordance", "versions": {"stub": "0"}}' > tables/concordance.csv.run.json
    versions.py ${task.process.tokenize(':').last()} tables/concordance.csv.run.json > versions.yml
    """
}
