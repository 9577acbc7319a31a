// Counts stores and QC deltas -> one counts store of the cells that pass. Both lists in the same order of samples.
process MERGE {
    tag "all samples"
    label 'process_medium'

    input:
    path stores, stageAs: 'samples/*'
    path qcs, stageAs: 'samples/*'
    val options
    path library

    output:
    path 'counts.store.h5ad', emit: store
    path "counts.store.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    merge.py \\
        ${Shell.repeated('store', stores)} \\
        ${Shell.repeated('qc', qcs)} \\
        --output counts.store.h5ad \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} counts.store.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch counts.store.h5ad
    echo '{"stage": "merge", "versions": {"stub": "0"}}' > counts.store.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} counts.store.h5ad.run.json > versions.yml
    """
}
