"""Statistics of genes over groups of cells."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd

from rsc_core import data
from rsc_core.pp._moments import gene_mean_variance, some_rows, totals

FUNCTIONS = ("count_nonzero", "mean", "sum", "var")


def aggregate(adata, by, func, *, axis=0, mask=None, dof=1, layer=None, obsm=None):
    """Sums, means, variances and numbers of non-zeros of each gene in each group of cells.

    Parameters
    ----------
    adata
        AnnData or CunnData; X, the layer or ``obsm`` is (cells, genes), CSR, CSC or dense.
    by
        Column of obs, or several: groups are the combinations that occur, named ``a_b``. Cells without a value are left out.
    func
        One or several of ``count_nonzero``, ``mean``, ``sum``, ``var``.
    axis
        0 or ``"obs"``; 1 or ``"var"`` for groups of genes by columns of var.
    mask
        Column or boolean mask of the cells to take.
    dof
        ``var`` has n - dof in the denominator.
    layer, obsm
        What to aggregate instead of X.

    Returns
    -------
    AnnData of the host (groups, genes), a layer for each function: float64, ``count_nonzero`` int64.

    Notes
    -----
    Sums are float64, variances are taken in two passes; scanpy agrees within 1e-6 (1e-12 of float64). Where it has a mask,
    scanpy 1.11 divides by the size of the whole group; here it is the number of its masked cells. A group of at most ``dof``
    cells has variance NaN, one without cells (by the mask) mean NaN.
    """
    functions = [func] if isinstance(func, str) else list(func)
    unknown = [name for name in functions if name not in FUNCTIONS]
    if unknown or not functions:
        raise ValueError(f"func is {unknown[0] if unknown else func!r}; it must be of {FUNCTIONS}")
    if axis not in (0, 1, "obs", "var"):
        raise ValueError(f"axis is {axis!r}; it must be 0, 1, 'obs' or 'var'")
    if layer is not None and obsm is not None:
        raise ValueError("layer and obsm came; one of them is possible")
    over_genes = axis in (1, "var")
    table, others = (adata.var, adata.obs) if over_genes else (adata.obs, adata.var)
    if obsm is not None:
        if over_genes or obsm not in adata.obsm:
            raise KeyError(f"there is no obsm[{obsm!r}] of axis {axis!r}; obsm has {sorted(adata.obsm)}")
        x = adata.obsm[obsm]
        names = x.columns if hasattr(x, "columns") else pd.RangeIndex(x.shape[1]).astype(str)
        x, others = (x.to_numpy() if hasattr(x, "columns") else x), pd.DataFrame(index=names)
    else:
        x = data.matrix(adata, layer)
        x = x.T if over_genes else x
    code, groups = group_table(table, [by] if isinstance(by, str) else list(by))
    if mask is not None:
        mask = np.asarray(table[mask] if isinstance(mask, str) else mask, dtype=bool)
        if mask.shape != code.shape:
            raise ValueError(f"mask has shape {mask.shape}; {code.shape} is needed")
        code = np.where(mask, code, -1)
    layers = statistics(x, code, len(groups), functions, dof)
    result = ad.AnnData(layers=layers, obs=groups, var=others.copy())
    return result.T if over_genes else result


def group_table(table, by) -> tuple[np.ndarray, pd.DataFrame]:
    """Number of the group of each row (-1: none), and the table of groups in the order of their categories."""
    missing = [key for key in by if key not in table]
    if missing:
        raise KeyError(f"by: there is no column {missing[0]!r}; the table has {list(table)}")
    columns = [pd.Categorical(table[key]).remove_unused_categories() for key in by]
    sizes = [len(column.categories) for column in columns]
    known = np.all([column.codes >= 0 for column in columns], axis=0)
    joint = np.full(len(table), -1, dtype=np.int64)
    if known.any():
        joint[known] = np.ravel_multi_index([column.codes[known].astype(np.int64) for column in columns], sizes)
    present, code = np.unique(joint[known], return_inverse=True)
    parts = np.unravel_index(present, sizes) if present.size else [np.empty(0, dtype=np.int64)] * len(by)
    frame = {key: pd.Categorical.from_codes(part, column.categories) for key, part, column in zip(by, parts, columns, strict=True)}
    names = ["_".join(str(value) for value in row) for row in zip(*frame.values(), strict=True)]
    joint[known] = code
    return joint, pd.DataFrame(frame, index=pd.Index(names, dtype=object))


def statistics(x, code, n_groups: int, functions, dof: int = 1) -> dict[str, np.ndarray]:
    """The functions of each column over the rows of each group, (groups, columns) of the host.

    Parameters
    ----------
    x
        CSR, CSC or dense.
    code
        int64 (rows,) of the host: the group, -1 for none.
    """
    out = {name: np.zeros((n_groups, x.shape[1]), dtype=np.int64 if name == "count_nonzero" else np.float64) for name in functions}
    for group in range(n_groups):
        rows = np.flatnonzero(code == group)
        if not rows.size:
            for name in {"mean", "var"} & set(out):
                out[name][group] = np.nan
            continue
        part = some_rows(x, rows)
        if "sum" in out:
            out["sum"][group] = totals(part, 0)
        if "count_nonzero" in out:
            out["count_nonzero"][group] = totals(abs(part), 0, expressed=True)
        if "mean" in out or "var" in out:
            mean, variance = gene_mean_variance(part)
            if "mean" in out:
                out["mean"][group] = mean
            if "var" in out:
                out["var"][group] = variance * (rows.size - 1) / (rows.size - dof) if rows.size > dof else np.nan
    return out
