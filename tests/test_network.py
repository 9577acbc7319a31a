"""Networks: what is read, what is refused and how the refusal reads, what of a network fits the genes."""

import cases
import numpy as np
import pandas as pd
import pytest

from rsc_core import dc
from rsc_core.dc import read_network
from rsc_core.dc._net import align
from rsc_core.errors import InvalidInput


def edges(*rows, columns=("source", "target", "weight")):
    return pd.DataFrame(rows, columns=list(columns[: len(rows[0])]))


def test_progeny(data_dir):
    net = read_network(data_dir / "progeny_human_top500.csv")
    assert list(net.columns) == ["source", "target", "weight"] and net["source"].nunique() == 14
    assert net.iloc[0].tolist() == ["Androgen", "TMPRSS2", 11.4906]


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("net work.txt", "\t"), ("a.csv.gz", ",")])
def test_formats_and_names_that_look_like_missing_values(tmp_path, name, separator):
    edges(("NA", "NaN", 1.5), ("B", "null", -2)).to_csv(tmp_path / name, sep=separator, index=False)
    net = read_network(tmp_path / name)
    assert net.values.tolist() == [["NA", "NaN", 1.5], ["B", "null", -2.0]]


def test_weights_are_1_where_the_file_has_none(tmp_path):
    (tmp_path / "a.csv").write_text("target,source\nG1,A\nG2,A\n")
    assert read_network(tmp_path / "a.csv")["weight"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("tf,target\nA,G1\n", "a.csv: no column source; it has tf, target"),
        ("a,b\n1,2\n", "a.csv: no column source and target"),
        ("source,target,weight\nA,G1,1\nA,G2,high\n", "a.csv: line 3: weight 'high' is no number"),
        ("source,target,weight\nA,G1,\n", "a.csv: line 2: weight '' is no number"),
        ("source,target,weight\nA,G1,nan\n", "a.csv: line 2: weight 'nan' is no number"),
        ("source,target,weight\nA,G1,inf\n", "a.csv: line 2: weight 'inf' is no number"),
        ("source,target\nA,G1\nB,G1\nA,G1\nA,G1\n", r"a.csv: line 4: the edge A -> G1 came before \(2 such rows\)"),
        ("source,target\nA,G1\n,G2\n", "a.csv: line 3: no source"),
        ("source,target\nA, \n", "a.csv: line 2: no target"),
        ("source,target\n", "a.csv: it has no edges"),
        ("", "a.csv: cannot be read"),
        ("source,target\nA,G1,2,3\n", "a.csv: its rows have more fields than its header"),
        ("source,target\nA,G1\nB,G1,1\n", "a.csv: cannot be read .*line 3"),
    ],
)
def test_refused(tmp_path, text, cause):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidInput, match=f"^{cause}"):
        read_network(tmp_path / "a.csv")


def test_unknown_format(tmp_path):
    with pytest.raises(InvalidInput, match="a.xlsx: not a known format"):
        read_network(tmp_path / "a.xlsx")


def test_align():
    net = edges(("B", "g2", 2), ("A", "g0", 1), ("B", "g0", -3), ("C", "g1", 5), ("B", "elsewhere", 7))
    sources, weights = align(net, pd.Index(["g0", "g1", "g2"]), tmin=1)
    assert sources == ["A", "B", "C"]
    np.testing.assert_array_equal(weights.toarray(), [[1, -3, 0], [0, 0, 5], [0, 2, 0]])
    sources, weights = align(net, pd.Index(["g0", "g1", "g2"]), tmin=2)
    assert sources == ["B"] and weights.toarray().ravel().tolist() == [-3, 0, 2]


@pytest.mark.parametrize(
    ("genes", "tmin", "message"),
    [
        (["Myc", "Trp53", "Actb"], 1, r"network: TP53, MYC, EGFR; data: Myc, Trp53, Actb.*1 are the same but.*MYC, Myc.*organisms"),
        (["ENSG00000141510", "ENSG00000136997"], 1, "named by Ensembl numbers"),
        (["x", "y"], 1, r"None of the network's 3 targets is among the 2 genes \(network: TP53, MYC, EGFR; data: x, y\)"),
        (["TP53", "MYC"], 3, "No source of the network has 3 targets among the 2 genes; A has the most, 2. Lower tmin"),
        (["TP53", "Myc", "Egfr"], 2, r"A has the most, 1; 2 are the same but for upper and lower case \(EGFR, Egfr\).*organisms"),
    ],
)
def test_a_network_that_does_not_fit(genes, tmin, message):
    with pytest.raises(InvalidInput, match=message):
        align(edges(("A", "TP53"), ("A", "MYC"), ("B", "EGFR")), pd.Index(genes), tmin)


def test_gmt_and_parquet(tmp_path):
    (tmp_path / "a.gmt").write_text("A\tabout A\tG1\tG2\t\n\nB\t\tG1\n")
    net = read_network(tmp_path / "a.gmt")
    assert net.values.tolist() == [["A", "G1", 1.0], ["A", "G2", 1.0], ["B", "G1", 1.0]]
    net = edges(("A", "G1", 1.5), ("B", "G1", -2.0))
    net.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read_network(tmp_path / "a.parquet"), net, check_dtype=False)
    wrong = {"A\tx\tG1\nB\tx\tG1\tG2\tG1\n": "line 2: the edge B -> G1", "A\tx\n": "line 1: the set 'A' has no", "": "it has no edges"}
    for text, cause in wrong.items():
        (tmp_path / "b.gmt").write_text(text)
        with pytest.raises(InvalidInput, match=f"b.gmt: .*{cause}"):
            read_network(tmp_path / "b.gmt")
    (tmp_path / "b.parquet").write_text("no parquet")
    with pytest.raises(InvalidInput, match="b.parquet: cannot be read"):
        read_network(tmp_path / "b.parquet")


def test_shuffle_net(data_dir):
    net = read_network(data_dir / "progeny_human_top500.csv")
    shuffled = dc.shuffle_net(net, seed=0)
    assert (shuffled["source"] == net["source"]).all() and not shuffled.duplicated(["source", "target"]).any()
    assert sorted(shuffled["target"].value_counts()) == sorted(net["target"].value_counts())
    assert sorted(shuffled["weight"]) == sorted(net["weight"])
    assert (shuffled["target"] != net["target"]).mean() > 0.9 and (shuffled["weight"] != net["weight"]).mean() > 0.9
    pd.testing.assert_frame_equal(shuffled, dc.shuffle_net(net, seed=0))
    assert not shuffled.equals(dc.shuffle_net(net, seed=1))
    pd.testing.assert_frame_equal(dc.shuffle_net(net, target=False, weight=False), net)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_pseudobulk(to_xp, mode):
    """Against pandas' groupby."""
    x = cases.counts(40, 12, mean=2)
    sample = pd.Categorical(["b", "a"] * 20)
    group = pd.Categorical(["1"] * 25 + ["0"] * 14 + [None])
    adata = cases.annotated(to_xp(x), sample=sample, group=group)
    bulk = dc.get_pseudobulk(adata, "sample", "group", mode=mode)
    expected = pd.DataFrame(x.toarray(), columns=adata.var_names).groupby([sample, group], observed=True).agg(mode)
    np.testing.assert_allclose(bulk.X, expected, rtol=1e-6)
    assert list(bulk.obs_names) == ["a_0", "a_1", "b_0", "b_1"] and bulk.obs["n_cells"].sum() == 39
    assert list(dc.get_pseudobulk(adata, "sample", "group", min_cells=8).obs_names) == ["a_1", "b_1"]
    assert list(dc.get_pseudobulk(adata, "sample").obs_names) == ["a", "b"]
    adata.layers["l"], adata.raw = to_xp(2 * x), cases.annotated(to_xp(3 * x))
    for where, factor in (({"layer": "l"}, 2), ({"raw": True}, 3)):
        np.testing.assert_allclose(dc.get_pseudobulk(adata, "sample", "group", mode=mode, **where).X, factor * expected, rtol=1e-6)
    counts = pd.Series(x.toarray().sum(axis=1)).groupby([sample, group], observed=True).sum()
    many = dc.get_pseudobulk(adata, "sample", "group", mode=mode, min_counts=counts.sort_values().iloc[2])
    assert many.n_obs == 2 and (many.obs["n_counts"] == counts.to_numpy()[counts >= counts.sort_values().iloc[2]]).all()
    with pytest.raises(ValueError, match="mode is 'median'; it must be one of sum, mean"):
        dc.get_pseudobulk(adata, "sample", mode="median")
    with pytest.raises(ValueError, match="no group has 99 cells"):
        dc.get_pseudobulk(adata, "sample", min_cells=99)
    with pytest.raises(ValueError, match="obs has no column 'batch'; it has sample, group"):
        dc.get_pseudobulk(adata, "batch")
