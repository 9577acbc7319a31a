"""Profiles: what each sets, against stored snapshots, and that GPU tasks of one machine never share a device.

After a wanted change: RSC_FLOW_SNAPSHOTS=write pytest tests/test_profiles.py, and look at the difference.
"""

import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SNAPSHOTS = ROOT / "tests" / "snapshots"
ENGINES = ("docker", "podman", "apptainer", "singularity", "charliecloud", "conda", "debug", "test_full")
EXECUTORS = ("slurm,gpu", "awsbatch,gpu", "gpu,google", "azure,gpu", "k8s,gpu")
PLACES = {
    "AWS_REGION": "eu-central-1",
    "GOOGLE_CLOUD_PROJECT": "lab",
    "GOOGLE_CLOUD_REGION": "europe-west4",
    "AZURE_LOCATION": "westeurope",
}
PLACES |= {"K8S_CLAIM": "work", "HOME": "/home/user", "NXF_HOME": os.environ.get("NXF_HOME", str(ROOT / ".tools" / "nxf_home"))}

pytestmark = pytest.mark.workflow


def settings_of(*arguments):
    """Nextflow's flat listing, a setting each, the project's path left out."""
    command = [ROOT / "tools" / "nextflow", "config", "-flat", *arguments, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | PLACES, check=True)
    settings = re.split(r"\n(?=[\w']+\.[\w'.:|]+ = )", done.stdout.strip().replace(str(ROOT), "PROJECT"))
    return {line.rstrip() for line in settings if not line.startswith("WARN")}


@pytest.fixture(scope="module")
def settings():
    """What each profile sets beyond what all runs have; two starts of Nextflow side by side."""
    calls = [["-profile", "standard"], ["-show-profiles"], *(["-profile", profile] for profile in EXECUTORS)]
    with ThreadPoolExecutor(2) as pool:
        standard, shown, *executors = pool.map(lambda call: settings_of(*call), calls)
    starts = {profile: f"profiles.{profile}." for profile in ENGINES}
    engines = {name: {line.removeprefix(start) for line in shown if line.startswith(start)} for name, start in starts.items()}
    return {name: found - standard for name, found in (engines | dict(zip(EXECUTORS, executors, strict=True))).items()}


@pytest.mark.parametrize("profile", ENGINES + EXECUTORS)
def test_settings_of_a_profile(settings, profile):
    found = "\n".join(sorted(settings[profile])) + "\n"
    file = SNAPSHOTS / f"{profile.replace(',', '_')}.txt"
    if os.environ.get("RSC_FLOW_SNAPSHOTS") == "write":
        file.write_text(found)
    assert found == file.read_text()


def test_every_profile_has_its_file():
    named = re.findall(r"^    (\w+) \{\n        includeConfig 'conf/(\w+)\.config'", (ROOT / "nextflow.config").read_text(), re.MULTILINE)
    assert named and all(profile == file and (ROOT / "conf" / f"{file}.config").is_file() for profile, file in named)
    known = {profile for profile, _ in named}
    assert {part for profile in ENGINES + EXECUTORS for part in profile.split(",")} <= known


def test_no_secret_is_a_parameter():
    """Parameters are written to params.json and shown in the report: keys come by the environment only."""
    names = re.findall(r"^    (\w+) +=", (ROOT / "nextflow.config").read_text(), re.MULTILINE)
    assert "outdir" in names
    columns = {"batch_key", "cluster_key", "label_key", "sample_key", "condition_key"}
    assert not {name for name in names if re.search("secret|password|token|_key$", name)} - columns


TASK = """
. {script}; own_gpu {folder}
echo "start $CUDA_VISIBLE_DEVICES" >> {folder}/log; sleep 0.4; echo "end $CUDA_VISIBLE_DEVICES" >> {folder}/log
"""


def test_tasks_do_not_share_a_gpu(tmp_path):
    """Five tasks, two devices."""
    script = TASK.format(script=ROOT / "assets" / "own_gpu.sh", folder=tmp_path)
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "2,GPU-5e1f"}
    tasks = [subprocess.Popen(["bash", "-euo", "pipefail", "-c", script], env=env, start_new_session=True) for _ in range(5)]
    while not (tmp_path / "log").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    assert [task.wait(30) for task in tasks] == [0] * 5
    held, used = set(), []
    for line in (tmp_path / "log").read_text().splitlines():
        what, device = line.split()
        if what == "start":
            assert device not in held
            used.append(device)
            held.add(device)
        else:
            held.remove(device)
    assert len(used) == 5 and set(used) == {"2", "GPU-5e1f"}


def test_a_killed_task_frees_its_gpu(tmp_path):
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "0"}
    hold = f". {ROOT}/assets/own_gpu.sh; own_gpu {tmp_path}; touch {tmp_path}/held; exec sleep 60"
    first = subprocess.Popen(["bash", "-c", hold], env=env)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    second = subprocess.Popen(["bash", "-c", f". {ROOT}/assets/own_gpu.sh; own_gpu {tmp_path}"], env=env)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(1)
    first.kill()
    assert second.wait(10) == 0


def test_a_machine_without_a_gpu_waits_for_nothing(tmp_path):
    env = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"} | {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash", "-euc", f". {ROOT}/assets/own_gpu.sh; own_gpu {tmp_path}"], env=env, timeout=10)
    assert done.returncode == 0


def test_cost_of_a_run(tmp_path):
    """By hand: CPU (3.5 + 10) s, GPU (62 + 10) s; the cached task costs nothing."""
    rows = [("INGEST (a)", "COMPLETED", "3.5s"), ("RSC_FLOW:QC (a)", "COMPLETED", "1m 2s"), ("QC (b)", "CACHED", "1h")]
    lines = ["name\tstatus\trealtime", *("\t".join(row) for row in rows)]
    (tmp_path / "trace.txt").write_text("\n".join(lines) + "\n")
    command = [
        ROOT / "tools" / "cost",
        tmp_path / "trace.txt",
        "--cpu-price",
        "3600",
        "--gpu-price",
        "7200",
        "--startup",
        "10",
        "--cells",
        "50000",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CPU tasks 14 s, GPU tasks 72 s, cost 157.5000" in done.stdout
    assert "100,000 cells: 315.0000" in done.stdout


def test_the_worked_cost_of_the_documentation():
    """Commands and answers of docs/cloud.md: a new measurement has to change the page."""
    text = (ROOT / "docs" / "cloud.md").read_text()
    told = re.findall(r"^\$ (tools/cost .*)\n((?:[^$`].*\n)+)", text, re.MULTILINE)
    assert len(told) == 2
    for command, answer in told:
        assert subprocess.run(command.split(), cwd=ROOT, capture_output=True, text=True, check=True).stdout == answer
