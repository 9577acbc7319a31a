"""ulm and mlm against decoupler, adjusted p-values from first principles, the ACTIVITY stage."""

import functools
import inspect
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import anndata as ad
import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from rsc_core import backend, dc
from rsc_core.dc._rank_sources import rank_sources
from rsc_core.dc._read import cells_at_a_time
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import Delta, read_delta, write_delta
from rsc_core.io.store import CountsStore
from rsc_core.pp._normalize import lognorm, size_factors
from rsc_core.stages import activity
from rsc_core.stats import benjamini_hochberg

BIN = Path(__file__).parents[1] / "bin"
METHODS = ("ulm", "mlm")
TEN = {"times": 10}
ALL = {
    "aucell": {},
    "gsea": TEN,
    "gsva": {},
    "mlm": {},
    "ora": {},
    "ulm": {},
    "viper": {},
    "waggr": TEN,
    "wmean": TEN,
    "wsum": TEN,
    "zscore": {},
}
TABLES = {"aucell": ("score",), "gsva": ("score",)} | dict.fromkeys(("wmean", "wsum"), ("score", "norm", "corr", "padj"))


def network(n_sources, n_genes, n_targets, seed=0):
    random = np.random.default_rng(seed)
    rows = [(f"s{s}", f"g{g}", random.normal()) for s in range(n_sources) for g in random.choice(n_genes, n_targets, replace=False)]
    return pd.DataFrame(rows, columns=["source", "target", "weight"])


def normalised(n_cells, n_genes, **options):
    counts = cases.counts(n_cells, n_genes, **options)
    return lognorm(counts, size_factors(counts))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n_cells", "n_genes", "n_sources"), [(1, 40, 1), (33, 300, 40), (200, 257, 12)])
def test_equals_decoupler(to_xp, method, n_cells, n_genes, n_sources):
    """Scores within 1e-9: both are float64 and add in other orders."""
    import decoupler

    x, net = normalised(n_cells, n_genes, mean=2, empty_gene=3), network(n_sources, n_genes, min(30, n_genes // 2))
    ours, theirs = cases.annotated(to_xp(x)), cases.annotated(x.copy())
    getattr(dc, method)(ours, net, bsize=64)
    getattr(decoupler.mt, method)(theirs, net)
    pd.testing.assert_frame_equal(ours.obsm[f"score_{method}"], theirs.obsm[f"score_{method}"], rtol=1e-9, atol=1e-9)
    if method == "ulm" and n_sources > 1:  # float32 there; for one source decoupler returns p as it is
        pd.testing.assert_frame_equal(ours.obsm["padj_ulm"], theirs.obsm["padj_ulm"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_adjusted_p_from_ordinary_least_squares(to_xp, method):
    """decoupler does not adjust the p-values of mlm; these are statsmodels' fits of single cells, adjusted."""
    import statsmodels.api as sm
    from statsmodels.stats.multitest import multipletests

    x, net = normalised(4, 120, mean=3), network(9, 120, 20)
    adata = cases.annotated(to_xp(x))
    getattr(dc, method)(adata, net)
    dense = x.toarray().astype(np.float64)
    seen = dense.any(axis=0)
    weights = net.pivot(index="target", columns="source", values="weight").reindex(adata.var_names[seen]).fillna(0)
    for cell in range(4):
        y = dense[cell, seen]
        if method == "mlm":
            fit = sm.OLS(y, sm.add_constant(weights.to_numpy())).fit()
            t, p = fit.tvalues[1:], fit.pvalues[1:]
        else:
            fits = [sm.OLS(y, sm.add_constant(weights[source].to_numpy())).fit() for source in weights]
            t, p = (np.array([getattr(fit, name)[1] for fit in fits]) for name in ("tvalues", "pvalues"))
        np.testing.assert_allclose(adata.obsm[f"score_{method}"].iloc[cell], t, rtol=1e-9)
        np.testing.assert_allclose(adata.obsm[f"padj_{method}"].iloc[cell], multipletests(p, method="fdr_bh")[1], rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_no_result_depends_on_the_block_or_on_stored_zeros(to_xp, method):
    x, net = normalised(130, 90, mean=2), network(5, 90, 20)
    with_zeros = sp.csr_matrix(x + 0)
    with_zeros.data[::7] = 0
    x = with_zeros.copy()
    x.eliminate_zeros()
    results = []
    for matrix, bsize in ((x, 1000), (x, 17), (with_zeros, 64)):
        adata = cases.annotated(to_xp(matrix))
        getattr(dc, method)(adata, net, bsize=bsize)
        results.append(adata.obsm[f"score_{method}"])
    for result in results[1:]:
        pd.testing.assert_frame_equal(result, results[0], check_exact=True)


@pytest.mark.parametrize("method", METHODS)
def test_the_unit_of_weights_does_not_matter(to_xp, method):
    x, net = to_xp(normalised(20, 90, mean=2)), network(5, 90, 20)
    once, twice = cases.annotated(x), cases.annotated(x)
    getattr(dc, method)(once, net)
    getattr(dc, method)(twice, net.assign(weight=4 * net["weight"]))
    np.testing.assert_array_equal(once.obsm[f"score_{method}"], twice.obsm[f"score_{method}"])


@pytest.mark.parametrize("method", ALL)
def test_data_frame_raw_and_layer(method):
    """Of a DataFrame the tables come back; a layer and raw give what X gives."""
    x, net = normalised(12, 60, mean=2), network(3, 60, 15)
    call, adata = functools.partial(getattr(dc, method), net=net, **ALL[method]), cases.annotated(x)
    assert call(adata) is None
    assert set(adata.obsm) == {f"{table}_{method}" for table in TABLES.get(method, ("score", "padj"))}
    returned = call(pd.DataFrame(x.toarray(), adata.obs_names, adata.var_names))
    returned = (returned,) if isinstance(returned, pd.DataFrame) else returned
    for table, values in zip(TABLES.get(method, ("score", "padj")), returned, strict=True):
        pd.testing.assert_frame_equal(values, adata.obsm[f"{table}_{method}"], check_exact=True)
    other = cases.annotated(sp.csr_matrix(x.shape, dtype=np.float32))
    other.layers["l"], other.raw = x, adata
    for where in ({"layer": "l"}, {"raw": True}):
        call(other, **where)
        for key, values in adata.obsm.items():
            pd.testing.assert_frame_equal(other.obsm[key], values, check_exact=True)
            del other.obsm[key]


@pytest.mark.parametrize("method", ALL)
def test_arguments_that_all_methods_have(method, capsys):
    """``tmin`` leaves sources out, ``verbose`` says what is there; values and blocks that cannot be are refused."""
    x, net = normalised(12, 60, mean=2, empty_gene=3), pd.concat([network(3, 60, 15), network(1, 60, 6, seed=5).assign(source="small")])
    call, adata = functools.partial(getattr(dc, method), net=net, **ALL[method]), cases.annotated(x)
    call(adata, tmin=10, verbose=True)
    assert list(adata.obsm[f"score_{method}"]) == ["s0", "s1", "s2"]
    n_seen = (x.toarray() != 0).any(axis=0).sum()
    assert capsys.readouterr().err == f"{method}: 3 sources, {n_seen} genes, 12 cells\n"
    call(adata, tmin=1)
    assert list(adata.obsm[f"score_{method}"]) == ["s0", "s1", "s2", "small"] and not capsys.readouterr().err
    for wrong, message in (
        ({"bsize": 0}, "bsize is 0; it must be 1 or more"),
        ({"raw": True}, "raw is True, but data.raw is empty"),
        ({"tmin": 99}, "No source of the network has 99 targets among the 59 genes"),
    ):
        with pytest.raises((ValueError, InvalidInput), match=message):
            call(adata, **wrong)
    adata.X.data[7] = np.inf
    with pytest.raises(ValueError, match="cell 'c0': gene '.*' is inf; remove the cell, or replace the value"):
        call(adata)


@pytest.mark.parametrize("method", ["aucell", "gsea", "gsva", "mlm", "ora", "ulm", "viper", "waggr", "zscore"])
def test_arguments_are_decouplers(method):
    """Of the same names and defaults; but for ``empty``, ``tval`` and the cells of a block."""
    import decoupler

    theirs = getattr(decoupler.mt, method)
    both = [inspect.signature(f).parameters for f in (theirs.func, type(theirs).__call__)]
    wanted = {name: argument.default for part in both for name, argument in part.items()}
    ours = {name: argument.default for name, argument in inspect.signature(getattr(dc, method)).parameters.items()}
    internal = {"self", "mat", "adj", "cnct", "starts", "offsets", "kwargs"}
    assert list(ours)[:2] == ["data", "net"] and {"layer", "bsize"} <= set(ours)
    for name in set(wanted) - internal - {"empty", "tval", "bsize"}:
        assert ours[name] == wanted[name], name


def test_blocks_fit_the_free_memory(to_xp, monkeypatch):
    """No result depends on it."""
    x, net = normalised(130, 90, mean=2), network(5, 90, 20)
    whole, parts = cases.annotated(to_xp(x)), cases.annotated(to_xp(x))
    for method in ("ulm", "aucell", "wsum"):
        getattr(dc, method)(whole, net, **ALL[method])
    monkeypatch.setattr(backend, "available_bytes", lambda name: 4 * 4000)
    assert cells_at_a_time(backend.csr_parts(x), 16384, 100) == int(4000 / (100 + 8 * x.nnz / 130)) > 1
    assert cells_at_a_time(backend.csr_parts(x), 16384, 1e9) == 1 and cells_at_a_time(backend.csr_parts(x), 2) == 2
    for method in ("ulm", "aucell", "wsum"):
        getattr(dc, method)(parts, net, **ALL[method])
    for key, values in whole.obsm.items():
        pd.testing.assert_frame_equal(parts.obsm[key], values, check_exact=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_without_expression_or_differences_has_no_score(to_xp, method):
    x = normalised(10, 60, mean=2).toarray()
    x[3], x[5] = 0, 0.1
    adata = cases.annotated(to_xp(sp.csr_matrix(x)))
    getattr(dc, method)(adata, network(3, 60, 15))
    for key in (f"score_{method}", f"padj_{method}"):
        assert adata.obsm[key].isna().all(axis=1).to_numpy().nonzero()[0].tolist() == [3, 5]
        assert adata.obsm[key].drop(["c3", "c5"]).notna().all(axis=None)


def test_sources_that_cannot_be_told_apart(to_xp):
    adata, net = cases.annotated(to_xp(normalised(5, 60, mean=2))), network(4, 60, 15)
    double = pd.concat([net, net[net["source"] == "s1"].assign(source="twin", weight=lambda t: -3 * t["weight"])])
    with pytest.raises(InvalidInput, match=r"source twin are a combination of other sources' \(most like s1\)"):
        dc.mlm(adata, double)
    dc.ulm(adata, double)
    np.testing.assert_allclose(adata.obsm["score_ulm"]["twin"], -adata.obsm["score_ulm"]["s1"], rtol=1e-12)
    with pytest.raises(ValueError, match="genes do not suffice for 70 sources"):
        dc.mlm(adata, network(70, 60, 15))


def test_bad_data(to_xp):
    x, net = normalised(6, 40, mean=2), network(3, 40, 15)
    bad = x.copy()
    bad.data[bad.indptr[4]] = np.nan
    with pytest.raises(ValueError, match=f"cell 'c4': gene 'g{bad.indices[bad.indptr[4]]}' is nan"):
        dc.ulm(cases.annotated(to_xp(bad)), net)
    adata = cases.annotated(to_xp(x))
    adata.var_names = ["g0", *adata.var_names[:-1]]
    with pytest.raises(ValueError, match="gene name 'g0' comes more than once"):
        dc.ulm(adata, net)
    twice = pd.concat([net, net.iloc[[4]]], ignore_index=True)
    edge = " -> ".join(net.loc[4, ["source", "target"]])
    with pytest.raises(InvalidInput, match=rf"net: row {len(net)}: the edge {edge} came before \(1 such rows\)"):
        dc.ulm(cases.annotated(to_xp(x)), twice)


def test_adjustment_with_missing_values():
    p = np.array([[0.01, np.nan, 0.04, 0.03], [np.nan] * 4, [0.2, 0.1, 1, 0.5]])
    expected = [[0.03, np.nan, 0.04, 0.04], [np.nan] * 4, [0.4, 0.4, 1, 2 / 3]]  # by hand: p m / rank, then minima from above
    np.testing.assert_allclose(benjamini_hochberg(p), expected, rtol=1e-12)
    np.testing.assert_allclose(benjamini_hochberg(p.T, axis=0).T, expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Precision loss")
def test_rank_sources():
    """b is constant in each group, and not the same in both."""
    from scipy.stats import ttest_ind

    random = np.random.default_rng(0)
    scores = pd.DataFrame(random.normal(size=(20, 3)), columns=["a", "b", "c"])
    scores["b"] = np.repeat([1.0, 2.0], 10)
    scores.iloc[4] = np.nan
    labels = pd.Categorical(["x"] * 10 + ["y"] * 8 + ["z"] + [None])
    table = rank_sources(scores, labels)
    assert table["cluster"].tolist() == list("xxxyyyzzz") and table["source"].tolist() == list("abc") * 3
    inside, outside = scores.iloc[:10].drop(4), scores.iloc[10:]
    np.testing.assert_allclose(table["mean_score"][:3], inside.mean())
    np.testing.assert_allclose(table["mean_difference"][:3], inside.mean() - outside.mean())
    theirs = ttest_ind(inside, outside, equal_var=False)
    np.testing.assert_allclose(table["statistic"][:3], theirs.statistic, rtol=1e-12)
    np.testing.assert_allclose(table["p_value"][:3], theirs.pvalue, rtol=1e-12)
    assert table["p_value"][6:].isna().all() and table["adjusted_p_value"][6:].isna().all()
    np.testing.assert_allclose(table["mean_score"][6:], scores.iloc[18])


@pytest.fixture
def inputs(tmp_path, data_dir):
    """Store and deltas of real cells, two clusters by a gene."""
    full = ad.read_h5ad(data_dir / "visium_prostate_cancer.h5ad")
    counts = sp.csr_matrix(full.X[:300]).astype(np.float32)
    cases.store(tmp_path / "counts.store.h5ad", counts, "s", genes=list(full.var_names), cells=list(full.obs_names[:300]))
    names = full.obs_names[:300]
    obs = pd.DataFrame({"size_factor": size_factors(counts)}, index=names)
    write_delta(tmp_path / "preprocess.h5ad", Delta("preprocess", obs))
    labels = pd.Categorical(np.where(np.arange(300) < 120, "1", "0"))
    write_delta(tmp_path / "cluster.h5ad", Delta("cluster", pd.DataFrame({"leiden": labels}, index=names)))
    files = {name: str(tmp_path / f"{name}.h5ad") for name in ("preprocess", "cluster")}
    return {"store": str(tmp_path / "counts.store.h5ad"), **files, "network": str(data_dir / "progeny_human_top500.csv")}


def test_stage(inputs, tmp_path, backend_name):
    outputs = []
    for run in ("a", "b"):
        options = [f"--{key}={value}" for key, value in inputs.items()]
        options += ["--output", str(tmp_path / f"{run}.h5ad"), "--tables", str(tmp_path / run), "--backend", backend_name]
        result = CliRunner().invoke(runpy.run_path(str(BIN / "activity.py"))["activity"], options, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        outputs.append([(tmp_path / f"{run}.h5ad").read_bytes(), (tmp_path / run / "activity_mlm.csv").read_bytes()])
    assert outputs[0] == outputs[1]
    delta = read_delta(tmp_path / "a.h5ad")
    assert set(delta.obsm) == {f"{what}_{method}" for what in ("score", "padj") for method in METHODS}
    assert delta.obsm["score_mlm"].shape == (300, 14) and delta.record["network"]["file"] == "progeny_human_top500.csv"
    table = pd.read_csv(tmp_path / "a" / "activity_ulm.csv", dtype={"cluster": str})
    assert table["cluster"].tolist() == ["0"] * 14 + ["1"] * 14
    means = delta.obsm["score_ulm"].iloc[:120].mean()
    np.testing.assert_allclose(table["mean_score"][14:], means, rtol=1e-12)


def test_stage_with_one_cluster_and_wrong_method(inputs, tmp_path):
    names = read_delta(inputs["cluster"]).obs.index
    write_delta(inputs["cluster"], Delta("cluster", pd.DataFrame({"leiden": pd.Categorical(["0"] * 300)}, index=names)))
    out = {"output": tmp_path / "a.h5ad", "tables": tmp_path / "t"}
    activity.run(**inputs, **out, activity_methods=["ulm"])
    assert "one cluster" in json.loads((tmp_path / "a.h5ad.run.json").read_text())["warnings"][0]
    table = pd.read_csv(tmp_path / "t" / "activity_ulm.csv")
    assert table["mean_score"].notna().all() and table["p_value"].isna().all()
    with pytest.raises(InvalidInput, match="activity_methods: 'vlm' given. Choose from aucell, consensus, gsea, gsva, mlm, ora, ulm"):
        activity.run(**inputs, **out, activity_methods=["vlm"])


def test_rank_sources_groups():
    from scipy.stats import norm, rankdata

    adata = cases.annotated(sp.csr_matrix((30, 2)), cluster=pd.Categorical(["x", "y"] * 15))
    adata.obsm["score_mlm"] = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), adata.obs_names, list("abc"))
    table = dc.rank_sources_groups(adata, "cluster", score="score_mlm")
    pd.testing.assert_frame_equal(table, rank_sources(adata.obsm["score_mlm"], adata.obs["cluster"]))
    ranked = dc.rank_sources_groups(adata, "cluster", score="score_mlm", method="wilcoxon")
    values = adata.obsm["score_mlm"].to_numpy()
    u = rankdata(values, axis=0)[::2].sum(axis=0) - 15 * 16 / 2  # no ties; mean 112.5, variance 15 * 15 * 31 / 12
    z = (np.abs(u - 112.5) - 0.5) / np.sqrt(15 * 15 * 31 / 12)
    np.testing.assert_allclose(ranked["statistic"][:3], u, rtol=1e-12)
    np.testing.assert_allclose(ranked["p_value"][:3], 2 * norm.sf(z), rtol=1e-12)
    with pytest.raises(ValueError, match="obsm has no 'score_ulm'; it has score_mlm"):
        dc.rank_sources_groups(adata, "cluster")
    with pytest.raises(ValueError, match="obs has no column 'leiden'; it has cluster"):
        dc.rank_sources_groups(adata, "leiden", score="score_mlm")
    with pytest.raises(ValueError, match="method is 'anova'; it must be one of t-test, wilcoxon"):
        dc.rank_sources_groups(adata, "cluster", score="score_mlm", method="anova")


def test_stage_names_the_mismatch_of_organisms(inputs, tmp_path):
    """Exit code 65, and nothing is left behind."""
    net = dc.read_network(inputs["network"])
    net.assign(target=net["target"].str.capitalize()).drop_duplicates(["source", "target"]).to_csv(tmp_path / "mouse.csv", index=False)
    options = [f"--{key}={value}" for key, value in (inputs | {"network": tmp_path / "mouse.csv"}).items()]
    options += ["--output", tmp_path / "a.h5ad", "--tables", tmp_path / "t"]
    done = subprocess.run([sys.executable, BIN / "activity.py", *options], capture_output=True, text=True)
    assert done.returncode == 65 and not (tmp_path / "a.h5ad").exists()
    error, remedy = done.stderr.splitlines()[-2:]
    assert error.startswith("error: ") and "the same but for upper and lower case" in error
    assert remedy.startswith("remedy: Network and data seem to be of different organisms")


def test_the_schemas_know_all_methods():
    """Of --networks, and of --activity_methods; and the page of methods."""
    root, known = BIN.parent, sorted([*activity.METHODS, "consensus"])
    sheet = json.loads((root / "assets" / "schema_networks.json").read_text())["items"]["properties"]["methods"]["pattern"]
    groups = json.loads((root / "nextflow_schema.json").read_text())["$defs"].values()
    (single,) = (group["properties"]["activity_methods"]["pattern"] for group in groups if "activity_methods" in group["properties"])
    for pattern in (sheet, single):
        assert re.fullmatch(pattern, ",".join(known)) and not re.fullmatch(pattern, "udt")
    page = (root / "docs" / "methods.md").read_text()
    assert all(f"dc.{name}`" in page for name in known if name != "waggr")


@pytest.mark.parametrize("method", [*ALL, "consensus"])
def test_names_of_decoupler_1(method):
    assert getattr(dc, f"run_{method}") is getattr(dc, method)


def test_stage_with_all_methods(inputs, tmp_path, backend_name):
    methods = ["consensus", *activity.METHODS]
    out = {"output": tmp_path / "a.h5ad", "tables": tmp_path / "t", "backend": backend_name}
    activity.run(**inputs, **out, activity_methods=methods, times=20, seed=0)
    delta = read_delta(tmp_path / "a.h5ad")
    for method in methods:
        assert np.isfinite(delta.obsm[f"score_{method}"]).all(axis=None)
        assert (f"padj_{method}" in delta.obsm) == (method not in ("aucell", "gsva"))
        assert len(pd.read_csv(tmp_path / "t" / f"activity_{method}.csv")) == 28
    assert delta.record["parameters"]["times"] == 20 and delta.record["seed"] == 0
    with pytest.raises(InvalidInput, match="consensus needs another"):
        activity.run(**inputs, **out, activity_methods=["consensus"])


def test_stage_with_a_named_network_and_pseudobulks(inputs, tmp_path, backend_name):
    """Names of slots and tables; the scores of a sample's cluster are those of its summed counts."""
    network_file = Path(__file__).parents[1] / "assets" / "msigdb_hallmark.csv"
    out = {"output": tmp_path / "a.h5ad", "tables": tmp_path / "t", "backend": backend_name}
    given = inputs | {"network": str(network_file), "network_name": "hallmark"}
    activity.run(**given, **out, activity_methods=["aucell", "ulm"], activity_pseudobulk=True)
    delta = read_delta(tmp_path / "a.h5ad")
    assert delta.stage == "activity.hallmark" and set(delta.obsm) == {"score_aucell_hallmark", "score_ulm_hallmark", "padj_ulm_hallmark"}
    names = ["activity_hallmark_aucell", "activity_hallmark_ulm"]
    assert sorted(p.stem for p in (tmp_path / "t").iterdir()) == [*names, *(f"pseudobulk_{name}" for name in names)]
    table = pd.read_csv(tmp_path / "t" / "pseudobulk_activity_hallmark_ulm.csv", dtype={"cluster": str})
    assert list(table.columns) == ["sample", "cluster", "n_cells", "source", "score", "adjusted_p_value"]
    assert table.groupby("cluster")["n_cells"].first().tolist() == [180, 120]
    store = CountsStore(inputs["store"])
    counts = np.vstack([block.toarray() for _, _, block in store.blocks(1 << 20)]).astype(np.float64)
    sums = sp.csr_matrix(np.array([counts[120:].sum(axis=0), counts[:120].sum(axis=0)]), dtype=np.float32)
    bulk = pd.DataFrame(lognorm(sums, size_factors(sums)).toarray(), ["0", "1"], store.var.index)
    score, _ = dc.ulm(bulk, dc.read_network(network_file))
    np.testing.assert_allclose(table["score"], score.to_numpy().ravel(), rtol=1e-9)
