"""Bad inputs: each of the corpus ends with exit code 65, a message that names the file, and leaves nothing behind."""

import contextlib
import importlib.util
import io
import json
import re
import runpy
import signal
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsc_core.errors import InvalidInput
from rsc_core.io import formats
from rsc_core.io.formats import safety

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("bad_inputs_make", Path(__file__).parent / "bad_inputs" / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


def ingest(path, output):
    """Exit code and stderr of bin/ingest.py, run in this process: a hundred starts of Python would take minutes."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setattr(sys, "argv", ["ingest.py", "--input", str(path), "--sample", "s1", "--output", str(output)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "bin" / "ingest.py"), run_name="__main__")
    return ended.value.code or 0, said.getvalue()


def test_the_corpus_is_large_enough():
    assert len(make.CASES) >= 60


@pytest.mark.parametrize("case", make.CASES)
def test_bad_input(tmp_path, case):
    maker, words = make.CASES[case]
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    code, said = ingest(maker(tmp_path / "in"), tmp_path / "out" / "store.h5ad")
    assert code == 65, said
    error, remedy = said.splitlines()[-2:]
    assert error.startswith("error: ") and remedy.startswith("remedy: ") and words in error, said
    assert not list((tmp_path / "out").iterdir())
    assert not Path("/tmp/rsc-flow-was-here").exists()


def test_what_they_were_made_from_is_read(tmp_path):
    """The same files without their defect pass, so that each is refused for its defect."""
    for number, maker in enumerate((make.h5ad(), make.tenx(), make.loom(), make.zarr(), make.zarr(version=3), make.visium(lambda _: None))):
        (tmp_path / str(number)).mkdir()
        code, said = ingest(maker(tmp_path / str(number)), tmp_path / "out.h5ad")
        assert code == 0, said
    code, said = ingest(make.matrix()(tmp_path), tmp_path / "out.h5ad")
    assert code == 0, said


def test_links_inside_a_folder_and_to_it_are_followed(tmp_path):
    home = make.matrix()(tmp_path)
    (home / "barcodes.tsv").rename(home / "b")
    (home / "barcodes.tsv").symlink_to("b")
    (tmp_path / "link").symlink_to(home)
    assert formats.read(tmp_path / "link").n_obs == 4


def test_a_compressed_file_is_no_bomb(tmp_path):
    """Counts that are nearly all zero compress by a hundred, and are read."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.zeros(1 << 20), compression="gzip", compression_opts=9)
    safety.check(tmp_path / "a.h5")


# ---- files at which HDF5's library does not return


@pytest.fixture(scope="module", autouse=True)
def few_seconds():
    """Of CPU, for what HDF5 tells of a file; these are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(safety, "HDF5_SECONDS", 2)
        yield


@pytest.mark.parametrize("find", sorted((Path(__file__).parent / "bad_inputs" / "finds").glob("*.h5*")), ids=lambda path: path.stem)
def test_a_file_that_hdf5_hangs_or_crashes_at(tmp_path, find):
    code, said = ingest(find, tmp_path / "store.h5ad")
    assert code == 65, said
    how = "ends with SIGSEGV" if "crashes" in find.name else "does not come to an end in 2 s"
    assert f"error: {find.name}: HDF5's library {how} at this file" in said and "remedy: Copy or download" in said
    assert not list(tmp_path.iterdir())


def test_a_type_that_h5py_does_not_know(tmp_path):
    """A find of random damage: the encoding of a text is 9, which h5py answers with a TypeError. Nothing needs this text."""
    path = make.h5ad()(tmp_path)
    with h5py.File(path, "r+") as file:
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(8)
        file.create_dataset("obs/text", data=np.array([b"a"] * 4, dtype=h5py.Datatype(kind).dtype))
    content = bytearray(path.read_bytes())
    (place,) = (at for at in range(len(content)) if content[at : at + 8] == bytes([0x13, 0x01, 0, 0, 8, 0, 0, 0]))
    content[place + 1] = 0x91
    path.write_bytes(bytes(content))
    with h5py.File(path) as file, pytest.raises(TypeError):
        file["obs/text"].dtype  # noqa: B018
    code, said = ingest(path, tmp_path / "store.h5ad")
    assert code == 0, said


@pytest.mark.parametrize("fault", [signal.SIGSEGV, signal.SIGABRT])
def test_a_file_that_hdf5_crashes_at(tmp_path, monkeypatch, fault):
    """A library that crashes when it is asked for an object: the crash is that of another process."""
    monkeypatch.setattr(safety, "_touch", lambda *_: signal.pthread_kill(threading.get_ident(), fault))
    code, said = ingest(make.h5ad()(tmp_path), tmp_path / "store.h5ad")
    assert code == 65, said
    assert f"error: a.h5ad: HDF5's library ends with {fault.name} at this file" in said
    assert [file.name for file in tmp_path.iterdir()] == ["a.h5ad"]


# ---- random damage: what a reader makes of it is InvalidInput or a matrix, never anything else

WHOLE = {"a.h5ad": make.h5ad(), "a.h5": make.tenx(), "a.loom": make.loom()}
TEXTS = {"t.csv": b"x,g0,g1\na,1,2\nb,0,3\n", "t.tsv": b"x\tg0\tg1\na\t1\t2\nb\t0\t3\n"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Bytes of one good file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    return {name: maker(folder).read_bytes() for name, maker in WHOLE.items()} | TEXTS


damage = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)


@pytest.mark.parametrize("name", [*WHOLE, *TEXTS])
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(edits=damage, kept=st.floats(0.2, 1.5))
def test_random_damage(tmp_path_factory, whole, name, edits, kept):
    content = bytearray(whole[name])
    for place, data in edits:
        start = int(place * len(content))
        content[start : start + len(data)] = data
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(bytes(content[: int(kept * len(content))]))
    with contextlib.suppress(InvalidInput):
        assert formats.read(path).X is not None


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=st.text(alphabet='a1,;\t\n\r"\0é.-', max_size=60))
def test_random_tables(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "random.csv"
    path.write_text(text, encoding="utf-8", newline="")
    with contextlib.suppress(InvalidInput):
        assert formats.read(path).X is not None


# ---- names that come from users


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "../a",
        "a/b",
        ".hidden",
        "-rf",
        "a;id",
        "$(id)",
        "a`id`",
        "a'b",
        'a"b',
        "a\nb",
        "é",
        "<b>",
        "counts",
        "",
        "x" * 101,
        "a|b",
        "a&b",
        "*",
    ],
)
def test_names_of_samples_that_are_refused(name):
    """Names of samples become names of files and words of scripts."""
    schema = json.loads((ROOT / "assets" / "schema_input.json").read_text())
    pattern = schema["items"]["properties"]["sample"]["pattern"]
    assert not re.fullmatch(pattern, name)
    assert re.fullmatch(pattern, "Donor-1.lib_2") and re.fullmatch(pattern, "x" * 100)


def test_nothing_unpickles_evaluates_or_starts_a_shell():
    """What would run a file's code or a user's words; models and caches of our own are no exception."""
    words = r"pickle\.load|allow_pickle=True|\beval\(|\bexec\(|os\.system|shell=True|joblib\.load|yaml\.load\(|marshal\.load"
    sources = [file for folder in ("python/rsc_core", "bin") for file in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 50
    assert [str(file) for file in sources if re.search(words, file.read_text())] == []


def test_nothing_reaches_for_the_network():
    words = r"\b(urllib\.request|requests|httpx|aiohttp|socket|ftplib|http\.client|pooch)\b"
    sources = [file for folder in ("python/rsc_core", "bin") for file in (ROOT / folder).rglob("*.py")]
    imports = re.compile(rf"^\s*(import|from)\s+{words}", re.MULTILINE)
    assert [str(file) for file in sources if imports.search(file.read_text())] == []


def test_results_are_not_writable_for_all(tmp_path):
    """Whatever the umask of the caller is, others get no more than to read."""
    (tmp_path / "in").mkdir()
    code, said = ingest(make.h5ad()(tmp_path / "in"), tmp_path / "out.h5ad")
    assert code == 0, said
    assert not [file for file in tmp_path.rglob("*") if file.stat().st_mode & 0o002]
