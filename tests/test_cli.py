"""The scripts in bin/: help, exit codes, and that starting one is cheap."""

import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread

import cases
import click
import numpy as np
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from rsc_core import cli, waking
from rsc_core.errors import BackendUnavailable, InvalidInput, MemoryExhausted

BIN = Path(__file__).parents[1] / "bin"
STAGES = [
    "concordance",
    "ingest",
    "qc",
    "merge",
    "preprocess",
    "integrate",
    "neighbors",
    "embed",
    "cluster",
    "markers",
    "activity",
    "spatial",
    "assemble",
    "report",
    "spatialdata_zarr",
]
SCRIPTS = [BIN / f"{stage}.py" for stage in STAGES]


def test_every_stage_has_its_script():
    """versions.py is no stage: it prints a run record's versions for the workflow."""
    assert sorted(p.stem for p in BIN.glob("*.py")) == sorted([*STAGES, "versions"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_help_is_cheap_and_complete(script):
    """``--help`` names a default and imports neither NumPy nor anything that needs it."""
    run = f"runpy.run_path({str(script)!r}, run_name='__main__')"
    code = f"import sys, runpy\nsys.argv = ['script', '--help']\ntry: {run}\nfinally: print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--output" in done.stdout and done.stdout.endswith("False\n")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_a_script_holds_no_science(script):
    assert len(script.read_text().splitlines()) <= 40
    assert script.stat().st_mode & 0o111, f"{script.name} is not executable"


class OutOfMemoryError(MemoryError):
    """As CuPy's, which lives in its own module."""


OutOfMemoryError.__module__ = "cupy.cuda.memory"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("a.h5ad: bad.", "Do this."), 65),
        (BackendUnavailable("no GPU.", "Do this."), 69),
        (MemoryExhausted("full.", "Do this."), 42),
        (OutOfMemoryError("Out of memory allocating 8 bytes"), 42),
        (MemoryError("std::bad_alloc: out_of_memory: CUDA error at: /x/y.hpp"), 42),
        (RuntimeError("cudaErrorMemoryAllocation: out of memory"), 42),
        (MemoryError(), 42),
    ],
)
def test_errors_become_exit_codes(capsys, monkeypatch, error, code):
    @click.command()
    def command():
        raise error

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        cli.run(command)
    assert ended.value.code == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("remedy: ")


def test_a_bug_prints_its_traceback(monkeypatch):
    @click.command()
    def command():
        raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(RuntimeError):
        cli.run(command)


def test_memory_that_the_host_does_not_have(tmp_path):
    """A task whose address space is limited, as a shell's ulimit does, by less than the counts take: it says whose memory it was."""
    n_cells, n_genes = 20_000, 1500
    full = sp.csr_matrix((np.ones(n_cells * n_genes, np.float32), np.tile(np.arange(n_genes), n_cells), np.arange(n_cells + 1) * n_genes))
    cases.store(tmp_path / "s.h5ad", full, "s")
    code = f"""
import resource, runpy, sys
import rsc_core.stages.qc
sys.argv = [{str(BIN / "qc.py")!r}, "--store", "s.h5ad", "--sample", "s", "--output", "qc.h5ad"]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (200 << 20), -1))
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 42, done.stderr
    assert "error: The host's memory is exhausted: Unable to allocate" in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["s.h5ad"]


def test_backend_that_is_not_there(tmp_path, monkeypatch, data_dir):
    """On a machine without a device the gpu backend ends with 69 before anything is read or written."""
    from rsc_core import backend

    def absent():
        raise RuntimeError("cudaErrorNoDevice")

    fake = type(sys)("cupy")
    fake.cuda = type("cuda", (), {"runtime": type("runtime", (), {"getDeviceCount": staticmethod(absent)})})
    monkeypatch.setitem(sys.modules, "cupy", fake)
    with pytest.raises(BackendUnavailable, match="no usable NVIDIA device") as raised:
        backend.require("gpu")
    assert raised.value.exit_code == 69


DRIVER = """
#include <stdio.h>
static void say(const char* what) { FILE* log = fopen(LOG, "a"); fprintf(log, "%s\\n", what); fclose(log); }
int cuInit(unsigned flags) { say("init"); return 0; }
int cuDeviceGet(int* device, int number) { *device = 7; say(number == 0 ? "first" : "other"); return 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { say(device == 7 ? "context" : "wrong"); return 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler: no driver can be made up")
def test_the_device_wakes_where_it_is_asked_for(tmp_path, monkeypatch):
    """A driver of our own tells what it was asked; without one, and for the CPU, nothing happens."""
    log = tmp_path / "log"
    (tmp_path / "driver.c").write_text(f'#define LOG "{log}"\n{DRIVER}')
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "driver.so", tmp_path / "driver.c"], check=True)
    threads = []
    monkeypatch.setattr(waking.threading, "Thread", lambda **options: threads.append(Thread(**options)) or threads[-1])
    command = cli.script(cli.backend_option(lambda backend: None))
    for driver in ("absent.so", str(tmp_path / "driver.so")):
        monkeypatch.setattr(waking, "DRIVER", driver)
        for backend in ("cpu", "gpu"):
            assert CliRunner().invoke(command, ["--backend", backend]).exit_code == 0
    for thread in threads:
        thread.join()
    assert len(threads) == 2 and log.read_text().split() == ["init", "first", "context"]
