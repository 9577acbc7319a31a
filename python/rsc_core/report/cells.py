"""The cells that figures draw: which ones, what they can be coloured by, and the expression of genes to be looked up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from rsc_core.report import figures
from rsc_core.report.page import Part, Table
from rsc_core.stats import in_threads

LEAST_POINTS = 5_000  # of a section of tissue, however many sections share the points
MOST_CATEGORIES = 100  # of a column of obs that is offered for colours
GENE_BYTES = 4_000_000  # of the page that genes may take
LEVELS = 255  # of a gene's expression in the page
PACKED_AT_ONCE = 32  # genes; those that have no room in the page are packed for nothing


@dataclasses.dataclass
class Metric:
    """A QC metric: its axis, whether it is drawn as log(1 + value), and the names under which QC keeps its limits."""

    title: str
    log: bool = False
    limits: tuple[str, ...] = ()


METRICS = {
    "total_counts": Metric("counts of a cell", True, ("total_counts", "log1p_total_counts")),
    "n_genes_by_counts": Metric("expressed genes of a cell", True, ("n_genes_by_counts", "log1p_n_genes_by_counts")),
    "pct_counts_mt": Metric("mitochondrial counts (%)", limits=("pct_counts_mt",)),
    "pct_counts_ribo": Metric("ribosomal counts (%)"),
    "pct_counts_hb": Metric("haemoglobin counts (%)"),
    "doublet_score": Metric("doublet score"),
}


def colourings(obs: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns of obs that cells can be coloured by: clusters, sample, other categories, metrics, other numbers."""
    found = {}
    clusters = [column for column in obs if column.startswith(("leiden", "louvain", "kmeans"))]
    for name in dict.fromkeys(["leiden", "sample", *clusters, *obs.columns]):
        if name not in obs or name.startswith("log1p_"):
            continue
        values = obs[name]
        if values.dtype == bool or isinstance(values.dtype, pd.CategoricalDtype):
            values = values.astype("category")
            if 1 < len(values.cat.categories) <= MOST_CATEGORIES or name == "leiden":
                found[name] = values
        elif pd.api.types.is_numeric_dtype(values) and values.nunique() > 1:
            metric = METRICS.get(name)
            title = f"log(1 + {metric.title})" if metric and metric.log else metric.title if metric else name
            found[title] = np.log1p(values) if metric and metric.log else values
    return found


class Cells:
    """All cells of a run, and those of them that the page draws.

    Parameters
    ----------
    obs
        Annotation of the cells, with ``sample``.
    tissue
        Coordinates (cells, 2), NaN for cells without; None where no sample has any.

    Attributes
    ----------
    drawn
        Rows whose colours the page holds: at most :data:`figures.MOST_POINTS` for the embeddings, and those of each
        section of tissue; all cells of a small run.
    """

    def __init__(self, obs: pd.DataFrame, tissue: np.ndarray | None = None):
        self.obs, self.tissue = obs, tissue
        self.colourings = colourings(obs)
        self.plane = figures.sampled(len(obs))
        self.genes, self.sources, self.means = {}, {}, pd.DataFrame()
        self.sections, samples = {}, obs["sample"].astype("category")
        if tissue is not None:
            placed = np.isfinite(tissue).all(axis=1)
            mine = {str(name): np.flatnonzero(placed & (samples == name).to_numpy()) for name in samples.cat.categories}
            mine = {name: rows for name, rows in mine.items() if len(rows)}
            most = max(LEAST_POINTS, figures.MOST_POINTS // max(1, len(mine)))
            self.sections = {name: (rows, rows[figures.sampled(len(rows), most)]) for name, rows in mine.items()}
        self.drawn = np.unique(np.concatenate([self.plane, *(rows for _, rows in self.sections.values())]))

    def part(self, heading: str, table: Table, places: np.ndarray, rows: np.ndarray, drawn: np.ndarray, axes=("", ""), **more) -> Part:
        """A figure of cells in the plane.

        Parameters
        ----------
        places
            Coordinates (cells, 2) of all cells of the run.
        rows, drawn
            The cells of the figure, and those of them that the page draws.
        **more
            For :func:`figures.points`.
        """
        spec = figures.points(places[drawn], np.searchsorted(self.drawn, drawn), axes, n_colours=len(self.drawn), **more)
        return Part(heading, spec, table, drawn_note(len(rows), len(drawn)), whole=(places[rows], rows))

    def data(self) -> dict:
        """What the page's script needs to colour the cells."""
        found = []
        for name, values in self.colourings.items():
            some = values.iloc[self.drawn]
            if isinstance(values.dtype, pd.CategoricalDtype):
                codes = figures.packed(some.cat.codes.to_numpy(), np.int16)
                found.append({"name": name, "labels": figures.styles(values.cat.categories), "codes": codes})
            else:
                found.append({"name": name, "values": figures.packed(some.to_numpy(), np.float32)})
        sources = _quantised(self.sources, GENE_BYTES // 2)
        taken = sum(len(entry["levels"]) for entry in sources.values())
        genes = _quantised(self.genes, GENE_BYTES - taken) | sources
        return {"n": len(self.drawn), "colourings": found, "genes": genes, "levels": LEVELS}

    def add_sources(self, scores: dict[str, pd.DataFrame]) -> None:
        """Offer activities (cells, sources) of some methods beside the genes, as ``"source (method)"``."""
        for method, table in scores.items():
            some = table.to_numpy(dtype=np.float32)[self.drawn]
            self.sources |= {f"{source} ({method})": np.nan_to_num(some[:, i]) for i, source in enumerate(table.columns)}

    def read_genes(self, blocks_of, names: list[str], var_names: pd.Index, group: str = "leiden") -> None:
        """Take the expression of some genes from row blocks of the matrix.

        Parameters
        ----------
        blocks_of
            Function of the genes' columns: an iterable of (start, stop, CSR block of their log-normalised values).
        names
            Genes in the order of their importance.
        group
            Column of obs whose groups' means :attr:`means` is to hold, a DataFrame (groups, genes).
        """
        names = [name for name in dict.fromkeys(names) if name in var_names]
        columns = var_names.get_indexer(names)
        labels = self.obs[group].astype("category")
        codes, sums = labels.cat.codes.to_numpy(), np.zeros((len(labels.cat.categories), len(names)))
        kept = np.zeros((len(self.drawn), len(names)), dtype=np.float32)
        for start, stop, block in blocks_of(columns):
            dense = block.toarray()
            first, last = np.searchsorted(self.drawn, [start, stop])
            kept[first:last] = dense[self.drawn[first:last] - start]
            for code in np.unique(codes[start:stop]):
                sums[code] += dense[codes[start:stop] == code].sum(axis=0, dtype=np.float64)
        size = np.bincount(codes[codes >= 0], minlength=len(sums))
        self.means = pd.DataFrame(sums / np.maximum(size, 1)[:, None], index=labels.cat.categories.astype(str), columns=names)
        self.genes = {name: kept[:, i] for i, name in enumerate(names)}


def _quantised(values: dict[str, np.ndarray], room: int) -> dict[str, dict]:
    """Values in levels from the lowest (or 0) to the highest (or 0), as many of them, in their order, as fit into ``room`` characters."""
    found, names = {}, list(values)
    for start in range(0, len(names), PACKED_AT_ONCE):
        some = names[start : start + PACKED_AT_ONCE]
        for name, entry in zip(some, in_threads(_levels, [values[name] for name in some]), strict=True):
            room -= len(entry["levels"])
            if room < 0:
                return found
            found[name] = entry
    return found


def _levels(column) -> dict:
    low, top = float(column.min(initial=0)), float(column.max(initial=0))
    text = figures.packed(np.rint((column - low) * (LEVELS / (top - low))) if top > low else column, np.uint8)
    return {"low": float(f"{low:.6g}"), "top": float(f"{top:.6g}"), "levels": text}


def drawn_note(n_cells: int, n_drawn: int) -> str:
    """Says that a figure shows only a sample of the cells; empty where it shows all."""
    if n_drawn == n_cells:
        return ""
    return f"{n_drawn:,} of the {n_cells:,} cells are drawn, chosen at random, the same ones each time; the file in figures/ has all."
