"""Faults: killed tasks, wrappers and heads, a full disk, an output folder that vanishes, no network.

After -resume the results have the bytes of an undisturbed run, and no half-written file is taken for a whole one.
"""

import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rsc_core.io.files import replaced
from rsc_core.io.store import CountsStore

KILLS = int(os.environ.get("RSC_FLOW_KILLS", 2))  # of each kind of victim
SEED = os.environ.get("RSC_FLOW_KILLS_SEED", "")  # of the points in time
RECORD = os.environ.get("RSC_FLOW_KILLS_RECORD")  # a file that takes a line of JSON for each kill
ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
INGEST = [sys.executable, ROOT / "bin" / "ingest.py", "--input", DATA / "visium_prostate_normal.h5ad", "--sample", "s1", "--output"]


# ---- one file


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    """Killed between the first byte and the rename: the file under its name is the old one, whole."""
    file = tmp_path / "a"
    file.write_text("old")
    code = f"""
import os, signal
from rsc_core.io.files import replaced
with replaced({str(file)!r}) as temporary:
    temporary.write_text("ne")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT / "python")}).returncode == -9
    assert file.read_text() == "old"


def test_a_new_file_is_synchronized_before_it_has_its_name(tmp_path, monkeypatch):
    """fsync of the file, rename, fsync of the folder, in this order."""
    order, fsync, rename = [], os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda handle: (order.append("folder" if Path(f"/proc/self/fd/{handle}").is_dir() else "file"), fsync(handle))
    )
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), rename(self, target))[1])
    with replaced(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert order == ["file", "rename", "folder"]
    assert (tmp_path / "a").stat().st_mode & 0o002 == 0


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), replaced(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ingest_killed_at_random_points(tmp_path):
    """Whenever it is killed, its store is whole or not there."""
    undisturbed = tmp_path / "whole.h5ad"
    start = time.monotonic()
    subprocess.run([*INGEST, undisturbed], check=True, capture_output=True)
    seconds, chance = time.monotonic() - start, random.Random(0)
    for turn in range(6):
        target = tmp_path / f"{turn}.h5ad"
        task = subprocess.Popen([*INGEST, target], stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.5, 1) * seconds)
        task.kill()
        task.wait()
        if target.exists():
            assert target.read_bytes() == undisturbed.read_bytes()
            assert CountsStore(target).shape[0] > 0


def mounted(folder, size):
    """Mount a small tmpfs; why not, if it cannot be."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def test_a_full_disk(tmp_path):
    """The task fails, and leaves neither the file nor a part of it."""
    small = tmp_path / "small"
    if why := mounted(small, "256k"):
        pytest.skip(f"a small file system cannot be mounted: {why}")
    try:
        done = subprocess.run([*INGEST, small / "a.h5ad"], capture_output=True, text=True, check=False)
        assert done.returncode not in (0, 65), done.stderr
        assert "No space left on device" in done.stderr
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


# ---- the workflow

workflow = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(1500 + 300 * KILLS)]


class Runs:
    """Runs on one sample of its own launch folder."""

    def __init__(self, folder):
        self.launch = folder
        folder.mkdir()
        (folder / "sheet.csv").write_text(f"sample,path\nnormal,{DATA}/visium_prostate_normal.h5ad\n")

    def start(self, *arguments, before=()):
        command = [
            *before,
            ROOT / "tools" / "nextflow",
            "run",
            ROOT,
            "-profile",
            "test",
            "--input",
            "sheet.csv",
            "--outdir",
            "out",
            *arguments,
        ]
        log = (self.launch / "printed").open("a")
        return subprocess.Popen(list(map(str, command)), cwd=self.launch, stdout=log, stderr=log, start_new_session=True)

    def finish(self, *arguments, before=()):
        assert self.start(*arguments, before=before).wait(1200) == 0, (self.launch / "printed").read_text()

    def results(self):
        """Bytes of all results by task and name."""
        with (self.launch / "out" / "pipeline_info" / "trace.txt").open() as file:
            rows = [row for row in csv.DictReader(file, delimiter="\t") if row["status"] in ("COMPLETED", "CACHED")]
        files = [
            (row["name"], file) for row in rows for pattern in ("*.h5ad", "tables/*.csv") for file in Path(row["workdir"]).glob(pattern)
        ]
        return {(name, file.name): file.read_bytes() for name, file in files if not file.is_symlink()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp("undisturbed") / "launch")
    runs.finish()
    return runs.results()


def processes_of(folder):
    """(pid, command) of the processes that work in a folder of tasks."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink().is_relative_to(folder / "work"):
                yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue


def kill(runs, process, victim):
    """Kill the head with all that it started, or one task or wrapper that runs; what it was, None where there is none."""
    if victim == "head":
        if process.poll() is not None:
            return None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        return "head"
    words = "/bin/" if victim == "task" else ".command.run"
    for pid, command in processes_of(runs.launch):
        if words in command and (victim == "wrapper" or ".py" in command):
            with contextlib.suppress(ProcessLookupError):  # it ended by itself in between
                os.kill(pid, signal.SIGKILL)
                return command.strip()
    return None


def end_in_spite_of_kills(runs, victim, chance, most):
    """One run with up to ``most`` kills, resumed whenever its head has ended; how many they were."""
    process, kills, hit = runs.start(), 0, False
    while True:
        try:
            status = process.wait(chance.uniform(3, 25) if kills < most else 1200)
        except subprocess.TimeoutExpired:
            status = None
        if status == 0:
            return kills
        if status is None and (killed := kill(runs, process, victim)):
            kills, hit = kills + 1, True
            if RECORD:
                with open(RECORD, "a") as file:
                    file.write(json.dumps({"victim": victim, "run": runs.launch.name, "kill": kills, "killed": killed}) + "\n")
        if process.poll() is not None:
            assert hit, (runs.launch / "printed").read_text()  # it failed, and nobody had killed anything
            process, hit = runs.start("-resume"), False


class TestKills:
    pytestmark = workflow

    @pytest.mark.parametrize("victim", ["task", "wrapper", "head"])
    def test_results_after_kills(self, tmp_path, undisturbed, victim):
        """Kills at random points of as many runs as they take, each run resumed until it ends: the results have the same bytes."""
        chance, turn, left = random.Random(f"{victim} {SEED}"), 0, KILLS
        while left:
            runs, turn = Runs(tmp_path / f"launch{turn}"), turn + 1
            left -= end_in_spite_of_kills(runs, victim, chance, left)
            assert runs.results() == undisturbed

    def test_an_output_folder_that_vanishes(self, tmp_path, undisturbed):
        runs = Runs(tmp_path / "launch")
        runs.finish()
        shutil.rmtree(runs.launch / "out")
        runs.finish("-resume")
        assert (runs.launch / "out" / "report.html").stat().st_size and (runs.launch / "out" / "adata.h5ad").stat().st_size
        assert runs.results() == undisturbed

    def test_without_a_network(self, tmp_path, undisturbed):
        """The whole run, in a network namespace that has no interface but loopback, which is down."""
        tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
        if tried.returncode:
            pytest.skip(f"a network namespace cannot be made: {tried.stderr.strip()}")
        runs = Runs(tmp_path / "launch")
        runs.finish(before=["unshare", "-n"])
        assert runs.results() == undisturbed


@pytest.mark.workflow
def test_the_graph_needs_no_network(tmp_path):
    """The same for the graph alone, which takes seconds."""
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"a network namespace cannot be made: {tried.stderr.strip()}")
    Runs(tmp_path / "launch").finish("-stub", before=["unshare", "-n"])
