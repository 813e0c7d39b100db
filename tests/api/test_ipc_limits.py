"""What one client, or many, must not be able to do to the others."""

import os
import pathlib
import resource
import select
import socket
import stat
import subprocess
import sys

import pytest

from rpc import Closed, Rpc
from tenant import SERVICE, Tenant

LIB = pathlib.Path(__file__).resolve().parents[1] / "lib"


def resident_kb(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def test_ten_thousand_idle_connections(daemon_factory):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10000, hard - 500)
    daemon = daemon_factory()
    rpc = daemon.client()
    tenant = Tenant(rpc)
    before = resident_kb(daemon.process)
    idle = []
    try:
        for _ in range(count):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.connect(daemon.socket_path)
            idle.append(client)
        # The listener hands out clients in the order in which they came: one behind them all is served last.
        assert daemon.client().call("stats")["ipcConnections"] == count + 2
        requests = [("service.create", {"organizationId": tenant.id, "name": f"s{i}", **SERVICE}) for i in range(200)]
        for number in rpc.send_many(requests):
            assert rpc.wait(number)["service"]["id"]
        if not os.environ.get("SANITIZE"):
            assert resident_kb(daemon.process) - before < 64 * 1024
    finally:
        for client in idle:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert rpc.call("hello")


def test_too_many_connections_are_told_so(daemon_factory):
    daemon = daemon_factory("--ipc-connections-max", 5)
    clients = [daemon.client() for _ in range(5)]
    for client in clients:
        client.call("hello")
    heard = daemon.client().wait_closed()
    assert heard[0][0] == "error" and heard[0][1]["code"] == "BUSY" and "5" in heard[0][1]["message"]
    assert clients[0].call("stats")["ipcRefused"] == 1
    clients[4].close()
    clients[0].wait_stats(lambda s: s["ipcConnections"] == 4)
    assert daemon.client().call("hello")


def test_message_size_is_limited(daemon_factory):
    daemon = daemon_factory("--ipc-message-bytes-max", 2000)
    rpc = daemon.client()
    rpc.call("organization.create", name="fits")
    rpc.send_raw(Rpc.encode(1, "hello", {"x": "y" * 2000}))
    assert rpc.wait_closed()[0][1]["code"] == "TOO_LARGE"


def flood(client, data):
    """Write without reading until the server has had enough."""
    try:
        while True:
            client.socket.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return


def test_client_that_never_reads_is_disconnected(daemon_factory):
    daemon = daemon_factory("--ipc-stall-ms", 1000)
    rpc = daemon.client()
    tenant = Tenant(rpc)
    service = tenant.running()
    flood(daemon.client(), Rpc.encode(1, "service.get", tenant.of(service)) * 1000)
    stats = rpc.call("stats")
    assert stats["ipcSlow"] == 1 and stats["ipcConnections"] == 1


def test_stream_that_is_never_read_is_disconnected(daemon_factory):
    daemon = daemon_factory("--ipc-stall-ms", 1000)
    rpc = daemon.client()
    tenant = Tenant(rpc)
    requests = [("service.create", {"organizationId": tenant.id, "name": f"s{i}", **SERVICE}) for i in range(3000)]
    for number in rpc.send_many(requests):
        rpc.wait(number)
    lazy = daemon.client()
    lazy.send("service.list", organizationId=tenant.id, stream=True)
    # It wakes up when the server closes: a hang-up is an event that needs no reading.
    poll = select.poll()
    poll.register(lazy.socket, select.POLLHUP)
    assert poll.poll(10000)
    assert rpc.call("stats")["ipcSlow"] == 1


def test_output_of_one_client_is_limited(daemon_factory):
    daemon = daemon_factory("--ipc-output-bytes-max", 65536, "--ipc-output-pause-bytes", 32768,
                            "--ipc-stall-ms", 60000)
    rpc = daemon.client()
    tenant = Tenant(rpc)
    entries = [{"source": f"10.0.{i}.0/24", "description": "x" * 100} for i in range(250)]
    service = tenant.running(ipAccessList=entries)
    flood(daemon.client(), Rpc.encode(1, "service.update", {**tenant.of(service), "name": "n"}) * 100)
    assert rpc.call("stats")["ipcSlow"] == 1


# Who may connect

CHILD = """
import os, sys
sys.path.insert(0, sys.argv[1])
from rpc import Rpc
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[4]))
try:
    client = Rpc(sys.argv[2])
    try:
        print(client.call("hello")["product"])
    except Exception:
        print(client.wait_closed()[0][1]["code"])
except PermissionError:
    print("permission denied")
"""


def as_user(path, uid, gid):
    return subprocess.run([sys.executable, "-c", CHILD, str(LIB), path, str(gid), str(uid)], check=True,
                          capture_output=True, text=True, timeout=30).stdout.strip()


needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


def open_up(path):
    """Let others reach the socket, as far as folders go."""
    for folder in pathlib.Path(path).parents:
        if folder.owner() == "root" and len(folder.parts) > 2:
            folder.chmod(folder.stat().st_mode | 0o011)


@needs_root
def test_mode_keeps_others_out(daemon):
    open_up(daemon.socket_path)
    assert stat.S_IMODE(os.stat(daemon.socket_path).st_mode) == 0o600
    assert as_user(daemon.socket_path, 65534, 65534) == "permission denied"


@needs_root
def test_wrong_user_is_refused(daemon_factory):
    daemon = daemon_factory("--socket-mode", "0666")
    open_up(daemon.socket_path)
    assert as_user(daemon.socket_path, 65534, 65534) == "FORBIDDEN"
    assert daemon.client().call("stats")["ipcRefused"] == 1


@needs_root
def test_users_and_groups_may_be_allowed(daemon_factory):
    users = daemon_factory("--socket-mode", "0666", "--allow-users", "root,65534")
    open_up(users.socket_path)
    assert as_user(users.socket_path, 65534, 65533) == "reeve"
    assert as_user(users.socket_path, 65532, 65533) == "FORBIDDEN"
    groups = daemon_factory("--socket-mode", "0666", "--allow-users", "root", "--allow-groups", "65533")
    open_up(groups.socket_path)
    assert as_user(groups.socket_path, 65532, 65533) == "reeve"
    assert as_user(groups.socket_path, 65532, 65531) == "FORBIDDEN"


# The socket as a file


def test_stale_socket_is_replaced(daemon):
    daemon.kill()
    assert stat.S_ISSOCK(os.stat(daemon.socket_path).st_mode)
    daemon.start()
    assert daemon.client().call("hello")


def test_socket_is_removed_at_the_end(daemon):
    assert daemon.stop() == 0
    assert not os.path.exists(daemon.socket_path)


def test_live_socket_is_left_alone(daemon, daemon_factory):
    other = daemon_factory(start=False, socket_path=daemon.socket_path)
    with pytest.raises(RuntimeError, match="another server is listening"):
        other.start()
    assert daemon.client().call("hello")


def test_other_files_are_left_alone(daemon_factory, tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    other = daemon_factory(start=False, socket_path=path)
    with pytest.raises(RuntimeError, match="is not a socket"):
        other.start()
    assert path.read_text() == "data"


def test_client_that_does_not_read_cannot_hold_up_the_end(daemon_factory):
    daemon = daemon_factory("--ipc-close-ms", 300)
    rpc = daemon.client()
    tenant = Tenant(rpc)
    requests = [("service.create", {"organizationId": tenant.id, "name": f"s{i}", **SERVICE}) for i in range(3000)]
    for number in rpc.send_many(requests):
        rpc.wait(number)
    lazy = daemon.client()
    lazy.send("service.list", organizationId=tenant.id, stream=True)
    rpc.call("event.watch", {"from": 1})
    assert daemon.stop(timeout=10) == 0


def test_requests_under_way_are_answered_before_the_end(daemon):
    rpc = daemon.client()
    rpc.call("hello")
    numbers = rpc.send_many([("organization.create", {"name": f"o{i}"}) for i in range(1000)])
    rpc.wait(numbers[0])
    assert daemon.stop() == 0
    made = set()
    try:
        for number in numbers[1:]:
            made.add(rpc.wait(number)["id"])
    except Closed:
        pass
    daemon.start()
    found = {item["id"] for item in daemon.client().call("organization.list")["items"]}
    assert made <= found
