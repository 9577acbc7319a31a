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
COMPUTE = sorted(file.stem for file in (ROOT / "bin").glob("*.py") if file.stem not in ("report", "versions"))
FORBIDDEN = (
    "matplotlib torch scanpy squidpy decoupler dask xarray awkward sklearn umap pynndescent igraph faiss plotly IPython cupy tensorflow"
)
BUDGET = 3.0  # seconds of CPU from nothing to the stage's module; 1.6 on this machine, nothing else running
ENV = os.environ | {"RSC_CORE_WITHOUT": "dask,xarray", "PYTHONPATH": str(ROOT / "python")}


def started(stages):
    """Forbidden packages that these stages import as a task would, and the seconds of CPU that it took."""
    code = """
import sys, json, time, importlib
from rsc_core import cli
cli.leave_out()
for stage in sys.argv[1:]:
    importlib.import_module("rsc_core.stages." + stage)
tops = {name.split(".")[0] for name, module in sys.modules.items() if module is not None}
print(json.dumps([sorted(tops), time.process_time()]))
"""
    done = subprocess.run([sys.executable, "-c", code, *stages], env=ENV, capture_output=True, text=True, check=True)
    tops, seconds = json.loads(done.stdout)
    return set(tops) & set(FORBIDDEN.split()), seconds


def test_compute_stages_import_nothing_that_they_must_not():
    found, _ = started(COMPUTE)
    if found:
        found = {stage: sorted(started([stage])[0]) for stage in COMPUTE}
    assert not found, found


def test_the_check_notices_an_import(monkeypatch):
    """REPORT draws with plotly, which no other stage may import."""
    assert started(["report"])[0] == {"plotly"}


def test_the_start_of_a_stage_is_within_its_budget():
    seconds = min(started(["preprocess"])[1] for _ in range(2))
    assert seconds < BUDGET


def test_left_out_modules_cannot_be_imported():
    code = "from rsc_core import cli; cli.leave_out()\ntry:\n    import dask\nexcept ImportError: print('left out')"
    assert subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True).stdout == "left out\n"
    without = {key: value for key, value in ENV.items() if key != "RSC_CORE_WITHOUT"}
    pytest.importorskip("dask")
    assert subprocess.run([sys.executable, "-c", code], env=without, capture_output=True, text=True).stdout == ""
