#!/usr/bin/env python3
"""Compile in advance what tasks would compile: CUDA kernels by NVRTC (no GPU, no driver) and numba's part by a small run.

prebuild.py FOLDER [--cuda] [--cpu]: run from a checkout, with rsc_core on PYTHONPATH; containers/*.Dockerfile does.
"""

import argparse
import ctypes
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHIPS = (70, 75, 80, 86, 89, 90, 100, 103, 110, 120, 121)  # those that the NVRTC at hand does not know are left out


class Nvrtc:
    """NVIDIA's compiler of the PyPI wheel."""

    def __init__(self):
        folder = Path(importlib.util.find_spec("nvidia").submodule_search_locations[0])
        found = sorted(file for file in folder.rglob("libnvrtc.so*") if "alt" not in file.name)
        if not found:
            sys.exit("error: there is no NVRTC\nremedy: install nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12")
        self.library = ctypes.CDLL(str(found[0]))

    def chips(self):
        """Architectures that it compiles for."""
        number = ctypes.c_int()
        self.library.nvrtcGetNumSupportedArchs(ctypes.byref(number))
        chips = (ctypes.c_int * number.value)()
        self.library.nvrtcGetSupportedArchs(chips)
        return [chip for chip in CHIPS if chip in list(chips)]

    def binary(self, text, options):
        """The device's binary of a CUDA text; ends with the compiler's log where it fails."""
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        self.library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None)
        arguments = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if self.library.nvrtcCompileProgram(program, len(options), arguments):
            self.library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            self.library.nvrtcGetProgramLog(program, log)
            sys.exit(log.value.decode())
        self.library.nvrtcGetCUBINSize(program, ctypes.byref(size))
        binary = ctypes.create_string_buffer(size.value)
        self.library.nvrtcGetCUBIN(program, binary)
        self.library.nvrtcDestroyProgram(ctypes.byref(program))
        return binary.raw


def compile_cuda(folder):
    """Every kernel file for every chip."""
    from rsc_core import backend, prebuilt

    nvrtc = Nvrtc()
    chips, sources = nvrtc.chips(), sorted((Path(backend.__file__).parent / "kernels").glob("*.cu"))
    for source in sources:
        text = backend.cuda_source(source)
        place = folder / "cubin" / prebuilt.key(text, backend.NVRTC_OPTIONS)
        place.mkdir(parents=True, exist_ok=True)
        for chip in chips:
            binary = nvrtc.binary(text, [f"--gpu-architecture=sm_{chip}", *backend.NVRTC_OPTIONS])
            (place / f"sm_{chip}.cubin").write_bytes(binary)
    print(f"{len(sources)} files of kernels for sm_{', sm_'.join(map(str, chips))}")


def compile_cpu(folder):
    """What the stages compile on the CPU in a run on a small sample."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(folder / "numba"), "PYTHONPATH": str(ROOT / "python")}
    data = ROOT / "tests" / "data"
    shared = ["--backend", "cpu"]
    stages = [
        "ingest --input {data}/visium_prostate_normal.h5ad --sample a --output a.store.h5ad",
        "qc --store a.store.h5ad --sample a --output a.qc.h5ad {shared}",
        "merge --store a.store.h5ad --qc a.qc.h5ad --output s.h5ad",
        "preprocess --store s.h5ad --output p.h5ad {shared}",
        "neighbors --representation p.h5ad --output n.h5ad {shared}",
        "embed --neighbors n.h5ad --representation p.h5ad --output e.h5ad {shared}",
        "cluster --neighbors n.h5ad --output c.h5ad {shared}",
        "markers --store s.h5ad --preprocess p.h5ad --cluster c.h5ad --output m.h5ad --tables tables {shared}",
        "activity --store s.h5ad --preprocess p.h5ad --cluster c.h5ad --network {data}/progeny_human_top500.csv --output act.h5ad "
        "--tables tables {shared}",
        "spatial --store s.h5ad --preprocess p.h5ad --cluster c.h5ad --sample a --output sp.h5ad --tables tables {shared} "
        "--interactions {root}/assets/ligand_receptor_consensus.csv",
        "assemble --store s.h5ad --delta p.h5ad --delta n.h5ad --output all.h5ad",
    ]
    with tempfile.TemporaryDirectory() as work:
        for stage in stages:
            name, *options = stage.format(data=data, root=ROOT, shared=" ".join(shared)).split()
            subprocess.run([sys.executable, ROOT / "bin" / f"{name}.py", *options], cwd=work, env=env, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cuda", action="store_true", help="CUDA kernels")
    parser.add_argument("--cpu", action="store_true", help="numba's part")
    options = parser.parse_args()
    if options.cuda:
        compile_cuda(options.folder)
    if options.cpu:
        compile_cpu(options.folder)


if __name__ == "__main__":
    main()
