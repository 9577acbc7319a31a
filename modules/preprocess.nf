// Size factors, highly variable genes, principal components.
process PREPROCESS {
    tag "all samples"
    label 'process_high'
    label 'process_gpu'

    input:
    path store
    val options
    val backend
    val seed
    path library

    output:
    path 'preprocess.h5ad', emit: delta
    path "preprocess.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    preprocess.py \\
        --store ${store} \\
        --output preprocess.h5ad \\
        --backend ${backend} \\
        --seed ${seed} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} preprocess.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch preprocess.h5ad
    echo '{"stage": "preprocess", "versions": {"stub": "0"}}' > preprocess.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} preprocess.h5ad.run.json > versions.yml
    """
}
