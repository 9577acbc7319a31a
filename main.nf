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
include { CONCORDANCE } from './modules/concordance'
include { ASSEMBLE } from './modules/assemble'
include { REPORT } from './modules/report'
include { SPATIALDATA } from './modules/spatialdata'

// What only says where and how to run: it changes no result, and the report does not show it.
def placeParameters() {
    def place = ['outdir', 'cache_dir', 'publish_dir_mode', 'container_cpu', 'container_gpu', 'container_rapids', 'container_spatialdata']
    return place + ['spatialdata', 'help', 'validate_only'] + Parameters.namesOf('facility', schemaFile())
}

def schemaFile() {
    return file("${projectDir}/nextflow_schema.json")
}

// Parameters that a profile cannot do without.
def lackingOfProfiles(Map settings) {
    def queues = settings.backend == 'gpu' ? ['queue_cpu', 'queue_gpu'] : ['queue_cpu']
    def needed = [awsbatch: queues, azure: queues]
    return workflow.profile.tokenize(',').collectMany { name ->
        (needed[name] ?: []).findAll { parameter -> !settings[parameter] }.collect { parameter -> "--${parameter}: missing, the profile ${name} needs it. See docs/cloud.md." }
    }
}

// The images have no package spatialdata, but for one that is made with it.
def lackingImage(Map settings) {
    def inImages = workflow.containerEngine || workflow.profile.tokenize(',').any { name -> name in ['awsbatch', 'google', 'azure', 'k8s'] }
    return settings.spatialdata && inImages && !settings.container_spatialdata
        ? ["--container_spatialdata: missing, in an image --spatialdata needs one with the package spatialdata. See containers/README.md."]
        : []
}

// Checks parameters and samplesheet; ends the run with one message that lists all that is wrong.
def checkedSheet(Parameters parameters) {
    def settings = parameters.values
    def problems = parameters.problems + lackingOfProfiles(settings) + lackingImage(settings)
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

// Networks with their files and methods: of --networks, checked as the samplesheet, and of --network, which has no name.
def networksOf(Map settings) {
    def single = settings.network ? [[[name: ''], file(settings.network), settings.activity_methods]] : []
    if (!settings.networks) {
        return single
    }
    def sheet = new Samplesheet(settings.networks.toString(), file("${projectDir}/assets/schema_networks.json"))
    if (sheet.problems) {
        error("The networks ${settings.networks} are not right:\n  ${sheet.problems.join('\n  ')}\nNothing was run.")
    }
    return single + sheet.rows.collect { row -> [[name: row.name], row.path, row.methods ? row.methods.replace(';', ',') : settings.activity_methods] }
}

// INTEGRATE runs unless it is switched off or the batch is known to be the same for all cells.
def isIntegrated(Map settings, Samplesheet sheet) {
    return !(settings.integration in ['none', 'bbknn']) && !sheet.isConstant(settings.batch_key.toString())
}

// Samples that SPATIAL takes: those of tissue, or all with --dissociated_ligrec.
def spatialSamples(Map settings, Samplesheet sheet) {
    return sheet.rows.findAll { row -> row.spatial || settings.dissociated_ligrec }.collect { row -> [id: row.sample, spatial: row.spatial] }
}

// The text of --validate_only: each stage that would run with its samples or networks, and parameters other than the defaults.
def plan(Map settings, Samplesheet sheet, List networks) {
    def samples = sheet.rows.collect { row -> row.sample }
    def all = ['all samples']
    def stages = [INGEST: samples, QC: samples, MERGE: all, PREPROCESS: all, INTEGRATE: isIntegrated(settings, sheet) ? all : []] +
        [NEIGHBORS: all, EMBED: all, CLUSTER: all, MARKERS: all, ACTIVITY: networks.collect { meta, _file, _methods -> meta.name ?: 'all samples' }] +
        [SPATIAL: spatialSamples(settings, sheet).collect { meta -> meta.id }, CONCORDANCE: settings.concordance ? all : []] +
        [ASSEMBLE: all, REPORT: all, SPATIALDATA: settings.spatialdata ? all : []]
    def defaults = Parameters.properties(schemaFile()).collectEntries { name, property -> [name, property.default] }
    def changed = settings.findAll { name, value -> value != null && value.toString() != defaults[name].toString() && !(name in ['outdir', 'cache_dir', 'validate_only']) }
    return (["Parameters and samplesheet are right. Nothing was run; without --validate_only these tasks would run, backend ${settings.backend}:"] +
        stages.findAll { _stage, tags -> tags }.collect { stage, tags -> "  ${stage.padRight(12)} ${tags.join(', ')}" } +
        ['Parameters other than the defaults:'] + changed.collect { name, value -> "  --${name} ${value}" } +
        ["Results would be written to ${settings.outdir}."]).join('\n')
}

// The files of rsc_core that a stage uses.
def library(String stage) {
    return Library.of(projectDir, workflow.workDir, stage)
}

// JSON of what the run is made from.
def provenance(Map settings, String parameters) {
    def images = ['container_cpu', 'container_gpu', 'container_rapids'].collectEntries { name -> [name, settings[name]] }
    def run = [project: projectDir, commit: workflow.commitId, version: workflow.manifest.version, nextflow: workflow.nextflow.version.toString()]
    return Provenance.of(run + [engine: workflow.containerEngine, images: images], parameters)
}

// Where the results are, or how to go on.
def farewell() {
    if (params.help || params.validate_only) {
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
    networks    // List: name, file and methods of each network
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

    def qc_names = ['min_counts', 'max_counts', 'min_genes', 'max_genes', 'max_mito_percent', 'nmads', 'mito_prefix', 'ribo_prefix', 'hb_pattern'] +
        ['gene_families', 'scrublet', 'expected_doublet_rate', 'sim_doublet_ratio', 'filter_doublets', 'seed']
    QC(INGEST.out.store, settings.subMap(qc_names), backend, library('qc'))

    by_sample = INGEST.out.store.join(QC.out.delta).toSortedList { a, b -> position[a[0].id] <=> position[b[0].id] }
    stores = by_sample.map { rows -> rows.collect { row -> row[1] } }
    qcs = by_sample.map { rows -> rows.collect { row -> row[2] } }
    MERGE(stores, qcs, settings.subMap(['join', 'min_cells']), library('merge'))

    def preprocess_names = ['target_sum', 'n_top_genes', 'batch_key', 'n_comps', 'normalization', 'hvg_flavor', 'hvg_batch'] +
        ['regress_out', 'scale', 'max_value', 'pca_method']
    PREPROCESS(MERGE.out.store, settings.subMap(preprocess_names), backend, seed, library('preprocess'))

    if (isIntegrated(settings, sheet)) {
        def names = ['integration', 'batch_key', 'label_key', 'theta', 'max_iter_harmony', 'harmony_flavor']
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

    def neighbors_names = ['n_neighbors', 'metric', 'neighbors_method', 'neighbors_algorithm', 'integration', 'batch_key', 'neighbors_within_batch', 'trim']
    NEIGHBORS(representation, MERGE.out.store, settings.subMap(neighbors_names), backend, seed, library('neighbors'))
    def embed_names = ['embeddings', 'min_dist', 'spread', 'umap_impl', 'perplexity', 'n_diffmap', 'density', 'root_cell']
    EMBED(NEIGHBORS.out.delta, representation, settings.subMap(embed_names), backend, seed, library('embed'))
    def cluster_names = ['cluster_methods', 'resolutions', 'leiden_impl', 'n_clusters', 'paga']
    CLUSTER(NEIGHBORS.out.delta, representation, settings.subMap(cluster_names), backend, seed, library('cluster'))
    MARKERS(MERGE.out.store, PREPROCESS.out.delta, CLUSTER.out.delta, settings.subMap(['groupby', 'marker_methods', 'sample_key', 'condition_key']), backend, library('markers'))

    if (networks) {
        scored = channel.fromList(networks).combine(MERGE.out.store).combine(PREPROCESS.out.delta).combine(CLUSTER.out.delta)
        ACTIVITY(scored, settings.subMap(['tmin', 'times', 'activity_pseudobulk']), backend, seed, library('activity'))
        activity = ACTIVITY.out.delta
        activity_tables = ACTIVITY.out.tables
        activity_record = ACTIVITY.out.run_record
    }
    else {
        activity = channel.empty()
        activity_tables = channel.empty()
        activity_record = channel.empty()
    }

    def spatial_samples = spatialSamples(settings, sheet)
    if (spatial_samples) {
        def names = ['coord_type', 'n_neighs', 'spatial_stats', 'n_perms', 'cluster_key', 'spatial_x', 'spatial_y', 'complex_policy', 'corr_axis']
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

    if (settings.concordance) {
        def names = ['concordance_cells', 'n_top_genes', 'n_comps', 'n_neighbors', 'resolutions', 'batch_key', 'integration']
        CONCORDANCE(MERGE.out.store, CLUSTER.out.delta, settings.subMap(names), backend, seed, library('concordance'))
        concordance_table = CONCORDANCE.out.table
        concordance_record = CONCORDANCE.out.run_record
    }
    else {
        concordance_table = channel.empty()
        concordance_record = channel.empty()
    }

    // Sorted by name: what comes first must not depend on which task ends first.
    deltas = PREPROCESS.out.delta
        .mix(integrated, NEIGHBORS.out.delta, EMBED.out.delta, CLUSTER.out.delta, MARKERS.out.delta, activity, spatial)
        .toSortedList { delta -> delta.name }
    task_records = INGEST.out.run_record
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
            concordance_record,
        )
        .toSortedList { run_record -> run_record.name }

    ASSEMBLE(MERGE.out.store, deltas, task_records, provenance(settings, parameters), settings.subMap(['x_content', 'output_format']), library('assemble'))

    tables = MARKERS.out.tables.mix(activity_tables, spatial_tables, concordance_table).flatten().toSortedList { table -> table.name }
    REPORT(MERGE.out.store, deltas, qcs, task_records, tables, parameters, settings.subMap(['title', 'figure_formats']), library('report'))

    if (settings.spatialdata) {
        SPATIALDATA(ASSEMBLE.out.adata, library('spatialdata_zarr'))
    }

    channel.topic('versions')
        .map { versions -> versions.text }
        .mix(channel.of("Workflow:\n  rsc-flow: \"${workflow.manifest.version}\"\n  Nextflow: \"${workflow.nextflow.version}\"\n".toString()))
        .unique()
        .collectFile(name: 'versions.yml', storeDir: "${settings.outdir}/pipeline_info", sort: true)
}

workflow {
    main:
    if (params.help) {
        log.info(Parameters.help(params, schemaFile()))
    }
    else {
        def parameters = new Parameters(params, schemaFile())
        def sheet = checkedSheet(parameters)
        def settings = parameters.values
        def networks = networksOf(settings)
        if (settings.validate_only) {
            log.info(plan(settings, sheet, networks))
        }
        else {
            file("${settings.outdir}/pipeline_info").mkdirs()
            file("${settings.outdir}/pipeline_info/params.json").text = parameters.json()
            RSC_FLOW(settings, sheet, networks, parameters.jsonWithout(placeParameters()))
        }
    }

    workflow.onComplete {
        farewell()
    }
}
