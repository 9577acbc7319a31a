"""rsc-core check cellxgene: a file that meets the schema, each way to break it, and the command.

The good file passes ``cellxgene-schema validate`` 7.1.2 (schema 7.1.0) as well: tried by hand, since that package asks for anndata 0.11.4.
"""

import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from rsc_core.cellxgene import examine
from rsc_core.errors import InvalidInput

TERMS = {
    "assay_ontology_term_id": "EFO:0009922",
    "cell_type_ontology_term_id": "CL:0000540",
    "development_stage_ontology_term_id": "HsapDv:0000240",
    "disease_ontology_term_id": "MONDO:0004604 || MONDO:0043004",
    "donor_id": "d1",
    "self_reported_ethnicity_ontology_term_id": "unknown",
    "sex_ontology_term_id": "PATO:0000383",
    "suspension_type": "cell",
    "tissue_type": "tissue",
    "tissue_ontology_term_id": "UBERON:0001264",
}


def good():
    """Four cells, three genes; counts in raw, logarithms in X."""
    counts = sp.csr_matrix(np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3], [4, 0, 0]], dtype=np.float32))
    obs = pd.DataFrame({name: pd.Categorical([term] * 4) for name, term in TERMS.items()}, index=[f"c{i}" for i in range(4)])
    obs["is_primary_data"] = True
    var = pd.DataFrame(index=["ENSG00000186092", "ENSG00000284733", "ENSG00000187634"])
    adata = ad.AnnData(counts, obs=obs, var=var)
    adata.raw = adata.copy()
    adata.X = counts.log1p()
    adata.var["feature_is_filtered"] = False
    adata.obsm["X_umap"] = np.arange(8, dtype=np.float32).reshape(4, 2)
    adata.uns |= {"organism_ontology_term_id": "NCBITaxon:9606", "title": "Test", "default_embedding": "X_umap"}
    return adata


def missing(adata, tmp_path):
    adata.write_h5ad(tmp_path / "file.h5ad")
    return {finding.where: finding for finding in examine(tmp_path / "file.h5ad") if not finding.met}


def test_a_good_file_meets_everything(tmp_path):
    assert missing(good(), tmp_path) == {}


def obs_of(column, value):
    def spoil(adata):
        adata.obs[column] = pd.Categorical([TERMS.get(column, value)] * 3 + [value])

    return spoil


def cell_line(adata):
    changed = {"tissue_type": "cell line", "tissue_ontology_term_id": "CVCL_1P02", "donor_id": "na", "sex_ontology_term_id": "na"}
    changed |= dict.fromkeys(("development_stage_ontology_term_id", "self_reported_ethnicity_ontology_term_id"), "na")
    for column, value in changed.items():
        adata.obs[column] = pd.Categorical([value] * 4)


def with_raw(change):
    def spoil(adata):
        raw = adata.raw.to_adata()
        raw.X = change(raw.X)
        adata.raw = raw

    return spoil


def mouse(adata):
    adata.uns["organism_ontology_term_id"] = "NCBITaxon:10090"


def no_raw(adata):
    adata.raw = None


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (cell_line, None),
        (obs_of("assay_ontology_term_id", "10x"), "obs['assay_ontology_term_id']"),
        (obs_of("assay_ontology_term_id", "EFO:0010961"), "obs['assay_ontology_term_id']; uns['spatial']"),
        (obs_of("cell_type_ontology_term_id", "CL:0000548"), "obs['cell_type_ontology_term_id']"),
        (obs_of("cell_type_ontology_term_id", "unknown"), None),
        (obs_of("disease_ontology_term_id", "MONDO:0043004 || MONDO:0004604"), "obs['disease_ontology_term_id']"),
        (obs_of("donor_id", "na"), "obs['donor_id']"),
        (obs_of("tissue_type", "cell culture"), "obs['tissue_type']"),
        (obs_of("sex_ontology_term_id", np.nan), "obs['sex_ontology_term_id']"),
        (lambda a: a.obs.__setitem__("donor_id", ["1", "2", "3", "4"]), "obs['donor_id']"),  # no categorical
        (lambda a: a.obs.__setitem__("donor_id", [1, 2, 3, 4]), "obs['donor_id']"),
        (lambda a: a.obs.__setitem__("is_primary_data", "True"), "obs['is_primary_data']"),
        (lambda a: a.obs.__setitem__("tissue", "pancreas"), "obs"),
        (lambda a: a.obs.pop("suspension_type"), "obs['suspension_type']"),
        (mouse, "obs['development_stage_ontology_term_id']; obs['self_reported_ethnicity_ontology_term_id']"),
        (no_raw, "X"),
        (with_raw(lambda x: x * 0.5), "raw/X"),
        (with_raw(lambda x: x.astype(np.float64)), "raw/X"),
        (with_raw(lambda x: x.multiply(np.array([[1], [1], [1], [0]])).tocsr()), "raw/X"),
        (with_raw(lambda x: x.minimum(1)), "raw/X"),
        (with_raw(lambda x: x.toarray()), "raw/X"),
        (lambda a: a.layers.__setitem__("other", a.X.tocsc()), "layers/other"),
        (lambda a: a.obsm.__setitem__("X_umap", a.obsm["X_umap"][:, :1]), "obsm"),
        (lambda a: a.obsm.__setitem__("X_umap", a.obsm["X_umap"] * np.nan), "obsm"),
        (lambda a: a.obsm.__setitem__("spatial", a.obsm["X_umap"]), "obsm"),
        (lambda a: a.obsm.__setitem__("score", pd.DataFrame({"a": 1.0}, index=a.obs_names)), "obsm"),
        (lambda a: a.uns.__setitem__("default_embedding", "X_tsne"), "uns['default_embedding']"),
        (lambda a: a.uns.pop("title"), "uns['title']"),
        (lambda a: a.uns.__setitem__("log1p", {}), "uns"),
        (lambda a: a.uns.__setitem__("spatial", {"is_single": np.bool_(True)}), "uns['spatial']"),
        (lambda a: a.uns.__setitem__("organism_ontology_term_id", "human"), "uns['organism_ontology_term_id']"),
        (lambda a: a.uns.__setitem__("batch_condition", ["donor_id", "plate"]), "uns['batch_condition']"),
        (lambda a: setattr(a, "var_names", ["ENSG00000186092.7", "b", "c"]), "var index; raw.var"),
        (lambda a: a.var.pop("feature_is_filtered"), "var['feature_is_filtered']"),
    ],
)
def test_what_breaks_a_file_is_named(tmp_path, spoil, where):
    adata = good()
    spoil(adata)
    found = missing(adata, tmp_path)
    assert list(found) == (where.split("; ") if where else [])
    assert all(finding.remedy.strip() and finding.asks for finding in found.values())


def test_cells_that_repeat_are_found_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("rsc_core.cellxgene._matrices.BLOCK_ROWS", 3)
    adata = good()
    with_raw(lambda x: sp.csr_matrix(np.r_[x.toarray()[:3], x.toarray()[:1]]))(adata)
    assert missing(adata, tmp_path)["raw/X"].found == "1 repeat another"


def test_the_command(tmp_path):
    good().write_h5ad(tmp_path / "good.h5ad")
    no_title = good()
    del no_title.uns["title"]
    no_title.write_h5ad(tmp_path / "bad.h5ad")
    (tmp_path / "text.h5ad").write_text("nothing")
    said = {}
    for name in ("good", "bad", "text"):
        command = [sys.executable, "-m", "rsc_core", "check", "cellxgene", tmp_path / f"{name}.h5ad"]
        said[name] = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [done.returncode for done in said.values()] == [0, 65, 65]
    assert "missing" not in said["good"].stdout
    assert "missing uns['title']: title of the dataset\n        found:  None\n        remedy: adata.uns['title']" in said["bad"].stdout
    assert said["text"].stderr.startswith("error: text.h5ad: not an AnnData file") and "remedy: " in said["text"].stderr
    with pytest.raises(InvalidInput):
        examine(tmp_path / "text.h5ad")
