"""The benchmarks: counts that do not depend on backend or number of cells, rows for every outcome, tables."""

import ctypes
import importlib.util
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rsc_core import backend
from rsc_core.io.store import CountsStore

HERE = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(HERE))

import scale  # noqa: E402
import workflow  # noqa: E402
from bench import cells, draw, model, quality, tools  # noqa: E402
from bench.inputs import number_of_cells  # noqa: E402
from bench.steps import STEPS  # noqa: E402
from table import exponent, markdown  # noqa: E402
from test_kernels import compiled  # noqa: E402

GENES = 400


@pytest.fixture(scope="module")
def small():
    return model.make_model(GENES, 3, seed=1)


def test_counts_are_the_beginning_of_more_counts(small, backend_name):
    """Blocks of any size, on both backends, give the CPU's counts of one block."""
    whole = cells.counts(small, 0, 90, "cpu")
    parts = [cells.counts(small, a, b, backend_name) for a, b in ((0, 7), (7, 64), (64, 90))]
    for part, (a, b) in zip(parts, ((0, 7), (7, 64), (64, 90)), strict=True):
        assert (part != whole[a:b]).nnz == 0 and part.has_sorted_indices
    assert (cells.counts(model.make_model(GENES, 3, seed=2), 0, 90) != whole).nnz > 0


def test_counts_of_a_stored_seed(small):
    """Changes where the numbers change; machines and backends do not change it."""
    assert cells.digest(cells.counts(small, 0, 200)) == DIGEST


DIGEST = "633bfd1b5223c7b94473c904be2b6e812a28d36f19f02503f316db6d0cb2e64e"


def test_counts_are_negative_binomial(to_xp):
    """Mean mu, variance mu + mu²/r and P(0) = (1 + mu/r)^-r within five standard errors; r = 0.5, 1, 2, 4."""
    n, genes = 20_000, 8
    log_size = np.array([0, 1, 2, 3] * 2, dtype=np.int32)
    mu = np.array([0.3] * 4 + [6.0] * 4)
    out = to_xp(np.empty((n, genes), dtype=np.uint16))
    arguments = (
        mu.astype(np.float32)[None], np.zeros((n, 1), dtype=np.int32), np.ones((n, 1)), np.zeros(n, dtype=np.int32),
        np.ones((1, genes), dtype=np.float32), np.ones(n), log_size,
    )  # fmt: skip
    draw.draw_counts(n, genes, 0, np.uint64(3), *(to_xp(a) for a in arguments), 1, out)
    counts, r = backend.to_host(out).astype(np.float64), 2.0 ** (log_size - 1.0)
    variance = mu + mu**2 / r
    assert (np.abs(counts.mean(axis=0) - mu) < 5 * np.sqrt(variance / n)).all()
    zero = (1 + mu / r) ** -r
    assert (np.abs((counts == 0).mean(axis=0) - zero) < 5 * np.sqrt(zero * (1 - zero) / n)).all()
    fourth = ((counts - counts.mean(axis=0)) ** 4).mean(axis=0)
    assert (np.abs(counts.var(axis=0) - variance) < 5 * np.sqrt((fourth - variance**2) / n)).all()


def test_compiles_without_a_warning():
    folder = Path(importlib.util.find_spec("nvidia").submodule_search_locations[0])
    nvrtc = ctypes.CDLL(str(sorted(p for p in folder.rglob("libnvrtc.so*") if "alt" not in p.name)[0]))
    code, log = compiled(nvrtc, backend.cuda_source(HERE / "bench" / "draw.cu"), ["--gpu-architecture=sm_90", *backend.NVRTC_OPTIONS])
    assert code == 0 and "warning" not in log, log


def test_store_is_a_counts_store(tmp_path):
    cells.generate(tmp_path / "x.h5ad", 50, n_genes=GENES, n_batches=3, seed=1)
    store = CountsStore(tmp_path / "x.h5ad")
    assert store.shape == (50, GENES) and store.obsm["spatial"].shape == (50, 2)
    assert set(store.obs) == {"cell_type", "batch"} and store.var["mt"].sum() == 13


@pytest.mark.parametrize(("text", "n"), [("90k", 90_000), ("1.3M", 1_300_000), ("6000", 6000)])
def test_sizes(text, n):
    assert number_of_cells(text) == n


def test_every_tool_calls_known_steps():
    for name, make in tools.TOOLS.items():
        assert set(make("cpu")) <= set(STEPS), name
    assert set(tools.rsc_core("cpu")) == set(STEPS) == set(tools.rapids_singlecell("gpu"))


def test_absent_is_said_with_the_reason():
    with pytest.raises(tools.Absent, match="no_such_function"):
        tools.function("rsc_core.pp", "no_such_function")
    with pytest.raises(tools.Absent, match="no_such_package"):
        tools.function("no_such_package.pp", "pca")


def test_formulas_of_quality_are_those_of_statsmodels():
    import statsmodels.api as sm

    draw_ = np.random.default_rng(0)
    y, w = draw_.normal(size=(2, 40)), draw_.normal(size=(40, 3))
    fitted = [sm.OLS(row, sm.add_constant(w)).fit().tvalues[1:] for row in y]
    np.testing.assert_allclose(quality._mlm(y, w), fitted, rtol=1e-10)
    single = [[sm.OLS(row, sm.add_constant(w[:, [k]])).fit().tvalues[1] for k in range(3)] for row in y]
    np.testing.assert_allclose(quality._ulm(y, w), single, rtol=1e-10)


def run(tmp_path, *options):
    command = [sys.executable, str(HERE / "run.py"), "--inputs", str(tmp_path / "in"), "--output", str(tmp_path / "out.json"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((tmp_path / "out.json").read_text())["rows"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Inputs without a graph: what the steps of the test below need, written by hand."""
    folder = tmp_path_factory.mktemp("bench")
    place = folder / "in" / f"60x{GENES}_0"
    place.mkdir(parents=True)
    cells.generate(place / "counts.h5ad", 60, n_genes=GENES, seed=0)
    (place / "made.json").write_text(json.dumps({"backend": "cpu", "seed": 0, "seconds": {}}))
    return folder


SMALL = ("--size", "60", "--genes", str(GENES), "--repeats", "2")


def test_one_run_of_three_tools(inputs):
    """A time with its quality, an absent step and a failed one; another run keeps the rows."""
    rows = run(inputs, "--tool", "rsc_core", "--tool", "harmonypy", "--steps", "normalize_total,umap", *SMALL)
    by = {(row["tool"], row["step"]): row for row in rows}
    done = by["rsc_core", "normalize_total"]
    assert done["status"] == "ok" and done["repeats"] == 2 and done["min"] <= done["median"] <= done["max"]
    assert done["quality"]["max_difference"] < 1e-6 and done["peak_memory"] > 0 and 0 < done["bound_share"] < 1
    assert {"device", "date", "versions", "size", "first", "input_digest"} <= set(done)
    assert by["rsc_core", "umap"]["status"] == "error" and "pca.npy" in by["rsc_core", "umap"]["reason"]
    assert by["harmonypy", "umap"]["status"] == by["harmonypy", "normalize_total"]["status"] == "absent"
    rows = run(inputs, "--tool", "scanpy", "--steps", "normalize_total", *SMALL)
    other = next(row for row in rows if row["tool"] == "scanpy")
    assert len(rows) == 5 and other["status"] == "ok" and other["input_digest"] == done["input_digest"]
    text = markdown(rows)
    assert "normalize_total" in text and "absent" in text and f"{other['median'] / done['median']:.2f}" in text


def test_a_step_over_its_limit_loses_only_itself(inputs):
    rows = run(inputs, "--tool", "rsc_core", "--steps", "log1p", "--limit", "0.01", "--label", "short", *SMALL)
    assert {row["status"] for row in rows if row["label"] == "short"} == {"timeout"}


def test_exponent_of_growth():
    assert exponent({10_000: 1.0, 30_000: 3.0, 90_000: 9.0}) == pytest.approx(1.0)
    assert exponent({1000: 2.0, 2000: 8.0}) == pytest.approx(2.0)
    assert exponent({1000: 2.0}) is None


def test_tasks_of_a_trace(tmp_path):
    """Start-up is what the process spent before its first step; read, compute and write are sums of steps."""
    results = tmp_path / "results"
    results.mkdir()
    steps = [{"step": name, "seconds": s} for name, s in (("read", 0.5), ("normalise", 2.0), ("write", 0.25))]
    run_ = {"stage": "qc:a", "backend": "cpu", "process_seconds": 4.0, "seconds": 2.8, "steps": steps, "device": "x"}
    (results / "a.qc.h5ad.run.json").write_text(json.dumps(run_))
    trace = f"name\thash\tstatus\trealtime\tpeak_rss\tworkdir\nQC (a)\tab/1\tCOMPLETED\t5000\t1000\t{results}\n"
    (tmp_path / "trace.txt").write_text(trace)
    (row,) = workflow.tasks(tmp_path / "trace.txt")
    assert row["wall"] == 5.0 and row["read"] == 0.5 and row["compute"] == 2.0 and row["write"] == 0.25
    assert row["start_up"] == pytest.approx(5.0 - 2.75)


def test_a_chain_has_a_row_for_each_step_and_one_for_all(tmp_path):
    """Every step in its order, in a process of its own; clusters that agree with the types of the cells that were drawn."""
    import chain

    output = tmp_path / "chain.json"
    command = [sys.executable, HERE / "chain.py", "--tool", "rsc_core", "--size", "600", "--genes", "2500", "--repeats", "1"]
    subprocess.run(list(map(str, [*command, "--inputs", tmp_path / "made", "--output", output])), check=True, capture_output=True)
    rows = json.loads(output.read_text())["rows"]
    assert [row["step"] for row in rows] == [*chain.STEPS, "all"] and {row["status"] for row in rows} == {"ok"}
    assert rows[-1]["median"] == pytest.approx(sum(row["median"] for row in rows[:-1]))
    assert 0.2 < rows[-1]["quality"]["ari_types"] <= 1 and rows[-1]["quality"]["trustworthiness"] > 0.7


@pytest.fixture
def scaled(tmp_path, backend_name, monkeypatch):
    """The script at two sizes of several strips; what it said and its rows."""
    monkeypatch.setenv(backend.LIMITS[backend_name], "")  # is put back afterwards

    def call(*options):
        tiny = ["--size", "20000", "--size", "40000", "--genes", "200", "--top-genes", "40", "--comps", "5"]
        done = CliRunner().invoke(scale.main, [*tiny, "--backend", backend_name, "--output", str(tmp_path / "scale.json"), *options])
        return done, json.loads((tmp_path / "scale.json").read_text())

    yield call
    scale.limit(backend_name, None)


def test_row_blocks_of_many_cells(scaled):
    """The same bytes with and without a limit, at each size; growth of the runs in row blocks."""
    done, found = scaled("--whole", "40000")
    assert done.exit_code == 0, done.output
    by = {(row["size"], row["label"], row["step"]): row for row in found["rows"]}
    for size in ("20000", "40000"):
        whole, capped = by[size, "whole", scale.TOGETHER], by[size, "capped", scale.TOGETHER]
        assert (whole["rung"], capped["rung"]) == ("whole", "blocks") and capped["cap_bytes"] < 20 * whole["nonzeros"]
        assert whole["quality"]["sha256"] == capped["quality"]["sha256"] and len(whole["quality"]["sha256"]) == 16
        assert capped["median"] > 0 and 0 <= capped["peak_device_bytes"] <= capped["cap_bytes"] and by[size, "", "generation"]["median"] > 0
    assert by["20000", "whole", scale.TOGETHER]["quality"] != by["40000", "whole", scale.TOGETHER]["quality"]
    assert set(found["growth"]) == {step for size, label, step in by if label == "capped"}
    text = markdown(found["rows"])
    assert "## Growth" in text and f"| {scale.TOGETHER} | rsc_core ({found['rows'][0]['backend']}), capped |" in text


def test_counts_that_are_kept_are_those_of_one_block(backend_name):
    drawn = scale.Drawn(9000, GENES, 1, backend_name)
    few, many = drawn.first(70), drawn.first(130)
    wanted = cells.counts(model.make_model(GENES, seed=1), 0, 130)
    assert (many.rows(0, 130) != wanted).nnz == 0 and (few.rows(0, 70) != wanted[:70]).nnz == 0
    kind = model.make_cells(drawn.model, 0, 130).kind
    assert [int(name[-2:]) for name in many.obs["cell_type"]] == kind.tolist()


def test_a_size_that_takes_too_long_is_not_begun(scaled):
    done, found = scaled("--total", "0", "--whole", "0")
    assert done.exit_code == 0, done.output
    (row,) = (row for row in found["rows"] if row["size"] == "40000")
    assert row["status"] == "not run" and "are left" in row["reason"]
    assert "not run" in markdown(found["rows"])


def test_other_bytes_in_row_blocks_are_a_failure(scaled, monkeypatch):
    numbers = itertools.count()
    monkeypatch.setattr(scale, "digest", lambda arrays: f"{next(numbers):064}")
    done, found = scaled("--whole", "20000")
    assert done.exit_code == 1 and "20000: results in row blocks are not those of the whole" in done.output
    assert {row["size"] for row in found["rows"]} == {"20000", "40000"}
