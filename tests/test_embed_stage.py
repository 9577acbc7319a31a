"""EMBED: every embedding by name, densities, pseudotime, what it refuses; the same seed gives the same file."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from test_layouts import manifold, one_thread

from rsc_core.errors import InvalidInput
from rsc_core.io.delta import Delta, read_delta, write_delta
from rsc_core.stages import cluster, embed, neighbors

__all__ = ["one_thread"]  # for every test here
ALL = ("umap", "tsne", "diffmap", "fa2", "mde")


@pytest.fixture
def inputs(tmp_path):
    """Files of NEIGHBORS and of what it was made from, for a number of cells."""

    def make(n_cells, **options):
        obs = pd.DataFrame(index=[f"c{i}" for i in range(n_cells)])
        write_delta(tmp_path / "pca.h5ad", Delta("preprocess", obs, obsm={"X_pca": manifold(n_cells)}))
        neighbors.run(representation=tmp_path / "pca.h5ad", output=tmp_path / "neighbors.h5ad", **options)
        return {"neighbors": tmp_path / "neighbors.h5ad", "representation": tmp_path / "pca.h5ad", "output": tmp_path / "embed.h5ad"}

    return make


def test_all_embeddings_with_scanpys_names_and_the_same_bytes_again(inputs, backend_name):
    files = inputs(60, n_neighbors=8)
    options = {
        "backend": backend_name,
        "seed": 3,
        "embeddings": ALL,
        "density": ("umap", "fa2", "diffmap"),
        "root_cell": "c7",
        "perplexity": 5.0,
    }
    embed.run(**files, **options)
    first = files["output"].read_bytes()
    delta = read_delta(files["output"])
    assert set(delta.obsm) == {"X_umap", "X_tsne", "X_diffmap", "X_draw_graph_fa", "X_mde"}
    assert {"umap", "tsne", "diffmap_evals", "draw_graph", "mde", "iroot"} <= set(delta.uns)
    assert {"umap_density", "draw_graph_fa_density", "diffmap_density", "dpt_pseudotime"} == set(delta.obs)
    assert delta.obs["dpt_pseudotime"].iloc[7] == 0
    for name in ("umap", "tsne", "draw_graph", "mde"):
        assert delta.uns[name]["params"]["algorithm"] == "rsc"
        assert delta.uns[name]["params"]["random_state"] == 3
    assert delta.record["parameters"]["root_cell"] == "c7"
    assert all(np.isfinite(value).all() for value in delta.obsm.values())
    embed.run(**files, **options)
    assert files["output"].read_bytes() == first


def test_three_cells_are_drawn_without_a_diffusion_map(inputs):
    files = inputs(3)
    embed.run(**files, embeddings=ALL, density=("umap", "diffmap"), root_cell="c0")
    delta = read_delta(files["output"])
    assert set(delta.obsm) == {"X_umap", "X_tsne", "X_draw_graph_fa", "X_mde"}
    assert "no diffusion map of 3 cells" in delta.record["warnings"][0]


def test_what_does_not_fit_together_is_refused(inputs):
    files = inputs(30)
    for options, message in (
        ({"embeddings": ["phate"]}, "phate"),
        ({"embeddings": []}, "embeddings are"),
        ({"density": ["tsne"]}, "density is asked of"),
        ({"root_cell": "c1"}, "no diffusion map"),
        ({"embeddings": ["diffmap"], "root_cell": "x1"}, "there is no cell 'x1'"),
    ):
        with pytest.raises(InvalidInput, match=message):
            embed.run(**files, **options)


def test_clusters_with_their_connections(inputs, tmp_path):
    files = inputs(90, n_neighbors=8)
    cluster.run(neighbors=files["neighbors"], output=tmp_path / "cluster.h5ad", paga=True)
    delta = read_delta(tmp_path / "cluster.h5ad")
    n_clusters = delta.obs["leiden"].nunique()
    assert n_clusters > 2
    assert delta.uns["paga"]["connectivities"].shape == (n_clusters, n_clusters)
    n_parts = sp.csgraph.connected_components(delta.uns["paga"]["connectivities"], directed=False)[0]
    assert delta.uns["paga"]["connectivities_tree"].nnz == n_clusters - n_parts
    assert list(delta.uns["leiden_sizes"]) == list(delta.obs["leiden"].value_counts(sort=False))
    assert delta.uns["paga"]["groups"] == "leiden"
