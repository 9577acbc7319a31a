"""Search for nearest neighbours: float32 proposes, float64 decides.

Distances are summed in float64 from the coordinates, ties go to the smaller index, and a cell is kept out of its own
neighbours by its index. A cell whose float32 candidates cannot be proved to hold its nearest ones is searched again.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from rsc_core import backend, data, rng
from rsc_core.kernels import search as kernels
from rsc_core.pp._candidates import candidate_search, error_bounds
from rsc_core.pp._tiles import nearest_by_tiles
from rsc_core.tl._lloyd import assign, lloyd

SURPLUS = 16  # candidates beyond the neighbours asked for, so that float32's rounding seldom leaves one out
LARGER_SURPLUS = 240  # for the cells of which it may have
BLOCK_ROWS = 1 << 16  # cells whose candidates are in memory at once; no result depends on it
EXACT_CELLS = 500_000  # up to so many, the search is exact by default
LEAST_RECALL = 0.99
AIMED_RECALL = 0.995  # what is chosen on the sample, so that all cells reach LEAST_RECALL
SAMPLE_CELLS = 1_000
ROWS_PER_LIST, LIST_ROUNDS = 64, 8  # of the k-means that makes the lists
EFFORTS = (1, 2, 4, 8)
PREPARE = {"euclidean": (), "cosine": (kernels.unit_rows,), "correlation": (kernels.centred_rows, kernels.unit_rows)}
METRICS = tuple(PREPARE)


@dataclasses.dataclass
class Space:
    """The cells where Euclidean distances count: float64 (cells, dimensions), and the same centred in float32."""

    x: object
    centred: object

    @classmethod
    def of(cls, x, metric: str = "euclidean"):
        """From coordinates; a metric is a way to prepare them."""
        xp = backend.xp_of(x)
        data.check_finite(x, "the representation")
        x = xp.ascontiguousarray(x, dtype=xp.float64)
        n_cells, n_dims = x.shape
        for prepare in PREPARE[metric]:
            prepared = xp.empty_like(x)
            prepare(n_cells, x, n_dims, prepared)
            x = prepared
        return cls(x, xp.ascontiguousarray(x - xp.ones(n_cells) @ x / n_cells, dtype=xp.float32))

    @functools.cached_property
    def length(self):
        """Lengths of the centred cells, float32 (cells,); their squares neither overflow nor underflow."""
        xp, scaled = backend.xp_of(self.x), self.centred * self.unit
        return xp.sqrt((scaled * scaled) @ xp.ones(scaled.shape[1], dtype=xp.float32)) / self.unit

    @property
    def rounding(self):
        """Bound of the error of a squared distance in float32, in units of (|x| + |y|)^2."""
        return 2 * (self.x.shape[1] + 8) * 2.0**-24

    @functools.cached_property
    def unit(self):
        """The power of two that brings the largest coordinate between 0.5 and 1: float32."""
        largest = backend.to_host(abs(self.centred).max())
        return np.float32(2.0 ** -max(np.frexp(largest)[1], -126))

    def float32_error(self, cells, square):
        """Bound of the error of squared distances from ``cells`` in float32, where |y| <= |x| + distance."""
        return self._error(cells, square, self.rounding, 0.0)

    def candidates_error(self, cells, square):
        """The same of the distances by which candidates are found."""
        return self._error(cells, square, *self.candidates_bounds)

    @property
    def candidates_bounds(self):
        """Bounds of their error, in units of (|x| + |y|)^2 and of |x| + |y|."""
        on_host = backend.xp_of(self.x) is np
        return (self.rounding, 0.0) if on_host else error_bounds(self.x.shape[1], self.unit)

    def _error(self, cells, square, relative, absolute):
        reach = 2 * self.length[cells] + backend.xp_of(self.x).sqrt(square)
        return reach * (relative * reach + absolute)

    @property
    def cells(self):
        """All indices, int64."""
        return backend.xp_of(self.x).arange(len(self.x), dtype=np.int64)


def find_neighbors(x, n_nearest: int, metric: str = "euclidean", algorithm: str = "exact", seed: int = 0):
    """The nearest other cells of each cell.

    Parameters
    ----------
    x
        (cells, dimensions), floating.
    n_nearest
        Below the number of cells.
    metric
        One of ``METRICS``: Euclidean; 1 - cos; 1 - Pearson's correlation.
    algorithm
        A key of ``ALGORITHMS``.
    seed
        Of the lists and of the sample on which recall is measured; an exact search draws no random numbers.

    Returns
    -------
    nearest : int64 (cells, n_nearest), in the order of (distance, index)
    distance : float64 (cells, n_nearest)
    about : dict with ``algorithm`` and, unless it is exact, ``recall`` on ``recall_cells`` cells, and the effort
    """
    space = Space.of(x, metric)
    nearest, square, about = ALGORITHMS[algorithm](space, n_nearest, seed)
    xp = backend.xp_of(nearest)
    return nearest, xp.sqrt(square) if metric == "euclidean" else square / 2, {"algorithm": algorithm} | about


def chosen_algorithm(algorithm: str, n_cells: int) -> str:
    """``auto`` resolved by the number of cells."""
    return algorithm if algorithm != "auto" else "exact" if n_cells <= EXACT_CELLS else "ivf"


def nearest_of_all(space: Space, n_nearest: int):
    """:func:`nearest_among` of all cells among themselves: on the host by tiles, which is sooner."""
    if backend.xp_of(space.x) is np:
        return nearest_by_tiles(space, n_nearest)
    return nearest_among(space, space.cells, space.cells, n_nearest)


def nearest_among(space: Space, cells, members, n_nearest: int):
    """The exact nearest of ``members`` to each of ``cells``.

    Parameters
    ----------
    cells, members
        int64 indices; a cell that is a member is not its own neighbour.

    Returns
    -------
    nearest : int64 (cells, n_nearest), in the order of (distance, index); -1 where there are not so many members
    square : float64 (cells, n_nearest), squared distances
    """
    xp, n_cells = backend.xp_of(space.x), len(cells)
    nearest, square = xp.empty((n_cells, n_nearest), dtype=xp.int64), xp.empty((n_cells, n_nearest))
    search = _searcher(space, members)
    for start in range(0, n_cells, BLOCK_ROWS):
        here = slice(start, start + BLOCK_ROWS)
        rows, near, far = cells[here], nearest[here], square[here]
        unsure = _search_candidates(space, rows, members, search, SURPLUS, near, far)
        for again in (functools.partial(_search_candidates, search=search, surplus=LARGER_SURPLUS), _search_all):
            unsure = _search_again(again, space, rows, unsure, members, near, far)
    return nearest, square


def _search_candidates(space, cells, members, search, surplus, nearest, square):
    """Fill ``nearest`` and ``square`` from candidates, and return which cells may have nearer ones, of the host."""
    n_candidates = min(len(members), nearest.shape[1] + 1 + surplus)
    farthest = _rerank(space, cells, members[search(space.centred[cells], n_candidates)], nearest, square)
    if n_candidates == len(members):
        return np.zeros(len(cells), dtype=bool)
    return backend.to_host(square[:, -1] >= farthest - 2 * space.candidates_error(cells, farthest))


def _rerank(space, cells, candidates, nearest, square):
    """Fill ``nearest`` and ``square`` from candidates; the largest distance among these."""
    xp, n_candidates = backend.xp_of(space.x), candidates.shape[1]
    candidates = xp.ascontiguousarray(candidates, dtype=np.int64)
    exact, farthest = xp.empty(candidates.shape), xp.empty(len(cells))
    kernels.squared_distances(candidates.size, space.x, space.x.shape[1], cells, candidates, n_candidates, exact)
    kernels.nearest_candidates(len(cells), cells, candidates, exact, n_candidates, nearest.shape[1], nearest, square, farthest)
    return farthest


def _search_again(again, space, cells, unsure, members, nearest, square):
    """Search the unsure cells in another way; which of all cells are still unsure."""
    rows = np.flatnonzero(unsure)
    left = np.zeros(len(cells), dtype=bool)
    if len(rows):
        places = backend.xp_of(space.x).asarray(rows)
        near, far = nearest[places], square[places]
        left[rows] = again(space, cells[places], members, nearest=near, square=far)
        nearest[places], square[places] = near, far
    return left


def _search_all(space, cells, members, nearest, square):
    """Search in float64 among all members; no cell stays unsure."""
    n_nearest, n_dims = nearest.shape[1], space.x.shape[1]
    kernels.nearest_of_all(len(cells), space.x, n_dims, cells, members, len(members), n_nearest, nearest, square)
    return np.zeros(len(cells), dtype=bool)


def _searcher(space, members):
    """A function from float32 rows and a number to the places in ``members`` of as many candidates: faiss, or on the device products."""
    if backend.xp_of(space.x) is not np:
        return candidate_search(space, members)
    import faiss

    index = faiss.IndexFlatL2(space.x.shape[1])
    index.add(space.centred[members])
    return lambda rows, n_candidates: index.search(rows, n_candidates)[1]


def _exact(space, n_nearest, seed):
    return *nearest_of_all(space, n_nearest), {}


@dataclasses.dataclass
class Lists:
    """Cells by their nearest centroid: the centroids, the cells of each list, the list of each cell."""

    centroids: np.ndarray
    members: list
    label: np.ndarray

    @functools.cached_property
    def order(self):
        """For each list all lists, the nearest first: int64 (lists, lists)."""
        return np.array([np.argsort(((self.centroids - c) ** 2).sum(axis=1), kind="stable") for c in self.centroids])

    def union(self, lists):
        """The cells of some lists, ascending."""
        return np.sort(np.concatenate([self.members[i] for i in lists]))

    @classmethod
    def of(cls, space, seed):
        """About as many lists as cells in a list; from a sample, by integer sums: the same on both backends."""
        xp, n_cells = backend.xp_of(space.x), len(space.x)
        n_lists = int(np.sqrt(n_cells))
        sample = rng.permutation(seed, "knn", n_cells, 0)[: ROWS_PER_LIST * n_lists]
        rows = space.x[xp.asarray(sample)]
        centroids = lloyd(rows, rows[:n_lists].copy(), LIST_ROUNDS)[2]
        label = backend.to_host(assign(space.x, centroids)[0])
        order, sizes = np.argsort(label, kind="stable"), np.bincount(label, minlength=n_lists)
        stops = np.cumsum(sizes)
        members = np.split(order, stops[:-1])
        return cls(backend.to_host(centroids), members, label)


def _ivf(space, n_nearest, seed):
    """Each cell looks through the lists nearest to its own; their number is what a sample of cells needs."""
    xp, lists = backend.xp_of(space.x), Lists.of(space, seed)
    sample, truth = _sample(space, n_nearest, seed)
    rank = np.empty_like(lists.order)
    np.put_along_axis(rank, lists.order, np.arange(len(rank))[None, :], axis=1)
    needed = np.sort(rank[lists.label[sample][:, None], lists.label[truth]].ravel())
    n_probes = int(needed[int(np.ceil(AIMED_RECALL * needed.size)) - 1]) + 1
    nearest, square = xp.empty((len(space.x), n_nearest), dtype=np.int64), xp.empty((len(space.x), n_nearest))
    for here, cells in enumerate(lists.members):
        if not len(cells):
            continue
        reached = np.cumsum([len(lists.members[i]) for i in lists.order[here]])
        probes = max(n_probes, int(np.searchsorted(reached, n_nearest + 1)) + 1)
        rows, members = xp.asarray(cells), xp.asarray(lists.union(lists.order[here][:probes]))
        nearest[rows], square[rows] = nearest_among(space, rows, members, n_nearest)
    about = {"n_lists": len(rank), "n_probes": n_probes, "recall_cells": len(sample)}
    return nearest, square, about | {"recall": _recall(nearest, sample, truth)}


def _sample(space, n_nearest, seed):
    """Cells drawn at random, and their exact neighbours, on the host."""
    xp = backend.xp_of(space.x)
    sample = np.sort(rng.permutation(seed, "knn", len(space.x), 1)[:SAMPLE_CELLS])
    return sample, backend.to_host(nearest_among(space, xp.asarray(sample), space.cells, n_nearest)[0])


def _recall(nearest, sample, truth) -> float:
    """Share of the true neighbours of the sample that were found."""
    found = backend.to_host(nearest[backend.xp_of(nearest).asarray(sample)])
    return float(np.mean([np.isin(mine, theirs).mean() for mine, theirs in zip(truth, found, strict=True)]))


def _by_graph(prepare, space, n_nearest, seed):
    """Candidates of an index that is a graph; more effort until the sample's recall is reached."""
    xp, cells = backend.xp_of(space.x), space.cells
    sample, truth = _sample(space, n_nearest, seed)
    propose = prepare(space.centred, min(len(cells), n_nearest + 1 + SURPLUS), seed)
    for effort in EFFORTS:
        nearest, square = xp.empty((len(cells), n_nearest), dtype=np.int64), xp.empty((len(cells), n_nearest))
        _rerank(space, cells, propose(effort), nearest, square)
        _search_again(_search_all, space, cells, backend.to_host(nearest[:, -1] < 0), cells, nearest, square)
        recall = _recall(nearest, sample, truth)
        if recall >= LEAST_RECALL:
            break
    return nearest, square, {"recall": recall, "recall_cells": len(sample), "effort": effort}


def _hnsw(x, n_candidates, seed):
    """faiss, built by one thread: the index depends on the order in which cells come."""
    _only_on("hnsw", x, np)
    import faiss

    index, threads = faiss.IndexHNSWFlat(x.shape[1], 32), faiss.omp_get_max_threads()
    index.hnsw.rng = faiss.RandomGenerator(seed & 0x7FFFFFFF)
    index.hnsw.efConstruction = 100
    faiss.omp_set_num_threads(1)
    try:
        index.add(x)
    finally:
        faiss.omp_set_num_threads(threads)

    def propose(effort):
        index.hnsw.efSearch = 2 * n_candidates * effort
        return index.search(x, n_candidates)[1]

    return propose


def _cagra(x, n_candidates, seed):
    xp = _only_on("cagra", x)
    from cuvs.neighbors import cagra

    backend.synchronize()
    index = cagra.build(cagra.IndexParams(metric="sqeuclidean", intermediate_graph_degree=128, graph_degree=64), x)

    def propose(effort):
        settings = cagra.SearchParams(itopk_size=max(64, -(-n_candidates // 32) * 32) * effort)
        found = xp.asarray(cagra.search(settings, index, x, n_candidates)[1])
        backend.synchronize()
        return _signed(found)

    return propose


def _nn_descent(x, n_candidates, seed):
    xp = _only_on("nn_descent", x)
    from cuvs.neighbors import nn_descent

    def propose(effort):
        degree = n_candidates * effort
        backend.synchronize()
        settings = nn_descent.IndexParams(metric="sqeuclidean", graph_degree=degree, intermediate_graph_degree=2 * degree)
        return _signed(xp.asarray(nn_descent.build(settings, x).graph))

    return propose


def _signed(found):
    """cuVS's uint32 indices as int64; what is no cell becomes -1."""
    xp = backend.xp_of(found)
    return xp.where(found < np.uint32(0x7FFFFFFF), found.astype(np.int64), np.int64(-1))


def _only_on(name, x, wanted=None):
    xp = backend.xp_of(x)
    if (xp is np) != (wanted is np):
        place = "host" if wanted is np else "device"
        raise ValueError(f"algorithm {name!r} searches on the {place} only; use 'exact' or 'ivf', or move the representation")
    return xp


ALGORITHMS = {
    "exact": _exact,
    "ivf": _ivf,
    "hnsw": functools.partial(_by_graph, _hnsw),
    "cagra": functools.partial(_by_graph, _cagra),
    "nn_descent": functools.partial(_by_graph, _nn_descent),
}
