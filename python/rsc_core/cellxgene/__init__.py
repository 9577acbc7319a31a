"""What ``rsc-core check cellxgene`` looks at: whether a file meets the CELLxGENE schema.

Schema 7.1.0, https://github.com/chanzuckerberg/single-cell-curation/blob/main/schema/7.1.0/schema.md. The package
``cellxgene-schema`` 7.1.2 asks for anndata 0.11.4 and dask 2024.12, so that it cannot be installed beside rsc_core. What it alone knows is
whether a term of an ontology or a gene exists and is of the right branch; forms, names, types and matrices are checked here.
"""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
from anndata.io import read_elem

from rsc_core.cellxgene._columns import HUMAN, cells, is_spatial
from rsc_core.cellxgene._finding import Finding, listed
from rsc_core.cellxgene._matrices import counts, matrices, shape_of
from rsc_core.errors import InvalidInput

SCHEMA = "7.1.0"
ORGANISMS = [f"NCBITaxon:{number}" for number in (6239, 9483, 7955, 7227, 9595, 9606, 9541, 9544, 30608, 10090, 9986, 9598, 10116, 9823)]
# Names that CELLxGENE Discover fills in, and names of earlier versions of the schema.
NOT_IN = {
    "obs": (
        *("assay", "cell_type", "development_stage", "disease", "experimental_condition", "observation_joinid", "perturbation_types"),
        *("self_reported_ethnicity", "sex", "tissue", "organism", "organism_ontology_term_id", "ethnicity", "ethnicity_ontology_term_id"),
    ),
    "var": ("feature_biotype", "feature_length", "feature_name", "feature_reference", "feature_type"),
    "uns": (
        *("citation", "organism", "schema_reference", "schema_version", "is_pre_analysis", "X_normalization", "default_field", "tags"),
        *("layer_descriptions", "version", "contributors", "preprint_doi", "project_description", "project_links", "project_name"),
        "publication_doi",
    ),
}
EMBEDDING = r"X_(?!spatial$)[A-Za-z][A-Za-z0-9_.-]*"
GENE = r"ENS[A-Z]*G\d{11}|ERCC-\d+|WBGene\d{8}|FBgn\d{7}|ENSSASG\d+"


def examine(path) -> list[Finding]:
    """Every requirement that a file can be checked for without ontologies, in the order of the schema.

    Parameters
    ----------
    path
        File of anndata (.h5ad). Matrices are read in row blocks.

    Raises
    ------
    InvalidInput
        When it is no such file.
    """
    try:
        with h5py.File(path) as file:
            obs, var, uns = (read_elem(file[key]) for key in ("obs", "var", "uns"))
            raw_var = read_elem(file["raw/var"]) if "raw" in file else None
            return [
                *names(obs, var, uns),
                *matrices(file, raw_var is not None),
                *counts(file, obs, raw_var is not None),
                *cells(obs, uns),
                *embeddings(file, obs, uns),
                *genes(var, raw_var),
                *dataset(obs, uns, file),
            ]
    except (OSError, KeyError) as error:
        raise InvalidInput(f"{Path(path).name}: not an AnnData file ({error}).", "Give the adata.h5ad of a run.") from error


def names(obs, var, uns) -> list[Finding]:
    """Reserved and repeated names."""
    found = []
    for where, keys in (("obs", obs), ("var", var), ("uns", uns)):
        wrong = [key for key in keys if key in NOT_IN[where] or key.startswith("__")]
        twice = list(dict.fromkeys(key for key in keys if list(keys).count(key) > 1))
        remedy = f"Rename or remove {listed([*wrong, *twice])}: CELLxGENE fills these in, or they are of earlier versions."
        found.append(Finding(where, "no reserved and no repeated name", not wrong and not twice, listed([*wrong, *twice]), remedy))
    return found


def embeddings(file, obs, uns) -> list[Finding]:
    """At least one embedding to show, and none that cannot be shown."""
    good, wrong = [], []
    spatial_assay = is_spatial(obs)
    for key, element in file.get("obsm", {}).items():
        if isinstance(element, h5py.Group):
            wrong.append(f"{key}: {element.attrs.get('encoding-type', 'group')} in place of an array")
            continue
        if not (re.fullmatch(EMBEDDING, key) or key == "spatial"):
            if key.startswith("X_"):
                wrong.append(f"{key}: name")
            continue
        values = element[()]
        if key == "spatial" and not spatial_assay:
            wrong.append("spatial: only for Visium and Slide-seqV2")
        elif values.ndim != 2 or values.shape[1] < 2 or values.dtype.kind not in "fiu" or np.isinf(values).any() or np.isnan(values).all():
            wrong.append(f"{key}: {values.dtype} {values.shape}, infinite or no numbers")
        elif key == "spatial" and np.isnan(values).any():
            wrong.append("spatial: NaN")
        else:
            good.append(key)
    default = uns.get("default_embedding")
    remedy = f"Remove or mend: {listed(wrong)}."
    return [
        Finding(
            "obsm", "an embedding X_<name> of two columns and more", bool(good), listed(good) or "none", "Compute one: --embeddings umap."
        ),
        Finding("obsm", "arrays of finite numbers under allowed names", not wrong, listed(wrong), remedy),
        Finding(
            "uns['default_embedding']",
            "if there, a key of obsm",
            default is None or default in file["obsm"],
            str(default),
            "Name one of obsm.",
        ),
    ]


def genes(var, raw_var) -> list[Finding]:
    """Genes by their Ensembl ids, and which are filtered."""
    wrong = [name for name in var.index.astype(str) if not re.fullmatch(GENE, name)]
    ids = next((column for column in ("gene_ids", "gene_id", "ensembl_id") if column in var), None)
    remedy = f"adata.var_names = adata.var[{ids!r}]." if ids else "Take the gene ids of the reference that the counts were made with."
    filtered = var.get("feature_is_filtered")
    met = filtered is not None and filtered.dtype == bool
    kind = "not there" if filtered is None else str(filtered.dtype)
    found = [
        Finding(
            "var index",
            "Ensembl gene ids without a version, each once",
            not wrong and var.index.is_unique,
            listed(wrong),
            f"{remedy} Without .version.",
        ),
        Finding(
            "var['feature_is_filtered']",
            "True or False; False without raw",
            met and (raw_var is not None or not filtered.any()),
            kind,
            "adata.var['feature_is_filtered'] = False, before adata.raw is set.",
        ),
    ]
    if raw_var is not None:
        same = raw_var.index.equals(var.index) and "feature_is_filtered" not in raw_var
        found.append(
            Finding("raw.var", "the index of var, without feature_is_filtered", same, "differs", "Set adata.raw from the same genes.")
        )
    return found


def dataset(obs, uns, file) -> list[Finding]:
    """What belongs to the whole."""
    organism, title = uns.get("organism_ontology_term_id"), uns.get("title")
    empty = [key for key, value in uns.items() if not isinstance(value, (bool, np.bool_)) and value is not None and np.size(value) == 0]
    empty += [key for key, value in uns.items() if isinstance(value, (dict, str)) and not value]
    spatial = "spatial" in uns
    wrong = spatial != is_spatial(obs) or (spatial and not isinstance(uns["spatial"].get("is_single"), (bool, np.bool_)))
    batch = np.atleast_1d(uns.get("batch_condition", []))
    kind = uns.get("X_approximate_distribution", "normal")
    sizes = [f"{slot}[{key!r}]" for slot in ("obsp", "varm", "varp") for key in file.get(slot, ()) if 0 in shape_of(file[slot][key])]
    return [
        Finding(
            "uns['organism_ontology_term_id']",
            "NCBITaxon term of one of 14 organisms",
            organism in ORGANISMS,
            str(organism),
            f"{HUMAN} for human, NCBITaxon:10090 for mouse.",
        ),
        Finding("uns['title']", "title of the dataset", isinstance(title, str) and bool(title), str(title), "adata.uns['title'] = '...'."),
        Finding("uns", "no value is empty", not empty, listed(empty), f"Remove {listed(dict.fromkeys(empty))}."),
        Finding(
            "uns['spatial']",
            "for Visium and Slide-seqV2 alone, with is_single",
            not wrong,
            "there" if spatial else "not there",
            "Set is_single to True for one section, else False; del adata.uns['spatial'] for other assays.",
        ),
        Finding(
            "uns['batch_condition']", "if there, columns of obs", all(key in obs for key in batch), listed(batch), "Name columns of obs."
        ),
        Finding(
            "uns['X_approximate_distribution']",
            "if there, count or normal",
            kind in ("count", "normal"),
            str(kind),
            "Set it to count or normal.",
        ),
        Finding("obsp, varm, varp", "no array is empty", not sizes, listed(sizes), f"Remove {listed(sizes)}."),
    ]
