"""Networks: what is read, what is refused and how the refusal reads, what of a network fits the genes."""

import numpy as np
import pandas as pd
import pytest

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
    ],
)
def test_a_network_that_does_not_fit(genes, tmin, message):
    with pytest.raises(InvalidInput, match=message):
        align(edges(("A", "TP53"), ("A", "MYC"), ("B", "EGFR")), pd.Index(genes), tmin)
