"""Quality of cells and genes, from one pass over the counts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.kernels import counts as kernels
from rsc_core.pp._blocks import row_blocks

CELL_SUMS = ("cell_total", "cell_genes", "cell_class", "cell_wrong")
GENE_SUMS = ("gene_total", "gene_cells")
COPIES = 8  # tables of gene sums that are added into side by side; no result depends on it


def calculate_qc_metrics(adata, *, qc_vars=(), percent_top=None, layer=None, log1p=True, inplace=False):
    """Totals and numbers of expressed genes of each cell, and the same of each gene.

    Parameters
    ----------
    adata
        AnnData; X or the layer holds counts (cells, genes), CSR, CSC or dense.
    qc_vars
        Boolean columns of var (at most 31): for each the total of these genes and its share in percent.
    percent_top
        Numbers of genes: for each the share, in percent, of a cell's counts in that many of its most expressed genes.
    layer
        Layer to use instead of X.
    log1p
        Add log(1 + x) of the totals and numbers.
    inplace
        Add the columns to obs and var instead of returning them.

    Returns
    -------
    Tables of cells and of genes with scanpy's column names; None when ``inplace``. Numbers of cells and genes are int64,
    all else float64 from exact int64 sums: equal on CPU and GPU, equal to scanpy's where its float32 sums are exact.
    A cell without counts has shares NaN, as in scanpy.

    Raises
    ------
    ValueError
        When a value is negative or not a whole number; names the cell.
    """
    qc_vars = [qc_vars] if isinstance(qc_vars, str) else list(qc_vars)
    missing = [name for name in qc_vars if name not in adata.var]
    if missing:
        raise KeyError(f"qc_vars: var has no column {missing[0]!r}; it has {list(adata.var)}")
    if len(qc_vars) > 31:
        raise ValueError(f"qc_vars: {len(qc_vars)} columns came; at most 31 are possible")
    percent_top = sorted(percent_top or ())
    if percent_top and not 1 <= percent_top[0] <= percent_top[-1] <= adata.n_vars:
        raise ValueError(f"percent_top is {percent_top}; there are {adata.n_vars} genes")
    gene_class = np.zeros(adata.n_vars, dtype=np.int32)
    for i, name in enumerate(qc_vars):
        gene_class |= adata.var[name].to_numpy().astype(np.int32) << np.int32(i)
    counts = data.csr(adata, layer)
    sums = count_sums(counts, gene_class, len(qc_vars))
    wrong = np.flatnonzero(sums["cell_wrong"])
    if wrong.size:
        raise ValueError(
            f"cell {adata.obs_names[wrong[0]]!r} has values that are negative or not whole ({wrong.size} such cells); counts are needed"
        )
    cells, genes = _of_cells(sums, qc_vars, log1p), _of_genes(sums, adata.n_obs, log1p)
    if percent_top:
        with np.errstate(invalid="ignore"):
            share = top_sums(counts, percent_top) / sums["cell_total"][:, None] * 100
        cells |= {f"pct_counts_in_top_{n}_genes": share[:, i] for i, n in enumerate(percent_top)}
    if not inplace:
        return pd.DataFrame(cells, index=adata.obs_names), pd.DataFrame(genes, index=adata.var_names)
    for table, columns in ((adata.obs, cells), (adata.var, genes)):
        for name, column in columns.items():
            table[name] = column
    return None


def count_sums(counts, gene_class, n_classes: int) -> dict[str, np.ndarray]:
    """The sums that the metrics are made of.

    Parameters
    ----------
    counts
        CSR (cells, genes).
    gene_class
        int32 (genes,) of the host: bit i is set for the genes of class i.
    n_classes
        Number of classes.

    Returns
    -------
    int64 arrays of the host: ``cell_total``, ``cell_genes`` (expressed), ``cell_wrong`` (values that are no counts),
    each (cells,), ``cell_class`` (cells, classes), ``gene_total`` and ``gene_cells`` (expressing), each (genes,).
    """
    xp, n_genes = backend.xp_of(counts), counts.shape[1]
    gene_class, of_genes = xp.asarray(gene_class), {name: xp.zeros((COPIES, n_genes), dtype=np.int64) for name in GENE_SUMS}
    of_cells = {name: [] for name in CELL_SUMS}
    for _, block in row_blocks(counts):
        parts, n_cells = backend.csr_parts(block, np.float32), block.shape[0]
        sums = [xp.zeros((n_cells, n_classes) if name == "cell_class" else n_cells, dtype=np.int64) for name in CELL_SUMS]
        kernels.cell_and_gene_sums(n_cells, *parts, gene_class, n_genes, n_classes, COPIES, *sums, *of_genes.values())
        for name, part in zip(CELL_SUMS, sums, strict=True):
            of_cells[name].append(backend.to_host(part))
    cells = {name: np.concatenate(parts) for name, parts in of_cells.items()}
    return cells | {name: backend.to_host(part).sum(axis=0) for name, part in of_genes.items()}


def top_sums(counts, tops) -> np.ndarray:
    """Counts of each cell in its most expressed genes: int64 (cells, tops) of the host.

    Parameters
    ----------
    counts
        CSR (cells, genes) of counts.
    tops
        Numbers of genes.
    """
    xp, sums = backend.xp_of(counts), []
    for _, block in row_blocks(counts):
        indptr, _, values = backend.csr_parts(block, np.float32)
        out = xp.empty((block.shape[0], len(tops)), dtype=np.int64)
        kernels.top_sums(block.shape[0], indptr, values, xp.asarray(tops, dtype=np.int64), len(tops), out)
        sums.append(backend.to_host(out))
    return np.concatenate(sums)


def _log1p(whole) -> np.ndarray:
    """log(1 + x) of int64 numbers of at least 0: of each number that is possible once, where these are fewer."""
    most = whole.max(initial=0)
    return np.log1p(np.arange(most + 1, dtype=np.float64))[whole] if most < whole.size else np.log1p(whole.astype(np.float64))


def _of_cells(sums, qc_vars, log1p: bool) -> dict[str, np.ndarray]:
    whole = {"n_genes_by_counts": sums["cell_genes"], "total_counts": sums["cell_total"]}
    whole |= {f"total_counts_{name}": sums["cell_class"][:, i] for i, name in enumerate(qc_vars)}
    table = {}
    for name, numbers in whole.items():
        table[name] = numbers if name == "n_genes_by_counts" else numbers.astype(np.float64)
        if log1p:
            table[f"log1p_{name}"] = _log1p(numbers)
    with np.errstate(invalid="ignore"):
        return table | {f"pct_counts_{name}": table[f"total_counts_{name}"] / table["total_counts"] * 100 for name in qc_vars}


def _of_genes(sums, n_cells: int, log1p: bool) -> dict[str, np.ndarray]:
    total, cells = sums["gene_total"].astype(np.float64), sums["gene_cells"]
    table = {"n_cells_by_counts": cells, "mean_counts": total / n_cells}
    table |= {"pct_dropout_by_counts": (1 - cells / n_cells) * 100, "total_counts": total}
    if log1p:
        table |= {"log1p_mean_counts": np.log1p(table["mean_counts"]), "log1p_total_counts": np.log1p(total)}
    return table
