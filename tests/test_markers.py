"""rank_genes_groups against scanpy and scipy, its defined answers for degenerate groups, the MARKERS stage."""

import json
import math
import runpy
from pathlib import Path

import cases
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from click.testing import CliRunner
from numpy.lib.recfunctions import repack_fields

from rsc_core import backend
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import Delta, read_delta, write_delta
from rsc_core.kernels import orders
from rsc_core.kernels.markers import joined
from rsc_core.pp._normalize import lognorm, size_factors
from rsc_core.stages import _clusters, markers
from rsc_core.tl import _group_moments, rank_genes_groups
from rsc_core.tl import _rank_genes_groups as module

BIN = Path(__file__).parents[1] / "bin"
COLUMNS = {"scores": "float32", "pvals": "float64", "pvals_adj": "float64", "logfoldchanges": "float32"}
# scanpy's steps, with sums in another order; t-tests of float64 copies, because it squares in the type of the values.
TOLERANCE = dict.fromkeys(["wilcoxon", "t-test", "t-test_overestim_var"], 1e-12)


def normalised(n_cells, n_genes, **options):
    counts = cases.counts(n_cells, n_genes, **options)
    return lognorm(counts, size_factors(counts))


def labelled(n_cells, groups="abc", seed=0):
    return pd.Categorical(np.random.default_rng(seed).choice(list(groups), n_cells))


def by_gene(result, column):
    fields = result["names"].dtype.names
    return pd.DataFrame({group: pd.Series(result[column][group], index=result["names"][group]).sort_index() for group in fields})


def compare(ours, theirs, rtol):
    assert list(ours) == list(theirs) and ours["params"] == theirs["params"]
    for column, dtype in COLUMNS.items():
        assert ours[column].dtype == theirs[column].dtype and type(ours[column]) is type(theirs[column])
        assert all(ours[column][group].dtype == dtype for group in ours["names"].dtype.names)
        a, b = by_gene(ours, column), by_gene(theirs, column)
        there = a.abs() > 1e-300 if column.startswith("p") else a.notna()
        assert (there == (b.abs() > 1e-300 if column.startswith("p") else b.notna())).all(axis=None)
        # float32 columns: both sides are rounded, so one unit of the last place (1.2e-7) where float64 straddles a border
        tolerance = rtol if dtype == "float64" else max(rtol, 0 if rtol < 1e-11 else 2.4e-7)
        np.testing.assert_allclose(a[there], b[there], rtol=tolerance, err_msg=column)
    for share in ("pts", "pts_rest"):
        if share in theirs:
            pd.testing.assert_frame_equal(ours[share], theirs[share], rtol=1e-15)


@pytest.mark.parametrize("method", TOLERANCE)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reference": "b"},
        {"groups": ["c", "a"]},
        {"groups": ["c"], "reference": "a"},
        {"tie_correct": True},
        {"tie_correct": True, "reference": "b"},
        {"corr_method": "bonferroni"},
    ],
    ids=str,
)
def test_equals_scanpy(to_xp, method, options):
    import scanpy as sc

    x, labels = normalised(300, 150, empty_gene=3), labelled(300)
    ours, theirs = cases.annotated(to_xp(x), g=labels), cases.annotated(x.astype(np.float64), g=labels)
    rank_genes_groups(ours, "g", method=method, pts=True, **options)
    sc.tl.rank_genes_groups(theirs, "g", method=method, pts=True, use_raw=False, **options)
    compare(ours.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"], TOLERANCE[method])


def test_equals_scanpy_on_real_cells(to_xp, data_dir):
    """Strong markers: p-values down to 1e-300."""
    import anndata as ad
    import scanpy as sc

    full = ad.read_h5ad(data_dir / "pancreas_lib1.h5ad")
    counts = sp.csr_matrix(full.X).astype(np.float32)[:, :3000]
    x = lognorm(counts, np.maximum(size_factors(counts), 1e-3))
    total = np.asarray(counts.sum(axis=1)).ravel()
    labels = pd.Categorical(pd.qcut(total, 5, labels=list("abcde")).astype(str))
    ours, theirs = cases.annotated(to_xp(x), g=labels), cases.annotated(x.astype(np.float64), g=labels)
    for method, rtol in TOLERANCE.items():
        rank_genes_groups(ours, "g", method=method, tie_correct=True)
        sc.tl.rank_genes_groups(theirs, "g", method=method, tie_correct=True, use_raw=False)
        compare(ours.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"], rtol)


@pytest.mark.parametrize("method", ["t-test", "t-test_overestim_var"])
def test_far_tails_equal_exact_sums_and_scanpy(to_xp, method):
    """Welch's t from fractions. In p an error of t counts t^2 times: 1e-15 becomes 1e-12 at t = 32; scanpy's has it, too."""
    import scanpy as sc

    random, labels = np.random.default_rng(0), pd.Categorical(["a", "b"] * 200)
    dense = random.gamma(20, 0.1, size=(400, 30)).astype(np.float32)
    dense[::2] += np.linspace(0, 2.5, 30, dtype=np.float32)
    ours, theirs = cases.annotated(to_xp(sp.csr_matrix(dense)), g=labels), cases.annotated(dense.astype(np.float64), g=labels)
    rank_genes_groups(ours, "g", method=method)
    sc.tl.rank_genes_groups(theirs, "g", method=method, use_raw=False)
    ours, theirs = (by_gene(adata.uns["rank_genes_groups"], "pvals")["a"] for adata in (ours, theirs))
    exact = pd.DataFrame({f"g{gene}": exact_welch(dense[::2, gene], dense[1::2, gene]) for gene in range(30)})[ours.index].T
    exact, size = exact[0], exact[1] ** 2
    assert size.max() > 40**2 and exact.min() < 1e-100
    error, error_of_theirs = (ours / exact - 1).abs(), (theirs / exact - 1).abs()
    assert (error < 1e-12 + 1e-15 * size).all()
    assert ((ours / theirs - 1).abs() < 1e-12 + 1e-15 * size + error_of_theirs).all()


def exact_welch(a, b):
    """Two-sided p and t; equal sizes, so that both variants of the test are one."""
    from decimal import Decimal, localcontext
    from fractions import Fraction

    from scipy.special import stdtr

    def mean_and_share(values):
        values, n = [Fraction(float(value)) for value in values], len(values)
        mean = sum(values) / n
        return mean, sum((value - mean) ** 2 for value in values) / (n - 1) / n

    def decimal(fraction):
        return Decimal(fraction.numerator) / Decimal(fraction.denominator)

    (mean, share), (other_mean, other_share) = mean_and_share(a), mean_and_share(b)
    n = len(a)
    with localcontext(prec=50):
        t = float(decimal(mean - other_mean) / decimal(share + other_share).sqrt())
        df = float(decimal((share + other_share) ** 2 / (share**2 / (n - 1) + other_share**2 / (n - 1))))
    return 2 * stdtr(df, -abs(t)), t


def test_negative_values_and_explicit_zeros_equal_scipy(to_xp):
    """Zeros between negative and positive values; scipy's asymptotic test without continuity correction, tie-corrected."""
    from scipy.stats import mannwhitneyu

    random = np.random.default_rng(0)
    dense = np.round(random.normal(size=(60, 20)), 1).astype(np.float32)
    dense[random.random(dense.shape) < 0.5] = 0
    dense[:, 0], dense[:, 1], dense[:, 2] = -1 - abs(dense[:, 0]), 1 + abs(dense[:, 1]), 0
    x, labels = sp.csr_matrix(np.ones_like(dense)), labelled(60)
    x.data = np.where((dense == 0) & (random.random(dense.shape) < 0.5), np.float32(-0.0), dense).ravel()
    for reference in ("rest", "b"):
        adata = cases.annotated(to_xp(x), g=labels)
        rank_genes_groups(adata, "g", method="wilcoxon", tie_correct=True, reference=reference)
        p = by_gene(adata.uns["rank_genes_groups"], "pvals")
        for group in p:
            outside = labels == "b" if reference == "b" else labels != group
            for gene in range(20):
                a, b = dense[labels == group, gene].astype(float), dense[outside, gene].astype(float)
                expected = mannwhitneyu(a, b, use_continuity=False, method="asymptotic").pvalue if gene != 2 else 1
                np.testing.assert_allclose(p.loc[f"g{gene}", group], expected, rtol=1e-12)


def test_cells_without_a_label_are_among_the_rest(to_xp):
    import scanpy as sc

    x, labels = normalised(200, 40), pd.Categorical(np.where(np.arange(200) % 4 == 3, None, labelled(200).astype(object)))
    ours, theirs = cases.annotated(to_xp(x), g=labels), cases.annotated(x.astype(np.float64), g=labels)
    for method, rtol in TOLERANCE.items():
        rank_genes_groups(ours, "g", method=method, pts=True)
        sc.tl.rank_genes_groups(theirs, "g", method=method, pts=True, use_raw=False)
        compare(ours.uns["rank_genes_groups"], theirs.uns["rank_genes_groups"], rtol)


def test_blocks_of_genes_change_no_bit(to_xp, monkeypatch):
    x, labels = normalised(90, 70), labelled(90)
    results = []
    for keys in (_group_moments.KEYS, 900, 1):  # one block; some; a gene a block
        monkeypatch.setattr(_group_moments, "KEYS", keys)
        adata = cases.annotated(to_xp(x), g=labels)
        rank_genes_groups(adata, "g", method="wilcoxon", tie_correct=True)
        results.append(adata.uns["rank_genes_groups"])
    for result in results[1:]:
        for column in ("names", *COLUMNS):
            assert result[column].tolist() == results[0][column].tolist()


@pytest.mark.parametrize("method", TOLERANCE)
def test_parts_of_genes_change_no_bit(to_xp, monkeypatch, method):
    results = []
    for scores in (module.PART, 60, 1):  # one part; 20 genes a part; a gene a part
        monkeypatch.setattr(module, "PART", scores)
        adata = cases.annotated(to_xp(normalised(90, 70)), g=labelled(90))
        rank_genes_groups(adata, "g", method=method)
        results.append(adata.uns["rank_genes_groups"])
    for result in results[1:]:
        for column in ("names", *COLUMNS):
            assert result[column].tolist() == results[0][column].tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 300, 5000])
def test_orders_are_stable(n):
    """NumPy's stable sort; of few values, of both zeros, of infinities and NaN of both signs, which come last; and of any values."""
    random = np.random.default_rng(0)
    values = np.stack([random.integers(-3, 4, size=5000) / 2.0, random.normal(size=5000)])
    values[0, ::7], values[0, 5::7], values[0, 3::11], values[0, 4::13], values[0, 6::13] = -0.0, np.inf, -np.inf, np.nan, -np.nan
    values = np.ascontiguousarray(values[:, :n])
    order = np.empty(values.shape, dtype=np.int32)
    orders.highest_first(values, order)
    np.testing.assert_array_equal(order, np.argsort(-values, axis=1, kind="stable"))
    for row in values:
        rising = np.empty(n, dtype=np.int32)
        orders.stable_order(row, False, rising)
        np.testing.assert_array_equal(rising, np.argsort(row, kind="stable"))
    table = np.empty((n // 2, 2))
    orders.in_order(values, np.array([1, 0]), order, table)
    np.testing.assert_array_equal(table, np.take_along_axis(values, order, axis=1)[::-1, : n // 2].T)


def test_scores_of_millions_of_cells():
    """n m (n + m + 1) exceeds 64 bits; z from integers of any size."""
    n, m, twice = 2_000_000, 2_100_000, 8_250_000_000_001
    ranks = {"rank_sum": np.array([[twice, 0]]), "ties": np.zeros((1, 3), dtype=np.int64)}
    moments = _group_moments.Moments(
        ["a"], np.array(["g0"], dtype=object), -1, np.array([n, m]), np.zeros((2, 1, 5), dtype=np.int64), 1, 1, **ranks
    )
    (score,), _ = module.wilcoxon(moments)
    np.testing.assert_allclose(score, (twice - n * (n + m + 1)) / 2 / math.sqrt(n * m * (n + m + 1) / 12), rtol=1e-15)


def test_the_order_of_cells_changes_no_bit(to_xp):
    x, labels = normalised(90, 70), labelled(90)
    order = np.random.default_rng(1).permutation(90)
    for method in TOLERANCE:
        one, other = cases.annotated(to_xp(x), g=labels), cases.annotated(to_xp(x[order]), g=labels[order])
        for adata in (one, other):
            rank_genes_groups(adata, "g", method=method)
        for column in ("names", *COLUMNS):
            assert one.uns["rank_genes_groups"][column].tolist() == other.uns["rank_genes_groups"][column].tolist()


@pytest.mark.parametrize("method", TOLERANCE)
def test_a_constant_gene_has_score_0(to_xp, method):
    dense = normalised(50, 10).toarray()
    dense[:, 4], dense[:, 5] = 0.1, 0
    adata = cases.annotated(to_xp(sp.csr_matrix(dense)), g=labelled(50))
    rank_genes_groups(adata, "g", method=method, tie_correct=True)
    result = adata.uns["rank_genes_groups"]
    assert (by_gene(result, "scores").loc[["g4", "g5"]] == 0).all(axis=None)
    assert (by_gene(result, "pvals").loc[["g4", "g5"]] == 1).all(axis=None)


def test_number_and_order_of_genes(to_xp):
    adata = cases.annotated(to_xp(normalised(80, 30)), g=labelled(80))
    rank_genes_groups(adata, "g", n_genes=7, rankby_abs=True, key_added="k")
    result = adata.uns["k"]
    for group in "abc":
        size = np.abs(result["scores"][group])
        assert len(size) == 7 and (np.diff(size) <= 0).all()
    rank_genes_groups(adata, "g", n_genes=1000)
    assert len(adata.uns["rank_genes_groups"]) == 6 and len(adata.uns["rank_genes_groups"]["names"]) == 30


def test_dense_csc_layer_and_text_column(to_xp):
    x, labels = normalised(60, 20), labelled(60)
    expected = cases.annotated(to_xp(x), g=labels)
    rank_genes_groups(expected, "g", method="wilcoxon")
    adata = cases.annotated(to_xp(x.toarray()), g=labels.astype(str))
    adata.layers["csc"] = to_xp(x.tocsc())
    for layer in (None, "csc"):
        rank_genes_groups(adata, "g", method="wilcoxon", layer=layer)
        for column in ("names", *COLUMNS):
            assert adata.uns["rank_genes_groups"][column].tolist() == expected.uns["rank_genes_groups"][column].tolist()


@pytest.mark.parametrize("method", TOLERANCE)
def test_500_groups_equal_scanpy(to_xp, method):
    """Groups of two to seven cells; scanpy takes a second for each 20 of them, so that it has every 50th."""
    import scanpy as sc

    numbers = np.concatenate([np.repeat(np.arange(500), 2), np.random.default_rng(0).integers(500, size=1000)])
    x, labels = normalised(2000, 15, mean=2), pd.Categorical([f"n{i}" for i in numbers])
    ours, theirs = cases.annotated(to_xp(x), g=labels), cases.annotated(x.astype(np.float64), g=labels)
    rank_genes_groups(ours, "g", method=method)
    some = list(labels.categories[::50])
    sc.tl.rank_genes_groups(theirs, "g", groups=some, method=method, use_raw=False)
    result = ours.uns["rank_genes_groups"]
    assert len(result["names"].dtype.names) == 500
    chosen = {name: repack_fields(result[name][some]).view(np.recarray) for name in ("names", *COLUMNS)}
    compare(result | chosen, theirs.uns["rank_genes_groups"], TOLERANCE[method])


@pytest.mark.parametrize("method", [*TOLERANCE, "logreg"])
def test_a_column_of_integers_is_that_of_their_text(to_xp, method):
    """Not categorical, and not changed; its groups are named by numbers or their text."""
    x, numbers = normalised(90, 20), np.random.default_rng(0).integers(3, size=90)
    results = []
    for kind, named in ((str, str), (int, int), (int, str), (float, int)):
        labels = pd.Categorical(numbers.astype(kind)) if kind is str else numbers.astype(kind)
        adata = cases.annotated(to_xp(x), g=labels)
        rank_genes_groups(adata, "g", method=method, groups=[named(2), named(0)], **({} if method == "logreg" else {"reference": named(1)}))
        assert (adata.obs["g"].to_numpy() == np.asarray(labels)).all() and adata.obs["g"].dtype == labels.dtype
        results.append(adata.uns["rank_genes_groups"])
    for result in results[1:]:
        for column in ("names", "scores"):
            assert result[column].tolist() == results[0][column].tolist()


@pytest.mark.parametrize("method", [*TOLERANCE, "logreg"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 9 + ["b"], r"fewer than two cells: b \(1\)"),
        (pd.Categorical(["a", "b"] * 5, categories=["a", "b", "z"]), r"fewer than two cells: z \(0\)"),
        (["a"] * 10, "all cells are in the one group a"),
        ([np.nan] * 10, "there is no group"),
    ],
    ids=["one cell", "no cell", "all cells", "no label"],
)
def test_every_method_refuses_groups_that_cannot_be_compared(to_xp, method, labels, message):
    adata = cases.annotated(to_xp(normalised(10, 8)), g=pd.Categorical(labels))
    with pytest.raises(ValueError, match=message):
        rank_genes_groups(adata, "g", method=method)
    assert not adata.uns


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["a"] * 9 + ["b"], {}, r"groups of 'g' with fewer than two cells: b \(1\); .*remove_unused_categories"),
        (["a", "b"] * 5, {"groups": "a"}, "give 'all' or a list of groups"),
        (["a", "b"] * 5, {"groups": ["a", "q"]}, "'q' is no group of 'g'; its groups are a, b"),
        (["a", "b"] * 5, {"reference": "q"}, "'q' is no group"),
        (["a", "b"] * 5, {"groups": ["a"], "reference": "a"}, "groups holds the reference alone"),
        (["a", "b"] * 5, {"method": "anova"}, "method is 'anova'; it must be one of logreg, t-test, t-test_overestim_var, wilcoxon"),
        (["a", "b"] * 5, {"corr_method": "none"}, "corr_method is 'none'"),
    ],
)
def test_refused(labels, options, message):
    adata = cases.annotated(normalised(10, 8), g=pd.Categorical(labels))
    with pytest.raises(ValueError, match=message):
        rank_genes_groups(adata, "g", **options)


def test_no_such_column_and_values_that_are_not_finite(to_xp):
    x = normalised(10, 8, mean=3)
    with pytest.raises(KeyError, match="groupby is 'h'; obs has g"):
        rank_genes_groups(cases.annotated(to_xp(x), g=["a", "b"] * 5), "h")
    x.data[x.indptr[6]] = np.inf
    with pytest.raises(ValueError, match=f"the value in row 6, column {x.indices[x.indptr[6]]} is inf"):
        rank_genes_groups(cases.annotated(to_xp(x), g=["a", "b"] * 5), "g")


def test_fold_changes_in_another_base(to_xp):
    import scanpy as sc

    x, labels = normalised(60, 20), labelled(60)
    ours, theirs = cases.annotated(to_xp(x), g=labels), cases.annotated(x.astype(np.float64), g=labels)
    for adata, function in ((ours, rank_genes_groups), (theirs, sc.tl.rank_genes_groups)):
        adata.uns["log1p"] = {"base": 2}
        function(adata, "g", method="t-test")
    a, b = (by_gene(adata.uns["rank_genes_groups"], "logfoldchanges") for adata in (ours, theirs))
    np.testing.assert_allclose(a, b, rtol=2.4e-7)


@pytest.fixture
def made(tmp_path, backend_name):
    """Run MARKERS through its script on counts with clusters; returns the delta, the warnings and the folder of tables."""

    def run(counts, labels, *options, name="markers", obs=None):
        cases.store(tmp_path / "counts.store.h5ad", counts, "s", **(obs or {}))
        cells = pd.Index([f"c{i}" for i in range(counts.shape[0])])
        write_delta(tmp_path / "preprocess.h5ad", Delta("preprocess", pd.DataFrame({"size_factor": size_factors(counts)}, index=cells)))
        write_delta(tmp_path / "cluster.h5ad", Delta("cluster", pd.DataFrame({"leiden": pd.Categorical(labels)}, index=cells)))
        files = {"store": "counts.store.h5ad", "preprocess": "preprocess.h5ad", "cluster": "cluster.h5ad", "output": f"{name}.h5ad"}
        arguments = [f"--{key}={tmp_path / value}" for key, value in files.items()]
        arguments += ["--tables", str(tmp_path / name), "--backend", backend_name, *options]
        result = CliRunner().invoke(runpy.run_path(str(BIN / "markers.py"))["markers"], arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        warnings = json.loads((tmp_path / f"{name}.h5ad.run.json").read_text())["warnings"]
        return read_delta(tmp_path / f"{name}.h5ad"), warnings, tmp_path / name

    return run


def test_stage_equals_the_function(made, to_xp):
    counts, labels = cases.counts(120, 50), labelled(120, "012")
    delta, warnings, tables = made(counts, labels)
    assert not warnings and set(delta.uns) == {"rank_genes_groups", "rank_genes_groups_t-test"}
    assert not list(tables.glob("pseudobulk*"))  # without a condition
    x = lognorm(counts, size_factors(counts))
    for key, method in (("rank_genes_groups", "wilcoxon"), ("rank_genes_groups_t-test", "t-test")):
        adata = cases.annotated(to_xp(x), leiden=labels)
        rank_genes_groups(adata, "leiden", method=method, pts=True)
        expected = adata.uns["rank_genes_groups"]
        for column in ("names", *COLUMNS):
            assert delta.uns[key][column].tolist() == expected[column].tolist()
        table = pd.read_csv(tables / f"markers_{method}.csv", dtype={"group": str}, float_precision="round_trip")
        assert list(table.columns) == module.TIDY and len(table) == 150
        second = table[table["group"] == "1"].reset_index(drop=True)
        assert second["gene"].tolist() == list(expected["names"]["1"]) and second["rank"].tolist() == list(range(1, 51))
        assert second["p_value"].tolist() == expected["pvals"]["1"].tolist()
        np.testing.assert_array_equal(second["score"].astype(np.float32), expected["scores"]["1"])
        np.testing.assert_allclose(second["pct_in"], (x.toarray()[labels == "1"] > 0).mean(axis=0)[second["gene"].str[1:].astype(int)])
        np.testing.assert_allclose(second["pct_out"], (x.toarray()[labels != "1"] > 0).mean(axis=0)[second["gene"].str[1:].astype(int)])


def test_stage_twice_gives_the_same_bytes(made, tmp_path):
    for name in ("a", "b"):
        made(cases.counts(60, 30), labelled(60, "01"), name=name)
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()
    for table in ("markers_wilcoxon.csv", "markers_t-test.csv"):
        assert (tmp_path / "a" / table).read_bytes() == (tmp_path / "b" / table).read_bytes()


def test_stage_from_blocks_of_cells_gives_the_same_bytes(made, tmp_path, monkeypatch):
    counts, labels, condition = cases.counts(60, 30), labelled(60, "012"), {"condition": ["sick", "well"] * 30}
    for name, bytes_free in (("a", None), ("b", 8 * 4 * 200)):
        if bytes_free:
            monkeypatch.setattr(_clusters, "available_bytes", lambda backend, free=bytes_free: free)
        made(counts, labels, "--marker-methods", "wilcoxon,t-test,logreg", name=name, obs=condition)
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [f"{table}.{kind}" for table in ("markers_logreg", "markers_t-test", "markers_wilcoxon", "pseudobulk_counts",
                                                     "pseudobulk_samples") for kind in ("csv", "parquet")]  # fmt: skip
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("text", ["plain", "with, comma", 'with "quotes"'])
def test_parts_of_a_table_change_no_byte(tmp_path, monkeypatch, text):
    """Read back by pandas, which takes quotes where they are and where they are not."""
    table = pd.DataFrame({"gene": [f"g{i}" for i in range(100)], "n": np.arange(100), "score": np.random.default_rng(0).normal(size=100)})
    table.loc[57, "gene"] = text
    for rows in (1 << 14, 100, 33, 1):
        monkeypatch.setattr(_clusters, "CSV_ROWS", rows)
        for name, part in (("all", table), ("none", table[:0])):
            _clusters.write_table(tmp_path / str(rows), name, part)
            assert (tmp_path / str(rows) / f"{name}.csv").read_bytes() == (tmp_path / str(1 << 14) / f"{name}.csv").read_bytes()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "1" / "all.csv", float_precision="round_trip"), table, check_exact=True)
    assert (tmp_path / "1" / "none.csv").read_text() == "gene,n,score\n"
    assert ('"g1"' in (tmp_path / "1" / "all.csv").read_text()) == (text != "plain")


def test_stage_writes_parquet_and_sums_of_samples(made):
    counts, labels = cases.counts(60, 30), labelled(60, "01")
    delta, _, tables = made(counts, labels, "--marker-methods", "logreg", "--sample-key", "donor",
                        obs={"donor": np.repeat(["d1", "d2", "d3"], 20), "condition": np.repeat(["x", "y", "x"], 20)})  # fmt: skip
    params = delta.uns["rank_genes_groups"]["params"]
    assert 0 < params["gradient_norm"] <= params["tol"]
    table = pd.read_csv(tables / "markers_logreg.csv", dtype={"group": str}, float_precision="round_trip")
    parquet = pd.read_parquet(tables / "markers_logreg.parquet")
    assert list(parquet) == module.TIDY
    pd.testing.assert_frame_equal(parquet, table.astype(parquet.dtypes), check_exact=True)
    assert table["p_value"].isna().all() and table["pct_in"].notna().all() and set(table["group"]) == {"0"}
    sums, samples = pd.read_csv(tables / "pseudobulk_counts.csv"), pd.read_parquet(tables / "pseudobulk_samples.parquet")
    assert list(sums) == ["gene", *samples["name"]] and samples["condition"].tolist() == ["x", "x", "y", "y", "x", "x"]
    cells = (np.repeat([1, 2, 3], 20) == 2) & (labels == "1")
    np.testing.assert_array_equal(sums["d2_1"], np.asarray(counts[cells].sum(axis=0)).ravel())
    assert samples["n_cells"].sum() == 60


def test_stage_with_one_cluster(made):
    delta, warnings, tables = made(cases.counts(30, 20), ["0"] * 30)
    assert "one cluster" in warnings[0] and not delta.uns
    assert (tables / "markers_wilcoxon.csv").read_text() == ",".join(module.TIDY) + "\n"


def test_stage_leaves_out_clusters_of_one_cell(made):
    delta, warnings, tables = made(cases.counts(31, 20), ["0"] * 15 + ["1"] * 15 + ["2"], "--marker-methods", "t-test")
    assert "clusters of one cell have no markers: 2" in warnings[0]
    assert delta.uns["rank_genes_groups"]["names"].dtype.names == ("0", "1")
    assert not (tables / "markers_wilcoxon.csv").exists()


def test_stage_refuses(tmp_path):
    options = {"store": "x", "preprocess": "x", "cluster": "x", "output": tmp_path / "o", "tables": tmp_path}
    with pytest.raises(InvalidInput, match="marker_methods: 'anova' given. Choose from logreg, t-test"):
        markers.run(**options, marker_methods=["anova"])


def test_tidy_table_against_a_reference(to_xp):
    """pct_out is the share of the reference's cells."""
    x, labels = normalised(90, 20), labelled(90)
    adata = cases.annotated(to_xp(x), g=labels)
    rank_genes_groups(adata, "g", method="wilcoxon", reference="b", pts=True)
    result = adata.uns["rank_genes_groups"]
    table = module.tidy(result, "b")
    assert table["group"].tolist() == ["a"] * 20 + ["c"] * 20 and table["p_value"].tolist() == [
        *result["pvals"]["a"],
        *result["pvals"]["c"],
    ]
    places, dense = table["gene"].str[1:].astype(int), x.toarray() != 0
    np.testing.assert_allclose(table["pct_out"], dense[labels == "b"].mean(axis=0)[places], rtol=1e-15)
    np.testing.assert_allclose(table["pct_in"][:20], dense[labels == "a"].mean(axis=0)[places[:20]], rtol=1e-15)


def test_no_array_of_the_device_is_left(to_xp):
    adata = cases.annotated(to_xp(normalised(30, 10)), g=labelled(30))
    rank_genes_groups(adata, "g", pts=True)
    assert all(backend.xp_of(frame.to_numpy()) is np for frame in (adata.uns["rank_genes_groups"]["pts"],))


def test_blocks_of_cells_change_no_bit(to_xp):
    """Row blocks of a store that does not fit the device: any cut gives the same bytes."""
    x, labels = normalised(90, 40), labelled(90, "ab")
    obs, genes = pd.DataFrame({"g": labels}), [f"g{i}" for i in range(40)]
    for reference in ("rest", "b"):
        whole = _group_moments.summarize_blocks(lambda: [to_xp(x)], obs, "g", genes, reference=reference)
        for cuts in ([0, 1, 50, 90], list(range(0, 91, 7)) + [90]):
            parts = [to_xp(x[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
            cut = _group_moments.summarize_blocks(lambda parts=parts: iter(parts), obs, "g", genes, reference=reference)
            for name in ("table", "rank_sum", "ties", "scale", "scale_squares"):
                np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name))


def test_sums_are_exact(to_xp):
    """Sums and squares of values of very different size, against fractions."""
    from fractions import Fraction

    dense = (np.random.default_rng(0).normal(size=(40, 6)) * 10.0 ** np.arange(-6, 6, 2)).astype(np.float32)
    labels = np.repeat(["a", "b"], 20)
    moments = _group_moments.summarize(cases.annotated(to_xp(sp.csr_matrix(dense)), g=labels), "g", with_ranks=False)
    _, high, low, high_square, low_square = np.moveaxis(moments.table, -1, 0)
    sums, squares = joined(high, low, moments.scale), joined(high_square, low_square, moments.scale_squares)
    for row, cells in enumerate((slice(0, 20), slice(20, 40))):
        for gene in range(6):
            values = [Fraction(float(value)) for value in dense[cells, gene]]
            assert sums[row, gene] == pytest.approx(float(sum(values)), rel=1e-13, abs=1e-21)
            assert squares[row, gene] == pytest.approx(float(sum(v * v for v in values)), rel=1e-13)


def test_continuity_equals_scipy(to_xp):
    from scipy.stats import mannwhitneyu

    x, labels = normalised(60, 12), labelled(60, "ab")
    adata = cases.annotated(to_xp(x), g=labels)
    rank_genes_groups(adata, "g", method="wilcoxon", tie_correct=True, continuity=True)
    p, dense = by_gene(adata.uns["rank_genes_groups"], "pvals"), x.toarray().astype(float)
    for gene in range(12):
        a, b = dense[labels == "a", gene], dense[labels == "b", gene]
        expected = min(1.0, mannwhitneyu(a, b, use_continuity=True, method="asymptotic").pvalue)
        np.testing.assert_allclose(p.loc[f"g{gene}", "a"], expected, rtol=1e-12)


def test_some_genes_by_mask(to_xp):
    x, labels = normalised(60, 20), labelled(60)
    adata, part = cases.annotated(to_xp(x), g=labels), cases.annotated(to_xp(x[:, 5:9]), g=labels)
    adata.var["use"] = [5 <= i < 9 for i in range(20)]
    part.var_names = [f"g{i}" for i in range(5, 9)]
    for one in ((adata, {"mask_var": "use"}), (part, {})):
        rank_genes_groups(one[0], "g", method="wilcoxon", **one[1])
    for column in ("names", *COLUMNS):
        assert adata.uns["rank_genes_groups"][column].tolist() == part.uns["rank_genes_groups"][column].tolist()
    with pytest.raises(ValueError, match="a boolean for each of 20 genes"):
        rank_genes_groups(adata, "g", mask_var=[1, 2])
