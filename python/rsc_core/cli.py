"""What the scripts in ``bin/`` share: options that many of them take, and exit codes."""

from __future__ import annotations

import functools
import gc
import importlib.machinery
import os
import sys

import click

from rsc_core import __version__, prebuilt
from rsc_core.errors import MemoryExhausted, RscError

# What runtime, driver and libraries of CUDA call it, where CuPy makes no MemoryError of it.
OUT_OF_MEMORY = ("cudaErrorMemoryAllocation", "CUDA_ERROR_OUT_OF_MEMORY", "STATUS_ALLOC_FAILED")

existing_file = click.Path(exists=True, dir_okay=False)


class Grouped(click.Command):
    """A command whose help lists files, method, and how it runs under headings of their own."""

    def format_options(self, context, formatter):
        groups = {"Files": [], "Method": [], "How it runs": []}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                runs = parameter.name in ("backend", "seed", "version", "help")
                groups["How it runs" if runs else "Files" if isinstance(parameter.type, click.Path) else "Method"].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def script(function):
    """Decorate a script's function: a click command with ``--version``, ``-h``, and groups and defaults in the help."""
    settings = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 120}
    return click.version_option(__version__, prog_name="rsc-flow")(click.command(cls=Grouped, context_settings=settings)(function))


def output_option(what: str):
    """``--output``: the file that the script makes."""
    return click.option("--output", required=True, type=click.Path(dir_okay=False, writable=True), help=f"{what} to write.")


def tables_option(function):
    """``--tables``: the folder for csv tables."""
    return click.option("--tables", required=True, type=click.Path(file_okay=False), help="Folder to write the csv tables to.")(function)


def backend_option(function):
    """``--backend``: cpu or gpu."""
    told = "Where the work runs; never changed silently."
    return click.option("--backend", type=click.Choice(["cpu", "gpu"]), default="cpu", callback=_woken, help=told)(function)


def _woken(context, parameter, value):
    """The name of the backend; its device wakes while the stage is imported."""
    if value == "gpu" and not context.resilient_parsing:
        from rsc_core import waking

        waking.wake()
    return value


def seed_option(function):
    """``--seed``: of every random number."""
    return click.option("--seed", type=int, default=0, help="Seed of every random number.")(function)


def comma_separated(context, parameter, value):
    """Callback of an option that takes a list: ``a,b`` becomes ``["a", "b"]``."""
    return [item for item in value.split(",") if item]


def comma_separated_numbers(context, parameter, value):
    """Callback of an option that takes numbers above 0: ``0.5,1`` becomes ``[0.5, 1.0]``."""
    try:
        found = [float(item) for item in value.split(",") if item]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers") from error
    if not found or min(found) <= 0:
        raise click.BadParameter(f"{value!r} must be numbers above 0")
    return found


def leave_out() -> None:
    """Make the modules that ``RSC_CORE_WITHOUT`` names (separated by commas) as if they were not installed.

    anndata imports Dask, xarray and zarr where they are, which takes half of its start; hardly a stage uses them. It cannot do
    without the classes of zarr and numcodecs: those modules are stood in for.
    """
    for name in filter(None, os.environ.get("RSC_CORE_WITHOUT", "").split(",")):
        if name not in StandIn.NAMES:
            sys.modules.setdefault(name, None)
        elif name not in sys.modules:
            sys.meta_path.insert(0, StandIn(name))


class StandIn:
    """Finder and loader of modules that have every class that is asked for, of which there is no object, and nothing else."""

    NAMES = ("numcodecs", "zarr")

    def __init__(self, name: str):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        """A module of the package."""
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == self.name else None

    def create_module(self, spec):
        """A module as any other."""

    def exec_module(self, module):
        """Nothing but classes that come into being when they are asked for."""
        module.__getattr__ = functools.cache(self._class)

    @staticmethod
    def _class(name: str) -> type:
        if not name[0].isupper():
            raise AttributeError(name)
        return type(name, (), {})


def take_in(*names: str) -> None:
    """Undo :func:`leave_out` for modules that this run of a script needs, before anndata is imported."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "name", None) not in names]


def run(command) -> None:
    """Run a script; errors that a user can act on become one line of cause, one of remedy, and the exit code.

    Exit codes: 0 done; 2 usage; 42 memory exhausted; 65 invalid input; 69 backend not available. Anything else
    is a bug and prints its traceback.
    """
    gc.disable()  # a tenth of the start, and imports leave nothing to collect; stages._task enables it again
    leave_out()
    prebuilt.fill_cache()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin take the cores of the tasks beside this one
    try:
        command()
    except RscError as error:
        end(error)
    except (MemoryError, RuntimeError) as error:
        place = _exhausted(error)
        if place is None:
            raise
        end(
            MemoryExhausted(
                f"The {place}'s memory is exhausted: {(str(error).splitlines() or [type(error).__name__])[0]}.",
                f"The workflow retries in smaller parts; else give the task more memory of the {place}.",
            )
        )


def _exhausted(error: MemoryError | RuntimeError) -> str | None:
    """Whose memory an error says to be exhausted: the device's, the host's or nobody's."""
    of_device = type(error).__module__.startswith("cupy") or "CUDA" in str(error) or "out_of_memory" in str(error)
    if isinstance(error, MemoryError):
        return "device" if of_device else "host"
    return "device" if any(name in str(error) for name in OUT_OF_MEMORY) else None


def end(error: RscError) -> None:
    """Print cause and remedy, and leave with the error's exit code."""
    print(f"error: {error.cause}\nremedy: {error.remedy}", file=sys.stderr)
    sys.exit(error.exit_code)
