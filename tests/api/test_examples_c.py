"""The C examples do what they show."""

import os
import pathlib
import subprocess

BUILD = pathlib.Path(os.environ.get("REEVE_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build"))


def run(name, directory):
    return subprocess.run([BUILD / "examples" / name, directory], capture_output=True, text=True, timeout=60)


def test_embed(tmp_path):
    done = run("embed/embed", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "service_running: running"


def test_host_with_its_own_loop_provisioner_and_timer(tmp_path):
    done = run("host/host", tmp_path / "data")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any("service_gone" in line for line in lines)
    assert int(lines[-1].split()[2]) > 0, "the host's own timer went on"
