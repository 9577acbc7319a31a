"""Ligand-receptor analysis: do two clusters express the two partners of an interaction more than chance would have it?"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from rsc_core import backend, data
from rsc_core.errors import InvalidInput
from rsc_core.gr._permute import orders
from rsc_core.gr._slots import groups_of
from rsc_core.kernels import ligrec as kernels
from rsc_core.stats import benjamini_hochberg

ENDS = (("source", "target"), ("ligand", "receptor"))
POLICIES = ("min", "all")
AXES = {"clusters": 0, "interactions": 1}
ORDERS = kernels.ORDERS  # permutations that are held at once
SUM_BITS = 61  # of the integers that hold sums over cells


class NothingToTest(InvalidInput):
    """There are not two clusters, or no interaction has both partners among the genes."""


def ligrec(
    adata, cluster_key, *, interactions, complex_policy="min", threshold=0.01, corr_method=None, corr_axis="clusters", n_perms=1000,
    seed=0, layer=None, key_added=None, copy=False,
):
    """Mean expression of ligands in one cluster and receptors in another, against permuted clusters (CellPhoneDB's test).

    mean = (mean of the ligand in cluster 1 + mean of the receptor in cluster 2) / 2; p-value: share of the permutations
    of the cells' clusters whose mean is larger. A small p-value: the pair is specific for these two clusters.

    Parameters
    ----------
    adata
        AnnData; X or the layer is log-normalised, (cells, genes), CSR or dense, of the host or the device; values are
        taken as float32. Cells without a cluster are left out.
    cluster_key
        Column of obs with the clusters.
    interactions
        DataFrame or csv file with the columns source and target, or ligand and receptor; further columns come back as
        metadata. ``A_B`` is a complex of A and B unless a gene has this name. Names are compared as they are.
    complex_policy
        ``"min"``: of a complex the component with the lowest mean over all cells, of those in the data; ``"all"``: every
        pair of components.
    threshold
        A pair is tested where each partner is expressed in at least this share of its cluster's cells.
    corr_method
        None or ``"fdr_bh"``: adjust p-values by Benjamini-Hochberg.
    corr_axis
        ``"clusters"``: the interactions of a pair of clusters are one family; ``"interactions"``: the pairs of clusters
        of an interaction are.
    n_perms, seed
        Of the permutations.
    layer
        Layer to take instead of X.
    key_added
        Results go to ``uns[key_added]``, by default ``uns['<cluster_key>_ligrec']``.
    copy
        Return the results instead.

    Returns
    -------
    None, or a dict of DataFrames, a row for each interaction (source, target: genes, of a complex the chosen component):

    - ``means``: float64, a column for each (cluster_1, cluster_2); 0 where one of the partners is not expressed.
    - ``pvalues``: float64; NaN where the pair was not tested.
    - ``metadata``: source_partner and target_partner (names as in the table, complexes too) and the further columns.

    Raises
    ------
    NothingToTest
        With fewer than two clusters, or no interaction among the genes.
    InvalidInput
        When the column, the table or values cannot be used.

    Notes
    -----
    Sums are exact (integers in units of 2^-61 of the largest possible one), so p-values are equal on CPU and GPU and for
    any size of blocks, and sums of the same cells tie. Means equal squidpy 1.8 within 1e-6 relative (float32 input); its
    p-values have the same null distribution with other permutations. Unlike squidpy: letter case matters; pairs that were
    not tested do not count in the adjustment; nothing is downloaded. Efremova et al. 2020, Nat. Protoc. 15:1484.
    """
    _check(complex_policy, corr_method, corr_axis, n_perms, threshold)
    clusters = groups_of(adata, cluster_key)
    groups = list(clusters.categories)
    if len(groups) < 2:
        raise NothingToTest(
            f"{cluster_key} has {len(groups)} cluster; the test compares at least two.",
            "Raise the resolution of the clusters, or name another column.",
        )
    table = complexes(read_interactions(interactions), adata.var_names)
    x = data.matrix(adata, layer)
    labelled = np.flatnonzero(clusters.codes >= 0)
    if labelled.size < len(clusters):
        x, clusters = x[backend.xp_of(x).asarray(labelled)], clusters[labelled]
    wanted = genes_of(table)
    codes, n_groups = np.asarray(clusters.codes, dtype=np.int16), len(groups)
    expression = Expression(x, wanted, codes, n_groups)
    table = resolved(table, dict(zip(wanted, expression.overall, strict=True)), complex_policy)
    source, target = (np.searchsorted(wanted, table[end].to_numpy()) for end in ("source", "target"))
    table = table.assign(source=adata.var_names[table["source"]], target=adata.var_names[table["target"]])
    pairs = sorted(itertools.product(range(n_groups), repeat=2), key=lambda pair: (groups[pair[0]], groups[pair[1]]))
    means, p = expression.test(source, target, np.array(pairs), threshold, n_perms, seed)
    if corr_method is not None:
        p = benjamini_hochberg(p, axis=AXES[corr_axis])
    result = _frames(table, means, p, [(groups[a], groups[b]) for a, b in pairs])
    if copy:
        return result
    adata.uns[key_added or f"{cluster_key}_ligrec"] = result
    return None


def _check(complex_policy, corr_method, corr_axis, n_perms, threshold) -> None:
    choices = (("complex_policy", complex_policy, POLICIES), ("corr_axis", corr_axis, AXES), ("corr_method", corr_method, (None, "fdr_bh")))
    for name, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(map(str, allowed))}")
    if n_perms < 1:
        raise ValueError(f"n_perms is {n_perms}; it must be at least 1")
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; it must lie between 0 and 1")


def read_interactions(interactions) -> pd.DataFrame:
    """Interactions as a new table with the columns source and target (text) and any further columns; repeated ones once.

    Raises
    ------
    InvalidInput
        When the file cannot be read, or a column or a name is missing.
    """
    name, remedy = "interactions", "Give a table with the columns source and target, or ligand and receptor."
    if not isinstance(interactions, pd.DataFrame):
        path = Path(interactions)
        name = path.name
        try:
            interactions = pd.read_csv(path, dtype=str, keep_default_na=False, sep="\t" if path.suffix in (".tsv", ".txt") else ",")
        except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise InvalidInput(f"{name}: cannot be read ({str(error).strip()}).", remedy) from error
    ends = next((pair for pair in ENDS if set(pair) <= set(interactions.columns)), None)
    if ends is None:
        raise InvalidInput(f"{name}: no columns source and target; it has {', '.join(map(str, interactions.columns))}.", remedy)
    other = {end: f"{end}_of_table" for end in ENDS[0] if end not in ends and end in interactions}
    table = interactions.reset_index(drop=True).rename(columns=dict(zip(ends, ENDS[0], strict=True)) | other)
    for end in ENDS[0]:
        names = table[end].astype(object).where(table[end].notna(), "").astype(str).str.strip()
        if (names == "").any():
            raise InvalidInput(f"{name}: data row {int(np.argmax(names == '')) + 1} has no {end}.", "Fill it in, or remove the row.")
        table[end] = names.astype(object)
    if table.empty:
        raise InvalidInput(f"{name}: it has no rows.", remedy)
    return table.drop_duplicates(["source", "target"], ignore_index=True)


def complexes(table, var_names) -> pd.DataFrame:
    """The interactions whose partners are among the genes, with the positions of each partner's components.

    Returns
    -------
    The rows that remain; columns source_genes and target_genes hold int64 arrays.
    """
    position = {gene: i for i, gene in reversed(list(enumerate(var_names)))}

    def components(partner):
        parts = [partner] if partner in position else partner.split("_")
        return np.array([position[part] for part in parts if part in position], dtype=np.int64)

    found = {partner: components(partner) for partner in pd.unique(table[["source", "target"]].to_numpy().ravel())}
    present = table["source"].map(lambda name: found[name].size > 0) & table["target"].map(lambda name: found[name].size > 0)
    if not present.any():
        raise NothingToTest(*_no_overlap(found, var_names))
    table = table[present].reset_index(drop=True)
    return table.assign(source_genes=table["source"].map(found), target_genes=table["target"].map(found))


def genes_of(table) -> np.ndarray:
    """Positions of the genes that the interactions of :func:`complexes` need, rising."""
    return np.unique(np.concatenate([position for pair in table[["source_genes", "target_genes"]].to_numpy() for position in pair]))


def _no_overlap(found, var_names) -> tuple[str, str]:
    """Cause and remedy where no interaction has both partners among the genes."""
    cause = f"No interaction has both partners among the {len(var_names)} genes"
    by_upper = {str(gene).upper(): gene for gene in var_names}
    parts = {part for partner in found for part in partner.split("_")}
    shared = [(part, by_upper[part.upper()]) for part in sorted(parts) if part.upper() in by_upper and by_upper[part.upper()] != part]
    if shared:
        return (
            f"{cause}; {len(shared)} names are the same but for upper and lower case ({shared[0][0]}, {shared[0][1]}).",
            "The table and the data seem to be of different organisms: use a table made for the data's.",
        )
    examples = f"table: {', '.join(itertools.islice(found, 3))}; data: {', '.join(map(str, var_names[:3]))}"
    return f"{cause} ({examples}).", "Use a table of the data's organism whose names are those of var_names."


def resolved(table, overall, policy) -> pd.DataFrame:
    """One gene for each partner: of a complex the lowest on average (``"min"``), or a row for each pair (``"all"``).

    Returns
    -------
    The table with gene positions as source and target, and the partners' names as source_partner and target_partner;
    repeated pairs once.
    """
    for end in ("source", "target"):
        table = table.rename(columns={end: f"{end}_partner", f"{end}_genes": end})
        if policy == "min":
            table[end] = [min(some, key=overall.__getitem__) for some in table[end]]
        else:
            table = table.explode(end, ignore_index=True)
        table[end] = table[end].astype(np.int64)
    return table.drop_duplicates(["source", "target"], ignore_index=True)


class Expression:
    """Values of some genes by gene, as integers, with the sums of clusters.

    Parameters
    ----------
    x
        CSR or dense (cells, genes).
    genes
        Positions of the genes to keep, in increasing order.
    codes
        int16 (cells,): number of each cell's cluster.
    n_groups
        Number of clusters; each has a cell.

    Attributes
    ----------
    mean, share : float64 (genes, clusters), on the host
        Mean, and share of the cells with a value above 0.
    overall : float64 (genes,), on the host
        Mean over all cells.
    """

    def __init__(self, x, genes, codes, n_groups):
        indptr, indices, values, column = _chosen(x, genes)
        xp, n_cells = backend.xp_of(values), x.shape[0]
        size, bits = xp.zeros(len(genes), dtype=np.int64), xp.zeros(len(genes), dtype=np.int32)
        kernels.gene_sizes(n_cells, indptr, indices, values, column, size, bits)
        largest = float(backend.to_host(bits).max(initial=0).view(np.float32))
        if not np.isfinite(largest):
            raise InvalidInput("values are NaN or infinite.", "Take such cells or genes out, or correct them.")
        self.unit = 2.0 ** (np.ceil(np.log2(max(largest, 2.0**-126) * (n_cells + 1))) - SUM_BITS)
        starts = np.concatenate([[0], np.cumsum(backend.to_host(size))]).astype(np.int64)
        self.starts, cursor = xp.asarray(starts), xp.asarray(starts[:-1].copy())
        self.cell_of, self.amount = xp.empty(starts[-1], dtype=np.int32), xp.empty(starts[-1], dtype=np.int64)
        kernels.gene_entries(n_cells, indptr, indices, values, column, 1 / self.unit, cursor, self.cell_of, self.amount)
        self.codes, self.n_groups, self.size = codes, n_groups, np.bincount(codes, minlength=n_groups)
        labels = xp.asarray(codes).reshape(-1, 1)
        sums = backend.to_host(self._group_sums(self.amount, labels))[0]
        above = backend.to_host(self._group_sums((self.amount > 0).astype(np.int64), labels))[0]
        self.mean, self.share = sums / self.size * self.unit, above / self.size
        self.overall = sums.sum(axis=1) / max(n_cells, 1) * self.unit

    def _group_sums(self, amount, labels):
        n_genes, n_orders = len(self.starts) - 1, labels.shape[1]
        out = backend.xp_of(amount).zeros((n_orders, n_genes, self.n_groups), dtype=np.int64)
        kernels.group_sums(n_genes * kernels.SLICES, self.starts, self.cell_of, amount, labels, self.n_groups, n_orders, out)
        return out

    def test(self, source, target, pairs, threshold, n_perms, seed):
        """Means and p-values of interactions and pairs of clusters.

        Parameters
        ----------
        source, target
            Positions among the chosen genes, (interactions,).
        pairs
            Numbers of two clusters, (pairs, 2).
        threshold, n_perms, seed
            See :func:`ligrec`.

        Returns
        -------
        means, p : float64 (interactions, pairs)
        """
        first, second = pairs.T
        ligand, receptor = self.mean[source][:, first], self.mean[target][:, second]
        expressed = (ligand > 0) & (receptor > 0)
        shared = (self.share[source][:, first] >= threshold) & (self.share[target][:, second] >= threshold)
        tested = np.ascontiguousarray(expressed & shared)
        count = self._exceeding(source, target, first, second, tested, n_perms, seed)
        return np.where(expressed, (ligand + receptor) / 2, 0.0), np.where(tested, count / n_perms, np.nan)

    def _exceeding(self, source, target, first, second, tested, n_perms, seed):
        xp, n_cells = backend.xp_of(self.amount), len(self.codes)
        ends = [xp.asarray(numbers, dtype=np.int32) for numbers in (source, target, first, second)]
        tested = xp.asarray(tested, dtype=np.uint8)
        count, size, codes = xp.zeros(tested.shape, dtype=np.int64), xp.asarray(self.size, dtype=np.float64), xp.asarray(self.codes)
        observed = xp.asarray(self.mean / self.unit)
        for start in range(0, n_perms, ORDERS):
            labels = codes[orders(seed, "ligrec", n_cells, start, min(ORDERS, n_perms - start), xp)]
            mean = self._group_sums(self.amount, xp.ascontiguousarray(labels.T)) / size
            kernels.exceeding(count.size, *ends, tested, observed, mean, len(first), len(observed), self.n_groups, len(labels), count)
        return backend.to_host(count)


def _chosen(x, genes):
    """indptr, indices and float32 values of a matrix, and for each column its place among the genes or -1."""
    if hasattr(x, "indptr"):
        indptr, indices, values = backend.csr_parts(x.tocsr(), np.float32)
        xp, column = backend.xp_of(values), np.full(x.shape[1], -1, dtype=np.int32)
        column[genes] = np.arange(len(genes))
        return indptr, indices, values, xp.asarray(column)
    xp, n_genes = backend.xp_of(x), len(genes)
    values = xp.ascontiguousarray(x[:, xp.asarray(genes)], dtype=np.float32).ravel()
    every = xp.arange(n_genes, dtype=np.int32)
    return xp.arange(x.shape[0] + 1, dtype=np.int64) * n_genes, xp.tile(every, x.shape[0]), values, every


def _frames(table, means, p, pairs) -> dict[str, pd.DataFrame]:
    index = pd.MultiIndex.from_frame(table[["source", "target"]])
    columns = pd.MultiIndex.from_tuples(pairs, names=["cluster_1", "cluster_2"])
    metadata = table.drop(columns=["source", "target"]).set_axis(index)
    return {"means": pd.DataFrame(means, index, columns), "pvalues": pd.DataFrame(p, index, columns), "metadata": metadata}


def storable_ligrec(result) -> dict:
    """A result of :func:`ligrec` in types that an h5ad file takes, which has no tables with columns of two levels.

    Returns
    -------
    dict with ``means`` and ``pvalues`` (float64 arrays), ``metadata`` (DataFrame with source and target) and ``clusters``
    (DataFrame with cluster_1 and cluster_2); :func:`restore_ligrec` undoes it.
    """
    metadata = result["metadata"].reset_index()
    clusters = result["means"].columns.to_frame(index=False)
    for table in (metadata, clusters):
        table.index = pd.Index([str(i) for i in range(len(table))], dtype=object)
    return {"means": result["means"].to_numpy(), "pvalues": result["pvalues"].to_numpy(), "metadata": metadata, "clusters": clusters}


def restore_ligrec(stored) -> dict[str, pd.DataFrame]:
    """A result of :func:`ligrec`, as squidpy's plots take it, from what an assembled file holds in ``uns``.

    Parameters
    ----------
    stored
        ``adata.uns['<cluster_key>_ligrec']``: dict with means, pvalues, metadata and clusters.
    """
    pairs = [tuple(pair) for pair in stored["clusters"].astype(str).to_numpy()]
    return _frames(stored["metadata"].reset_index(drop=True), stored["means"], stored["pvalues"], pairs)


def tidy(result, corr_axis="clusters") -> pd.DataFrame:
    """The tested pairs of a result of :func:`ligrec` as one table, the most specific first.

    Returns
    -------
    DataFrame with columns source, target, cluster_1, cluster_2, mean, p_value, adjusted_p_value (Benjamini-Hochberg over
    the interactions of the two clusters, or with ``corr_axis`` interactions over the pairs of clusters).
    """
    p = result["pvalues"].to_numpy()
    row, column = np.nonzero(~np.isnan(p))
    ends, pairs = (index.to_frame(index=False) for index in (result["means"].index, result["means"].columns))
    table = pd.concat([ends.iloc[row].reset_index(drop=True), pairs.iloc[column].reset_index(drop=True)], axis=1)
    table["mean"], table["p_value"] = result["means"].to_numpy()[row, column], p[row, column]
    table["adjusted_p_value"] = benjamini_hochberg(p, axis=AXES[corr_axis])[row, column]
    return table.sort_values(["p_value", "mean"], ascending=[True, False], kind="stable", ignore_index=True)
