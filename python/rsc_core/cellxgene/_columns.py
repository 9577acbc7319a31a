"""Requirements of obs."""

from __future__ import annotations

import re

import pandas as pd

from rsc_core.cellxgene._finding import Finding, listed

HUMAN, WORM = "NCBITaxon:9606", "NCBITaxon:6239"
CELL_LINE = "cell line"
TISSUE_TYPES = (CELL_LINE, "organoid", "primary cell culture", "tissue")
CELL_TYPE = r"(CL:(?!0000255$|0000257$|0000548$)\d{7}|ZFA:\d{7}|FBbt:\d{8}|WBbt:\d{7}|unknown)"
ANATOMY = r"(UBERON:\d{7}|ZFA:\d{7}|FBbt:\d{8}|WBbt:\d{7})"
STAGES = {HUMAN: "HsapDv", "NCBITaxon:10090": "MmusDv", "NCBITaxon:7955": "ZFS", "NCBITaxon:7227": "FBdv", WORM: "WBls"}
VISIUM, SLIDE_SEQ = ("EFO:0010961", "EFO:0022857", "EFO:0022858", "EFO:0022859", "EFO:0022860"), ("EFO:0030062",)


def forms(uns) -> dict[str, tuple[str, str, str, str]]:
    """Of each required column of obs: its form, its form in cell lines, what it is, and an example."""
    organism = str(uns.get("organism_ontology_term_id", ""))
    human, stage = organism == HUMAN, STAGES.get(organism, r"(UBERON|[A-Z]\w+Dv|ZFS|FBdv|WBls)")
    mondo = r"MONDO:\d{7}"
    sexes = r"PATO:(0000384|0001340)|unknown" if organism == WORM else r"PATO:(0000383|0000384|0001340)|unknown"
    ancestry = r"unknown|(HANCESTRO|AfPO):\d{4,7}( \|\| (HANCESTRO|AfPO):\d{4,7})*"
    return {
        "assay_ontology_term_id": (r"EFO:\d{7}(?<!EFO:0010961)", "", "EFO term of the assay", "EFO:0009922 (10x 3' v3)"),
        "cell_type_ontology_term_id": (CELL_TYPE, rf"{CELL_TYPE}|na", "term of the Cell Ontology, or unknown", "CL:0000540 (neuron)"),
        "development_stage_ontology_term_id": (
            rf"{stage}:\d{{7,8}}|unknown",
            "na",
            "term of the developmental stage, or unknown",
            "unknown",
        ),
        "disease_ontology_term_id": (
            rf"PATO:0000461|{mondo}( \|\| {mondo})*",
            "",
            "PATO:0000461 for normal, or MONDO terms in order",
            "PATO:0000461",
        ),
        "donor_id": (r"(?!na$).+", "na", "name of the donor", "d1"),
        "self_reported_ethnicity_ontology_term_id": (
            ancestry if human else "na" if organism.startswith("NCBITaxon:") else rf"{ancestry}|na",
            "na",
            "HANCESTRO or AfPO terms in order, or unknown; na if not human",
            "unknown" if human else "na",
        ),
        "sex_ontology_term_id": (sexes, "na", "PATO term of the sex, or unknown", "PATO:0000383 (female)"),
        "suspension_type": ("cell|nucleus|na", "", "cell, nucleus, or na (tissue sections)", "cell"),
        "tissue_type": ("|".join(TISSUE_TYPES), "", " or ".join(TISSUE_TYPES), "tissue"),
        "tissue_ontology_term_id": (
            ANATOMY,
            r"CVCL_\w+",
            "UBERON term of the tissue; of a cell line, of Cellosaurus",
            "UBERON:0001264 (pancreas)",
        ),
    }


def cells(obs, uns) -> list[Finding]:
    """Names of the cells, and the columns of obs that must be there."""
    found = [
        Finding(
            "obs index", "unique names", obs.index.is_unique, listed(obs.index[obs.index.duplicated()]), "adata.obs_names_make_unique()."
        )
    ]
    kinds = obs["tissue_type"].astype(str) if "tissue_type" in obs else pd.Series("", index=obs.index)
    for column, (form, of_lines, what, example) in forms(uns).items():
        remedy = f"A categorical column, for example {example}; other columns of the samplesheet become columns of obs."
        if column not in obs:
            found.append(Finding(f"obs[{column!r}]", what, False, "not there", remedy))
            continue
        values, wrong = obs[column], []
        for kind, part in values.astype(object).groupby(kinds.to_numpy()):
            if kind == "primary cell culture" and column == "tissue_ontology_term_id":
                form_here = CELL_TYPE
            else:
                form_here = of_lines if kind == CELL_LINE and of_lines else form
            wrong += [value for value in part.unique() if not fits(value, form_here)]
        if not isinstance(values.dtype, pd.CategoricalDtype):
            wrong.append(f"{values.dtype} in place of a categorical")
        found.append(Finding(f"obs[{column!r}]", what, not wrong, listed(wrong), remedy))
    primary = obs.get("is_primary_data")
    met = primary is not None and primary.dtype == bool
    kind = "not there" if primary is None else str(primary.dtype)
    found.append(
        Finding("obs['is_primary_data']", "True or False", met, kind, "adata.obs['is_primary_data'] = True, unless published before.")
    )
    return found


def fits(value, form: str) -> bool:
    """Whether a value has a form, and terms that it joins are in order and differ."""
    if not isinstance(value, str) or not re.fullmatch(form, value):
        return False
    terms = value.split(" || ")
    return terms == sorted(set(terms))


def is_spatial(obs) -> bool:
    """Whether a cell is of Visium or Slide-seqV2."""
    return "assay_ontology_term_id" in obs and bool(obs["assay_ontology_term_id"].astype(str).isin([*VISIUM, *SLIDE_SEQ]).any())
