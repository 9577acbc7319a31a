"""All kernels: the CUDA text compiles for every supported chip without a GPU, and agrees with its twin's signature."""

import ctypes
import importlib
import importlib.util
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from rsc_core import backend, rng
from rsc_core.kernels import device, twin

KERNELS = Path(twin.__file__).parent
SOURCES = sorted(KERNELS.glob("*.cu"))
CHIPS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")  # NVRTC 13 has no sm_70


@pytest.fixture(scope="module")
def nvrtc():
    """The library of the PyPI wheel: it needs no GPU and no driver."""
    folder = Path(importlib.util.find_spec("nvidia").submodule_search_locations[0])
    found = sorted(p for p in folder.rglob("libnvrtc.so*") if "alt" not in p.name)
    assert found, "nvidia-cuda-nvrtc is not installed: make setup"
    return ctypes.CDLL(str(found[0]))


def compiled(nvrtc, text, options):
    """Return code of NVRTC and its log."""
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None) == 0
    arguments = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
    code = nvrtc.nvrtcCompileProgram(program, len(options), arguments)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return code, log.value.decode()


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
@pytest.mark.parametrize("chip", CHIPS)
def test_compiles_without_a_warning(nvrtc, source, chip):
    code, log = compiled(nvrtc, backend.cuda_source(source), [f"--gpu-architecture={chip}", *backend.NVRTC_OPTIONS])
    assert code == 0 and "warning" not in log, log


def test_a_broken_kernel_is_noticed(nvrtc):
    code, log = compiled(nvrtc, "__global__ void broken(int n) { return n; }", ["--gpu-architecture=sm_80"])
    assert code != 0 and "error" in log


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: p.stem)
def test_twins_have_the_same_arguments(source):
    """Names and order of the arguments in the .cu file are those of the numba body."""
    module = importlib.import_module(f"rsc_core.kernels.{source.stem}")
    kernels = re.findall(r'extern "C" __global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(([^)]*)\)', source.read_text())
    assert kernels
    for name, arguments in kernels:
        names = [argument.split()[-1].lstrip("*") for argument in arguments.replace("*", "* ").split(",")]
        assert names == list(inspect.signature(getattr(module, name).body).parameters), f"{source.name}: {name}"
        assert "atomicAdd(" not in source.read_text() or not re.search(r"atomicAdd\([^;]*(float|double)", source.read_text())


def test_orders_are_sorted_by_merging():
    """numba names its quicksort of values and that of indices alike: of two functions from its cache, one then runs the other's."""
    text = "".join(file.read_text() for file in KERNELS.glob("*.py"))
    assert text.count("np.argsort(") == len(re.findall(r'np\.argsort\([^\n]*, kind="mergesort"\)', text)) > 0


def test_random_bits_are_the_same_in_numba_and_numpy():
    index = np.arange(1000, dtype=np.uint64)
    for seed in (0, 1, 2**63 + 5):
        array = rng.bits(seed, "ligrec", index)
        one_by_one = [device.random_bits(np.uint64(seed), np.uint64(rng.PURPOSES["ligrec"]), i) for i in index]
        np.testing.assert_array_equal(array, np.array(one_by_one, dtype=np.uint64))


def test_random_numbers_are_spread(to_xp):
    index = to_xp(np.arange(100_000, dtype=np.uint64))
    uniform = backend.to_host(rng.uniform(0, "kmeans", index))
    # Mean and variance of 100,000 uniform numbers: standard errors 0.0009 and 0.0002; five of them.
    assert abs(uniform.mean() - 0.5) < 0.0046 and abs(uniform.var() - 1 / 12) < 0.0012
    assert np.unique(uniform).size > 99_990
    other = backend.to_host(rng.uniform(1, "kmeans", index))
    assert abs(np.corrcoef(uniform, other)[0, 1]) < 0.016


def test_permutations(to_xp):
    xp = backend.xp_of(to_xp(np.zeros(1)))
    first, second = (backend.to_host(rng.permutation(0, "ligrec", 500, number, xp)) for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(500)) and (first != second).any()
    np.testing.assert_array_equal(first, rng.permutation(0, "ligrec", 500, 0))


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_large_arrays_come_back_as_they_are(to_xp, dtype):
    """Larger than the buffers together, no multiple of them; transposed; and the parts of a sparse matrix."""
    array = np.tile(np.arange(251).astype(dtype), 1 + 5 * backend.PINNED // 4 // np.dtype(dtype).itemsize // 251)
    np.testing.assert_array_equal(backend.to_host(to_xp(array)), array)
    rows = array[: array.size // 3 * 3].reshape(3, -1)
    np.testing.assert_array_equal(backend.to_host(to_xp(rows).T), rows.T)
    matrix = sp.csr_matrix(rows[:, : 1 << 18].astype(np.float32))
    assert abs(backend.to_host(to_xp(matrix)) - matrix).max() == 0


def test_mixed_devices_are_refused():
    class Device:
        shape = (3,)

    Device.__module__ = "cupy"
    with pytest.raises(TypeError, match="host and of the device were mixed"):
        backend.xp_of(np.zeros(3), Device())


def test_wrong_dtype_is_refused():
    launch = twin.twin("float64")(lambda n_items, x: None)
    with pytest.raises(TypeError, match="float32"):
        launch(3, np.zeros(3, dtype=np.float32))
