"""The CUDA kernels' text, run on the CPU, gives the bits of their twins (``tests/emulator``)."""

import importlib.util

import emulator
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(emulator.COMPILER is None, reason="no g++ or clang++ on this machine: the CUDA kernels' text is not run")

BODY = """
from rsc_core.kernels.twin import twin


@twin("float64 float64", threads=32)
def halves(n_items, values, out):
    for item in range(n_items):
        out[item] = values[item] / 2
"""
KERNEL = """
extern "C" __global__ void halves(long long n_items, const double* values, double* out) {
    const long long item = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    BARRIER
    if (item < n_items) out[item] = HALF;
}
"""


@pytest.fixture
def halves(tmp_path):
    """A function that makes a pair of a numba body and a CUDA kernel and runs both on 40 numbers."""

    def run(half="values[item] / 2", barrier=""):
        (tmp_path / "pair.py").write_text(BODY)
        (tmp_path / "pair.cu").write_text(KERNEL.replace("HALF", half).replace("BARRIER", barrier))
        spec = importlib.util.spec_from_file_location("pair", tmp_path / "pair.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        emulator.compared(module.halves)(40, np.arange(40.0), np.zeros(40))

    return run


def test_an_equal_kernel_passes(halves):
    halves(barrier="__syncthreads();")


def test_a_wrong_kernel_is_noticed(halves):
    with pytest.raises(AssertionError, match=r"pair.halves: the CUDA kernel is not its twin: 1 of 40 values of out differ, at \(39,\)"):
        halves(half="item == 39 ? -values[item] / 2 : values[item] / 2")


def test_threads_that_wait_for_ever_are_reported(halves):
    with pytest.raises(AssertionError, match="halves: threads wait for each other for ever"):
        halves(barrier="if (item % 2) __syncwarp(); else __syncthreads();")
