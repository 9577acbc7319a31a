// The graph in two dimensions.
process EMBED {
    tag "all samples"
    label 'process_medium'
    label 'process_gpu'

    input:
    path neighbors
    path representation
    val options
    val backend
    val seed
    path library

    output:
    path 'embed.h5ad', emit: delta
    path "embed.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    embed.py \\
        --neighbors ${neighbors} \\
        --representation ${representation} \\
        --output embed.h5ad \\
        --backend ${backend} \\
        --seed ${seed} \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} embed.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch embed.h5ad
    echo '{"stage": "embed", "versions": {"stub": "0"}}' > embed.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} embed.h5ad.run.json > versions.yml
    """
}
