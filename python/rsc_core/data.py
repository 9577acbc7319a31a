"""Where AnnData keeps things: the only file that knows slots, layers and their containers."""

from __future__ import annotations

import copy

import anndata as ad
import numpy as np
import pandas as pd

from rsc_core import backend
from rsc_core.io.store import CountsStore


def matrix(adata, layer: str | None = None):
    """X or a layer as it is stored, on its own backend.

    Raises
    ------
    KeyError
        When the layer does not exist; the message names those that do.
    """
    if layer is None:
        return adata.X
    if layer not in adata.layers:
        raise KeyError(f"there is no layer {layer!r}; adata.layers has {layer_names(adata)}")
    return adata.layers[layer]


def csr(adata, layer: str | None = None):
    """X or a layer as CSR on its own backend: as it is where it is CSR, converted where it is CSC or dense."""
    stored = matrix(adata, layer)
    return stored.tocsr() if hasattr(stored, "tocsr") else backend.sparse_of(backend.xp_of(stored)).csr_matrix(stored)


def layer_names(adata) -> list[str]:
    """Names of the layers; anndata from 0.13 on lists X among them, under None."""
    return sorted(name for name in adata.layers if name is not None)


def load(store: CountsStore, backend_name: str, rows=None) -> ad.AnnData:
    """A counts store as an AnnData: X on the backend, everything else on the host.

    Parameters
    ----------
    store
        Opened counts store.
    backend_name
        ``"cpu"`` or ``"gpu"``.
    rows
        Boolean mask or positions of the cells to take; all by default.

    Returns
    -------
    AnnData with X: CSR (cells, genes), float32 counts, int32 indices.
    """
    obs, obsm = store.obs, store.obsm
    if rows is None:
        counts = store.device_rows(0, store.shape[0], backend_name)
    else:
        counts = _chosen_counts(store, backend_name, np.arange(store.shape[0])[rows])
        obs, obsm = obs.iloc[rows], {key: value[rows] for key, value in obsm.items()}
    return ad.AnnData(X=counts, obs=obs, var=store.var, obsm=obsm)


def _chosen_counts(store: CountsStore, backend_name: str, rows):
    """The counts of the cells at some positions; of neighbouring ones, as of a section, without the others."""
    if len(rows) and (np.diff(rows) == 1).all():
        return store.device_rows(int(rows[0]), int(rows[-1]) + 1, backend_name)
    return backend.to_device(store.counts()[rows].astype(np.float32), backend_name)


def moved(value, backend_name: str):
    """A matrix on a backend; integers become float32, which CuPy's sparse matrices need."""
    value = backend.to_host(value)
    return backend.to_device(value.astype(np.float32) if value.dtype.kind in "iub" else value, backend_name)


def default_representation(adata) -> str:
    """``X_pca`` if there, ``X`` for at most 50 genes, else an error that says what to run."""
    if "X_pca" in adata.obsm:
        return "X_pca"
    if adata.X is not None and adata.n_vars <= 50:
        return "X"
    raise ValueError("there is no obsm['X_pca']; run pp.pca first or name a representation with use_rep")


def representation(adata, use_rep: str, n_pcs: int | None = None):
    """A representation as stored: (cells, dimensions), the first ``n_pcs`` columns."""
    if use_rep != "X" and use_rep not in adata.obsm:
        raise KeyError(f"there is no obsm[{use_rep!r}]; obsm has {sorted(adata.obsm)}")
    x = adata.X if use_rep == "X" else adata.obsm[use_rep]
    x = x.toarray() if hasattr(x, "toarray") else x
    if n_pcs and n_pcs > x.shape[1]:
        raise ValueError(f"n_pcs is {n_pcs}, but {use_rep} has {x.shape[1]} columns")
    return x[:, :n_pcs] if n_pcs else x


def check_finite(x, name: str) -> None:
    """Raise ValueError that names the first row with a value that is not finite."""
    xp = backend.xp_of(x)
    with np.errstate(invalid="ignore", over="ignore"):
        totals = backend.to_host(x @ xp.ones(x.shape[1], dtype=x.dtype))
    if np.isfinite(totals).all():  # what is not finite makes the sum of its row so, and the sums are soon read
        return
    rows = np.flatnonzero(~backend.to_host(xp.isfinite(x)).all(axis=1))
    if rows.size:
        raise ValueError(f"{name} has NaN or infinite values in row {rows[0]} ({rows.size} rows in all); remove these cells")


def connectivities(adata, neighbors_key: str | None = None, obsp: str | None = None):
    """The graph (CSR, cells x cells) and its entry of uns; ``obsp`` names a graph without an entry."""
    key = neighbors_key or "neighbors"
    entry = {} if obsp else adata.uns.get(key)
    if entry is None:
        raise KeyError(f"there is no uns[{key!r}]; run pp.neighbors first")
    slot = obsp or entry["connectivities_key"]
    if slot not in adata.obsp:
        raise KeyError(f"there is no obsp[{slot!r}]; obsp has {sorted(adata.obsp)}")
    return adata.obsp[slot], entry


class _Aligned(dict):
    """The arrays of a slot by name; their first lengths are those of the axes."""

    def __init__(self, slot: str, lengths: tuple[int, ...], items=()):
        super().__init__()
        self.slot, self.lengths = slot, lengths
        for key, value in dict(items).items():
            self[key] = value

    def __setitem__(self, key, value):
        if value.shape[: len(self.lengths)] != self.lengths:
            raise ValueError(f"{self.slot}[{key!r}] has shape {value.shape}; it must begin with {self.lengths}")
        super().__setitem__(key, value)


class CunnData:
    """AnnData's slots, with X and the layers on one backend and everything else on the host.

    All functions of this package take it in the place of an AnnData. There are no views: a slice is a full copy, whose tables
    have no unused categories, as with AnnData.

    Parameters
    ----------
    X
        (cells, genes) matrix, dense or sparse; its backend is where the work is done. None: no matrix.
    obs, var
        Tables of cells and genes.
    uns
        Anything by name.
    layers
        Matrices of the shape of X by name.
    obsm, varm
        Arrays or tables by name, a row for each cell or gene. What is there on the host is worked on by the CPU.
    obsp
        Square matrices of cells by name.
    """

    raw, is_view = None, False

    def __init__(self, X=None, obs=None, var=None, uns=None, layers=None, obsm=None, varm=None, obsp=None):
        if X is None and (obs is None or var is None):
            raise ValueError("without X both obs and var are needed")
        self._x = X
        self.obs = pd.DataFrame(index=pd.RangeIndex(X.shape[0]).astype(str)) if obs is None else obs
        self.var = pd.DataFrame(index=pd.RangeIndex(X.shape[1]).astype(str)) if var is None else var
        self.X, self.uns = X, dict(uns or {})
        self.layers = _Aligned("layers", self.shape, layers or {})
        self.obsm, self.varm = _Aligned("obsm", self.shape[:1], obsm or {}), _Aligned("varm", self.shape[1:], varm or {})
        self.obsp = _Aligned("obsp", (self.n_obs, self.n_obs), obsp or {})

    @classmethod
    def from_anndata(cls, adata, backend_name: str = "gpu") -> CunnData:
        """A copy of an AnnData with X and the layers on a backend (integers as float32), all else on the host."""
        backend.require(backend_name)
        layers = {name: moved(_host_copy(adata.layers[name]), backend_name) for name in layer_names(adata)}
        slots = {slot: {key: _host_copy(value) for key, value in getattr(adata, slot).items()} for slot in ("obsm", "varm", "obsp")}
        x = None if adata.X is None else moved(_host_copy(adata.X), backend_name)
        return cls(x, adata.obs.copy(), adata.var.copy(), copy.deepcopy(dict(adata.uns)), layers, **slots)

    def to_anndata(self) -> ad.AnnData:
        """A copy as an AnnData with everything on the host."""
        slots = {
            slot: {key: _host_copy(value) for key, value in getattr(self, slot).items()} for slot in ("layers", "obsm", "varm", "obsp")
        }
        x = None if self.X is None else _host_copy(self.X)
        return ad.AnnData(X=x, obs=self.obs.copy(), var=self.var.copy(), uns=copy.deepcopy(self.uns), **slots)

    @property
    def X(self):
        """(cells, genes) matrix on its backend."""
        return self._x

    @X.setter
    def X(self, value):
        if value is not None and value.shape != self.shape:
            raise ValueError(f"X has shape {value.shape}; {self.shape} is needed")
        self._x = value

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of cells and genes."""
        return len(self.obs), len(self.var)

    n_obs = property(lambda self: len(self.obs), doc="Number of cells.")
    n_vars = property(lambda self: len(self.var), doc="Number of genes.")

    @property
    def obs_names(self) -> pd.Index:
        """Names of the cells."""
        return self.obs.index

    @obs_names.setter
    def obs_names(self, names):
        self.obs.index = pd.Index(names)

    @property
    def var_names(self) -> pd.Index:
        """Names of the genes."""
        return self.var.index

    @var_names.setter
    def var_names(self, names):
        self.var.index = pd.Index(names)

    def __len__(self) -> int:
        return self.n_obs

    def copy(self) -> CunnData:
        """A full copy; every array stays on its backend."""
        slots = {slot: {key: value.copy() for key, value in getattr(self, slot).items()} for slot in ("layers", "obsm", "varm", "obsp")}
        x = None if self.X is None else self.X.copy()
        return CunnData(x, self.obs.copy(), self.var.copy(), copy.deepcopy(self.uns), **slots)

    def __getitem__(self, index) -> CunnData:
        """A full copy of some cells and genes: names, positions, slices or boolean masks, ``[cells]`` or ``[cells, genes]``."""
        cells, genes = index if isinstance(index, tuple) else (index, slice(None))
        rows, columns = _positions(cells, self.obs_names, "cell"), _positions(genes, self.var_names, "gene")
        obs, var, uns = self.obs.iloc[rows].copy(), self.var.iloc[columns].copy(), copy.deepcopy(self.uns)
        _drop_unused_categories(obs, uns)
        _drop_unused_categories(var, uns)
        return CunnData(
            None if self.X is None else _taken(self.X, rows, columns),
            obs,
            var,
            uns,
            {key: _taken(value, rows, columns) for key, value in self.layers.items()},
            {key: _taken(value, rows) for key, value in self.obsm.items()},
            {key: _taken(value, columns) for key, value in self.varm.items()},
            {key: _taken(value, rows, rows) for key, value in self.obsp.items()},
        )

    def _inplace_subset_obs(self, index):
        self.__dict__.update(self[index].__dict__)

    def _inplace_subset_var(self, index):
        self.__dict__.update(self[:, index].__dict__)

    def __repr__(self) -> str:
        text = f"CunnData object with n_obs × n_vars = {self.n_obs} × {self.n_vars}"
        for slot in ("obs", "var", "uns", "obsm", "varm", "layers", "obsp"):
            names = list(getattr(self, slot))
            if names:
                text += f"\n    {slot}: {', '.join(repr(str(name)) for name in names)}"
        return text


def _drop_unused_categories(table: pd.DataFrame, uns: dict) -> None:
    """As a slice of an AnnData does: categories that no row has, and their colours in uns, go."""
    for key in table.select_dtypes("category"):
        before = table[key].cat.categories
        table[key] = table[key].cat.remove_unused_categories()
        colors = uns.get(f"{key}_colors")
        if colors is not None and len(colors) == len(before):
            uns[f"{key}_colors"] = np.asarray(colors)[before.isin(table[key].cat.categories)]


def _host_copy(value):
    return backend.to_host(value).copy()


def _positions(index, names: pd.Index, what: str) -> np.ndarray:
    """int64 positions of an index of any kind."""
    if isinstance(index, slice):
        return np.arange(len(names))[index]
    if isinstance(index, str | int | np.integer):
        index = [index]
    index = np.asarray(index)
    if index.dtype == bool:
        if index.shape != names.shape:
            raise IndexError(f"a mask of shape {index.shape} came for {len(names)} {what}s")
        return np.flatnonzero(index)
    if index.dtype.kind in "iu":
        return np.arange(len(names))[index.ravel()]
    if not index.size:
        return np.empty(0, dtype=np.int64)
    if not names.is_unique:
        raise KeyError(f"names of {what}s are not unique; take positions or a mask")
    found = names.get_indexer(index.ravel())
    if (found < 0).any():
        raise KeyError(f"there is no {what} {str(index.ravel()[found < 0][0])!r} ({(found < 0).sum()} such names)")
    return found


def _taken(value, rows, columns=None):
    """A copy of some rows, and columns, of an array, sparse matrix or table."""
    if hasattr(value, "iloc"):
        return value.iloc[rows].copy()
    sparse = hasattr(value, "tocsr")
    xp = backend.xp_of(value)
    whole = [
        index is None or (len(index) == n and (index == np.arange(n)).all()) for index, n in zip((rows, columns), value.shape, strict=False)
    ]
    if all(whole):
        return value.copy()
    if not whole[0]:
        value = (value.tocsr() if sparse else value)[xp.asarray(rows)]
    if columns is not None and not whole[1]:
        value = (value.tocsr() if sparse else value)[:, xp.asarray(columns)]
    return value
