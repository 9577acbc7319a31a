"""QC: metrics of one sample's cells and genes, and which cells pass."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pandas as pd

from rsc_core import data
from rsc_core.errors import InvalidInput
from rsc_core.io.store import CountsStore
from rsc_core.pp._moments import some_rows
from rsc_core.pp._qc import calculate_qc_metrics
from rsc_core.pp._scrublet import scrublet as score_doublets
from rsc_core.stages._counts import open_counts
from rsc_core.stages._task import Task

CELL_COLUMNS = ("total_counts", "log1p_total_counts", "n_genes_by_counts", "log1p_n_genes_by_counts")
GENE_COLUMNS = ("n_cells_by_counts", "total_counts")
DOUBLET_COLUMNS = ("doublet_score", "predicted_doublet")
NORMAL_QUARTILE = 0.6744897501960817  # a MAD over this estimates the standard deviation of a normal distribution


def run(
    *,
    store,
    output,
    sample,
    backend="cpu",
    min_counts=1,
    max_counts=0,
    min_genes=200,
    max_genes=0,
    max_mito_percent=20.0,
    nmads=5.0,
    mito_prefix=("MT-",),
    ribo_prefix=("RPS", "RPL"),
    hb_pattern="^HB[^P]",
    gene_families="",
    scrublet=False,
    expected_doublet_rate=0.05,
    sim_doublet_ratio=2.0,
    filter_doublets=False,
    seed=0,
):
    """Compute QC metrics of a sample and mark the cells that fail a threshold with the first reason.

    Parameters
    ----------
    store, output
        Counts store of the sample, delta to write.
    sample
        Name of the sample, for messages.
    min_counts, max_counts, min_genes, max_genes
        Limits, inclusive, of the total and of the number of expressed genes; 0: no limit.
    max_mito_percent
        Largest share of mitochondrial counts.
    nmads
        Allowed distance from the sample's median in median absolute deviations (scaled to a standard deviation), see
        :func:`thresholds`; 0: none.
    mito_prefix, ribo_prefix, hb_pattern
        Prefixes of mitochondrial and ribosomal genes, regular expression of haemoglobin genes; case is ignored.
    gene_families
        Further families: ``NAME=PREFIX|PREFIX``, separated by commas; case is ignored.
    scrublet
        Add ``doublet_score`` and ``predicted_doublet`` (:func:`rsc_core.pp.scrublet`) of the cells that pass all thresholds:
        debris would stand among the neighbours of the others.
    expected_doublet_rate, sim_doublet_ratio
        Share of doublets expected, simulated doublets per cell.
    filter_doublets
        Predicted doublets fail with the reason ``doublet``; sets ``scrublet``.
    seed
        Of the simulated doublets.

    Notes
    -----
    A cell without counts fails whatever the thresholds are. A cell that fails a threshold has doublet score NaN.
    """
    parameters = {key: value for key, value in locals().items() if key not in ("store", "output", "backend")}
    task = Task("qc:" + sample, output, parameters=parameters, parents=[store], backend_name=backend, seed=seed)
    with task.step("read"):
        counts_store = CountsStore(store)
        adata = open_counts(task, counts_store)
    with task.step("metrics"):
        families = families_of(adata.var_names, mito_prefix, ribo_prefix, hb_pattern, gene_families)
        adata.var[families.columns] = families
        cells, genes = calculate_qc_metrics(adata, qc_vars=list(families))
    with task.step("thresholds"):
        fixed = {"min_counts": min_counts, "max_counts": max_counts, "min_genes": min_genes, "max_genes": max_genes}
        limits = fixed_limits(**fixed, max_mito_percent=max_mito_percent) | thresholds(cells, nmads)
        reason = reasons(cells, limits)
    uns, columns = {"qc_thresholds": recorded(limits)}, [*CELL_COLUMNS, *(f"pct_counts_{family}" for family in families)]
    if scrublet or filter_doublets:
        with task.step("doublets"):
            rates = {"expected_doublet_rate": expected_doublet_rate, "sim_doublet_ratio": sim_doublet_ratio}
            cells[list(DOUBLET_COLUMNS)], uns["scrublet"] = doublets(task, sample, adata, reason == "", seed, rates)
        columns += DOUBLET_COLUMNS
        if filter_doublets:
            reason[(reason == "") & cells["predicted_doublet"].to_numpy()] = "doublet"
    _warn(task, sample, cells, reason, families, mito_prefix)
    found = pd.Categorical(reason, categories=["", *sorted(set(reason) - {""})])
    obs = cells[columns].assign(passes_qc=reason == "", qc_reason=found)
    task.write(obs=obs, var=genes[list(GENE_COLUMNS)].join(families), uns=uns)


def doublets(task, sample: str, adata, passes, seed: int, rates: dict):
    """Doublet scores and calls of the cells that pass, as a table of all cells, and what scrublet keeps in uns."""
    table = pd.DataFrame({"doublet_score": np.nan, "predicted_doublet": False}, index=adata.obs_names)
    part = data.CunnData(some_rows(adata.X, np.flatnonzero(passes)), obs=adata.obs[passes], var=adata.var)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "batch 'all' is not scored")
        score_doublets(part, random_state=seed, **rates)
    table.loc[passes, list(DOUBLET_COLUMNS)] = part.obs[list(DOUBLET_COLUMNS)]
    table = table.astype({"predicted_doublet": bool})
    kept = part.uns["scrublet"]
    if "threshold" not in kept:
        task.warn(
            f"sample {sample}: {int(passes.sum())} cells are too few or too much alike for doublet scores.",
            "Nothing to do: no cell is called a doublet.",
        )
    elif np.isnan(kept["threshold"]):
        task.warn(
            f"sample {sample}: the scores of simulated doublets have not two modes, so that no cell is called a doublet.",
            "Look at obs['doublet_score'], and set a limit of your own if it tells doublets apart.",
        )
    return table, kept


def families_of(names, mito_prefix, ribo_prefix, hb_pattern: str, others: str = "") -> pd.DataFrame:
    """Which genes are mitochondrial, ribosomal, haemoglobin or of other families: boolean columns ``mt``, ``ribo``, ``hb``, ...

    Parameters
    ----------
    others
        ``NAME=PREFIX|PREFIX`` separated by commas.

    Raises
    ------
    InvalidInput
        When the pattern is no regular expression, or a family is not written as above or comes twice.
    """
    try:
        pattern = re.compile(hb_pattern, re.IGNORECASE)
    except re.error as error:
        raise InvalidInput(
            f"hb_pattern {hb_pattern!r} is no regular expression ({error}).", "Correct the parameter, for example ^HB[^P]."
        ) from error

    def starts(prefixes):
        wanted = tuple(prefix.upper() for prefix in prefixes)
        return [name.upper().startswith(wanted) for name in names]

    haemoglobin = [bool(hb_pattern and pattern.search(name)) for name in names]
    flags = {"mt": starts(mito_prefix), "ribo": starts(ribo_prefix), "hb": haemoglobin}
    for family in filter(None, others.split(",")):
        name, _, prefixes = (part.strip() for part in family.partition("="))
        if not name.isidentifier() or not all(prefixes.split("|")) or name in flags:
            raise InvalidInput(
                f"gene_families: {family!r} is not NAME=PREFIX|PREFIX with a name of its own.", "Write for example cycle=MCM|CDK,heat=HSP."
            )
        flags[name] = starts(prefixes.split("|"))
    return pd.DataFrame(flags, index=names)


def fixed_limits(min_counts, max_counts, min_genes, max_genes, max_mito_percent) -> dict[str, tuple[str, float, float]]:
    """The limits that the user gave: reason -> (metric, lower, upper); NaN is no limit."""
    none = np.nan
    return {
        "min_counts": ("total_counts", min_counts, none),
        "max_counts": ("total_counts", none, max_counts or none),
        "min_genes": ("n_genes_by_counts", min_genes, none),
        "max_genes": ("n_genes_by_counts", none, max_genes or none),
        "max_mito_percent": ("pct_counts_mt", none, max_mito_percent),
    }


def thresholds(cells: pd.DataFrame, nmads: float) -> dict[str, tuple[str, float, float]]:
    """Limits at ``nmads`` robust standard deviations from the median of the cells with counts.

    Two-sided for ``log1p_total_counts`` and ``log1p_n_genes_by_counts``, upper only for ``pct_counts_mt``; NaN (no limit)
    where ``nmads`` is 0 or half of the cells and more have the same value, which leaves no scale to measure with.
    Germain et al. 2020, Genome Biol. 21:227.
    """
    limits, some = {}, cells["total_counts"] > 0
    for metric, sides in (("log1p_total_counts", (-1, 1)), ("log1p_n_genes_by_counts", (-1, 1)), ("pct_counts_mt", (np.nan, 1))):
        values = cells.loc[some, metric].to_numpy()
        median = np.median(values) if values.size else np.nan
        spread = np.median(np.abs(values - median)) / NORMAL_QUARTILE if values.size else np.nan
        reach = nmads * spread or np.nan
        limits[f"mad_{metric}"] = (metric, *(median + side * reach for side in sides))
    return limits


def reasons(cells: pd.DataFrame, limits) -> np.ndarray:
    """The first limit that each cell fails, ``''`` for none; ``no_counts`` comes before all."""
    reason = np.where(cells["total_counts"] > 0, "", "no_counts").astype(object)
    for name, (metric, lower, upper) in limits.items():
        value = cells[metric].to_numpy()
        reason[(reason == "") & ((value < lower) | (value > upper))] = name
    return reason


def recorded(limits) -> dict[str, dict[str, float]]:
    """The strictest limits of each metric: metric -> ``lower``, ``upper``; NaN is no limit."""
    metrics = dict.fromkeys(metric for metric, _, _ in limits.values())
    return {
        metric: {
            "lower": float(np.fmax.reduce([lower for m, lower, _ in limits.values() if m == metric])),
            "upper": float(np.fmin.reduce([upper for m, _, upper in limits.values() if m == metric])),
        }
        for metric in metrics
    }


def _warn(task, sample, cells, reason, families, mito_prefix) -> None:
    empty = np.flatnonzero(reason == "no_counts")
    if empty.size:
        task.warn(
            f"sample {sample}: {empty.size} of {len(reason)} cells have no counts and are removed (first: {cells.index[empty[0]]!r}).",
            "Nothing to do, unless you expected counts: then check the sample's file.",
        )
    if (reason != "").all():
        most = pd.Series(reason).mode()[0]
        task.warn(
            f"sample {sample}: all {len(reason)} cells fail QC (most often: {most}).",
            "The sample is left out. Loosen that threshold, or take the sample out of the samplesheet.",
        )
    if mito_prefix and not families["mt"].any():
        task.warn(
            f"sample {sample}: no gene starts with {' or '.join(mito_prefix)}, so that pct_counts_mt is 0 in every cell.",
            "Set mito_prefix to that of your gene names if the data has mitochondrial genes.",
        )
