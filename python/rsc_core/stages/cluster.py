"""CLUSTER: communities of the neighbour graph."""

from __future__ import annotations

import anndata as ad

from rsc_core import backend as backends
from rsc_core.errors import InvalidInput
from rsc_core.io.delta import read_delta
from rsc_core.stages._task import Task
from rsc_core.tl._leiden import leiden
from rsc_core.tl._paga import paga as abstraction

PACKAGES = {"deterministic": ("numba",), "igraph": ("igraph",), "cugraph": ("pylibcugraph-cu12", "pylibcugraph-cu13")}


def run(*, neighbors, output, backend="cpu", seed=0, resolutions=(1.0,), leiden_impl="deterministic", paga=False):
    """Leiden at one or more resolutions.

    Parameters
    ----------
    neighbors
        Delta of NEIGHBORS.
    output
        Delta with ``obs['leiden']`` and ``uns['leiden']``; with several resolutions also ``leiden_<resolution>`` for
        each, and ``leiden`` is the first.
    backend, seed
        Where the work runs; seed of its random numbers.
    resolutions
        Numbers above 0.
    leiden_impl
        ``"deterministic"``, ``"igraph"`` or ``"cugraph"`` (backend gpu only).
    paga
        Whether the connections between the clusters of ``leiden`` go into ``uns['paga']``.
    """
    if not resolutions:
        raise ValueError("no resolution was given")
    if leiden_impl == "cugraph" and backend == "cpu":
        raise InvalidInput(
            "leiden_impl is cugraph, but the backend is cpu.", "Use --leiden-impl deterministic or igraph, or --backend gpu."
        )
    parameters = {"resolutions": list(resolutions), "leiden_impl": leiden_impl, "paga": paga}
    packages = PACKAGES[leiden_impl]
    task = Task("cluster", output, parameters=parameters, parents=(neighbors,), backend_name=backend, seed=seed, packages=packages)
    with task.step("read"):
        delta = read_delta(neighbors)
        slot = delta.uns["neighbors"]["connectivities_key"]
        graph = backends.to_device(delta.obsp[slot], backend)
        adata = ad.AnnData(obs=delta.obs[[]], obsp={slot: graph}, uns={"neighbors": delta.uns["neighbors"]})
    keys = [f"leiden_{resolution:g}" for resolution in resolutions] if len(resolutions) > 1 else ["leiden"]
    for key, resolution in zip(keys, resolutions, strict=True):
        with task.step(key):
            leiden(adata, resolution, random_state=seed, key_added=key, flavor=leiden_impl)
    adata.obs["leiden"], adata.uns["leiden"] = adata.obs[keys[0]], adata.uns[keys[0]]
    names = list(dict.fromkeys(["leiden", *keys]))
    if paga:
        with task.step("paga"):
            slot = delta.uns["neighbors"]["distances_key"]
            adata.obsp[slot] = delta.obsp[slot]
            abstraction(adata, "leiden")
        names += ["paga", "leiden_sizes"]
    task.write(obs=adata.obs, uns={key: adata.uns[key] for key in names})
