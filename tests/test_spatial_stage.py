"""SPATIAL: what the delta and the tables hold, equal to the library's functions; what it refuses or warns of."""

import json

import cases
import numpy as np
import pandas as pd
import pytest

from rsc_core import gr
from rsc_core.errors import InvalidInput
from rsc_core.gr import ligrec, restore_ligrec, spatial_autocorr, spatial_neighbors
from rsc_core.gr._values import StoredValues
from rsc_core.io.delta import Delta, read_delta, write_delta
from rsc_core.io.store import write_store
from rsc_core.pp._normalize import lognorm, size_factors
from rsc_core.stages import spatial

INTERACTIONS = "ligand,receptor\n" + "".join(f"g{i},g{i + 1}\n" for i in range(0, 20, 2))


@pytest.fixture
def made(tmp_path, backend_name):
    """Run SPATIAL on two samples whose cells alternate, on a grid of five columns; returns delta, side file, folder of tables."""

    def run(counts, *, spatial_of="xy", clusters=3, interactions=INTERACTIONS, sample="y", normalization="log", obs=None, **options):
        n = counts.shape[0]
        samples, number = np.array(["x", "y"] * (n // 2)), np.arange(n) // 2
        names = pd.Index([f"c{i}-{name}" for i, name in enumerate(samples)], dtype=object)
        coordinates = np.stack([number % 5, number // 5], axis=1).astype(np.float64)
        coordinates[~np.isin(samples, list(spatial_of))] = np.nan
        write_store(
            tmp_path / "counts.store.h5ad", [counts], nnz=counts.nnz, count_dtype=np.uint16,
            obs=pd.DataFrame({"sample": pd.Categorical(samples), **(obs or {})}, index=names),
            var=pd.DataFrame(index=pd.Index([f"g{i}" for i in range(counts.shape[1])], dtype=object)),
            obsm={"spatial": coordinates} if spatial_of else None,
        )
        labels = pd.Categorical((number % clusters).astype(str))
        columns = {"preprocess": {"size_factor": size_factors(counts)}, "cluster": {"leiden": labels}}
        files = {"store": tmp_path / "counts.store.h5ad"}
        for stage in columns:
            files[stage] = tmp_path / f"{stage}.h5ad"
            record = {"parameters": {"normalization": normalization}}
            write_delta(files[stage], Delta(stage, pd.DataFrame(columns[stage], index=names), record=record))
        files["interactions"], files["tables"] = tmp_path / "pairs.csv", tmp_path / "tables"
        files["interactions"].write_text(interactions)
        files["output"] = tmp_path / f"{sample}.spatial.h5ad"
        spatial.run(**{**files, "sample": sample, "backend": backend_name, "n_neighs": 4, "n_perms": 20, **options})
        return read_delta(files["output"]), json.loads((tmp_path / f"{sample}.spatial.h5ad.run.json").read_text()), files["tables"]

    return run


def test_equals_the_functions_one_by_one(made, to_xp, tmp_path):
    counts, mine = cases.counts(80, 30, mean=2), np.arange(1, 80, 2)
    delta, run, tables = made(counts, seed=4, spatial_stats=["moran", "geary", "ligrec"])
    labels = pd.Categorical((np.arange(40) % 3).astype(str))
    adata = cases.annotated(lognorm(to_xp(counts[mine]), size_factors(counts)[mine]), leiden=labels)
    adata.obsm["spatial"] = np.stack([np.arange(40) % 5, np.arange(40) // 5], axis=1).astype(np.float64)
    spatial_neighbors(adata, coord_type="grid", n_neighs=4)
    for key in ("spatial_connectivities", "spatial_distances"):
        np.testing.assert_array_equal(delta.obsp[key].toarray(), adata.obsp[key].toarray())
    assert list(delta.obs.index) == [f"c{i}-y" for i in mine] and delta.stage == "spatial:y" and not run["warnings"]
    for mode, key in (("moran", "moranI"), ("geary", "gearyC")):
        spatial_autocorr(adata, mode=mode, n_perms=20, seed=4)
        pd.testing.assert_frame_equal(delta.uns[key], adata.uns[key], check_exact=True, check_index_type=False, check_names=False)
        written = pd.read_csv(tables / f"y.{mode}.csv", index_col="gene", float_precision="round_trip")
        pd.testing.assert_frame_equal(written, delta.uns[key], check_names=False, check_exact=True, check_index_type=False)
    expected = ligrec(adata, "leiden", interactions=tmp_path / "pairs.csv", n_perms=20, seed=4, copy=True)
    ours = restore_ligrec(delta.uns["leiden_ligrec"])
    np.testing.assert_array_equal(ours["means"], expected["means"])
    np.testing.assert_array_equal(ours["pvalues"], expected["pvalues"])
    written = pd.read_csv(tables / "y.ligrec.csv")
    assert tuple(written.columns) == spatial.LIGREC_COLUMNS and len(written) == expected["pvalues"].notna().to_numpy().sum()
    record = delta.record
    assert record["parameters"]["n_perms"] == 20 and record["seed"] == 4 and record["interactions"]["file"] == "pairs.csv"


def test_two_runs_give_the_same_bytes(made, tmp_path):
    files = [tmp_path / "y.spatial.h5ad", tmp_path / "tables" / "y.moran.csv", tmp_path / "tables" / "y.ligrec.csv"]
    runs = []
    for _ in range(2):
        made(cases.counts(80, 30, mean=2))
        runs.append([file.read_bytes() for file in files])
    assert runs[0] == runs[1]


def test_a_sample_among_those_without_coordinates(made):
    delta, _, _ = made(cases.counts(80, 30, mean=2), spatial_of="y")
    assert len(delta.obs) == 40


@pytest.mark.parametrize("spatial_of", ["", "x"])
def test_no_coordinates_name_the_sample_and_the_remedy(made, spatial_of):
    with pytest.raises(InvalidInput, match="sample 'y'.*no coordinates.*samplesheet"):
        made(cases.counts(80, 30, mean=2), spatial_of=spatial_of)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": "z"}, "sample 'z': no cells; there are x, y"),
        ({"spatial_stats": ["moran", "kriging"]}, "'kriging'"),
        ({"spatial_stats": []}, "none given"),
        ({"cluster_key": "louvain"}, "'louvain': no such column; there are leiden, sample"),
        ({"interactions": "ligand,gene\nA,B\n"}, "pairs.csv: no columns source and target"),
    ],
)
def test_wrong_options(made, options, message):
    with pytest.raises(InvalidInput, match=message):
        made(cases.counts(80, 30, mean=2), **options)


def test_ligrec_needs_a_table():
    with pytest.raises(InvalidInput, match="which ligrec needs"):
        spatial.run(store="s", preprocess="p", cluster="c", sample="y", output="o", tables="t")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"clusters": 1}, "leiden has 1 cluster"), ({"interactions": "ligand,receptor\nA,B\n"}, "No interaction has both partners")],
)
def test_nothing_to_test_warns_and_leaves_an_empty_table(made, options, message):
    delta, run, tables = made(cases.counts(80, 30, mean=2), **options)
    assert any(message in warning for warning in run["warnings"]) and "leiden_ligrec" not in delta.uns
    assert (tables / "y.ligrec.csv").read_text() == ",".join(spatial.LIGREC_COLUMNS) + "\n"
    assert len(delta.uns["moranI"]) == 30


def test_moran_alone_needs_no_clusters_and_no_table(made):
    delta, _, tables = made(cases.counts(80, 30, mean=2), spatial_stats=["moran"], cluster_key="nothing")
    assert sorted(path.name for path in tables.iterdir()) == ["y.moran.csv"] and "moranI" in delta.uns


def test_three_spots_without_neighbours(made):
    delta, run, _ = made(cases.counts(6, 30, mean=2), coord_type="generic", spatial_stats=["moran"])
    assert delta.obsp["spatial_connectivities"].nnz == 6 and not run["warnings"]


def test_every_statistic_gives_a_result_and_a_table(made, to_xp, tmp_path):
    counts, mine = cases.counts(80, 30, mean=2), np.arange(1, 80, 2)
    delta, run, tables = made(counts, seed=4, spatial_stats=list(spatial.STATISTICS), corr_axis="interactions", complex_policy="all")
    assert {path.name for path in tables.iterdir()} == {f"y.{name}.csv" for name in spatial.STATISTICS} and not run["warnings"]
    labels = pd.Categorical((np.arange(40) % 3).astype(str))
    adata = cases.annotated(lognorm(to_xp(counts[mine]), size_factors(counts)[mine]), leiden=labels)
    adata.obsm["spatial"] = np.stack([np.arange(40) % 5, np.arange(40) // 5], axis=1).astype(np.float64)
    spatial_neighbors(adata, coord_type="grid", n_neighs=4)
    gr.nhood_enrichment(adata, "leiden", n_perms=20, seed=4)
    gr.co_occurrence(adata, "leiden")
    gr.centrality_scores(adata, "leiden")
    gr.sepal(adata, 4)
    for mode in "FGL":
        gr.ripley(adata, "leiden", mode=mode, n_simulations=20, seed=4)
        ours, expected = (slots[f"leiden_ripley_{mode}"] for slots in (delta.uns, adata.uns))
        np.testing.assert_array_equal(ours["pvalues"], expected["pvalues"])
        np.testing.assert_array_equal(ours[f"{mode}_stat"]["stats"], expected[f"{mode}_stat"]["stats"])
    for key in ("leiden_nhood_enrichment", "leiden_co_occurrence"):
        for name, value in adata.uns[key].items():
            np.testing.assert_array_equal(delta.uns[key][name], value)
    for key in ("leiden_centrality_scores", "sepal_score"):
        np.testing.assert_array_equal(delta.uns[key].to_numpy(), adata.uns[key].to_numpy())
    rows = {name: len(pd.read_csv(tables / f"y.{name}.csv")) for name in spatial.STATISTICS}
    assert rows["nhood_enrichment"] == rows["interaction_matrix"] == 9 and rows["co_occurrence"] == 9 * 49 and rows["ripley"] == 3 * 3 * 50
    assert delta.uns["leiden_interactions"].sum() == delta.obsp["spatial_connectivities"].nnz


def test_coordinates_from_columns(made):
    counts, number = cases.counts(80, 30, mean=2), np.arange(80) // 2
    expected, _, _ = made(counts, spatial_stats=["moran"])
    columns = {"obs": {"col": number % 5, "line": number // 5}, "spatial_x": "col", "spatial_y": "line"}
    delta, _, _ = made(counts, spatial_of="", **columns, spatial_stats=["moran"])
    assert (delta.obsp["spatial_distances"] != expected.obsp["spatial_distances"]).nnz == 0
    pd.testing.assert_frame_equal(delta.uns["moranI"], expected.uns["moranI"], check_exact=True)
    with pytest.raises(InvalidInput, match="no column 'row'; there are sample, col"):
        made(counts, obs={"col": number}, spatial_x="col", spatial_y="row")
    with pytest.raises(InvalidInput, match="no finite coordinates; the first is row 3 .c7-y"):
        made(counts, obs={"col": np.where(number == 3, np.nan, number), "line": number}, spatial_x="col", spatial_y="line")


def test_ligrec_alone_for_dissociated_cells(made):
    counts = cases.counts(80, 30, mean=2)
    expected, _, _ = made(counts, spatial_stats=["ligrec"])
    delta, _, tables = made(counts, spatial_of="", dissociated=True, spatial_stats=["moran", "ligrec"])
    assert not delta.obsp and list(delta.uns) == ["leiden_ligrec"]
    np.testing.assert_array_equal(delta.uns["leiden_ligrec"]["pvalues"], expected.uns["leiden_ligrec"]["pvalues"])


def test_values_that_are_no_counts_are_taken_as_they_are(made, to_xp):
    counts, mine = cases.counts(80, 30, mean=2), np.arange(1, 80, 2)
    delta, _, _ = made(counts, spatial_stats=["geary"], normalization="none")
    adata = cases.annotated(to_xp(counts[mine]))
    adata.obsp["spatial_connectivities"] = delta.obsp["spatial_connectivities"]
    expected = spatial_autocorr(adata, mode="geary", n_perms=20, copy=True)
    pd.testing.assert_frame_equal(delta.uns["gearyC"], expected, check_exact=True, check_names=False, check_index_type=False)


def test_ligrec_reads_the_genes_of_its_table(made, monkeypatch):
    read, of = [], StoredValues.of
    monkeypatch.setattr(StoredValues, "of", lambda values, genes: read.append(list(genes)) or of(values, genes))
    made(cases.counts(80, 30, mean=2), spatial_stats=["ligrec"], interactions="ligand,receptor\ng7,g3\ng3,absent\ng9,g7\n")
    assert read == [[3, 7, 9]]


def test_sepal_reads_some_genes_after_others(made, monkeypatch):
    counts = cases.counts(80, 30, mean=2)
    whole, _, _ = made(counts, spatial_stats=["sepal"])
    read, slabs = [], StoredValues.slabs

    def few_at_once(values, genes, max_nnz):
        for some, x in slabs(values, genes, 100):
            read.append(some)
            yield some, x

    monkeypatch.setattr(StoredValues, "slabs", few_at_once)
    blocks, _, _ = made(counts, spatial_stats=["sepal"])
    assert len(read) > 3 and np.concatenate(read).tolist() == list(range(30))
    pd.testing.assert_frame_equal(blocks.uns["sepal_score"], whole.uns["sepal_score"], check_exact=True)
