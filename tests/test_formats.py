"""Input formats through bin/ingest.py: every count against scanpy's readers, files made by hand, and damaged input."""

import contextlib
import gzip
import io
import json
import re
import runpy
import shutil
import sys
import tempfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.io
import scipy.sparse as sp

from rsc_core.io import formats
from rsc_core.io.formats.common import with_unique_symbols
from rsc_core.io.store import CountsStore

ROOT = Path(__file__).parents[1]
TENX = ROOT / "tests" / "data" / "formats" / "10x_data"
VISIUM = ROOT / "tests" / "data" / "formats" / "visium_data" / "1.0.0"
PROBES = VISIUM.parent / "2.1.0" / "raw_probe_bc_matrix.h5"
V3_H5, V3_FOLDER = TENX / "3.0.0" / "filtered_feature_bc_matrix.h5", TENX / "3.0.0" / "filtered_feature_bc_matrix"
V2_H5, V2_FOLDER = TENX / "1.2.0" / "filtered_gene_bc_matrices_h5.h5", TENX / "1.2.0" / "filtered_gene_bc_matrices"
SEVERAL = TENX / "1.2.0" / "multiple_genomes.h5"
COUNTS = np.array([[1, 0, 2], [0, 0, 3], [0, 70000, 0], [5, 0, 1]])  # four cells, three genes
CELLS, GENES = [f"c{i}" for i in range(4)], ["g0", "g1", "g2"]


def ingest(path, output, *arguments):
    """Exit code and stderr of bin/ingest.py, run in this process: a hundred starts of Python would take minutes."""
    command = ["ingest.py", "--input", path, "--sample", "s1", "--output", output, *arguments]
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", [str(word) for word in command])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "bin" / "ingest.py"), run_name="__main__")
    return ended.value.code or 0, said.getvalue()


def ingested(path, tmp_path, *arguments):
    code, said = ingest(path, tmp_path / "out.h5ad", *arguments)
    assert code == 0, said
    return CountsStore(tmp_path / "out.h5ad")


def refused(path, tmp_path, *arguments):
    """Error and remedy of an input that must end with 65 and leave no file."""
    code, said = ingest(path, tmp_path / "out.h5ad", *arguments)
    assert code == 65, said
    error, remedy = said.splitlines()[-2:]
    assert error.startswith("error: ") and remedy.startswith("remedy: ")
    assert not (tmp_path / "out.h5ad").exists()
    return error + "\n" + remedy


def check_counts(store, cells=CELLS, genes=GENES, counts=COUNTS):
    assert store.obs.index.tolist() == list(cells) and store.var.index.tolist() == list(genes)
    np.testing.assert_array_equal(store.counts().toarray(), counts)


# ---- real files against scanpy


def read_plain_v3(folder):
    """scanpy 1.11 reads features.tsv only gzipped."""
    with tempfile.TemporaryDirectory() as place:
        for file in folder.iterdir():
            (Path(place) / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        return sc.read_10x_mtx(place)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("path", "theirs", "arguments"),
    [
        (V3_H5, lambda: sc.read_10x_h5(V3_H5), []),
        (V3_H5, lambda: sc.read_10x_h5(V3_H5), ["--genome", "GRCh38_chr21", "--format", "10x_h5"]),
        (V3_FOLDER, lambda: sc.read_10x_mtx(V3_FOLDER), []),
        (V3_FOLDER.parent, lambda: sc.read_10x_h5(V3_H5), []),
        (V2_H5, lambda: sc.read_10x_h5(V2_H5), []),
        (V2_FOLDER / "hg19_chr21", lambda: sc.read_10x_mtx(V2_FOLDER / "hg19_chr21"), []),
        (V2_FOLDER, lambda: sc.read_10x_mtx(V2_FOLDER / "hg19_chr21"), []),
        (SEVERAL, lambda: sc.read_10x_h5(SEVERAL, genome="hg19_chr21"), ["--genome", "hg19_chr21"]),
        (SEVERAL, lambda: sc.read_10x_h5(SEVERAL, genome="another_genome"), ["--genome", "another_genome"]),
        (TENX / "int-ids", lambda: read_plain_v3(TENX / "int-ids"), []),
        (VISIUM, lambda: sc.read_visium(VISIUM), []),
        (PROBES, lambda: sc.read_10x_h5(PROBES), []),
    ],
)
def test_equals_scanpy(tmp_path, path, theirs, arguments):
    store, expected = ingested(path, tmp_path, *arguments), theirs()
    names = with_unique_symbols(expected.var_names, expected.var["gene_ids"].astype(str))
    check_counts(store, expected.obs_names, names, expected.X.toarray())
    assert store.var["gene_ids"].tolist() == expected.var["gene_ids"].astype(str).tolist()
    for column in ("genome", "feature_types"):
        if column in store.var and column in expected.var:
            assert store.var[column].astype(str).tolist() == expected.var[column].astype(str).tolist()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_spots_lie_where_scanpy_and_squidpy_have_them(tmp_path):
    squidpy = pytest.importorskip("squidpy")
    store = ingested(VISIUM, tmp_path)
    for expected in (sc.read_visium(VISIUM), squidpy.read.visium(VISIUM)):
        np.testing.assert_array_equal(store.obsm["spatial"], expected.obsm["spatial"])
        for column in ("in_tissue", "array_row", "array_col"):
            assert store.obs[column].tolist() == expected.obs[column].tolist()
    kept = store.uns["visium"]
    assert kept["scalefactors"] == json.loads((VISIUM / "spatial" / "scalefactors_json.json").read_text())
    assert kept["lowres_png"].tobytes() == (VISIUM / "spatial" / "tissue_lowres_image.png").read_bytes()
    assert ad.read_h5ad(tmp_path / "out.h5ad").uns["visium"]["lowres_png"].dtype == np.uint8  # opens with anndata


# ---- 10x files made by hand


def write_v3(path, counts=COUNTS, genes=GENES, symbols=None, types=None, genomes=None, cells=CELLS, **replaced):
    by_cells = sp.csr_matrix(counts)
    parts = {"data": by_cells.data, "indices": by_cells.indices, "indptr": by_cells.indptr, "shape": by_cells.shape[::-1]} | replaced
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for key, values in parts.items():
            group[key] = np.asarray(values)
        group["barcodes"] = np.array(cells, dtype="S")
        features = group.create_group("features")
        columns = {"id": genes, "name": symbols or genes, "feature_type": types or ["Gene Expression"] * len(genes)}
        for key, values in (columns | {"genome": genomes or ["hg"] * len(genes)}).items():
            features[key] = np.array(values, dtype="S")
    return path


def write_folder(folder, counts=COUNTS, cells=CELLS, rows=None, zipped=False, names=("matrix.mtx", "barcodes.tsv", "features.tsv")):
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows if rows is not None else [f"{gene}\tsym_{gene}\tGene Expression" for gene in GENES]
    scipy.io.mmwrite(folder / names[0], sp.coo_matrix(np.asarray(counts).T))
    (folder / names[1]).write_text("\n".join(cells) + "\n")
    (folder / names[2]).write_text("\n".join(rows) + "\n")
    for name in names if zipped else ():
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    return folder


def test_only_gene_expression_is_kept(tmp_path):
    types = ["Gene Expression", "Antibody Capture", "Gene Expression"]
    check_counts(ingested(write_v3(tmp_path / "a.h5", types=types), tmp_path), genes=["g0", "g2"], counts=COUNTS[:, [0, 2]])
    rows = [f"{gene}\t{gene}\t{kind}" for gene, kind in zip(GENES, types, strict=True)]
    check_counts(ingested(write_folder(tmp_path / "f", rows=rows), tmp_path), genes=["g0", "g2"], counts=COUNTS[:, [0, 2]])
    said = refused(write_v3(tmp_path / "b.h5", types=["CRISPR Guide Capture"] * 3), tmp_path.joinpath("x"))
    assert "b.h5: there are no Gene Expression features; there are CRISPR Guide Capture" in said


def test_genomes_of_version_3(tmp_path):
    """The genome of an antibody does not count."""
    types = ["Gene Expression", "Gene Expression", "Antibody Capture"]
    path = write_v3(tmp_path / "a.h5", types=types, genomes=["hg", "mm", ""])
    said = refused(path, tmp_path)
    assert "a.h5: there are several genomes; genomes: hg, mm." in said and "--genome" in said
    assert "there is no genome 'rat'; genomes: hg, mm." in refused(path, tmp_path, "--genome", "rat")
    check_counts(ingested(path, tmp_path, "--genome", "mm"), genes=["g1"], counts=COUNTS[:, [1]])


def test_genomes_of_version_2(tmp_path):
    assert "multiple_genomes.h5: there are several genomes; genomes: another_genome, hg19_chr21." in refused(SEVERAL, tmp_path)
    for genome, factor in (("hg", 1), ("mm", 2)):
        write_folder(
            tmp_path / "both" / genome, COUNTS * factor, rows=["g0\tA", "g1\tB", "g2\tB"], names=("matrix.mtx", "barcodes.tsv", "genes.tsv")
        )
    assert "both: there are several genomes; genomes: hg, mm." in refused(tmp_path / "both", tmp_path)
    check_counts(ingested(tmp_path / "both", tmp_path, "--genome", "mm"), genes=["A", "B-g1", "B-g2"], counts=COUNTS * 2)


@pytest.mark.parametrize("zipped", [False, True])
def test_symbols_that_repeat(tmp_path, zipped):
    rows = ["g0\tTBCE\tGene Expression", "g1\t\tGene Expression", "g2\tTBCE\tGene Expression"]
    store = ingested(write_folder(tmp_path / "f", rows=rows, zipped=zipped), tmp_path)
    check_counts(store, genes=["TBCE-g0", "g1", "TBCE-g2"])
    assert store.var["gene_ids"].tolist() == GENES
    check_counts(ingested(write_v3(tmp_path / "a.h5", symbols=["TBCE", "x", "TBCE"]), tmp_path), genes=["TBCE-g0", "x", "TBCE-g2"])


def test_folder_with_quotes_hashes_and_windows_lines(tmp_path):
    folder = write_folder(tmp_path / "f")
    (folder / "features.tsv").write_bytes(b'g0\t"a"\tGene Expression\r\ng1\tb#1\tGene Expression\r\ng2\tc d\tGene Expression\r\n')
    check_counts(ingested(folder, tmp_path), genes=['"a"', "b#1", "c d"])


# ---- spatial formats made by hand


def write_visium(folder, header=True, positions=None, drop=()):
    (folder / "spatial").mkdir(parents=True)
    write_v3(folder / "filtered_feature_bc_matrix.h5")
    table = positions if positions is not None else spots()
    name = "tissue_positions.csv" if header else "tissue_positions_list.csv"
    table.to_csv(folder / "spatial" / name, index=False, header=header)
    (folder / "spatial" / "scalefactors_json.json").write_text('{"tissue_lowres_scalef": 0.05, "spot_diameter_fullres": 90}')
    for part in drop:
        (folder / part).unlink()
    return folder


def spots():
    """Five spots; c1 lies outside the tissue, and one has no counts."""
    values = [["x", 0, 9, 9, 1, 2], ["c3", 1, 3, 0, 31, 32], ["c2", 1, 2, 0, 21, 22], ["c1", 0, 1, 0, 11, 12], ["c0", 1, 0, 0, 1.5, 2]]
    return pd.DataFrame(values, columns=["barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres"])


@pytest.mark.parametrize("kind", ["header", "plain", "parquet"])
def test_positions_of_spots(tmp_path, kind):
    folder = write_visium(tmp_path / "outs", header=kind != "plain")
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        (folder / "spatial" / "tissue_positions.csv").unlink()
        spots().to_parquet(folder / "spatial" / "tissue_positions.parquet", index=False)
    store = ingested(folder, tmp_path)
    check_counts(store, cells=["c0", "c2", "c3"], counts=COUNTS[[0, 2, 3]])
    np.testing.assert_array_equal(store.obsm["spatial"], [[2, 1.5], [22, 21], [32, 31]])  # (x, y) = (pixel column, pixel row)
    assert store.obs["array_row"].tolist() == [0, 2, 3]
    assert store.uns["visium"] == {"scalefactors": {"tissue_lowres_scalef": 0.05, "spot_diameter_fullres": 90.0}}


def write_xenium(folder, kind):
    folder.mkdir()
    write_v3(folder / "cell_feature_matrix.h5", types=["Gene Expression", "Gene Expression", "Negative Control Probe"])
    table = pd.DataFrame({"cell_id": CELLS[::-1], "x_centroid": [3.5, 2, 1, 0], "y_centroid": [30.0, 20, 10, 0], "cell_area": [9, 8, 7, 6]})
    if kind == "parquet":
        pytest.importorskip("pyarrow")
        table.assign(cell_id=table["cell_id"].str.encode("ascii")).to_parquet(folder / "cells.parquet")  # bytes, as early versions wrote
    else:
        table.to_csv(folder / kind, index=False)
    return folder


@pytest.mark.parametrize("kind", ["cells.csv", "cells.csv.gz", "parquet"])
def test_xenium(tmp_path, kind):
    store = ingested(write_xenium(tmp_path / "bundle", kind), tmp_path)
    check_counts(store, genes=["g0", "g1"], counts=COUNTS[:, :2])
    np.testing.assert_array_equal(store.obsm["spatial"], [[0, 0], [1, 10], [2, 20], [3.5, 30]])
    assert store.obs["cell_area"].tolist() == [6, 7, 8, 9]


# ---- loom, tables, zarr


def write_loom(path, **attributes):
    with h5py.File(path, "w") as file:
        file["matrix"] = COUNTS.T.astype(np.float32)
        file["layers/spliced"] = 2 * COUNTS.T
        file["row_attrs/Gene"] = np.array(GENES, dtype=h5py.string_dtype())
        file["col_attrs/CellID"] = np.array(CELLS, dtype="S")
        file["col_attrs/Age"] = np.arange(4)
        for key, values in attributes.items():
            file.pop(key.replace("__", "/"), None)
            if values is not None:
                file[key.replace("__", "/")] = values
    return path


def test_loom(tmp_path, monkeypatch):
    store = ingested(write_loom(tmp_path / "a.loom"), tmp_path)
    check_counts(store)
    assert store.obs["Age"].tolist() == [0, 1, 2, 3]
    check_counts(ingested(tmp_path / "a.loom", tmp_path, "--counts-layer", "spliced"), counts=2 * COUNTS)
    monkeypatch.setattr("rsc_core.io.formats.loom.CELLS_A_BLOCK", 3)  # the last block is shorter
    np.testing.assert_array_equal(formats.read(tmp_path / "a.loom").X.toarray(), COUNTS)
    path = write_loom(
        tmp_path / "b.loom", row_attrs__Gene=np.array(["A", "A", "B"], dtype="S"), row_attrs__Accession=np.array(GENES, dtype="S")
    )
    check_counts(ingested(path, tmp_path), genes=["A-g0", "A-g1", "B"])


TABLE = pd.DataFrame(COUNTS, index=CELLS, columns=GENES)


@pytest.mark.parametrize(
    ("name", "separator", "arguments"),
    [
        ("t.csv", ",", []),
        ("t.csv", ";", []),
        ("t.csv.gz", ",", []),
        ("t.tsv", "\t", []),
        ("t.tsv.gz", "\t", []),
        ("t.txt", "\t", ["--format", "tsv"]),
    ],
)
def test_tables(tmp_path, name, separator, arguments):
    TABLE.to_csv(tmp_path / name, sep=separator)
    check_counts(ingested(tmp_path / name, tmp_path, *arguments))
    TABLE.T.to_csv(tmp_path / name, sep=separator)
    check_counts(ingested(tmp_path / name, tmp_path, *arguments, "--orientation", "genes-by-cells"))


def test_table_as_r_writes_it(tmp_path, monkeypatch):
    """Quoted names, none above the names of the rows, a name that looks like a missing value, names that are numbers."""
    (tmp_path / "t.csv").write_text('"NA","MAR,1","3"\n"01",1,0,2\n"nan",0,0,3\n"c2",0,7e4,0\n"c3",5,0,1\n')
    check_counts(ingested(tmp_path / "t.csv", tmp_path), cells=["01", "nan", "c2", "c3"], genes=["NA", "MAR,1", "3"])
    monkeypatch.setattr("rsc_core.io.formats.tables.NUMBERS_A_BLOCK", 9)  # three rows, and one
    adata = formats.read(tmp_path / "t.csv")
    np.testing.assert_array_equal(adata.X.toarray(), COUNTS)
    assert adata.obs_names.tolist() == ["01", "nan", "c2", "c3"]


def test_zarr(tmp_path):
    adata = ad.AnnData(sp.csr_matrix(COUNTS), TABLE[[]].copy(), TABLE.T[[]].copy(), layers={"raw": sp.csr_matrix(3 * COUNTS)})
    adata.write_zarr(tmp_path / "a.zarr")
    check_counts(ingested(tmp_path / "a.zarr", tmp_path))
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "named otherwise")
    check_counts(ingested(tmp_path / "named otherwise", tmp_path, "--counts-layer", "raw"), counts=3 * COUNTS)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("lost", ["X/data", "X/indices", "obs/_index", "var/_index"])
def test_zarr_that_lost_files(tmp_path, lost, version):
    """Of a whole array the reader notices; of its chunks zarr itself would make zeros."""
    with ad.settings.override(zarr_write_format=version):
        ad.AnnData(sp.csr_matrix(COUNTS), TABLE[[]].copy(), TABLE.T[[]].copy()).write_zarr(tmp_path / "a.zarr")
    check_counts(ingested(tmp_path / "a.zarr", tmp_path))
    (tmp_path / "out.h5ad").unlink()
    chunks = [
        file for file in (tmp_path / "a.zarr" / lost).rglob("*") if file.is_file() and not re.fullmatch(r"\.z.*|zarr\.json", file.name)
    ]
    assert chunks
    for chunk in chunks:
        chunk.unlink()
    assert f"a.zarr: 1 of 1 chunks of {lost} are missing" in refused(tmp_path / "a.zarr", tmp_path)
    for file in (tmp_path / "a.zarr" / "X").rglob("*.json"):
        file.write_bytes(file.read_bytes()[:20])
    (tmp_path / "a.zarr" / "X" / (".zgroup" if version == 2 else "zarr.json")).write_text("{")
    assert "a.zarr: " in refused(tmp_path / "a.zarr", tmp_path)


# ---- what is refused


def cut(path, part, target):
    content = path.read_bytes()
    target.write_bytes(content[: int(part * len(content))])
    return target


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("path", [V3_H5, V2_H5], ids=["v3", "v2"])
def test_truncated_h5(tmp_path, path, part):
    assert "cut.h5: cannot be read as 10x .h5" in refused(cut(path, part, tmp_path / "cut.h5"), tmp_path)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("name", ["matrix.mtx", "barcodes.tsv", "features.tsv"])
@pytest.mark.parametrize("zipped", [False, True])
def test_truncated_folder(tmp_path, name, part, zipped):
    folder = tmp_path / "f"
    shutil.copytree(V3_FOLDER, folder)
    if not zipped:
        for packed in folder.iterdir():
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
            packed.unlink()
    file = folder / (name + ".gz" * zipped)
    cut(file, part, file)
    assert file.name in refused(folder, tmp_path)


@pytest.mark.parametrize("name", ["matrix.mtx.gz", "barcodes.tsv.gz", "features.tsv.gz"])
def test_missing_file_of_a_folder(tmp_path, name):
    shutil.copytree(V3_FOLDER, tmp_path / "f")
    (tmp_path / "f" / name).unlink()
    said = refused(tmp_path / "f", tmp_path)
    assert "error: f: " in said and name in said and "is missing (it holds" in said


def broken_loom(**attributes):
    return lambda folder: write_loom(folder / "a.loom", **attributes)


def text(name, content):
    def write(folder):
        (folder / name).write_text(content)
        return folder / name

    return write


def mtx(content):
    def write(folder):
        (write_folder(folder / "f") / "matrix.mtx").write_text("%%MatrixMarket matrix " + content)
        return folder / "f"

    return write


def moved(**values):
    """A Visium folder with a changed table of positions."""
    return lambda folder: write_visium(folder / "outs", positions=spots().assign(**values).astype(str))


DAMAGED = {
    "h5: barcodes": (lambda f: write_v3(f / "a.h5", cells=CELLS[:3]), "3 genes and 4 cells, but there are 3 names of genes and 3 barcodes"),
    "h5: indptr": (lambda f: write_v3(f / "a.h5", indptr=[0, 2, 3]), "a.h5: the matrix is damaged: 4 cells, but 3 row pointers"),
    "h5: index": (lambda f: write_v3(f / "a.h5", indices=[0, 2, 2, 1, 0, 9]), "a.h5: cannot be read as sparse matrix"),
    "h5: indptr falls": (lambda f: write_v3(f / "a.h5", indptr=[0, 4, 3, 4, 6]), "a.h5: cannot be read as sparse matrix"),
    "h5: fraction": (lambda f: write_v3(f / "a.h5", counts=COUNTS / 2), "cell 'c0', gene 'g0': the value 0.5 is not a whole number"),
    "h5: anndata": (
        lambda f: Path(ad.AnnData(sp.csr_matrix(COUNTS)).write_h5ad(f / "a.h5") or f / "a.h5"),
        "a.h5: this is no 10x .h5: neither the group matrix",
    ),
    "folder: barcodes": (
        lambda f: write_folder(f / "f", cells=CELLS[:3]),
        "matrix.mtx: the matrix has 3 genes and 4 cells, but features.tsv has 3 lines and barcodes.tsv has 3.",
    ),
    "folder: barcode twice": (lambda f: write_folder(f / "f", cells=["a", "b", "a", "c"]), "f: 1 cell names repeat (first: 'a')"),
    "folder: id twice": (
        lambda f: write_folder(f / "f", rows=["g\tA\tGene Expression"] * 3),
        "f: 2 gene names repeat (first: 'A-g')",
    ),
    "mtx: dense": (mtx("array integer general\n3 4\n" + "1\n" * 12), "matrix.mtx: the matrix is array integer, not coordinate integer"),
    "mtx: pattern": (mtx("coordinate pattern general\n3 4 1\n1 1\n"), "the matrix is coordinate pattern"),
    "mtx: index": (mtx("coordinate integer general\n3 4 1\n9 1 1\n"), "matrix.mtx: cannot be read as MatrixMarket"),
    "mtx: negative": (mtx("coordinate integer general\n3 4 1\n2 1 -4\n"), "cell 'c0', gene 'sym_g1': the value -4 is negative"),
    "visium: no positions": (
        lambda f: write_visium(f / "outs", drop=["spatial/tissue_positions.csv"]),
        "spatial: tissue_positions.csv or tissue_positions_list.csv or tissue_positions.parquet is missing",
    ),
    "visium: no factors": (
        lambda f: write_visium(f / "outs", drop=["spatial/scalefactors_json.json"]),
        "scalefactors_json.json is missing",
    ),
    "visium: no matrix": (lambda f: write_visium(f / "outs", drop=["filtered_feature_bc_matrix.h5"]), "filtered_feature_bc_matrix.h5 or"),
    "visium: barcode": (moved(barcode=["x", "c3", "c2", "c1", "y"]), "1 of 4 cells of the matrix are not in it (first: 'c0')"),
    "visium: barcode twice": (moved(barcode=["c3", "c3", "c2", "c1", "c0"]), "1 values of barcode repeat (first: 'c3')"),
    "visium: number": (moved(pxl_col_in_fullres=[1, 2, "?", 4, 5]), "barcode 'c2', column 'pxl_col_in_fullres': '?' is not a number"),
    "visium: columns": (
        lambda f: write_visium(f / "outs", header=False, positions=spots().iloc[:, :5]),
        "tissue_positions_list.csv: 5 columns without a header",
    ),
    "visium: column": (lambda f: write_visium(f / "outs", positions=spots().drop(columns="array_row")), "column 'array_row' is missing"),
    "loom: no names": (broken_loom(row_attrs__Gene=None), "a.loom: row_attrs has no names: none of Gene,"),
    "loom: short names": (broken_loom(col_attrs__CellID=np.array(["a"], dtype="S")), "col_attrs/CellID has 1 values, but the matrix has 4"),
    "loom: no matrix": (broken_loom(matrix=None), "a.loom: there is no matrix; there are col_attrs, layers, row_attrs"),
    "table: empty": (text("t.csv", ""), "t.csv: the matrix has no cell"),
    "table: header": (text("t.csv", "x,g0\n"), "t.csv: the matrix has no cell"),
    "table: missing": (text("t.csv", "x,g0,g1\na,1,2\nb,1,\n"), "t.csv: row 'b', column 'g1': '' is not a number"),
    "table: short row": (text("t.csv", "x,g0,g1\na,1,2\nb,1\n"), "t.csv: row 'b', column 'g1': '' is not a number"),
    "table: long row": (text("t.csv", "x,g0,g1\na,1,2\nb,1,2,3\n"), "t.csv: cannot be read as table"),
    "table: NA": (text("t.csv", "x,g0,g1\na,1,NA\nb,1,2\n"), "t.csv: row 'a', column 'g1': 'NA' is not a number"),
    "table: nan": (text("t.csv", "x,g0,g1\na,1,nan\nb,1,2\n"), "t.csv: row 'a', column 'g1': "),
    "table: word": (text("t.csv", "x,g0,g1\na,1,2\nb,True,2\n"), "t.csv: row 'b', column 'g0': 'True' is not a number"),
    "table: words": (text("t.csv", "x,g0,g1\na,True,2\nb,True,2\n"), "column 'g0': "),
    "table: fraction": (text("t.csv", "x,g0,g1\na,1.5,2\nb,1,2\n"), "cell 'a', gene 'g0': the value 1.5 is not a whole number"),
    "table: separator": (text("t.tsv", "x,g0,g1\na,1,2\n"), "t.tsv: there is one cell in the second row"),
    "table: header width": (text("t.csv", "x,g0\na,1,2,3\n"), "t.csv: the first row has 2 cells, the second has 4"),
    "table: gene twice": (text("t.csv", "x,g0,g0\na,1,2\n"), "t.csv: 1 gene names repeat (first: 'g0')"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_input(tmp_path, case):
    make, words = DAMAGED[case]
    assert words in refused(make(tmp_path), tmp_path)


def test_truncated_parts_of_spatial_folders(tmp_path):
    folder = tmp_path / "outs"
    shutil.copytree(VISIUM, folder)
    cut(VISIUM / "spatial" / "tissue_lowres_image.png", 0.5, folder / "spatial" / "tissue_lowres_image.png")
    assert "tissue_lowres_image.png: this is no whole PNG image" in refused(folder, tmp_path)
    cut(VISIUM / "spatial" / "scalefactors_json.json", 0.5, folder / "spatial" / "scalefactors_json.json")
    assert "scalefactors_json.json: cannot be read as JSON" in refused(folder, tmp_path)
    bundle = write_xenium(tmp_path / "bundle", "cells.csv.gz")
    cut(bundle / "cells.csv.gz", 0.7, bundle / "cells.csv.gz")
    assert "cells.csv.gz: cannot be read as csv" in refused(bundle, tmp_path)
    TABLE.to_csv(tmp_path / "t.csv.gz")
    assert "t.csv.gz: cannot be read as" in refused(cut(tmp_path / "t.csv.gz", 0.8, tmp_path / "t.csv.gz"), tmp_path)


def test_what_is_not_known(tmp_path):
    (tmp_path / "folder").mkdir()
    known = ", ".join(formats.FORMATS)
    said = refused(tmp_path / "folder", tmp_path)
    assert (
        "folder: the format is not known from what the folder holds (nothing)" in said
        and f"--format (samplesheet column format): {known}" in said
    )
    (tmp_path / "a.xyz").touch()
    assert "a.xyz: the format is not known from the file's name" in refused(tmp_path / "a.xyz", tmp_path)
    assert f"there is no format 'h5da'.\nremedy: Use one of these for --format (samplesheet column format): auto, {known}" in refused(
        tmp_path / "a.xyz", tmp_path, "--format", "h5da"
    )
    assert "this is a file, but visium is a folder" in refused(V3_H5, tmp_path, "--format", "visium")
    assert "this is a folder, but h5ad is a file" in refused(V3_FOLDER, tmp_path, "--format", "h5ad")
    assert "10x_h5 has no layers" in refused(V3_H5, tmp_path, "--counts-layer", "counts")


def test_bins_of_visium_hd(tmp_path):
    square = write_visium(tmp_path / "outs" / "binned_outputs" / "square_008um")
    (tmp_path / "outs" / "spatial").mkdir()
    assert "Visium HD has a matrix for each size of bins: square_008um." in refused(tmp_path / "outs", tmp_path)
    check_counts(ingested(square, tmp_path), cells=["c0", "c2", "c3"], counts=COUNTS[[0, 2, 3]])


def test_xenium_that_is_damaged(tmp_path):
    bundle = write_xenium(tmp_path / "bundle", "cells.csv")
    table = pd.read_csv(bundle / "cells.csv")
    table.assign(x_centroid=[3.5, 2, np.nan, 0]).to_csv(bundle / "cells.csv", index=False)
    assert "cells.csv: cell_id 'c1', column 'x_centroid': '' is not a number (1 such values)" in refused(bundle, tmp_path)
    table[:3].to_csv(bundle / "cells.csv", index=False)
    assert "cells.csv: 1 of 4 cells of the matrix are not in it (first: 'c0')" in refused(bundle, tmp_path)
    (bundle / "cells.csv").unlink()
    assert "bundle: cells.csv.gz or cells.csv or cells.parquet is missing" in refused(bundle, tmp_path)


def test_text_that_is_no_utf8(tmp_path):
    (write_folder(tmp_path / "f") / "barcodes.tsv").write_bytes(b"c0\nc\xff\nc2\nc3\n")
    assert "barcodes.tsv: cannot be read as text" in refused(tmp_path / "f", tmp_path)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    folder = write_xenium(tmp_path / "bundle", "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(formats.InvalidInput, match="needs the package pyarrow.*cells.csv"):
        formats.read(folder)


def test_texts_name_every_format():
    """The schemas and the readme name the formats that there are."""
    for file in ("nextflow_schema.json", "assets/schema_input.json", "README.md"):
        words = set(re.findall(r"[\w]+", (ROOT / file).read_text()))
        assert set(formats.FORMATS) <= words, file
