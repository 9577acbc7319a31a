"""Makes the corpus of bad inputs: make.py FOLDER. Each case: name -> (maker, words of the message, further arguments).

A maker writes below the folder that it is given and returns the input. All end with exit code 65.
"""

import gzip
import json
import os
import pickle
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

COUNTS = np.array([[1, 0, 2], [0, 0, 3], [0, 7, 0], [5, 0, 1]])
CELLS, GENES = [f"c{i}" for i in range(4)], ["g0", "g1", "g2"]
LONG = "x" * 5000


def adata(values=COUNTS, cells=CELLS, genes=GENES):
    values = values if sp.issparse(values) else sp.csr_matrix(values)
    return ad.AnnData(values, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes))


def altered(value):
    values = COUNTS.astype(np.float64)
    values[3, 0] = value
    return values


def h5ad(change=None, **what):
    """An .h5ad; ``change`` edits the opened file."""

    def make(folder):
        path = folder / "a.h5ad"
        adata(**what).write_h5ad(path)
        if change:
            with h5py.File(path, "r+") as file:
                change(file)
        return path

    return make


def replaced(key, value):
    def change(file):
        attributes = dict(file[key].attrs)
        del file[key]
        file[key] = value
        file[key].attrs.update(attributes)

    return change


def deleted(key):
    def change(file):
        del file[key]

    return change


def linked(key, target):
    def change(file):
        del file[key]
        file[key] = target

    return change


def external(file):
    del file["X/data"]
    file["X"].create_dataset("data", (6,), "f8", external=[("/etc/passwd", 0, 48)])


def virtual(file):
    layout = h5py.VirtualLayout((6,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "data", (6,))
    del file["X/data"]
    file["X"].create_virtual_dataset("data", layout)


def vast(file):
    del file["X/data"]
    file["X"].create_dataset("data", (1 << 40,), "f8", chunks=(1 << 20,), compression="gzip")


def attribute(key, name, value):
    def change(file):
        file[key].attrs[name] = value

    return change


def content(name, data):
    def make(folder):
        path = folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    return make


def matrix(mtx="coordinate integer general\n3 4 2\n1 1 5\n2 3 1\n", cells=CELLS, genes=GENES, after=None, **extra):
    """A 10x folder from texts."""

    def make(folder):
        home = folder / "m"
        home.mkdir()
        (home / "matrix.mtx").write_text("%%MatrixMarket matrix " + mtx)
        (home / "barcodes.tsv").write_text("".join(f"{cell}\n" for cell in cells))
        (home / "features.tsv").write_text("".join(f"{gene}\t{gene}\tGene Expression\n" for gene in genes))
        if after:
            after(home)
        return home

    return make


def outward(home):
    (home.parent / "elsewhere.tsv").write_text("".join(f"{cell}\n" for cell in CELLS))
    (home / "barcodes.tsv").unlink()
    (home / "barcodes.tsv").symlink_to("../elsewhere.tsv")


def outward_absolute(home):
    (home / "barcodes.tsv").unlink()
    (home / "barcodes.tsv").symlink_to("/etc/hostname")


def outward_folder(home):
    (home / "more").symlink_to("/etc")


def to_itself(home):
    (home / "barcodes.tsv").unlink()
    (home / "barcodes.tsv").symlink_to("barcodes.tsv")


def folder_for_a_file(home):
    (home / "barcodes.tsv").unlink()
    (home / "barcodes.tsv").mkdir()


def bomb(name):
    """400 MB of zeros in 0.4 MB: members of gzip one after the other."""

    def make(home):
        member = gzip.compress(bytes(1 << 24), mtime=0)
        (home / name).unlink(missing_ok=True)
        (home / f"{name}.gz").write_bytes(member * 24)

    return make


def table_bomb(folder):
    (folder / "t.csv.gz").write_bytes(gzip.compress(b"x,g0\n", mtime=0) + gzip.compress(b"0" * (1 << 24), mtime=0) * 24)
    return folder / "t.csv.gz"


def tenx(change=None, **replacing):
    def make(folder):
        counts = sp.csr_matrix(COUNTS)
        parts = {"data": counts.data, "indices": counts.indices, "indptr": counts.indptr, "shape": (3, 4)} | replacing
        with h5py.File(folder / "a.h5", "w") as file:
            group = file.create_group("matrix")
            for key, values in parts.items():
                group[key] = np.asarray(values)
            group["barcodes"] = np.array(CELLS, "S")
            group["features/id"] = group["features/name"] = np.array(GENES, "S")
            group["features/feature_type"] = np.array(["Gene Expression"] * 3, "S")
            if change:
                change(file)
        return folder / "a.h5"

    return make


def loom(change=None, values=COUNTS.T):
    def make(folder):
        with h5py.File(folder / "a.loom", "w") as file:
            file["matrix"] = values
            file["row_attrs/Gene"] = np.array(GENES, "S")
            file["col_attrs/CellID"] = np.array(CELLS, "S")
            if change:
                change(file)
        return folder / "a.loom"

    return make


class Evil:
    """Unpickled, it would leave a file."""

    def __reduce__(self):
        return os.system, ("touch /tmp/rsc-flow-was-here",)


def zarr(change=None, version=2):
    def make(folder):
        with ad.settings.override(zarr_write_format=version):
            adata().write_zarr(folder / "a.zarr")
        if change:
            change(folder / "a.zarr")
        return folder / "a.zarr"

    return make


def pickled(store):
    file = store / "obs" / "_index" / ".zarray"
    found = json.loads(file.read_text())
    file.write_text(json.dumps(found | {"filters": [{"id": "pickle", "protocol": 5}]}))
    for chunk in (store / "obs" / "_index").glob("[0-9]*"):
        chunk.write_bytes(zlib.compress(pickle.dumps(Evil())))
    for file in store.glob(".zmetadata"):
        file.unlink()


def visium(change):
    def make(folder):
        home = folder / "outs"
        (home / "spatial").mkdir(parents=True)
        tenx()(home).rename(home / "filtered_feature_bc_matrix.h5")
        rows = [f"{cell},1,{i},0,{i}.5,{i}" for i, cell in enumerate(CELLS)]
        header = "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres"
        (home / "spatial" / "tissue_positions.csv").write_text("\n".join([header, *rows]) + "\n")
        (home / "spatial" / "scalefactors_json.json").write_text('{"tissue_lowres_scalef": 0.05}')
        change(home)
        return home

    return make


def written(name, data):
    return lambda home: (home / name).write_text(data)


def archive(folder):
    with zipfile.ZipFile(folder / "outs.zip", "w") as file:
        file.writestr("../../etc/cron.d/x", "evil")
    return folder / "outs.zip"


def npy(folder):
    np.save(folder / "a.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    return folder / "a.npy"


def named(name, make):
    return lambda folder: make(folder).rename(folder / name)


CODES = {"categories": np.array(["a", "b"], dtype=h5py.string_dtype()), "codes": np.array([0, 1, 9, 0], dtype="i1")}


def wrong_codes(file):
    group = file["obs"].create_group("kind")
    group.attrs.update({"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False})
    for key, values in CODES.items():
        group[key] = values
    group["categories"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    group["codes"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    file["obs"].attrs["column-order"] = np.array(["kind"], dtype=h5py.string_dtype())


H5AD, LEFT = "a.h5ad: ", "a.h5ad: cannot be read as .h5ad"
CASES = {
    # values
    "h5ad: negative": (h5ad(values=altered(-2)), "cell 'c3', gene 'g0': the value -2.0 is negative"),
    "h5ad: fraction": (h5ad(values=altered(0.25)), "the value 0.25 is not a whole number"),
    "h5ad: NaN": (h5ad(values=altered(np.nan)), "the value nan is not a number"),
    "h5ad: infinite": (h5ad(values=altered(-np.inf)), "the value -inf is not a number"),
    "h5ad: too large": (h5ad(values=altered(2.0**40)), "is larger than 4294967295"),
    "h5ad: complex": (h5ad(replaced("X/data", np.ones(6, "c16"))), H5AD),
    "h5ad: text for counts": (h5ad(replaced("X/data", np.array(["a"] * 6, "S1"))), H5AD),
    # names
    "h5ad: cell twice": (h5ad(cells=["a", "b", "a", "c"]), "1 cell names repeat (first: 'a')"),
    "h5ad: gene twice": (h5ad(genes=["g", "g", "h"]), "1 gene names repeat (first: 'g')"),
    "h5ad: long name twice": (h5ad(cells=[LONG, LONG, "b", "c"]), "1 cell names repeat"),
    "h5ad: no cells": (h5ad(values=COUNTS[:0], cells=[]), "the matrix has no cells"),
    "h5ad: no genes": (h5ad(values=COUNTS[:, :0], genes=[]), "the matrix has no genes"),
    # structure
    "h5ad: empty file": (content("a.h5ad", b""), LEFT),
    "h5ad: text": (content("a.h5ad", "gene,cell\n"), LEFT),
    "h5ad: zip": (named("a.h5ad", archive), LEFT),
    "h5ad: signature only": (content("a.h5ad", b"\x89HDF\r\n\x1a\n" + bytes(8)), LEFT),
    "h5ad: bytes after the signature": (content("a.h5ad", b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8), LEFT),
    "h5ad: empty HDF5": (named("a.h5ad", lambda f: h5py.File(f / "b", "w").close() or f / "b"), H5AD),
    "h5ad: no obs": (h5ad(deleted("obs")), H5AD),
    "h5ad: no X": (h5ad(deleted("X")), "X is missing"),
    "h5ad: no index": (h5ad(deleted("obs/_index")), H5AD),
    "h5ad: short index": (h5ad(replaced("obs/_index", np.array(["a"], dtype=h5py.string_dtype()))), H5AD),
    "h5ad: no indptr": (h5ad(deleted("X/indptr")), H5AD),
    "h5ad: short indptr": (h5ad(replaced("X/indptr", np.array([0, 2, 3]))), H5AD),
    "h5ad: falling indptr": (h5ad(replaced("X/indptr", np.array([0, 5, 3, 4, 6]))), H5AD),
    "h5ad: index too large": (h5ad(replaced("X/indices", np.array([0, 2, 2, 1, 0, 999999]))), H5AD),
    "h5ad: negative index": (h5ad(replaced("X/indices", np.array([0, 2, 2, 1, 0, -7]))), H5AD),
    "h5ad: short data": (h5ad(replaced("X/data", np.ones(3))), H5AD),
    "h5ad: wrong shape": (h5ad(attribute("X", "shape", np.array([4, 99]))), H5AD),
    "h5ad: vast shape": (h5ad(attribute("X", "shape", np.array([1 << 60, 3]))), H5AD),
    "h5ad: unknown encoding": (h5ad(attribute("X", "encoding-type", "pickle")), H5AD),
    "h5ad: codes beyond the categories": (h5ad(wrong_codes), H5AD),
    "h5ad: three dimensions": (h5ad(replaced("X", np.ones((4, 3, 2)))), H5AD),
    # what reaches out of the file, or fills the memory
    "h5ad: external link": (
        h5ad(linked("X/data", h5py.ExternalLink("/etc/passwd", "/x"))),
        "/X/data is a link to another file, '/etc/passwd'",
    ),
    "h5ad: external link by ..": (h5ad(linked("obs", h5py.ExternalLink("../../b.h5", "/obs"))), "/obs is a link to another file"),
    "h5ad: external storage": (h5ad(external), "/X/data is stored in another file"),
    "h5ad: virtual": (h5ad(virtual), "/X/data is stored in another file"),
    "h5ad: soft link to itself": (h5ad(linked("X/data", h5py.SoftLink("/X/data"))), H5AD),
    "h5ad: soft link to nothing": (h5ad(linked("X/data", h5py.SoftLink("/nowhere"))), H5AD),
    "h5ad: bomb": (h5ad(vast), "it is damaged or a bomb"),
    "h5: external link": (tenx(linked("matrix/data", h5py.ExternalLink("/etc/passwd", "/x"))), "/matrix/data is a link to another file"),
    "h5: bomb": (tenx(lambda file: file["matrix"].create_dataset("more", (1 << 45,), "i4", chunks=(1 << 20,))), "a bomb"),
    "loom: external link": (loom(linked("matrix", h5py.ExternalLink("/etc/passwd", "/x"))), "/matrix is a link to another file"),
    "folder: link out": (matrix(after=outward), "m: barcodes.tsv is a link to"),
    "folder: absolute link": (matrix(after=outward_absolute), "out of the folder"),
    "folder: link to a folder": (matrix(after=outward_folder), "m: more is a link to"),
    "folder: link to itself": (matrix(after=to_itself), "m: "),
    "folder: folder for a file": (matrix(after=folder_for_a_file), "barcodes.tsv: "),
    "folder: bomb of names": (matrix(after=bomb("barcodes.tsv")), "barcodes.tsv.gz: "),
    "csv: bomb": (table_bomb, "t.csv.gz: "),
    "zarr: pickle": (zarr(pickled), "a.zarr: _index is stored with the codec 'pickle', which is not allowed"),
    "npy: pickle": (npy, "a.npy: the format is not known"),
    "npy: pickle named csv": (named("a.csv", npy), "a.csv: "),
    "npy: pickle named h5ad": (named("a.h5ad", npy), LEFT),
    "pickle": (content("a.pkl", pickle.dumps([1])), "a.pkl: the format is not known"),
    "zip": (archive, "outs.zip: the format is not known"),
    # 10x
    "h5: no barcodes": (tenx(deleted("matrix/barcodes")), "a.h5: cannot be read as 10x .h5"),
    "h5: no features": (tenx(deleted("matrix/features")), "a.h5: cannot be read as 10x .h5"),
    "h5: negative": (tenx(data=[-1, 2, 3, 4, 5, 6]), "cell 'c0', gene 'g0': the value -1 is negative"),
    "h5: shape of one number": (tenx(shape=[3]), "a.h5: "),
    "h5: empty shape": (tenx(shape=np.array([], dtype=int)), "a.h5: "),
    "h5: index negative": (tenx(indices=[0, 2, 2, 1, 0, -1]), "a.h5: cannot be read as sparse matrix"),
    "h5: text for data": (tenx(data=np.array(["a"] * 6, "S1")), "a.h5: "),
    "mtx: vast": (matrix("coordinate integer general\n3 4 99999999999\n1 1 5\n"), "matrix.mtx: it claims 99999999999 entries"),
    "mtx: negative entries": (matrix("coordinate integer general\n3 4 -2\n1 1 5\n"), "matrix.mtx: "),
    "mtx: too few entries": (matrix("coordinate integer general\n3 4 9\n1 1 5\n2 2 5\n3 3 5\n1 2 5\n"), "matrix.mtx: "),
    "mtx: row outside": (matrix("coordinate integer general\n3 4 1\n9 1 5\n"), "matrix.mtx: "),
    "mtx: row 0": (matrix("coordinate integer general\n3 4 1\n0 1 5\n"), "matrix.mtx: "),
    "mtx: array": (matrix("array integer general\n3 4\n" + "1\n" * 12), "the matrix is array integer, not coordinate integer"),
    "mtx: complex": (matrix("coordinate complex general\n3 4 1\n1 1 5 1\n"), "not coordinate integer"),
    "mtx: pattern": (matrix("coordinate pattern general\n3 4 1\n1 1\n"), "not coordinate integer"),
    "mtx: beyond int64": (matrix("coordinate integer general\n3 4 1\n1 1 99999999999999999999999\n"), "matrix.mtx: "),
    "mtx: word": (matrix("coordinate integer general\n3 4 1\n1 1 five\n"), "matrix.mtx: "),
    "mtx: NUL bytes": (matrix("coordinate integer general\n3 4 1\n" + "\0" * 64), "matrix.mtx: "),
    "folder: cell missing": (matrix(cells=CELLS[:3]), "barcodes.tsv has 3"),
    "folder: long names twice": (matrix(cells=[LONG, LONG, "b", "c"]), "m: 1 cell names repeat"),
    # tables
    "csv: empty": (content("t.csv", ""), "t.csv: "),
    "csv: header only": (content("t.csv", "x,g0,g1\n"), "t.csv: the matrix has no cells"),
    "csv: UTF-16": (content("t.csv", "x,g0\na,1\n".encode("utf-16")), "t.csv: cannot be read as"),
    "csv: Latin-1": (content("t.csv", "x,g0\nä,1\n".encode("latin-1")), "t.csv: cannot be read as"),
    "csv: open quote": (content("t.csv", 'x,g0,g1\n"a,1,2\nb,1,2\n'), "t.csv: "),
    "csv: NUL bytes": (content("t.csv", b"x,g0,g1\na,\0\0,2\n"), "t.csv: "),
    "csv: decimal comma": (content("t.csv", 'x,g0,g1\na,"1,5",2\n'), "row 'a', column 'g0': '1,5' is not a number"),
    "csv: dates": (content("t.csv", "x,g0,g1\na,2024-01-01,2\n"), "'2024-01-01' is not a number"),
    "csv: formula": (content("t.csv", "x,g0,g1\na,=1+1,2\n"), "'=1+1' is not a number"),
    "csv: HTML": (content("t.csv", "<html><body>404</body></html>\n<p>Not found</p>\n"), "t.csv: "),
    "csv: half of a gzip": (content("t.csv.gz", gzip.compress(os.urandom(9999))[:5000]), "t.csv.gz: cannot be read as"),
    "csv: bad checksum": (
        content("t.csv.gz", gzip.compress(b"x,g0,g1\na,1,2\n")[:-8] + struct.pack("<II", 1, 2)),
        "t.csv.gz: cannot be read as",
    ),
    # loom and Visium
    "loom: one dimension": (loom(values=np.arange(3)), "the matrix has 1 dimensions, not 2"),
    "loom: text": (loom(values=np.array([["a"] * 4] * 3, "S1")), "a.loom: "),
    "loom: names of another length": (loom(replaced("col_attrs/CellID", np.array(["a"], "S1"))), "col_attrs/CellID has 1 values"),
    "visium: no number": (visium(written("spatial/scalefactors_json.json", '{"tissue_lowres_scalef": "a"}')), "there is no number"),
    "visium: list": (visium(written("spatial/scalefactors_json.json", "[1, 2]")), "there is no number tissue_lowres_scalef"),
    "visium: deep JSON": (visium(written("spatial/scalefactors_json.json", "[" * 99999)), "scalefactors_json.json: cannot be read as JSON"),
    "visium: picture": (visium(written("spatial/tissue_lowres_image.png", "<svg/>")), "this is no whole PNG image"),
    "visium: positions": (visium(written("spatial/tissue_positions.csv", "barcode,in_tissue\nc0,1\n")), "column 'array_row' is missing"),
    "visium: infinite": (
        visium(
            written(
                "spatial/tissue_positions.csv",
                "barcode,in_tissue,array_row,array_col,pxl_row_in_fullres,pxl_col_in_fullres\n"
                + "".join(f"{c},1,0,0,inf,1\n" for c in CELLS),
            )
        ),
        "column 'pxl_row_in_fullres': 'inf' is not a number",
    ),
}


def main(folder):
    for name, (make, _) in CASES.items():
        place = Path(folder) / name.replace(":", "").replace(" ", "_")
        place.mkdir(parents=True)
        print(f"{name}: {make(place)}")


if __name__ == "__main__":
    main(sys.argv[1])
