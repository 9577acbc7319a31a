"""Starting a stage: what it must not import, and what the start may cost.

Every run pays the start thirteen times. A library that a stage does not need is imported by another, or by a careless line.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = sorted(file.stem for file in (ROOT / "bin").glob("*.py") if file.stem != "versions")
FORBIDDEN = {"matplotlib", "torch", "scanpy", "squidpy", "decoupler", "dask", "xarray", "awkward", "sklearn", "umap", "tensorflow"}
FORBIDDEN |= {"pynndescent", "igraph", "faiss", "cupy", "cuml", "cugraph", "cudf", "rmm", "pylibraft", "plotly", "numba", "jinja2"}
FORBIDDEN |= {"PIL", "IPython", "donfig"}
# What a stage may import besides what the record of a task needs (anndata, NumPy, SciPy, pandas, h5py and theirs).
NUMBA = {"numba", "llvmlite", "yaml"}
MAY = {"ingest": set(), "report": {"plotly", "_plotly_utils", "jinja2", "markupsafe"} | NUMBA, "spatialdata_zarr": set()}
SMALL = {"threadpoolctl", "__mp_main__"}
BUDGET = 3.0  # seconds of CPU from nothing to the stage's module; 1.6 on this machine, nothing else running
ENV = os.environ | {"RSC_CORE_WITHOUT": "dask,xarray,zarr,numcodecs", "PYTHONPATH": str(ROOT / "python")}


def imported(*stages):
    """Packages that all stages import, and for each stage those besides, as a task would import them."""
    code = """
import sys, json, os
from rsc_core import cli
cli.leave_out()
import rsc_core.stages._task
packages = lambda: {name.split(".")[0] for name, module in sys.modules.items() if module is not None} - set(sys.stdlib_module_names)
shared = packages()
print(json.dumps(sorted(shared)), flush=True)
for stage in sys.argv[1:]:
    if os.fork():
        os.wait()
        continue
    __import__("rsc_core.stages." + stage)
    print(json.dumps(sorted(packages() - shared)), flush=True)
    os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code, *stages], env=ENV, capture_output=True, text=True, check=True)
    shared, *others = (set(json.loads(line)) for line in done.stdout.splitlines())
    return shared, dict(zip(stages, others, strict=True))


def test_no_stage_imports_what_it_must_not():
    shared, besides = imported(*STAGES)
    assert {"anndata", "numpy"} <= shared and not shared & FORBIDDEN
    more = {stage: found - MAY.get(stage, NUMBA) - SMALL for stage, found in besides.items()}
    assert not {stage: found for stage, found in more.items() if found}


def test_the_check_notices_an_import():
    """REPORT draws with plotly, which no other stage may import; QC has kernels, and INGEST none."""
    _, besides = imported("report", "qc", "ingest")
    assert "plotly" in besides["report"] and "numba" in besides["qc"] and not besides["ingest"] & FORBIDDEN


def seconds_of_start(stage):
    """Seconds of CPU from nothing to the stage's module."""
    code = "import sys, time; from rsc_core import cli; cli.leave_out(); __import__(sys.argv[1]); print(time.process_time())"
    done = subprocess.run([sys.executable, "-c", code, f"rsc_core.stages.{stage}"], env=ENV, capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_the_start_of_a_stage_is_within_its_budget():
    seconds = min(seconds_of_start("preprocess") for _ in range(2))
    assert seconds < BUDGET


def test_left_out_modules_cannot_be_imported():
    code = "from rsc_core import cli; cli.leave_out()\ntry:\n    import dask\nexcept ImportError: print('left out')"
    assert subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True).stdout == "left out\n"
    without = {key: value for key, value in ENV.items() if key != "RSC_CORE_WITHOUT"}
    pytest.importorskip("dask")
    assert subprocess.run([sys.executable, "-c", code], env=without, capture_output=True, text=True).stdout == ""


def test_deltas_are_read_and_written_without_zarr(tmp_path):
    """The stand-in for zarr is all that anndata asks for."""
    code = """
import sys
from rsc_core import cli
cli.leave_out()
import numpy as np, pandas as pd, scipy.sparse as sp
from rsc_core.io.delta import Delta, read_delta, write_delta
names = pd.Index(["a", "b"])
obs = pd.DataFrame({"leiden": pd.Categorical(["0", "1"])}, index=names)
write_delta(sys.argv[1], Delta("cluster", obs, obsm={"X": np.ones((2, 3))}, obsp={"graph": sp.eye(2, format="csr")}, uns={"text": "t"}))
"""
    files = [tmp_path / "without.h5ad", tmp_path / "with.h5ad"]
    for file, env in zip(files, (ENV, {key: value for key, value in ENV.items() if key != "RSC_CORE_WITHOUT"}), strict=True):
        subprocess.run([sys.executable, "-c", code, file], env=env, check=True)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_zarr_is_there_where_a_script_takes_it_in():
    code = "from rsc_core import cli; cli.leave_out(); cli.take_in('zarr', 'numcodecs'); import zarr; print(zarr.zeros(2)[:].sum())"
    assert subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True).stdout == "0.0\n"
