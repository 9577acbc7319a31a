"""The nearest-neighbour graph."""

from __future__ import annotations

import warnings

from rsc_core import data
from rsc_core.pp._search import ALGORITHMS, LEAST_RECALL, METRICS, chosen_algorithm, find_neighbors
from rsc_core.pp._weights import METHODS, distance_matrix


def neighbors(
    adata,
    n_neighbors=15,
    *,
    n_pcs=None,
    use_rep=None,
    metric="euclidean",
    method="umap",
    algorithm="auto",
    random_state=0,
    key_added=None,
):
    """Which cells are nearest to each cell, and how strongly are they connected?

    Neighbours stand in the order of (squared distance, index), the distances summed in float64 from the stored
    coordinates; a float32 search proposes candidates. Distances: Euclidean; cosine 1 - cos (half the squared distance of
    the rows at length one; a row of zeros is 0.5 from every other); correlation 1 - r, the cosine of the rows without
    their means (a constant row is 0.5 from every other).

    Weights, 1: certainly connected; near 0: barely:

    - umap (McInnes 2018): w_ij = exp(-(d_ij - rho_i) / sigma_i) with rho_i the smallest distance above 0 and sigma_i such
      that the weights of cell i (itself counted as umap-learn does) sum to log2(n_neighbors); made symmetric by
      w_ij + w_ji - w_ij w_ji.
    - gauss (Haghverdi 2016): sqrt(2 s_i s_j / (s_i^2 + s_j^2)) exp(-d_ij^2 / (s_i^2 + s_j^2)) with s_i^2 the median of the
      squared distances of cell i; 1 between duplicates of which both s are 0.
    - jaccard (Levine 2015): shared by all neighbours of the two cells, itself not counted; the mean of there and back,
      where "back" is 0 if the other cell does not have this one among its neighbours. Edges without a shared neighbour
      are left out.

    Parameters
    ----------
    adata
        With the representation on the backend that is to do the work.
    n_neighbors
        Neighbours of a cell, itself counted, as in scanpy. With fewer cells than that: 1 + half the cells, and a warning.
    n_pcs
        Use only that many columns of the representation.
    use_rep
        Key of obsm, or ``"X"``. By default ``X_pca``, or X where there are at most 50 genes.
    metric
        ``"euclidean"``, ``"cosine"`` or ``"correlation"``.
    method
        ``"umap"``, ``"gauss"`` or ``"jaccard"``.
    algorithm
        ``"exact"``: provably the nearest. ``"ivf"``: the nearest among the cells of the lists around a cell's own (k-means);
        as many lists as a sample of cells needs to find 99.5 % of its neighbours. ``"auto"``: exact up to 500,000 cells,
        then ivf. ``"hnsw"`` (faiss, on the host), ``"cagra"`` and ``"nn_descent"`` (cuVS, on the device): candidates of
        those graphs, with more effort until 99 % of the sample's neighbours are found.
    random_state
        Seed of the lists and of the sample; an exact search draws no random numbers.
    key_added
        Prefix of the slots; by default scanpy's names.

    Returns
    -------
    None. Sets ``obsp['distances']`` (n_neighbors - 1 entries a row, zeros between duplicates stored) and
    ``obsp['connectivities']`` (symmetric), CSR float32 with sorted indices on the backend of the representation, and
    ``uns['neighbors']`` with the parameters, among them the algorithm and, unless it is exact, the recall measured on a
    sample of up to 1,000 cells.

    Raises
    ------
    ValueError
        Fewer than 3 cells, or a value that is not finite; the message names the row. An algorithm of the other backend.

    Notes
    -----
    CPU = GPU bit for bit from equal coordinates with exact and ivf. What cuVS and faiss leave out (below 1 %) differs
    between them, and may from run to run on the device. A recall below 99 % at the last effort gives a warning.
    scanpy with an exact search: the same neighbours, weights within 1e-5
    (it computes them in float32). Different from it: a cell is kept out of its own neighbours by its identity, not as
    the first of its list, so duplicated cells are neighbours of each other.
    """
    for name, value, known in (("metric", metric, METRICS), ("method", method, METHODS), ("algorithm", algorithm, ("auto", *ALGORITHMS))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; it must be one of {tuple(known)}")
    if n_neighbors < 2:
        raise ValueError(f"n_neighbors is {n_neighbors}; it counts the cell itself and must be at least 2")
    use_rep = use_rep or data.default_representation(adata)
    x = data.representation(adata, use_rep, n_pcs)
    n_cells = x.shape[0]
    if n_cells < 3:
        raise ValueError(f"there are {n_cells} cells; a neighbour graph needs at least 3")
    if n_cells < n_neighbors:
        reduced = 1 + n_cells // 2
        warnings.warn(f"n_neighbors={n_neighbors} exceeds the {n_cells} cells; {reduced} are used", stacklevel=2)
        n_neighbors = reduced
    nearest, distance, about = find_neighbors(x, n_neighbors - 1, metric, chosen_algorithm(algorithm, n_cells), random_state)
    if about.get("recall", 1) < LEAST_RECALL:
        warnings.warn(f"algorithm {algorithm!r} found {about['recall']:.4f} of the neighbours of a sample", stacklevel=2)
    params = {"n_neighbors": n_neighbors, "method": method, "metric": metric, "random_state": random_state, "use_rep": use_rep}
    params |= ({"n_pcs": n_pcs} if n_pcs else {}) | about
    store_graph(adata, key_added, distance_matrix(nearest, distance), METHODS[method](nearest, distance), params)


def store_graph(adata, key_added, distances, connectivities, params) -> None:
    """Put a graph where scanpy looks for it."""
    prefix = f"{key_added}_" if key_added else ""
    slots = {"connectivities_key": prefix + "connectivities", "distances_key": prefix + "distances"}
    adata.obsp[slots["distances_key"]], adata.obsp[slots["connectivities_key"]] = distances, connectivities
    adata.uns[key_added or "neighbors"] = slots | {"params": params}


def nearest_neighbors(x, n_nearest: int, metric: str = "euclidean"):
    """The exact nearest other cells of each cell: :func:`rsc_core.pp._search.find_neighbors` without the report on itself."""
    nearest, distance, _ = find_neighbors(x, n_nearest, metric)
    return nearest, distance
