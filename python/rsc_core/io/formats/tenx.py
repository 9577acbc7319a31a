"""What Cell Ranger writes: .h5 files (2: one group a genome; 3 and later: one group), matrix folders, ``outs`` folders.

Of several kinds of features (antibodies, guides, controls) only Gene Expression is kept. Gene names are the symbols, made
unique by the gene ids (``var['gene_ids']``); names of cells are the barcodes.
"""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

from rsc_core.errors import InvalidInput
from rsc_core.io.formats import safety
from rsc_core.io.formats.common import Options, as_csr, as_text, first_of, reading, required, rows_of_text, with_unique_symbols

EXPRESSION = "Gene Expression"
WRITER = "Cell Ranger"
MATRIX, BARCODES = ("matrix.mtx.gz", "matrix.mtx"), ("barcodes.tsv.gz", "barcodes.tsv")
FEATURES, GENES = ("features.tsv.gz", "features.tsv"), ("genes.tsv", "genes.tsv.gz")
OUTS = ("filtered_feature_bc_matrix.h5", "filtered_feature_bc_matrix", "filtered_gene_bc_matrices_h5.h5", "filtered_gene_bc_matrices")


def is_h5(path: Path) -> bool:
    """Whether the name ends as a 10x .h5's."""
    return path.name.lower().endswith(".h5")


def is_matrix_folder(path: Path) -> bool:
    """Whether the folder, or one in it (a genome of Cell Ranger 2), holds a file of a matrix folder."""
    folders = [path, *(entry for entry in path.iterdir() if entry.is_dir() and entry.name not in OUTS)] if path.is_dir() else []
    return any(first_of(folder, *MATRIX, *BARCODES, *FEATURES, *GENES) for folder in folders)


def is_outs(path: Path) -> bool:
    """Whether the folder holds a filtered matrix under Cell Ranger's name."""
    return path.is_dir() and first_of(path, *OUTS) is not None


def read_outs(path: Path, options: Options) -> ad.AnnData:
    """The filtered matrix of an ``outs`` folder: the .h5 if it is there, else the matrix folder."""
    return read_matrix(required(path, *OUTS, of=WRITER), options)


def read_matrix(path: Path, options: Options) -> ad.AnnData:
    """An .h5 file or a matrix folder."""
    return read_matrix_folder(path, options) if path.is_dir() else read_h5(path, options)


def read_h5(path: Path, options: Options) -> ad.AnnData:
    """A 10x .h5 file of any version."""
    with reading(path.name, "10x .h5"), h5py.File(path) as file:
        if "matrix" in file:
            return _read_v3(file["matrix"], path.name, options)
        genomes = sorted(name for name, group in file.items() if isinstance(group, h5py.Group) and {"genes", "barcodes"} <= set(group))
        if genomes:
            return _read_v2(file[_chosen(genomes, options.genome, path.name)], path.name)
        raise InvalidInput(
            f"{path.name}: this is no 10x .h5: neither the group matrix nor one a genome; there are {', '.join(sorted(file)) or 'none'}.",
            "Name the format of the file with --format (samplesheet column format), for example h5ad.",
        )


def read_matrix_folder(path: Path, options: Options) -> ad.AnnData:
    """matrix.mtx, barcodes.tsv and features.tsv (Cell Ranger 2: genes.tsv), each plain or gzipped, or a folder of such a genome each.

    A folder of Cell Ranger 3 does not say which gene is of which genome: all are read.
    """
    if not first_of(path, *MATRIX, *BARCODES, *FEATURES, *GENES):
        genomes = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and is_matrix_folder(entry))
        if genomes:
            path = path / _chosen(genomes, options.genome, path.name)
    names = {
        key: required(path, *files, of=WRITER) for key, files in (("matrix", MATRIX), ("cells", BARCODES), ("genes", FEATURES + GENES))
    }
    cells, genes = rows_of_text(names["cells"]), rows_of_text(names["genes"])
    counts = _read_mtx(names["matrix"])
    if counts.shape != (len(genes), len(cells)):
        raise InvalidInput(
            f"{names['matrix'].name}: the matrix has {counts.shape[0]} genes and {counts.shape[1]} cells, but {names['genes'].name} has "
            f"{len(genes)} lines and {names['cells'].name} has {len(cells)}.",
            f"Take the three files of {path.name} from the same run of {WRITER}, whole.",
        )
    var = pd.DataFrame({"gene_ids": [gene[0] for gene in genes]})
    symbols = [gene[1] if len(gene) > 1 else gene[0] for gene in genes]
    if all(len(gene) > 2 for gene in genes):
        var["feature_types"] = [gene[2] for gene in genes]
    return _with_expression(counts.T.tocsr(), [cell[0] for cell in cells], symbols, var, path.name)


def _read_mtx(path: Path) -> sp.coo_matrix:
    with reading(path.name, "MatrixMarket"):
        entries, kind, field = scipy.io.mminfo(path)[2:5]
        if kind != "coordinate" or field not in ("integer", "unsigned-integer", "real"):
            raise InvalidInput(
                f"{path.name}: the matrix is {kind} {field}, not coordinate integer.", f"Give the matrix as {WRITER} writes it."
            )
        safety.check_matrix_market(path, entries)
        return scipy.io.mmread(path)


def _chosen(genomes: list[str], genome: str, name: str) -> str:
    """The genome that the user named, or the only one."""
    if not genome and len(genomes) == 1:
        return genomes[0]
    if genome in genomes:
        return genome
    cause = f"there is no genome {genome!r}" if genome else "there are several genomes"
    raise InvalidInput(f"{name}: {cause}; genomes: {', '.join(genomes)}.", "Name one of them with --genome (samplesheet column genome).")


def _read_v2(group, name: str) -> ad.AnnData:
    cells, gene_ids, symbols = (as_text(group[key][:]) for key in ("barcodes", "genes", "gene_names"))
    counts = _csr_of(group, name, cells, gene_ids)
    return _with_expression(counts, cells, symbols, pd.DataFrame({"gene_ids": gene_ids}), name)


def _read_v3(group, name: str, options: Options) -> ad.AnnData:
    features = group["features"]
    columns = {key: as_text(features[key][:]) for key in ("id", "name", "feature_type", "genome", "gene_id") if key in features}
    cells = as_text(group["barcodes"][:])
    var = pd.DataFrame({"gene_ids": columns.get("gene_id", columns["id"]), "feature_types": columns["feature_type"]})
    if "genome" in columns:
        var["genome"] = columns["genome"]
    adata = _with_expression(_csr_of(group, name, cells, columns["id"]), cells, columns["name"], var, name, unique=False)
    if "genome" in var:
        genomes = sorted(set(adata.var["genome"]))
        adata = adata[:, (adata.var["genome"] == _chosen(genomes, options.genome, name)).to_numpy()].copy()
    adata.var_names = with_unique_symbols(adata.var_names, adata.var["gene_ids"])
    return adata


def _csr_of(group, name: str, cells, genes) -> sp.csr_matrix:
    """The matrix of a group: genes x cells by columns, which is cells x genes by rows."""
    shape = tuple(int(n) for n in group["shape"][:])
    if shape != (len(genes), len(cells)):
        raise InvalidInput(
            f"{name}: the matrix has {shape[0]} genes and {shape[1]} cells, but there are {len(genes)} names of genes and "
            f"{len(cells)} barcodes.",
            f"Make the file again with {WRITER}.",
        )
    return as_csr(name, group["data"][:], group["indices"][:], group["indptr"][:], shape[::-1])


def _with_expression(counts, cells, symbols, var: pd.DataFrame, name: str, unique: bool = True) -> ad.AnnData:
    """An AnnData of the Gene Expression features; all where the file does not say what they are."""
    kept = np.ones(len(var), dtype=bool)
    if "feature_types" in var:
        kept = (var["feature_types"] == EXPRESSION).to_numpy()
        if not kept.any() and len(var):
            raise InvalidInput(
                f"{name}: there are no {EXPRESSION} features; there are {', '.join(sorted(set(var['feature_types'])))}.",
                "Give a file with gene expression, or take the sample out of the samplesheet.",
            )
    var, symbols = var[kept], np.asarray(symbols, dtype=object)[kept]
    var.index = with_unique_symbols(symbols, var["gene_ids"]) if unique else pd.Index(symbols)
    counts = counts if kept.all() else counts[:, np.flatnonzero(kept)]
    return ad.AnnData(counts, obs=pd.DataFrame(index=pd.Index(cells, dtype=object)), var=var)
