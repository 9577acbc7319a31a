"""The workflow through real Nextflow: what is refused, what runs, what runs again, and that it gives the same bytes."""

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
NEXTFLOW = ROOT / "tools" / "nextflow"
PARTS = ("main.nf", "nextflow.config", "nextflow_schema.json", "lib", "modules", "conf", "bin", "python/rsc_core", "assets", "tests/data")

# With --dist loadfile one run at a time: a run takes all cores. The time limit is for a run with compilers on cold caches.
pytestmark = [pytest.mark.workflow, pytest.mark.timeout(900)]


class Checkout:
    """A copy of the project that a test may edit; runs start in a folder beside it and keep their work there."""

    def __init__(self, folder: Path):
        self.project, self.launch = folder / "project", folder / "launch"
        self.launch.mkdir(parents=True)
        for part in PARTS:
            source, target = ROOT / part, self.project / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)

    def run(self, *arguments, outdir="out", env=None):
        """Nextflow's exit status and all that it printed, warnings of its configuration parser left out."""
        command = [NEXTFLOW, "run", self.project, "--outdir", outdir, *map(str, arguments)]
        done = subprocess.run(command, cwd=self.launch, capture_output=True, text=True, env=os.environ | (env or {}), check=False)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "Unrecognized config option" not in line]
        return done.returncode, "\n".join(lines)

    def ran(self, *arguments, outdir="out"):
        """Run, which must succeed; the trace: task -> row."""
        status, printed = self.run(*arguments, outdir=outdir)
        assert status == 0, printed
        return self.trace(outdir)

    def trace(self, outdir="out"):
        with (self.launch / outdir / "pipeline_info" / "trace.txt").open() as file:
            return {row["name"].removeprefix("RSC_FLOW:"): row for row in csv.DictReader(file, delimiter="\t")}

    def edit(self, path, old, new):
        file = self.project / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))


def executed(trace):
    """Names of the tasks that were not taken from the run before."""
    return sorted(name for name, row in trace.items() if row["status"] != "CACHED")


def of_all(*stages):
    return sorted(f"{stage} (all samples)" for stage in stages)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))


# ---- what is refused, before anything runs


def refused(checkout, *arguments, outdir="refused"):
    status, printed = checkout.run(*arguments, outdir=outdir)
    assert status != 0
    assert "Submitted process" not in printed
    return printed


def test_wrong_parameters_are_named_all_at_once(checkout):
    wrong = ["--n_neighbours", 5, "--seed", "abc", "--backend", "tpu", "--theta", -1, "--network", "/no/such.csv"]
    wrong += ["--marker_methods", "wilcoxon,anova"]
    printed = refused(checkout, "-profile", "test", *wrong)
    assert "--n_neighbours: there is no such parameter. Did you mean --n_neighbors?" in printed
    assert "--seed: 'abc' is not a whole number" in printed
    assert "--backend: 'tpu' is not allowed: it must be one of cpu, gpu" in printed
    assert "--theta: '-1' is below 0" in printed
    assert "--network: '/no/such.csv' is not there: file not found" in printed
    assert "--marker_methods: 'wilcoxon,anova' is not allowed. Which, separated by commas: wilcoxon, t-test" in printed


def test_missing_input(checkout):
    assert "--input: missing. Samplesheet (csv): sample,path" in refused(checkout)


def test_defects_of_a_samplesheet_are_named_all_at_once(checkout, tmp_path):
    real = checkout.project / "tests" / "data" / "pancreas_lib1.h5ad"
    rows = ["sample,path,spatial,donor", f"a,{real},false,d1", "", f"a,{real},false,d1", f"b c,{real},false,d1", "d,gone.h5ad,false,d1"]
    rows += [f"e,{real},yes,d1", ",,,", f"f,{real},true", f"g,{real},,"]
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("\n".join(rows) + "\n")
    printed = refused(checkout, "--input", sheet)
    for expected in (
        "sheet.csv: row 4, column 'sample': 'a' stands in row 2 already. Give every sample its own name.",
        "sheet.csv: row 5, column 'sample': 'b c' is not allowed. Use letters, digits",
        f"sheet.csv: row 6, column 'path': file or folder not found: {tmp_path}/gone.h5ad.",
        "sheet.csv: row 7, column 'spatial': 'yes' is not allowed. Use one of true, false.",
        "sheet.csv: row 8, column 'sample': the cell is empty. Fill it in.",
        "sheet.csv: row 8, column 'path': the cell is empty. Fill it in.",
        "sheet.csv: row 9: 3 cells, but the header has 4.",
        "sheet.csv: row 10, column 'donor': the cell is empty.",
    ):
        assert expected in printed


def test_defects_of_the_networks_are_named_all_at_once(checkout, tmp_path):
    real = checkout.project / "assets" / "msigdb_hallmark.csv"
    sheet = tmp_path / "networks.csv"
    sheet.write_text(f"name,path,methods\na,{real},aucell\na,{real},\nb,gone.csv,aucell;vlm\n")
    printed = refused(checkout, "-profile", "test", "--networks", sheet)
    for expected in (
        "networks.csv: row 3, column 'name': 'a' stands in row 2 already. Give every network its own name.",
        f"networks.csv: row 4, column 'path': file or folder not found: {tmp_path}/gone.csv.",
        "networks.csv: row 4, column 'methods': 'aucell;vlm' is not allowed. Choose from aucell, consensus",
    ):
        assert expected in printed


def test_missing_column(checkout, tmp_path):
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("sample,file\na,b.h5ad\n")
    assert "sheet.csv: row 1 (header): column 'path' is missing, there are sample, file. Add it." in refused(checkout, "--input", sheet)


def test_outdir_that_cannot_be_written_to(checkout, tmp_path):
    (tmp_path / "file").touch()
    printed = refused(checkout, "-profile", "test", outdir=tmp_path / "file" / "out")
    assert str(tmp_path / "file" / "out") in printed
    assert "cannot be made or written to" in printed


def test_help_lists_every_parameter(checkout):
    status, printed = checkout.run("--help")
    assert status == 0
    assert schema_properties().keys() <= set(re.findall(r"^  --(\w+)", printed, re.MULTILINE))
    assert "{harmony, combat, bbknn, none} [harmony]" in printed


def test_validate_only_says_what_would_run(checkout):
    """The tasks are those of a run with the same parameters (the stub run below); none runs, and no results are made."""
    status, printed = checkout.run("-profile", "test_spatial", "--validate_only", "--spatialdata", "--n_comps", 20, outdir="planned")
    assert status == 0, printed
    rows = re.findall(r"^  ([A-Z]+) +(.*)$", printed, re.MULTILINE)
    planned = [f"{stage} ({tag})" for stage, tags in rows for tag in tags.split(", ")]
    assert sorted(planned) == sorted([*EVERYTHING, "SPATIALDATA (all samples)"])
    assert "  --n_comps 20\n" in printed and "--n_neighbors" not in printed
    assert "Submitted process" not in printed and "Report:" not in printed
    assert not list((checkout.launch / "planned").rglob("*")) and not (checkout.launch / "results").exists()


@pytest.mark.parametrize(("integration", "runs"), [("none", False), ("bbknn", False), ("combat", True)])
def test_methods_without_an_embedding_plan_no_integrate(checkout, integration, runs):
    status, printed = checkout.run("-profile", "test_spatial", "--validate_only", "--integration", integration, outdir="planned")
    assert status == 0, printed
    stages = re.findall(r"^  ([A-Z]+) ", printed, re.MULTILINE)
    assert ("INTEGRATE" in stages) == runs and "NEIGHBORS" in stages


@pytest.mark.parametrize("profile", ["docker", "k8s"])
def test_spatialdata_in_images_needs_one_with_it(checkout, profile):
    given = ["-profile", f"test,{profile}", "--k8s_claim", "work", "--validate_only", "--spatialdata"]
    assert "--container_spatialdata: missing, in an image --spatialdata needs one" in refused(checkout, *given)
    assert checkout.run(*given, "--container_spatialdata", "rsc-flow:spatialdata", outdir="refused")[0] == 0


def test_validate_only_refuses_what_a_run_would(checkout):
    assert "--n_comps: 'many' is not a whole number" in refused(checkout, "-profile", "test", "--validate_only", "--n_comps", "many")


def schema_properties():
    schema = json.loads((ROOT / "nextflow_schema.json").read_text())
    return {name: entry for group in schema["$defs"].values() for name, entry in group["properties"].items()}


def test_schema_agrees_with_the_configuration():
    done = subprocess.run([NEXTFLOW, "config", "-flat", ROOT], capture_output=True, text=True, check=True)
    found = dict(re.findall(r"^params\.(\w+) = (.*)$", done.stdout, re.MULTILINE))
    properties = schema_properties()
    assert found.keys() == properties.keys()
    for name in properties.keys() - {"cache_dir"}:
        default = properties[name].get("default")
        assert found[name] == ("null" if default is None else f"'{default}'" if isinstance(default, str) else json.dumps(default)), name


def test_lint():
    command = [NEXTFLOW, "lint", "main.nf", "modules", "nextflow.config", "conf"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# ---- the graph without its work


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """A finished stub run of the whole graph, and what its tests start again."""
    checkout = Checkout(tmp_path_factory.mktemp("stub"))
    data = checkout.project / "tests" / "data"
    checkout.sheet = checkout.launch / "sheet.csv"
    checkout.sheet.write_text((data / "samplesheet_prostate.csv").read_text().replace("visium", f"{data}/visium"))
    checkout.arguments = ["-profile", "test_spatial", "-stub", "-resume", "--input", checkout.sheet]
    checkout.first = checkout.ran(*checkout.arguments)
    return checkout


SAMPLES = ("cancer", "normal")
AFTER_MERGE = ("PREPROCESS", "INTEGRATE", "NEIGHBORS", "EMBED", "CLUSTER", "MARKERS", "ACTIVITY", "ASSEMBLE", "REPORT")
OF_SAMPLES = [f"{stage} ({sample})" for stage in ("INGEST", "QC", "SPATIAL") for sample in SAMPLES]
EVERYTHING = sorted(["ACTIVITY (hallmark)", *OF_SAMPLES, *of_all("MERGE", *AFTER_MERGE)])


def test_stub_runs_the_whole_graph(stub):
    assert executed(stub.first) == EVERYTHING
    versions = (stub.launch / "out" / "pipeline_info" / "versions.yml").read_text()
    for stage in ("INGEST", "QC", "SPATIAL", "MERGE", *AFTER_MERGE):
        assert versions.count(f'"{stage}":') == 1
    assert {"trace.txt", "timeline.html", "execution_report.html", "dag.mmd", "params.json"} <= {
        file.name for file in (stub.launch / "out" / "pipeline_info").iterdir()
    }


def test_an_edited_kernel_runs_its_stages_again(stub):
    stub.edit("python/rsc_core/kernels/ranks.py", '"""', '"""Edited. ')
    assert executed(stub.ran(*stub.arguments)) == of_all("MARKERS", "ASSEMBLE", "REPORT")
    stub.edit("python/rsc_core/kernels/ranks.cu", "//", "// edited")
    assert executed(stub.ran(*stub.arguments)) == of_all("MARKERS", "ASSEMBLE", "REPORT")


def test_a_changed_parameter_runs_its_stages_again(stub):
    assert executed(stub.ran(*stub.arguments, "--min_dist", 0.3)) == of_all("EMBED", "ASSEMBLE", "REPORT")
    assert executed(stub.ran(*stub.arguments)) == []


def test_spatialdata_runs_nothing_else_again(stub):
    assert executed(stub.ran(*stub.arguments, "--spatialdata")) == of_all("SPATIALDATA")
    assert (stub.launch / "out" / "spatialdata.zarr" / "zarr.json").exists()


def test_a_changed_network_runs_its_task_again(stub):
    sheet = stub.launch / "networks.csv"
    hallmark = stub.project / "assets" / "msigdb_hallmark.csv"
    sheet.write_text(f"name,path,methods\none,{hallmark},aucell\ntwo,{hallmark},ora;aucell\n")
    both = ["ACTIVITY (one)", "ACTIVITY (two)", *of_all("ASSEMBLE", "REPORT")]
    assert executed(stub.ran(*stub.arguments, "--networks", sheet)) == both
    sheet.write_text(sheet.read_text().replace("ora;aucell", "ora"))
    assert executed(stub.ran(*stub.arguments, "--networks", sheet)) == both[1:]


def test_a_changed_sample_runs_what_depends_on_it_again(stub):
    stub.sheet.write_text(stub.sheet.read_text().replace("true,cancer", "true,tumour"))
    again = executed(stub.ran(*stub.arguments))
    assert again == sorted(set(EVERYTHING) - {"INGEST (normal)", "QC (normal)"})


def test_a_changed_file_of_a_folder_runs_its_sample_again(stub):
    """The folder's own time does not change, and the sheet names a link to it; stubs read nothing."""
    folder = stub.launch / "a folder, of one sample"
    (stub.launch / "elsewhere").mkdir()
    folder.symlink_to(stub.launch / "elsewhere")
    for name in ("matrix.mtx", "barcodes.tsv", "features.tsv"):
        (folder / name).touch()
    sheet = stub.launch / "folder.csv"
    sheet.write_text(
        f'sample,path,spatial,genome,orientation\nfolder,"{folder.name}",false,GRCh38,\nother,"{folder.name}/matrix.mtx",false,,\n'
    )
    arguments = ["-profile", "test", "-stub", "-resume", "--input", sheet]
    assert "INGEST (folder)" in executed(stub.ran(*arguments, outdir="folder"))
    assert executed(stub.ran(*arguments, outdir="folder")) == []
    (folder / "barcodes.tsv").write_text("changed")
    again = executed(stub.ran(*arguments, outdir="folder"))
    assert "INGEST (folder)" in again and "INGEST (other)" not in again


def test_a_task_without_memory_is_retried_a_rung_lower(tmp_path):
    """Exit code 42 twice: the third attempt is on the last rung, which on a CPU is blocks. A task that was killed stays on its rung."""
    checkout = Checkout(tmp_path)
    plan = "import os; from rsc_core import backend as b; p = b.plan('cpu', whole=1, fixed=0, per_nnz=1, least_nnz=1)"
    tell = f"""python3 -c "{plan}; print(os.environ.get('RSC_CORE_FIRST_RUNG', ''), p.rung)" >> '{tmp_path}/PROCESS'
    """
    for name, code in (("qc", 42), ("preprocess", 137)):
        ends = f"{tell.replace('PROCESS', name)}[ ${{task.attempt}} = 3 ] || exit {code}\n    touch"
        checkout.edit(f"modules/{name}.nf", 'stub:\n    """\n    touch', f'stub:\n    """\n    {ends}')
    sheet = checkout.launch / "sheet.csv"
    sheet.write_text(f"sample,path\none,{checkout.project}/tests/data/pancreas_lib1.h5ad\n")
    trace = checkout.ran("-profile", "test", "-stub", "--input", sheet)
    assert trace["QC (one)"]["attempt"] == trace["PREPROCESS (all samples)"]["attempt"] == "3"
    assert (tmp_path / "qc").read_text().splitlines() == [" whole", "blocks blocks", "managed blocks"]
    assert (tmp_path / "preprocess").read_text().splitlines() == [" whole"] * 3


def test_one_batch_is_not_integrated(stub):
    again = stub.ran("-profile", "test_spatial", "-stub", "--batch_key", "condition", "--input", one_batch(stub), outdir="one_batch")
    assert executed(again) == sorted(set(EVERYTHING) - set(of_all("INTEGRATE")))


def one_batch(checkout):
    sheet = checkout.launch / "one_batch.csv"
    sheet.write_text(re.sub("true,.*", "true,same", checkout.sheet.read_text()))
    return sheet


# ---- real runs


@pytest.fixture(scope="module")
def prostate(tmp_path_factory):
    """A finished run with every stage; a file of it has a name with spaces and non-ASCII letters."""
    checkout = Checkout(tmp_path_factory.mktemp("prostate"))
    data = checkout.project / "tests" / "data"
    shutil.copy2(data / "visium_prostate_normal.h5ad", checkout.launch / "größe, l'échantillon 1.h5ad")
    sheet = checkout.launch / "sheet.csv"
    rows = ["sample,path,spatial,condition", 'normal,"größe, l\'échantillon 1.h5ad",true,normal']
    sheet.write_text("\n".join([*rows, f"cancer,{data}/visium_prostate_cancer.h5ad,true,cancer"]) + "\n")
    checkout.arguments = ["-profile", "test_spatial", "--input", sheet]
    checkout.first = checkout.ran(*checkout.arguments)
    return checkout


def test_results_of_a_run(prostate):
    out = prostate.launch / "out"
    adata = ad.read_h5ad(out / "adata.h5ad")
    assert set(adata.obs["sample"]) == set(SAMPLES)
    assert set(adata.obs["condition"]) == set(SAMPLES)
    assert {"X_pca", "X_pca_harmony", "X_umap", "spatial"} <= set(adata.obsm)
    assert {"leiden", "total_counts"} <= set(adata.obs)
    assert "rank_genes_groups" in adata.uns
    assert {file.name for file in (out / "multiqc").iterdir()} == {"rsc_flow_cells_mqc.json", "rsc_flow_general_mqc.json"}
    assert (out / "report.html").stat().st_size > 10_000
    tables = {table.name for table in (out / "tables").iterdir()}
    assert {"markers_wilcoxon.csv", "markers_t-test.csv", "activity_ulm.csv", "activity_mlm.csv", "activity_hallmark_aucell.csv"} <= tables
    assert {f"{sample}.{statistic}.csv" for sample in SAMPLES for statistic in ("moran", "ligrec")} <= tables
    parameters = json.loads((out / "pipeline_info" / "params.json").read_text())
    assert parameters["n_top_genes"] == 2000
    assert parameters["outdir"] == "out"
    assert '"QC":\n  ' in (out / "pipeline_info" / "versions.yml").read_text()


def test_nothing_changed_runs_nothing(prostate):
    assert executed(prostate.ran(*prostate.arguments, "-resume")) == []


def test_an_edited_script_runs_its_stage_again(prostate):
    prostate.edit("bin/assemble.py", '"""', '"""Edited. ')
    assert executed(prostate.ran(*prostate.arguments, "-resume")) == of_all("ASSEMBLE")


def test_two_runs_give_the_same_bytes(prostate):
    again = prostate.ran(*prostate.arguments, outdir="again")
    assert again.keys() == prostate.first.keys()
    for name in again:
        one, other = (results(trace[name]["workdir"]) for trace in (prostate.first, again))
        assert one.keys() == other.keys()
        different = [file for file in one if one[file] != other[file]]
        assert not different, f"{name}: {different}"


def results(folder):
    """Contents of a task's results by name; times and memory are in run.json and in the report, which are left out."""
    files = (file for pattern in ("*.h5ad", "tables/*.csv") for file in Path(folder).glob(pattern) if not file.is_symlink())
    return {file.name: file.read_bytes() for file in files}


def test_pancreas(tmp_path):
    checkout = Checkout(tmp_path)
    trace = checkout.ran("-profile", "test")
    assert sum(name.startswith(("ACTIVITY", "SPATIAL")) for name in trace) == 0
    adata = ad.read_h5ad(checkout.launch / "out" / "adata.h5ad")
    assert set(adata.obs["sample"]) == {"lib1", "lib2", "lib3"}
    assert adata.obs["leiden"].nunique() > 4


def test_folders_of_10x(tmp_path):
    """A Space Ranger folder and a Cell Ranger folder of two genomes go through INGEST of a real run, with a genome for one."""
    checkout = Checkout(tmp_path)
    data = checkout.project / "tests" / "data" / "formats"
    sheet = checkout.launch / "sheet.csv"
    rows = ["sample,path,genome", f"spots,{data}/visium_data/1.0.0,", f"two,{data}/10x_data/1.2.0/multiple_genomes.h5,hg19_chr21"]
    sheet.write_text("\n".join(rows) + "\n")
    checkout.run("-profile", "test", "--input", sheet)  # too few cells for what comes later
    done = {name: row["status"] for name, row in checkout.trace().items() if name.startswith("INGEST")}
    assert done == {"INGEST (spots)": "COMPLETED", "INGEST (two)": "COMPLETED"}


# ---- errors that a task finds


def run_on(checkout, tmp_path, matrix, *arguments):
    """A run on one sample whose X is replaced."""
    file = tmp_path / "one.h5ad"
    shutil.copy2(checkout.project / "tests" / "data" / "pancreas_lib1.h5ad", file)
    with h5py.File(file, "r+") as opened:
        data = opened["X/data"]
        values = matrix(data[:])
        del opened["X/data"]
        opened["X/data"] = values
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("sample,path\none,one.h5ad\n")
    return checkout.run("-profile", "test", "--input", sheet, *arguments, outdir="failed")


def test_fractional_counts(checkout, tmp_path):
    status, printed = run_on(checkout, tmp_path, lambda values: values.astype(np.float32) + np.float32(0.5))
    assert status != 0
    assert "INGEST (one)" in printed
    assert re.search(r"error: .*one\.h5ad.*\n.*remedy: .*counts-layer|error: .*one\.h5ad.*\n.*remedy: .*counts_layer", printed), printed
    assert "exit status (65)" in printed
    assert "-resume" in printed


def test_all_samples_filtered_away(checkout, tmp_path):
    status, printed = run_on(checkout, tmp_path, lambda values: values, "--min_genes", 100000)
    assert status != 0
    assert "MERGE (all samples)" in printed
    assert "exit status (65)" in printed
    assert re.search(r"error: .*\n *remedy: ", printed), printed
