"""Fixtures of all tests: the two backends, the real data."""

import os
from pathlib import Path

os.environ.setdefault("NUMBA_CACHE_DIR", str(Path.home() / ".cache" / "rsc-flow" / "numba"))

import pytest

from rsc_core import backend

DATA = Path(__file__).parent / "data"
PLAIN_ALLOCATOR = os.environ.get("RSC_CORE_TEST_PLAIN_ALLOCATOR")  # so that a memory checker sees the end of every array


def _gpu_present():
    if not backend.is_available("gpu"):
        return False
    if PLAIN_ALLOCATOR:
        import cupy

        cupy.cuda.set_allocator(None)
    return True


def pytest_addoption(parser):
    parser.addoption("--emulate", action="store_true", help="Run the CUDA kernels on the CPU beside their twins, and compare.")


def pytest_configure(config):
    if config.getoption("--emulate"):
        import emulator

        emulator.take_part()


def pytest_terminal_summary(terminalreporter, config):
    if config.getoption("--emulate"):
        import emulator

        missing = " ".join(sorted(emulator.all_kernels().keys() - emulator.seen.keys()))
        terminalreporter.write_line(f"CUDA kernels compared with their twins: {len(emulator.seen)}; not launched: {missing or 'none'}")


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def backend_name(request):
    """Both backends in turn; the GPU where there is one."""
    if request.param == "gpu" and not _gpu_present():
        pytest.skip("no NVIDIA device on this machine: the GPU half of this test runs on the GPU machine")
    yield request.param
    if request.param == "gpu":  # what a stage with little memory set would hold for all tests after it
        import cupy

        cupy.get_default_memory_pool().set_limit(size=0)
        cupy.cuda.set_allocator(None if PLAIN_ALLOCATOR else cupy.get_default_memory_pool().malloc)


@pytest.fixture
def to_xp(backend_name):
    """A function that moves arrays of the host to the backend under test."""
    return lambda value: backend.to_device(value, backend_name)


@pytest.fixture
def data_dir():
    """The folder with the real data sets."""
    return DATA
