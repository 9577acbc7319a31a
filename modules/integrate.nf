// Batches moved onto each other.
process INTEGRATE {
    tag "all samples"
    label 'process_medium'
    label 'process_gpu'

    input:
    path store
    path preprocess
    val options
    val backend
    val seed
    path library

    output:
    path 'integrate.h5ad', emit: delta
    path "integrate.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    integrate.py \\
        --store ${store} \\
        --preprocess ${preprocess} \\
        --output integrate.h5ad \\
        --backend ${backend} \\
        --seed ${seed} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} integrate.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch integrate.h5ad
    echo '{"stage": "integrate", "versions": {"stub": "0"}}' > integrate.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} integrate.h5ad.run.json > versions.yml
    """
}
