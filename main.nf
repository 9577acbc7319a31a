#!/usr/bin/env nextflow

include { INGEST } from './modules/ingest'
include { QC } from './modules/qc'
include { MERGE } from './modules/merge'
include { PREPROCESS } from './modules/preprocess'
include { INTEGRATE } from './modules/integrate'
include { NEIGHBORS } from './modules/neighbors'
include { EMBED } from './modules/embed'
include { CLUSTER } from './modules/cluster'
include { MARKERS } from './modules/markers'
include { ACTIVITY } from './modules/activity'
include { SPATIAL } from './modules/spatial'
include { ASSEMBLE } from './modules/assemble'
include { REPORT } from './modules/report'

// What only says where and how to run: it changes no result, and the report does not show it.
def placeParameters() {
    return ['outdir', 'cache_dir', 'publish_dir_mode', 'container_cpu', 'container_gpu', 'help']
}

// Checks parameters and samplesheet; ends the run with one message that lists all that is wrong.
def checkedSheet(Parameters parameters) {
    def settings = parameters.values
    def problems = parameters.problems
    if (problems) {
        error("The parameters are not right:\n  ${problems.join('\n  ')}\nNothing was run.")
    }
    def sheet = new Samplesheet(settings.input.toString(), file("${projectDir}/assets/schema_input.json"))
    problems = sheet.problems
    if (problems) {
        error("The samplesheet ${settings.input} is not right:\n  ${problems.join('\n  ')}\nNothing was run.")
    }
    return sheet
}

// INTEGRATE runs unless it is switched off or the batch is known to be the same for all cells.
def isIntegrated(Map settings, Samplesheet sheet) {
    return settings.integration != 'none' && !sheet.isConstant(settings.batch_key.toString())
}

// The files of rsc_core that a stage uses.
def library(String stage) {
    return Library.of(projectDir, workflow.workDir, stage)
}

// Where the results are, or how to go on.
def farewell() {
    if (params.help) {
        return
    }
    if (workflow.success) {
        log.info(
            """\
            Report:   ${params.outdir}/report.html
            AnnData:  ${params.outdir}/adata.h5ad
            Tables:   ${params.outdir}/tables/
            This run: ${params.outdir}/pipeline_info/ (time and memory of each task, versions, parameters)""".stripIndent()
        )
    }
    else if (workflow.stats.succeedCount + workflow.stats.cachedCount + workflow.stats.failedCount > 0) {
        log.info("Cure the cause that the error names, then start the same command with -resume: finished tasks are kept.")
    }
}

workflow RSC_FLOW {
    take:
    settings    // Map: parameters in their types
    sheet       // Samplesheet
    parameters  // String: JSON of the parameters that matter to the results

    main:
    def backend = settings.backend
    def seed = settings.seed
    def position = sheet.rows.withIndex().collectEntries { row, index -> [row.sample, index] }

    samples = channel.fromList(
        sheet.rows.collect { row ->
            def annotation = sheet.annotations.collect { column -> "${column}=${row[column]}".toString() }
            [
                [id: row.sample],
                row.path,
                ['format', 'counts_layer', 'genome', 'orientation'].collectEntries { name -> [name, row[name] ?: settings[name]] } + [annotation: annotation],
                Samplesheet.contentsOf(row.path),
            ]
        }
    )
    INGEST(samples, library('ingest'))

    def qc_names = ['min_counts', 'max_counts', 'min_genes', 'max_genes', 'max_mito_percent', 'nmads', 'mito_prefix', 'ribo_prefix', 'hb_pattern']
    QC(INGEST.out.store, settings.subMap(qc_names), backend, library('qc'))

    by_sample = INGEST.out.store.join(QC.out.delta).toSortedList { a, b -> position[a[0].id] <=> position[b[0].id] }
    stores = by_sample.map { rows -> rows.collect { row -> row[1] } }
    qcs = by_sample.map { rows -> rows.collect { row -> row[2] } }
    MERGE(stores, qcs, settings.subMap(['join', 'min_cells']), library('merge'))

    PREPROCESS(MERGE.out.store, settings.subMap(['target_sum', 'n_top_genes', 'batch_key', 'n_comps']), backend, seed, library('preprocess'))

    if (isIntegrated(settings, sheet)) {
        def names = ['integration', 'batch_key', 'theta', 'max_iter_harmony']
        INTEGRATE(MERGE.out.store, PREPROCESS.out.delta, settings.subMap(names), backend, seed, library('integrate'))
        integrated = INTEGRATE.out.delta
        integrate_record = INTEGRATE.out.run_record
        representation = integrated
    }
    else {
        integrated = channel.empty()
        integrate_record = channel.empty()
        representation = PREPROCESS.out.delta
    }

    NEIGHBORS(representation, settings.subMap(['n_neighbors', 'metric']), backend, seed, library('neighbors'))
    def embed_names = ['embeddings', 'min_dist', 'spread', 'umap_impl', 'perplexity', 'n_diffmap', 'density', 'root_cell']
    EMBED(NEIGHBORS.out.delta, representation, settings.subMap(embed_names), backend, seed, library('embed'))
    CLUSTER(NEIGHBORS.out.delta, settings.subMap(['resolutions', 'leiden_impl', 'paga']), backend, seed, library('cluster'))
    MARKERS(MERGE.out.store, PREPROCESS.out.delta, CLUSTER.out.delta, settings.subMap(['groupby', 'marker_methods']), backend, library('markers'))

    if (settings.network) {
        def names = ['activity_methods', 'tmin', 'times']
        ACTIVITY(MERGE.out.store, PREPROCESS.out.delta, CLUSTER.out.delta, file(settings.network), settings.subMap(names), backend, seed, library('activity'))
        activity = ACTIVITY.out.delta
        activity_tables = ACTIVITY.out.tables
        activity_record = ACTIVITY.out.run_record
    }
    else {
        activity = channel.empty()
        activity_tables = channel.empty()
        activity_record = channel.empty()
    }

    def spatial_samples = sheet.rows.findAll { row -> row.spatial }.collect { row -> [id: row.sample] }
    if (spatial_samples) {
        def names = ['coord_type', 'n_neighs', 'spatial_stats', 'n_perms', 'cluster_key']
        def interactions = file(settings.interactions ?: "${projectDir}/assets/ligand_receptor_consensus.csv")
        tissue = channel.fromList(spatial_samples).combine(MERGE.out.store).combine(PREPROCESS.out.delta).combine(CLUSTER.out.delta)
        SPATIAL(tissue, interactions, settings.subMap(names), backend, seed, library('spatial'))
        spatial = SPATIAL.out.delta.map { _meta, delta -> delta }
        spatial_tables = SPATIAL.out.tables
        spatial_record = SPATIAL.out.run_record
    }
    else {
        spatial = channel.empty()
        spatial_tables = channel.empty()
        spatial_record = channel.empty()
    }

    // Sorted by name: what comes first must not depend on which task ends first.
    deltas = PREPROCESS.out.delta
        .mix(integrated, NEIGHBORS.out.delta, EMBED.out.delta, CLUSTER.out.delta, MARKERS.out.delta, activity, spatial)
        .toSortedList { delta -> delta.name }
    ASSEMBLE(MERGE.out.store, deltas, settings.subMap(['x_content']), library('assemble'))

    tables = MARKERS.out.tables.mix(activity_tables, spatial_tables).flatten().toSortedList { table -> table.name }
    run_records = INGEST.out.run_record
        .mix(
            QC.out.run_record,
            MERGE.out.run_record,
            PREPROCESS.out.run_record,
            integrate_record,
            NEIGHBORS.out.run_record,
            EMBED.out.run_record,
            CLUSTER.out.run_record,
            MARKERS.out.run_record,
            activity_record,
            spatial_record,
            ASSEMBLE.out.run_record,
        )
        .toSortedList { run_record -> run_record.name }
    REPORT(ASSEMBLE.out.adata, qcs, run_records, tables, parameters, settings.subMap(['title']), library('report'))

    channel.topic('versions')
        .map { versions -> versions.text }
        .mix(channel.of("Workflow:\n  rsc-flow: \"${workflow.manifest.version}\"\n  Nextflow: \"${workflow.nextflow.version}\"\n".toString()))
        .unique()
        .collectFile(name: 'versions.yml', storeDir: "${settings.outdir}/pipeline_info", sort: true)
}

workflow {
    main:
    if (params.help) {
        log.info(Parameters.help(params, file("${projectDir}/nextflow_schema.json")))
    }
    else {
        def parameters = new Parameters(params, file("${projectDir}/nextflow_schema.json"))
        def sheet = checkedSheet(parameters)
        def settings = parameters.values
        file("${settings.outdir}/pipeline_info").mkdirs()
        file("${settings.outdir}/pipeline_info/params.json").text = parameters.json()
        RSC_FLOW(settings, sheet, parameters.jsonWithout(placeParameters()))
    }

    workflow.onComplete {
        farewell()
    }
}
