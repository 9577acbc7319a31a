// The page that shows what was done and found. `parameters` is JSON.
process REPORT {
    tag "all samples"
    label 'process_medium'

    input:
    path store
    path deltas, stageAs: 'deltas/*'
    path qcs, stageAs: 'qc/*'
    path run_records, stageAs: 'records/*'
    path tables, stageAs: 'tables/*'
    val parameters
    val options
    path library

    output:
    path 'report.html', emit: report
    path 'figures/*', emit: figures
    path 'multiqc/*', emit: multiqc
    path 'report.html.run.json', emit: run_record
    path 'versions.yml', topic: 'versions'

    script:
    """
    export PYTHONPATH="\$(dirname "\$(realpath ${library})"):\${PYTHONPATH:-}"
    echo ${Shell.quote(parameters)} > parameters.json
    report.py \\
        --store ${store} \\
        ${Shell.repeated('delta', deltas)} \\
        ${Shell.repeated('qc', qcs)} \\
        ${Shell.repeated('run-record', run_records)} \\
        --tables tables \\
        --parameters parameters.json \\
        --output report.html \\
        --figures figures \\
        --multiqc multiqc \\
        ${Shell.options(options)}
    versions.py ${task.process.tokenize(':').last()} report.html.run.json > versions.yml
    """

    stub:
    """
    mkdir figures multiqc
    touch report.html figures/quality-counts-of-a-cell.png multiqc/rsc_flow_general_mqc.json
    echo '{"stage": "report", "versions": {"stub": "0"}}' > report.html.run.json
    versions.py ${task.process.tokenize(':').last()} report.html.run.json > versions.yml
    """
}
