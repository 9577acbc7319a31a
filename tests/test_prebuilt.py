"""Compiled code that an image brings: which binary fits a device, and how numba's part comes into a folder that tasks write to."""

import pytest

from rsc_core import prebuilt


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An image's folder with binaries of one text and a part of numba."""
    place = tmp_path / "opt" / "cubin" / prebuilt.key("text", ("--std=c++17",))
    place.mkdir(parents=True)
    for chip in (75, 80, 86, 90):
        (place / f"sm_{chip}.cubin").write_bytes(b"x")
    (tmp_path / "opt" / "numba" / "part").mkdir(parents=True)
    (tmp_path / "opt" / "numba" / "part" / "index.nbi").write_text("compiled")
    monkeypatch.setenv("RSC_CORE_PREBUILT", str(tmp_path / "opt"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(("capability", "chip"), [("75", 75), ("80", 80), ("86", 86), ("89", 86), ("90", 90), ("70", None), ("120", None)])
def test_the_latest_binary_of_the_same_major_version(folder, capability, chip):
    """CUDA: a binary of X.y runs on devices X.z with z >= y."""
    found = prebuilt.cubin("text", ("--std=c++17",), capability)
    assert (found and found.name) == (chip and f"sm_{chip}.cubin")


def test_an_edited_text_or_other_options_have_no_binary(folder):
    assert prebuilt.cubin("text, edited", ("--std=c++17",), "80") is None
    assert prebuilt.cubin("text", ("--std=c++17", "--fmad=false"), "80") is None


def test_the_cache_is_filled_once(folder):
    prebuilt.fill_cache()
    index = folder / "cache" / "part" / "index.nbi"
    assert index.read_text() == "compiled"
    index.write_text("grown")
    prebuilt.fill_cache()
    assert index.read_text() == "grown"
    assert [entry.name for entry in (folder / "cache").iterdir()] == ["part"]


def test_without_an_image_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.delenv("RSC_CORE_PREBUILT", raising=False)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    prebuilt.fill_cache()
    assert not (tmp_path / "cache").exists()
    assert prebuilt.cubin("text", (), "80") is None
