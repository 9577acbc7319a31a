"""The workflow on a real SLURM of this machine: two nodes, three pretended GPUs (tests/slurm/up.sh).

Its Debian packages are installed where the tests may do so; else the tests are skipped and say why.
"""

import csv
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SLURM = ROOT / "tests" / "slurm"
GPU_STAGES = {file.stem.upper() for file in (ROOT / "modules").glob("*.nf") if "label 'process_gpu'" in file.read_text()}
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(900)]


def install():
    """Why the packages of SLURM cannot be had; None: they are there."""
    path = os.environ["PATH"] + ":/usr/sbin"
    if all(shutil.which(program, path=path) for program in ("slurmctld", "slurmd", "sbatch", "munged")):
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return "SLURM is not installed, and this is not root on Debian"
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES]
    for words in (command, ["apt-get", "update", "-q"], command):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if words is command and done.returncode == 0:
            return None
    return f"SLURM cannot be installed: {done.stderr.strip().splitlines()[-1:]}"


class Cluster:
    """A cluster with its folder, and runs of the workflow on it."""

    def __init__(self, folder):
        self.folder, self.launch = Path(tempfile.mkdtemp(prefix="rsc-flow-slurm-")), folder / "launch"
        self.folder.chmod(0o755)  # munge wants a socket that all may reach; folders of pytest are private
        self.launch.mkdir()
        self.env = os.environ | {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf"), "RSC_FLOW_SLURM_PORT": "17817"}

    def script(self, name, *arguments):
        return subprocess.run([SLURM / name, self.folder, *arguments], env=self.env, capture_output=True, text=True, check=False)

    def start(self, *arguments, outdir="out", stub=True):
        command = [ROOT / "tools" / "nextflow", "run", ROOT, "-profile", "test,slurm", "-c", SLURM / "fast.config", "--outdir", outdir]
        command += ["--queue_cpu", "cpu", "--queue_gpu", "gpu", *(["-stub"] if stub else []), *arguments]
        log = (self.launch / f"{outdir}.log").open("a")
        return subprocess.Popen(list(map(str, command)), cwd=self.launch, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def run(self, *arguments, outdir="out", stub=True, fails=False):
        process = self.start(*arguments, outdir=outdir, stub=stub)
        status = process.wait(600)
        printed = (self.launch / f"{outdir}.log").read_text()
        assert (status != 0) == fails, printed
        return printed

    def trace(self, outdir="out"):
        with (self.launch / outdir / "pipeline_info" / "trace.txt").open() as file:
            return {row["name"].removeprefix("RSC_FLOW:"): row for row in csv.DictReader(file, delimiter="\t")}

    def queue(self, form="%A %t %N %b"):
        done = subprocess.run(["squeue", "-h", "-o", form], env=self.env, capture_output=True, text=True, check=False)
        return [line.split() for line in done.stdout.splitlines()]

    def until(self, condition, seconds=60):
        """Wait for a condition on the queue; its value."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if value := condition(self.queue()):
                return value
            time.sleep(0.2)
        raise AssertionError(f"not in {seconds} s: {self.queue()}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if why := install():
        pytest.skip(why)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    up = cluster.script("up.sh")
    if up.returncode:
        pytest.skip(f"SLURM does not start here: {up.stderr}")
    yield cluster
    cluster.script("down.sh", "--purge")


def results(folder, trace):
    """Bytes of a run's results by task and name."""
    files = (
        (name, file) for name, row in trace.items() for pattern in ("*.h5ad", "tables/*.csv") for file in Path(row["workdir"]).glob(pattern)
    )
    return {(name, file.name): file.read_bytes() for name, file in files if not file.is_symlink()}


def slow_stub(cluster, tmp_path):
    """Environment in which the stubs of GPU stages take a while: they touch their output by a slower touch."""
    tools = tmp_path / "bin"
    tools.mkdir()
    log = tmp_path / "gpus.log"
    (tools / "touch").write_text(
        "#!/bin/bash\n"
        f'[ -z "${{CUDA_VISIBLE_DEVICES:-}}" ] || echo "start $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES $SLURM_JOB_ID" >> {log}\n'
        "sleep ${SECONDS_OF_A_STUB:-3}\n"
        f'[ -z "${{CUDA_VISIBLE_DEVICES:-}}" ] || echo "end $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES $SLURM_JOB_ID" >> {log}\n'
        'exec /usr/bin/touch "$@"\n'
    )
    (tools / "touch").chmod(0o755)
    cluster.env["PATH"] = f"{tools}:{os.environ['PATH']}"
    return log


def test_a_gpu_task_has_a_gpu_of_its_own(cluster, tmp_path):
    """Three samples, three GPUs: every GPU task sees one device, no two on a node the same one at a time."""
    log = slow_stub(cluster, tmp_path)
    cluster.run(outdir="gpus")
    held, jobs = set(), set()
    for line in log.read_text().splitlines():
        what, node, device, job = line.split()
        assert "," not in device
        if what == "start":
            assert (node, device) not in held, line
            held.add((node, device))
            jobs.add(job)
        else:
            held.discard((node, device))
    assert len(jobs) == sum(name.split(" ")[0] in GPU_STAGES for name in cluster.trace("gpus"))


@pytest.mark.slow
def test_a_lost_node(cluster, tmp_path):
    """A node dies under a task: the task runs again on the other, and the run ends right."""
    slow_stub(cluster, tmp_path)
    process = cluster.start(outdir="lost")
    node = cluster.until(lambda queue: next((row[2] for row in queue if row[1] == "R" and len(row) > 2 and row[2] == "n2"), None))
    time.sleep(1)
    cluster.script("node_lost.sh", node)
    try:
        assert process.wait(300) == 0, (cluster.launch / "lost.log").read_text()
    finally:
        cluster.script("up.sh")
    assert "REPORT (all samples)" in cluster.trace("lost")
    assert "terminated for an unknown reason" in (cluster.launch / "lost.log").read_text()


@pytest.mark.slow
def test_a_held_queue(cluster, tmp_path):
    """A partition that is down holds the jobs; the run goes on when it is up."""
    subprocess.run(["scontrol", "update", "partition=gpu", "state=down"], env=cluster.env, check=True)
    process = cluster.start(outdir="held")
    try:
        cluster.until(lambda queue: any(row[1] == "PD" for row in queue))
        time.sleep(2)
        assert process.poll() is None
    finally:
        subprocess.run(["scontrol", "update", "partition=gpu", "state=up"], env=cluster.env, check=True)
    assert process.wait(300) == 0


@pytest.mark.slow
def test_a_killed_task_is_submitted_again(cluster, tmp_path):
    """As the scheduler kills for memory: SIGKILL, 137. The second attempt asks for more."""
    slow_stub(cluster, tmp_path)
    tools = Path(cluster.env["PATH"].split(":")[0])
    once = f'[[ "$*" == preprocess.h5ad && ! -e {tmp_path}/killed ]]'
    script = ["#!/bin/bash", f"if {once}; then echo > {tmp_path}/killed; kill -KILL $PPID; fi", 'exec /usr/bin/touch "$@"', ""]
    (tools / "touch").write_text("\n".join(script))
    cluster.run(outdir="killed")
    with (cluster.launch / "killed" / "pipeline_info" / "trace.txt").open() as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if "PREPROCESS" in row["name"]]
    assert [(row["status"], row["exit"]) for row in rows] == [("FAILED", "137"), ("COMPLETED", "0")]


@pytest.mark.slow
def test_the_head_is_killed_and_the_run_resumed(cluster):
    """The demo for real: what had finished is kept, and the results have the bytes of an undisturbed run."""
    cluster.env["PATH"] = os.environ["PATH"]
    process = cluster.start(outdir="real", stub=False)
    cluster.until(lambda queue: (cluster.launch / "real.log").read_text().count("Submitted process") >= 8, 300)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    cluster.run("-resume", outdir="real", stub=False)
    trace = cluster.trace("real")
    assert [name for name, row in trace.items() if row["status"] == "CACHED"]
    found = results(cluster.launch, trace)
    cluster.run(outdir="undisturbed", stub=False)
    undisturbed = results(cluster.launch, cluster.trace("undisturbed"))
    assert found.keys() == undisturbed.keys()
    assert [key for key in found if found[key] != undisturbed[key]] == []
