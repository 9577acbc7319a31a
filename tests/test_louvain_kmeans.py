"""Louvain against igraph's, k-means against scikit-learn's, several resolutions and subsets of cells against scanpy's names."""

import anndata as ad
import numba
import numpy as np
import pandas as pd
import pytest
from scipy.sparse.csgraph import connected_components

from rsc_core import backend, metrics
from rsc_core.pp._neighbors import neighbors
from rsc_core.tl._kmeans import kmeans
from rsc_core.tl._leiden import leiden
from rsc_core.tl._levels import modularity
from rsc_core.tl._louvain import louvain


def with_graph(to_xp, x):
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(len(x))]), obsm={"X_pca": to_xp(x)})
    neighbors(adata)
    return adata


def groups(n_cells=800, seed=0):
    random = np.random.default_rng(seed)
    kind = random.integers(4, size=n_cells)
    return (random.normal(size=(n_cells, 8)) + 9 * np.eye(8)[kind]).astype(np.float32), kind


def curve(n_cells=1500, seed=0):
    """A continuous manifold: a strip, wound up in three dimensions."""
    random = np.random.default_rng(seed)
    t, height = 3 + 9 * random.random(n_cells), 20 * random.random(n_cells)
    return np.stack([t * np.cos(t), height, t * np.sin(t)], axis=1).astype(np.float32)


@pytest.mark.parametrize("cells", [groups, curve])
def test_louvain_is_no_worse_than_igraph(to_xp, cells):
    """Mean modularity of 5 seeds at most 0.1 % below igraph's multilevel."""
    x = cells()[0] if cells is groups else cells()
    adata, host = with_graph(to_xp, x), with_graph(lambda a: a, x)
    ours, theirs = [], []
    for seed in range(5):
        louvain(adata, random_state=seed)
        louvain(host, random_state=seed, flavor="igraph")
        ours.append(adata.uns["louvain"]["modularity"])
        theirs.append(host.uns["louvain"]["modularity"])
    assert np.mean(ours) > np.mean(theirs) * 0.999


def test_leiden_is_no_worse_than_igraph_on_a_continuous_manifold(to_xp):
    """Mean modularity of 5 seeds at most 0.1 % below igraph's with 2 iterations."""
    adata, host = with_graph(to_xp, curve()), with_graph(lambda a: a, curve())
    ours, theirs = [], []
    for seed in range(5):
        leiden(adata, random_state=seed)
        leiden(host, random_state=seed, flavor="igraph", n_iterations=2)
        ours.append(adata.uns["leiden"]["modularity"])
        theirs.append(host.uns["leiden"]["modularity"])
    assert np.mean(ours) > np.mean(theirs) * 0.999


def test_louvain_finds_the_groups_and_its_communities_are_connected(to_xp):
    x, kind = groups()
    adata = with_graph(to_xp, x)
    louvain(adata, 0.1)
    assert metrics.adjusted_rand_index(adata.obs["louvain"], kind) == 1
    assert list(adata.obs["louvain"].value_counts().index) == ["0", "1", "2", "3"]
    louvain(adata, 3.0)
    graph = backend.to_host(adata.obsp["connectivities"])
    for label in adata.obs["louvain"].cat.categories:
        mine = np.flatnonzero(adata.obs["louvain"] == label)
        assert connected_components(graph[mine][:, mine], directed=False)[0] == 1


def test_louvain_gives_the_same_labels_on_every_backend_and_number_of_threads(to_xp):
    x = np.random.default_rng(2).normal(size=(800, 10)).astype(np.float32)
    adata, host, before = with_graph(to_xp, x), with_graph(lambda a: a, x), numba.get_num_threads()
    louvain(adata, random_state=4)
    numba.set_num_threads(1)
    louvain(host, random_state=4)
    numba.set_num_threads(before)
    assert adata.obs["louvain"].tolist() == host.obs["louvain"].tolist()
    assert adata.uns["louvain"]["modularity"] == host.uns["louvain"]["modularity"]


def test_modularity_is_the_defined_one(to_xp):
    adata = with_graph(to_xp, groups(300)[0])
    labels = np.random.default_rng(0).integers(5, size=300)
    ours = modularity(*backend.csr_parts(adata.obsp["connectivities"]), labels, 0.7)
    graph = backend.to_host(adata.obsp["connectivities"])
    assert ours == pytest.approx(metrics.modularity(graph.indptr, graph.indices, graph.data, labels, 0.7), abs=1e-12)


@pytest.mark.parametrize("method", [leiden, louvain])
def test_several_resolutions(to_xp, method):
    name = method.__name__
    adata = with_graph(to_xp, groups()[0])
    method(adata, [0.5, 2], random_state=7)
    assert list(adata.obs.columns) == [f"{name}_0.5", f"{name}_2", name]
    assert adata.obs[name].tolist() == adata.obs[f"{name}_0.5"].tolist()
    method(adata, 2, random_state=7, key_added="alone")
    assert adata.obs["alone"].tolist() == adata.obs[f"{name}_2"].tolist()
    assert adata.uns[f"{name}_2"]["params"]["resolution"] == 2 and adata.uns[f"{name}_2"]["params"]["random_state"] == 7
    with pytest.raises(ValueError, match="above 0"):
        method(adata, [1, 0])


@pytest.mark.parametrize("method", [leiden, louvain])
def test_only_some_clusters_are_clustered_again(to_xp, method):
    """The others keep their names; the cells' own are those of scanpy: its categories, a comma, the new number."""
    from scanpy.tools._utils_clustering import rename_groups

    x, kind = groups()
    adata = with_graph(to_xp, x)
    adata.obs["kind"] = pd.Categorical([f"k{k}" for k in kind])
    method(adata, 2.0, restrict_to=("kind", ["k1", "k3"]))
    name = f"{method.__name__}_R"
    some = np.isin(kind, [1, 3])
    assert (adata.obs[name][~some].astype(str) == adata.obs["kind"][~some].astype(str)).all()
    graph = backend.to_host(adata.obsp["connectivities"])[some][:, some].tocsr()
    part = ad.AnnData(obs=pd.DataFrame(index=adata.obs_names[some]), obsp={"graph": to_xp(graph)})
    method(part, 2.0, obsp="graph")
    numbers = part.obs[method.__name__].astype(int).to_numpy()
    theirs = rename_groups(
        adata, key_added=None, restrict_key="kind", restrict_categories=["k1", "k3"], restrict_indices=some, groups=numbers
    )
    assert adata.obs[name].astype(str).tolist() == theirs.astype(str).tolist()
    assert adata.uns[name]["params"]["restrict_to"] == ["kind", ["k1", "k3"]]
    with pytest.raises(ValueError, match="no cells of"):
        method(adata, restrict_to=("kind", ["k9"]))
    with pytest.raises(KeyError, match="no column 'sort'"):
        method(adata, restrict_to=("sort", ["k1"]))


def test_kmeans_equals_scikit_learn_from_the_same_start(to_xp):
    from sklearn.cluster import KMeans

    x = np.random.default_rng(0).normal(size=(600, 6))
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(600)]), obsm={"X_pca": to_xp(x)})
    kmeans(adata, 7, n_init=1, random_state=5)
    from rsc_core.tl._lloyd import spread_rows

    start = x[spread_rows(x, 7, 5, 0)]
    theirs = KMeans(7, init=start, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(x)
    assert adata.uns["kmeans"]["inertia"] == pytest.approx(theirs.inertia_, rel=1e-9)
    assert metrics.adjusted_rand_index(adata.obs["kmeans"], theirs.labels_) == 1
    codes = adata.obs["kmeans"].cat.codes.to_numpy()
    centers = np.array([x[codes == k].mean(axis=0) for k in range(7)])
    np.testing.assert_allclose(adata.uns["kmeans"]["cluster_centers"], centers, atol=1e-12)  # sums are of multiples of 2^-40 or finer


def test_kmeans_finds_the_groups_with_the_same_bits_everywhere(to_xp):
    x, kind = groups()
    adata, host = (ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(800)]), obsm={"X_pca": m(x)}) for m in (to_xp, np.asarray))
    kmeans(adata, 4)
    kmeans(host, 4)
    assert metrics.adjusted_rand_index(adata.obs["kmeans"], kind) == 1
    assert adata.obs["kmeans"].value_counts().is_monotonic_decreasing
    assert adata.uns["kmeans"]["inertia"] == host.uns["kmeans"]["inertia"]
    np.testing.assert_array_equal(adata.uns["kmeans"]["cluster_centers"], host.uns["kmeans"]["cluster_centers"])


def test_kmeans_of_few_and_of_equal_cells(to_xp):
    x = np.repeat(np.eye(3), 4, axis=0)
    adata = ad.AnnData(obs=pd.DataFrame(index=[f"c{i}" for i in range(12)]), obsm={"X_pca": to_xp(x)})
    kmeans(adata, 5)
    assert adata.obs["kmeans"].tolist() == ["0"] * 4 + ["1"] * 4 + ["2"] * 4
    assert adata.uns["kmeans"]["inertia"] == 0
    kmeans(adata, 1)
    assert adata.obs["kmeans"].nunique() == 1
    with pytest.raises(ValueError, match="from 1 to the 12 cells"):
        kmeans(adata, 13)
    x[3, 1] = np.inf
    adata.obsm["X_pca"] = to_xp(x)
    with pytest.raises(ValueError, match="row 3"):
        kmeans(adata, 2)
