"""Niches: clusters of cells by what lies around them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from rsc_core import backend
from rsc_core.errors import InvalidInput
from rsc_core.gr._slots import graph_of, groups_of, libraries_of, place_of
from rsc_core.pp._neighbors import neighbors
from rsc_core.pp._pca import pca
from rsc_core.tl._leiden import leiden

NO_NICHE = "not_a_niche"
COLUMNS = {"neighborhood": "nhood_niche", "utag": "utag_niche", "cellcharter": "cellcharter_niche", "smoothed": "smoothed_niche"}
AGGREGATIONS = ("mean", "variance")


def calculate_niche(
    adata,
    flavor,
    *,
    library_key=None,
    mask=None,
    groups=None,
    n_neighbors=15,
    resolutions=0.5,
    min_niche_size=None,
    scale=True,
    abs_nhood=False,
    distance=None,
    n_hop_weights=None,
    aggregation="mean",
    n_components=10,
    alpha=0.5,
    random_state=42,
    spatial_connectivities_key="spatial_connectivities",
    use_rep=None,
):
    """Cluster cells by their surroundings.

    - neighborhood: share of each of ``groups`` among the neighbours, summed over 1 to ``distance`` steps with
      ``n_hop_weights``, standardised; Leiden on its nearest neighbours.
    - utag: mean of the neighbours' values (X), principal components; Leiden (Kim et al. 2022, Nat. Methods 19:1653).
    - cellcharter: own representation beside its mean or variance over the neighbours exactly 1, ..., ``distance`` steps away; a
      mixture of ``n_components`` normal distributions (Varrone et al. 2024, Nat. Genet. 56:74; without its choice of their number).
    - smoothed: the representation averaged with the neighbours, x = (1 - alpha) x + alpha mean, ``distance`` times; Leiden:
      domains of the tissue.

    Parameters
    ----------
    adata
        AnnData with a spatial graph; where X lies, neighbours and components are computed.
    flavor
        One of the four.
    library_key
        Column of obs: niches of each library by itself, named ``lib=<library>_<niche>``.
    mask
        Boolean (cells,), array or Series by cell name: only these cells get a niche.
    groups
        Column of obs with the groups (neighborhood only).
    n_neighbors, resolutions
        Of the neighbour graph of the surroundings and of Leiden: a number, or several, a column each.
    min_niche_size
        Smaller niches become ``"not_a_niche"``.
    scale, abs_nhood
        Standardise the shares; counts instead of shares (neighborhood only).
    distance
        Steps; 1, of cellcharter 3 by default.
    n_hop_weights
        Weight of each number of steps, 1 by default; the last one is repeated.
    aggregation, n_components
        ``"mean"`` or ``"variance"``; number of niches (cellcharter only).
    alpha
        Share of the neighbours in each round (smoothed only).
    random_state
        Seed of Leiden and of the mixture.
    spatial_connectivities_key
        Graph in ``obsp``.
    use_rep
        Key of obsm (cellcharter, smoothed); by default ``X_pca``, computed from X where it is not there.

    Returns
    -------
    None. Sets ``obs['nhood_niche_res=<r>']``, ``['utag_niche_res=<r>']``, ``['smoothed_niche_res=<r>']`` or
    ``['cellcharter_niche']``, categorical.

    Raises
    ------
    InvalidInput
        When a column, the graph or the representation is missing.

    Notes
    -----
    Surroundings are added up on the host in one order, on both backends alike; the mixture is scikit-learn's, on the host.
    Shares are of a cell's own neighbours, 0 where it has none; squidpy 1.8 fills missing neighbours with the last cell's group.
    squidpy's cellcharter clusters a given representation without its surroundings; here it is aggregated as in the paper.
    """
    _check(flavor, groups, aggregation, alpha, distance)
    steps = distance or (3 if flavor == "cellcharter" else 1)
    values = list(resolutions) if np.ndim(resolutions) else [resolutions]
    graph, libraries = graph_of(adata, spatial_connectivities_key), libraries_of(adata, library_key)
    wanted = np.ones(adata.n_obs, dtype=bool) if mask is None else _mask(mask, adata.obs_names)
    names = [COLUMNS[flavor]] if flavor == "cellcharter" else [f"{COLUMNS[flavor]}_res={value}" for value in values]
    found = {name: np.full(adata.n_obs, NO_NICHE, dtype=object) for name in names}
    codes = np.zeros(adata.n_obs, dtype=np.int64) if libraries is None else libraries
    for number in np.unique(codes):
        members = np.flatnonzero(codes == number)
        part, here = graph[members][:, members], wanted[members]
        x = _surroundings(adata, members, part, flavor, groups, steps, n_hop_weights, scale, abs_nhood, aggregation, alpha, use_rep)
        prefix = "" if libraries is None else f"lib={adata.obs[library_key].iloc[members[0]]}_"
        labels = (
            _mixture(x[here], n_components, random_state)
            if flavor == "cellcharter"
            else _communities(x[here], n_neighbors, values, random_state, place_of(adata), flavor == "utag")
        )
        for name, label in zip(names, labels, strict=True):
            found[name][members[here]] = [prefix + str(one) for one in label]
    for name, label in found.items():
        if min_niche_size is not None:
            size = pd.Series(label).map(pd.Series(label).value_counts()).to_numpy()
            label = np.where(size < min_niche_size, NO_NICHE, label)
        adata.obs[name] = pd.Categorical(label)


def _check(flavor, groups, aggregation, alpha, distance) -> None:
    for name, value, allowed in (("flavor", flavor, COLUMNS), ("aggregation", aggregation, AGGREGATIONS)):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
    if flavor == "neighborhood" and groups is None:
        raise ValueError("groups is None; flavor 'neighborhood' needs a column of obs")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must lie between 0 and 1")
    if distance is not None and distance < 1:
        raise ValueError(f"distance is {distance}; it must be at least 1")


def _mask(mask, names) -> np.ndarray:
    mask = mask.reindex(names, fill_value=False) if hasattr(mask, "reindex") else mask
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != names.shape:
        raise ValueError(f"mask has shape {mask.shape}; {names.shape} is needed")
    return mask


def _surroundings(adata, members, graph, flavor, groups, steps, weights, scale, abs_nhood, aggregation, alpha, use_rep) -> np.ndarray:
    """What each cell is clustered by, (cells, features) of the host; sparse for utag where X is."""
    if flavor == "neighborhood":
        return profile(graph, groups_of(adata, groups, "groups")[members], steps, weights, scale, abs_nhood)
    if flavor == "utag":
        return averaged(graph) @ backend.to_host(adata.X[backend.xp_of(adata.X).asarray(members)]).astype(np.float64)
    x = _representation(adata, use_rep)[members]
    if flavor == "smoothed":
        mean = averaged(graph, itself=True)
        for _ in range(steps):
            x = (1 - alpha) * x + alpha * (mean @ x)
        return x
    return rings(graph, x, steps, aggregation)


def averaged(graph, itself=False):
    """A graph whose rows are divided by their sums; a cell without neighbours has none, or with ``itself`` itself."""
    graph = sp.csr_matrix(graph, dtype=np.float64)
    total = np.asarray(graph.sum(axis=1)).ravel()
    mean = sp.diags_array(np.divide(1, total, out=np.zeros(len(total)), where=total != 0)) @ graph
    return (mean + sp.diags_array((total == 0).astype(np.float64)) if itself else mean).tocsr()


def profile(graph, groups, steps=1, weights=None, scale=True, absolute=False) -> np.ndarray:
    """Share of each group among the cells that 1 to ``steps`` steps reach, float64 (cells, groups); see :func:`calculate_niche`."""
    weights = [1.0] if weights is None else list(weights)
    weights = (weights + weights[-1:] * steps)[:steps]
    member = np.flatnonzero(groups.codes >= 0)
    shape = (len(groups), len(groups.categories))
    of_group = sp.csr_matrix((np.ones(len(member)), (member, groups.codes[member])), shape=shape)
    edge = (graph != 0).astype(np.float64)
    reached, total = edge, np.zeros(shape)
    for step, weight in enumerate(weights):
        reached = reached if step == 0 else ((reached @ edge) > 0).astype(np.float64)
        count = (reached @ of_group).toarray()
        number = np.maximum(np.diff(reached.tocsr().indptr), 1)
        total += weight * (count if absolute else count / number[:, None])
    total = total if absolute else total / sum(weights)
    if scale:
        spread = total.std(axis=0, ddof=1)
        total = (total - total.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return total


def rings(graph, x, steps, aggregation="mean") -> np.ndarray:
    """The own values beside mean or variance over the cells exactly 1, ..., ``steps`` steps away: (cells, features (1 + steps))."""
    edge = (graph != 0).astype(np.float64)
    edge.setdiag(0)
    edge.eliminate_zeros()
    ring, seen, parts = edge, (edge + sp.identity(edge.shape[0], format="csr")) > 0, [x]
    for step in range(steps):
        if step:
            ring = ((ring @ edge) > 0).astype(np.float64)
            ring = (ring - ring.multiply(seen)).tocsr()
            ring.eliminate_zeros()
            seen = (seen + (ring > 0)) > 0
        mean = averaged(ring)
        parts.append(mean @ x if aggregation == "mean" else mean @ x**2 - (mean @ x) ** 2)
    return np.hstack(parts)


def _representation(adata, use_rep) -> np.ndarray:
    key = use_rep or "X_pca"
    if key in adata.obsm:
        return np.asarray(backend.to_host(adata.obsm[key]), dtype=np.float64)
    if use_rep is not None:
        raise InvalidInput(f"use_rep: there is no obsm[{use_rep!r}]; obsm has {', '.join(map(repr, adata.obsm))}.", "Name one of these.")
    return _components(adata.X)


def _components(x) -> np.ndarray:
    """At most 50 principal components, float64 of the host."""
    some = ad.AnnData(X=x)
    pca(some, n_comps=min(50, min(x.shape) - 1))
    return np.asarray(backend.to_host(some.obsm["X_pca"]), dtype=np.float64)


def _communities(x, n_neighbors, resolutions, seed, xp, reduce) -> list[np.ndarray]:
    if reduce:
        x = x.astype(np.float32)
        x = _components(x if xp is np else backend.to_device(x, "gpu"))
    some = ad.AnnData(obs=pd.DataFrame(index=[str(i) for i in range(len(x))]), obsm={"X_niche": xp.asarray(np.ascontiguousarray(x))})
    neighbors(some, n_neighbors=n_neighbors, use_rep="X_niche")
    for number, resolution in enumerate(resolutions):
        leiden(some, resolution, random_state=seed, key_added=f"niche_{number}")
    return [some.obs[f"niche_{number}"].to_numpy() for number in range(len(resolutions))]


def _mixture(x, n_components, seed) -> list[np.ndarray]:
    from sklearn.mixture import GaussianMixture

    return [GaussianMixture(n_components, random_state=seed, init_params="random_from_data").fit_predict(x)]
