"""The examples in other languages do what they say."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
STEPS = ["-> provisioning", "provisioning -> running", "running -> stopping", "stopping -> stopped",
         "stopped -> starting", "starting -> running", "running -> stopping", "stopping -> stopped",
         "stopped -> deleting", "deleting -> gone"]


def run(command, **more):
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, **more)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check_steps(output):
    at = 0
    for step in STEPS:
        at = output.index(step, at) + len(step)


def without_variables():
    return {key: value for key, value in os.environ.items() if not key.startswith("REEVE_")}


def test_python(daemon):
    example = str(EXAMPLES / "python" / "lifecycle.py")
    check_steps(run([sys.executable, example, daemon.socket_path], env=without_variables()))


def test_python_takes_socket_and_organization_from_the_environment(daemon, rpc, tenant):
    example = str(EXAMPLES / "python" / "lifecycle.py")
    check_steps(run([sys.executable, example], env={**without_variables(), "REEVE_SOCKET": daemon.socket_path,
                                                   "REEVE_ORG_ID": tenant.id}))
    assert len(rpc.call("organization.list")["items"]) == 1


def test_python_tells_what_is_wrong(daemon):
    example = str(EXAMPLES / "python" / "lifecycle.py")
    result = subprocess.run([sys.executable, example, daemon.socket_path], capture_output=True, text=True, timeout=60,
                            env={**without_variables(), "REEVE_ORG_ID": "nonsense"})
    assert result.returncode == 1 and "organizationId" in result.stderr


@pytest.mark.skipif(not shutil.which("node") or not (EXAMPLES / "node" / "node_modules").is_dir(),
                    reason="needs node, and npm install in examples/node")
def test_node(daemon):
    check_steps(run(["node", "lifecycle.mjs", daemon.socket_path], cwd=EXAMPLES / "node", env=without_variables()))
