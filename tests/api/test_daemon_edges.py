"""`reeve serve` where something is in its way: signals in a row, files that changed, directories of others."""

import itertools
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from unittest.mock import ANY

import pytest
from daemon import BINARY, Daemon
from rpc import Rpc, RpcError
from tenant import Tenant

ROOT = pathlib.Path(__file__).resolve().parents[2]


def serve(*arguments, binary=BINARY, **more):
    """Run it where it is expected to end by itself."""
    return subprocess.run([binary, "serve", *map(str, arguments)], capture_output=True, text=True, timeout=30, **more)


def variables(path):
    """What a shell has after reading dev.env, and nothing else."""
    done = subprocess.run(["/bin/sh", "-c", '. "$0" && /usr/bin/env -0', str(path)], capture_output=True, text=True,
                          check=True, env={})
    pairs = (line.partition("=") for line in done.stdout.split("\0"))
    return {key: value for key, _, value in pairs if key.startswith("REEVE_")}


def test_second_signal_stops_at_once(daemon_factory):
    daemon = daemon_factory("--ipc-close-ms", 3600000, "--ipc-stall-ms", 86400000)
    tenant = Tenant(daemon.client())
    deaf, other = daemon.client(), daemon.client()
    # Answers that nobody takes keep the way to the clean end open.
    deaf.socket.setblocking(False)
    piece = b"".join(Rpc.encode(number, "hello", {}) for number in range(200))
    try:
        while True:
            deaf.socket.send(piece)
    except BlockingIOError:
        pass
    # The socket takes so much by itself; what is answered beyond it, the daemon still owes.
    answer = len(Rpc.encode(1, "hello", other.call("hello")))
    room = deaf.socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) + 16384
    asked = itertools.count(1)
    other.wait_stats(lambda stats: (stats["ipcRequests"] - next(asked)) * answer > room)
    daemon.process.send_signal(signal.SIGTERM)
    other.wait_closed()
    assert daemon.process.poll() is None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(30) == 130
    daemon.start()
    assert daemon.client().call("organization.get", organizationId=tenant.id)["name"] == "test"


def test_sighup_takes_all_or_nothing(daemon_factory, tmp_path):
    conf = tmp_path / "reeve.conf"
    conf.write_text("keys-per-org = 1\n")
    daemon = daemon_factory("--config", conf)
    tenant = Tenant(daemon.client())
    tenant.rpc.call("key.create", organizationId=tenant.id, name="one")
    conf.write_text("keys-per-org = 5\nnonsense = 1\n")
    daemon.process.send_signal(signal.SIGHUP)
    tenant.rpc.wait_stats(lambda stats: "not reloaded" in daemon.log())
    assert "nonsense" in daemon.log() and "line 2" in daemon.log()
    with pytest.raises(RpcError):
        tenant.rpc.call("key.create", organizationId=tenant.id, name="two")
    conf.write_text("keys-per-org = 5\ncatalogue = aws: mars-north-1\n")
    daemon.process.send_signal(signal.SIGHUP)
    tenant.rpc.wait_stats(lambda stats: "info    reloaded" in daemon.log())
    tenant.rpc.call("key.create", organizationId=tenant.id, name="two")
    tenant.create(region="mars-north-1")
    with pytest.raises(RpcError):
        tenant.create(region="us-east-1")


@pytest.mark.parametrize("text, words", [
    ("queue-capacity = 5\nqueue-capacity = 6\n", ["queue-capacity", "twice", "line 2"]),
    ("queue-capacity = 5\n  6\n", ["queue-capacity", "indented", "line 2"]),
    ("batch-max = 5\ncatalogue = aws: " + "x" * 5000 + "\n", ["line 2", "too long"]),
    ("config = other\n", ["config", "line 1"]),
])
def test_lines_that_would_be_taken_for_others(tmp_path, text, words):
    conf = tmp_path / "reeve.conf"
    conf.write_text(text)
    done = serve("--data", tmp_path / "d", "--config", conf)
    assert done.returncode == 2 and not (tmp_path / "d").exists()
    for word in [str(conf), *words]:
        assert word in done.stderr


def test_catalogue_may_go_on_in_indented_lines(daemon_factory, tmp_path):
    conf = tmp_path / "reeve.conf"
    conf.write_text("catalogue = aws: us-east-1\n  mars-north-1\n  venus-south-2\n")
    tenant = Tenant(daemon_factory("--config", conf).client())
    for region in ("us-east-1", "mars-north-1", "venus-south-2"):
        tenant.create(region=region)


@pytest.mark.parametrize("arguments, words", [
    (["--provisioner", "simulated:seed=-1"], ["seed", "whole number"]),
    (["--catalogue", "aws"], ["catalogue", "provider: region"]),
    (["--socket", "/nowhere/reeve.sock"], ["socket", "/nowhere/reeve.sock", "No such file"]),
    (["--socket", "x" * 200], ["socket", "107"]),
    (["--allow-users", "nobody-of-that-name"], ["nobody-of-that-name"]),
])
def test_what_it_cannot_start_with(tmp_path, arguments, words):
    done = serve("--data", "d", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr


def test_file_in_place_of_the_socket_is_kept(tmp_path):
    (tmp_path / "mine").write_text("precious")
    done = serve("--data", "d", "--socket", "mine", cwd=tmp_path)
    assert done.returncode == 1 and "mine" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user to become")
def test_directory_of_somebody_else():
    with tempfile.TemporaryDirectory() as directory:
        # Everybody may run this copy, wherever the sources are.
        binary = shutil.copy(BINARY, directory)
        os.chmod(directory, 0o755)
        closed = pathlib.Path(directory, "closed")
        closed.mkdir(mode=0o700)
        done = serve("--data", closed / "data", binary=binary, user=65534, group=65534, extra_groups=[])
    assert done.returncode == 1
    assert "Permission denied" in done.stderr and str(closed / "data") in done.stderr


def test_help_has_every_flag():
    done = serve("--help")
    assert done.returncode == 0 and done.stderr == ""
    tables = [(ROOT / path).read_text() for path in ("schemas/options.def", "frontends/ipc/limits.def")]
    flags = re.findall(r'^(?:OPTION|IPC_LIMIT)\(\w+, +"([\w-]+)"', "".join(tables), re.M)
    assert len(flags) > 20
    for flag in [*flags, "data", "socket", "provisioner", "config", "dev", "log-format", "log-level"]:
        assert f"--{flag} " in done.stdout


def test_abstract_socket_of_systemd(daemon_factory):
    daemon = daemon_factory(start=False)
    name = f"reeve-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind("\0" + name)
        notify.settimeout(30)
        with open(daemon.log_path, "ab") as log:
            daemon.process = subprocess.Popen([BINARY, "serve", *daemon.arguments], stdout=log, stderr=log,
                                              env={**os.environ, "NOTIFY_SOCKET": "@" + name})
        assert notify.recv(100) == b"READY=1"
        assert daemon.client().call("hello")


def test_dev_file_names_the_socket_of_this_start(daemon_factory, tmp_path):
    daemon = daemon_factory("--dev")
    path = daemon.data / "dev.env"
    first = variables(path)
    assert set(first) == {"REEVE_SOCKET", "REEVE_ORG_ID", "REEVE_KEY_ID", "REEVE_KEY_SECRET", "REEVE_URL"}
    assert first["REEVE_SOCKET"] == daemon.socket_path
    assert daemon.stop() == 0
    directory = tmp_path / "it's"
    directory.mkdir()
    other = Daemon(directory, "--dev", data=daemon.data)
    try:
        other.start()
        assert variables(path) == {**first, "REEVE_SOCKET": other.socket_path, "REEVE_URL": ANY}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        other.close()


def test_dev_secret_is_not_logged_and_survives_its_file(daemon_factory):
    daemon = daemon_factory("--dev", "--log-level", "debug")
    path = daemon.data / "dev.env"
    first = variables(path)
    daemon.kill()
    path.unlink()
    daemon.start()
    assert variables(path) == {**first, "REEVE_URL": ANY}
    assert len(daemon.client().call("organization.list")["items"]) == 1
    assert first["REEVE_KEY_SECRET"] not in daemon.log()
