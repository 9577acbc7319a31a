"""What ``rsc-core doctor`` looks at."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from rsc_core import backend

LIBRARIES = (
    "numpy",
    "scipy",
    "pandas",
    "anndata",
    "h5py",
    "numba",
    "click",
    "faiss-cpu",
    "scikit-learn",
    "scikit-misc",
    "plotly",
    "jinja2",
)
GPU_LIBRARIES = {  # module: distribution, use
    "cupy": ("cupy-cuda13x", "every GPU stage"),
    "cuvs": ("cuvs-cu13", "approximate neighbours on the GPU"),
    "cuml": ("cuml-cu13", "some embeddings on the GPU"),
}
OPTIONAL = {"spatialdata": "--spatialdata"}  # distribution: the only use
LEAST_PYTHON = (3, 11)
LEAST_JAVA = 17


@dataclasses.dataclass
class Finding:
    """One thing: what it is, what was found, whether it is good, the backends that need it, and what to do."""

    what: str
    found: str
    good: bool
    needed_by: tuple[str, ...] = ()
    remedy: str = ""


def examine() -> list[Finding]:
    """Everything, in the order of need."""
    return [python(), *libraries(), memory(), cache(), *gpu(), java(), nextflow()]


def python() -> Finding:
    """Version of Python."""
    good = sys.version_info >= LEAST_PYTHON
    return Finding("Python", platform.python_version(), good, ("cpu", "gpu"), "Install Python 3.11 or later.")


def libraries() -> list[Finding]:
    """Versions of what every stage may import, and of what one may."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(Finding(name, importlib.metadata.version(name), True))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name, "not installed", False, ("cpu", "gpu"), f"pip install {name}"))
    for name, use in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        version = importlib.metadata.version(name) if there else f"not installed (only for {use})"
        found.append(Finding(name, version, there, (), f"pip install {name}"))
    return found


def memory() -> Finding:
    """Memory of the machine."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    remedy = "The demonstration needs 6 GB; 100,000 cells about 16."
    return Finding("memory", f"{gigabytes:.0f} GB, {len(os.sched_getaffinity(0))} cores", gigabytes >= 6, (), remedy)


def cache() -> Finding:
    """The folder where compiled code is kept from run to run."""
    place = Path(os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache" / "rsc-flow")
    parent = next(folder for folder in (place, *place.parents) if folder.exists())
    good = os.access(parent, os.W_OK)
    remedy = "Set NUMBA_CACHE_DIR and CUPY_CACHE_DIR to folders that can be written, or --cache_dir of the workflow."
    return Finding("cache folder", f"{place}{'' if good else ' (cannot be written)'}", good, (), remedy)


def gpu() -> list[Finding]:
    """Driver, CuPy, a kernel of our own, and the optional RAPIDS libraries."""
    smi = shutil.which("nvidia-smi")
    query = [smi, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"] if smi else None
    said = subprocess.run(query, capture_output=True, text=True, check=False) if query else None
    cards = said.stdout.strip() if said and said.returncode == 0 else ""
    remedy = "Install the NVIDIA driver; in a container, start it with the GPU (docker --gpus all, apptainer --nv)."
    found = [Finding("GPU", cards.replace("\n", "; ") or "none seen", bool(cards), ("gpu",), remedy)]
    for name, (distribution, use) in GPU_LIBRARIES.items():
        there = importlib.util.find_spec(name) is not None
        needed = ("gpu",) if name == "cupy" else ()
        found.append(
            Finding(
                name,
                "installed" if there else f"not installed ({use})",
                there,
                needed,
                f"Use the GPU image, or pip install {distribution}.",
            )
        )
    if cards and importlib.util.find_spec("cupy"):
        found.append(kernel())
    return found


def kernel() -> Finding:
    """One small kernel compiled and run."""
    import numpy as np

    from rsc_core.kernels import normalize

    remedy = "Check that the CUDA version of CuPy suits the driver (cupy-cuda12x or cupy-cuda13x)."
    try:
        backend.require("gpu")
        data = backend.to_device(np.ones(8, dtype=np.float32), "gpu")
        indptr = backend.to_device(np.array([0, 3, 8], dtype=np.int64), "gpu")
        total = backend.to_device(np.zeros(2), "gpu")
        normalize.row_sums(2, indptr, data, total)
        good = backend.to_host(total).tolist() == [3.0, 5.0]
        return Finding("kernels", "compile and run" if good else "give a wrong result", good, ("gpu",), remedy)
    except Exception as error:  # whatever it is, the reader needs to see it here
        return Finding("kernels", f"{type(error).__name__}: {str(error).splitlines()[0]}", False, ("gpu",), remedy)


def java() -> Finding:
    """Java for Nextflow."""
    program = shutil.which("java")
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr if program else ""
    version = said.partition('"')[2].partition('"')[0]
    good = version.partition(".")[0].isdigit() and int(version.partition(".")[0]) >= LEAST_JAVA
    return Finding("Java", version or "not found", good, (), "Only for the workflow: make setup brings one.")


def nextflow() -> Finding:
    """Nextflow on the PATH."""
    program = shutil.which("nextflow")
    return Finding(
        "Nextflow", program or "not on the PATH", program is not None, (), "Only for the workflow: make setup brings one, tools/nextflow."
    )
