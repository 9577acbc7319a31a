// Any format -> the sample's counts store, checked. contents: what a folder holds, which Nextflow's hash of a folder leaves out.
process INGEST {
    tag "${meta.id}"
    label 'process_single'

    input:
    tuple val(meta), path(counts, stageAs: 'input/*'), val(options), val(contents)
    path library

    output:
    tuple val(meta), path("${meta.id}.store.h5ad"), emit: store
    path "${meta.id}.store.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    ingest.py \\
        --input ${Shell.quote(counts.name)} \\
        --sample ${meta.id} \\
        --output ${meta.id}.store.h5ad \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} ${meta.id}.store.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch ${meta.id}.store.h5ad
    echo '{"stage": "ingest", "versions": {"stub": "0"}}' > ${meta.id}.store.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} ${meta.id}.store.h5ad.run.json > versions.yml
    """
}
