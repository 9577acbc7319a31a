// Counts store and deltas -> the AnnData file that users open. `provenance` is JSON.
process ASSEMBLE {
    tag "all samples"
    label 'process_medium'

    input:
    path store
    path deltas, stageAs: 'deltas/*'
    path run_records, stageAs: 'records/*'
    val provenance
    val options
    path library

    output:
    path 'adata.h5ad', emit: adata
    path 'adata.zarr', emit: zarr, optional: true
    path 'tables/*.csv', emit: tables, optional: true
    path "adata.h5ad.run.json", emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    echo ${Shell.quote(provenance)} > provenance.json
    assemble.py \\
        --store ${store} \\
        ${Shell.repeated('delta', deltas)} \\
        ${Shell.repeated('run-record', run_records)} \\
        --provenance provenance.json \\
        --output adata.h5ad \\
        --tables tables \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} adata.h5ad.run.json > versions.yml
    """

    stub:
    """
    touch adata.h5ad
    echo '{"stage": "assemble", "versions": {"stub": "0"}}' > adata.h5ad.run.json
    versions.py ${task.process.tokenize(':').last()} adata.h5ad.run.json > versions.yml
    """
}
