"""`reeve serve` as a process: starting, stopping, signals, configuration, files."""

import json
import os
import pathlib
import signal
import socket
import stat
import subprocess

import pytest
from daemon import BINARY, FAST
from rpc import RpcError
from tenant import Tenant


def serve(*arguments, **more):
    """Run it where it is expected to end by itself."""
    return subprocess.run([BINARY, "serve", *map(str, arguments)], capture_output=True, text=True, timeout=30, **more)


def test_sigterm_and_sigint_end_cleanly(daemon_factory):
    for number in (signal.SIGTERM, signal.SIGINT):
        daemon = daemon_factory()
        daemon.client().call("organization.create", name="kept")
        daemon.process.send_signal(number)
        assert daemon.process.wait(30) == 0
        assert not os.path.exists(daemon.socket_path)
        assert "stopping" in daemon.log() and daemon.log().rstrip().endswith("stopped")
        daemon.start()
        assert daemon.client().call("organization.list")["items"][0]["name"] == "kept"


@pytest.mark.parametrize("arguments, words", [
    ([], ["data", "--dev"]),
    (["--data"], ["needs a value"]),
    (["--dat"], ["dat", "is not known", "data"]),
    (["--dta", "x"], ["dta", "did you mean data"]),
    (["data"], ["not a flag"]),
    (["--data", "x", "--queue-capacity", "none"], ["queue-capacity", "from 1 to"]),
    (["--data", "x", "--queue-capacity", "0"], ["queue-capacity", "from 1 to"]),
    (["--data", "x", "--log-level", "loud"], ["log-level", "error, warning, info or debug"]),
    (["--data", "x", "--log-format", "xml"], ["log-format", "text or json"]),
    (["--data", "x", "--socket-mode", "9"], ["socket-mode", "octal"]),
    (["--data", "x", "--config", "/no/such/file"], ["config", "/no/such/file"]),
])
def test_wrong_flags_are_told(arguments, words, tmp_path):
    done = serve(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("spec, words", [
    ("magic", ["provisioner", "simulated"]),
    ("simulated:speed=3", ["speed", "known are delay-ms"]),
    ("simulated:delay-ms=9..1", ["delay-ms", "milliseconds"]),
    ("simulated:fail=2", ["fail", "from 0 to 1"]),
    ("simulated:explode.fail=0.1", ["explode.fail", "provision, start"]),
    ("simulated:seed", ["seed", "key=value"]),
    ("workers:speed=3", ["workers:speed", "lease-ms"]),
    ("workers:passwords=clear", ["workers:passwords", "scram-sha-256"]),
    ("workers:lease-ms=500,passwords", ["workers:passwords", "sha-256"]),
    ("workers:lease-ms", ["workers:lease-ms", "milliseconds"]),
    ("workers:lease-ms=49", ["workers:lease-ms", "from 50"]),
    ("workers:lease-ms=1s", ["workers:lease-ms", "from 50"]),
])
def test_wrong_provisioners_are_told(spec, words, tmp_path):
    done = serve("--data", tmp_path / "d", "--provisioner", spec)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize("line, words", [
    ("queue-capacty = 5", ["queue-capacty", "did you mean queue-capacity", "line 3"]),
    ("queue-capacity = many", ["queue-capacity", "from 1 to", "line 3"]),
    ("[section]\nqueue-capacity = 5", ["section", "line 4"]),
    ("dev = 1", ["dev", "flag only"]),
    ("no equals sign", ["line 3", "key = value"]),
])
def test_wrong_configuration_names_file_and_line(line, words, tmp_path):
    path = tmp_path / "reeve.conf"
    path.write_text("# of this test\nlog-level = info\n" + line + "\n")
    done = serve("--data", tmp_path / "d", "--config", path)
    assert done.returncode == 2
    for word in [str(path), *words]:
        assert word in done.stderr


def test_flags_win_over_the_file_and_the_file_over_defaults(daemon_factory, tmp_path):
    path = tmp_path / "reeve.conf"
    path.write_text("log-format = json\nlog-level = debug\ncatalogue = moon: tycho\n")
    daemon = daemon_factory("--config", path, "--log-level", "info")
    rpc = daemon.client()
    organization = rpc.call("organization.create", name="x")["id"]
    rpc.call("service.create", organizationId=organization, name="x", provider="moon", region="tycho")
    lines = [json.loads(line) for line in daemon.log().splitlines()]
    assert lines and all(line["level"] != "debug" for line in lines)


def test_logs_have_no_secrets(daemon_factory):
    daemon = daemon_factory("--log-level", "debug", "--log-format", "json")
    rpc = daemon.client()
    organization = rpc.call("organization.create", name="x")["id"]
    key = rpc.call("key.create", organizationId=organization, name="k")
    created = rpc.call("service.create", organizationId=organization, name="x", provider="aws", region="us-east-1", idempotencyKey="secret-key")
    daemon.stop()
    log = daemon.log()
    assert "input=create" in log
    for secret in (key["keySecret"], created["password"], "secret-key"):
        assert secret not in log
    stored = (daemon.data / "data.mdb").read_bytes()
    for secret in (key["keySecret"], created["password"], "secret-key"):
        assert secret.encode() not in stored


def test_sighup_reloads_what_may_change_and_keeps_the_old_where_the_new_is_wrong(daemon_factory, tmp_path):
    path = tmp_path / "reeve.conf"
    path.write_text("keys-per-org = 1\n")
    daemon = daemon_factory("--config", path)
    rpc = daemon.client()
    organization = rpc.call("organization.create", name="x")["id"]
    rpc.call("key.create", organizationId=organization, name="a")

    def reload(text, word):
        path.write_text(text)
        daemon.process.send_signal(signal.SIGHUP)
        rpc.wait_stats(lambda stats: word in daemon.log())

    def second_key_is_refused():
        with pytest.raises(RpcError, match="QUOTA_EXCEEDED"):
            rpc.call("key.create", organizationId=organization, name="b")

    second_key_is_refused()
    reload("keys-per-org = no\n", "not reloaded")
    second_key_is_refused()
    reload("keys-per-org = 5\n", "reloaded limits")
    rpc.call("key.create", organizationId=organization, name="b")


def test_sighup_changes_the_log_level_of_the_engine_too(daemon_factory, tmp_path):
    path = tmp_path / "reeve.conf"
    path.write_text("log-level = info\n")
    daemon = daemon_factory("--config", path)
    tenant = Tenant(daemon.client())
    tenant.running("quiet")
    assert "input=" not in daemon.log()
    path.write_text("log-level = debug\n")
    daemon.process.send_signal(signal.SIGHUP)
    tenant.rpc.wait_stats(lambda _: "info    reloaded" in daemon.log())
    tenant.running("told")
    assert "input=create to=provisioning" in daemon.log()


def test_a_second_daemon_on_the_directory_is_refused(daemon):
    done = serve("--data", daemon.data, "--socket", daemon.socket_path + "2", "--provisioner", FAST)
    assert done.returncode == 1 and f"process {daemon.process.pid}" in done.stderr


def test_a_second_daemon_on_the_socket_is_refused(daemon, tmp_path):
    done = serve("--data", tmp_path / "other", "--socket", daemon.socket_path, "--provisioner", FAST)
    assert done.returncode == 1 and daemon.socket_path in done.stderr
    assert daemon.client().call("hello")["product"] == "reeve"


def test_what_a_killed_daemon_left_behind_is_no_obstacle(daemon):
    daemon.kill()
    assert os.path.exists(daemon.socket_path)
    daemon.start()
    assert daemon.client().call("hello")["product"] == "reeve"


def test_directories_that_cannot_be_used_are_told(tmp_path):
    done = serve("--data", tmp_path / "no/parent")
    assert done.returncode == 1 and "no/parent" in done.stderr
    (tmp_path / "file").write_text("")
    done = serve("--data", tmp_path / "file")
    assert done.returncode == 1 and "Not a directory" in done.stderr


def test_files_are_private(daemon):
    for name in ("data.mdb", "reeve.lock"):
        assert stat.S_IMODE((daemon.data / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.data.stat().st_mode) == 0o700
    assert stat.S_IMODE(pathlib.Path(daemon.socket_path).stat().st_mode) == 0o600


def lasting(environment):
    """What does not depend on the port of this start."""
    return "".join(line for line in environment.read_text().splitlines() if "REEVE_URL" not in line)


def test_dev_makes_an_organization_and_a_key_once(daemon_factory):
    daemon = daemon_factory("--dev")
    environment = daemon.data / "dev.env"
    first = lasting(environment)
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    script = f'. {environment}; {BINARY} key list --json'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    key = json.loads(done.stdout)
    assert key["role"] == "admin" and key["id"] in first
    daemon.restart()
    assert lasting(environment) == first
    assert len(daemon.client().call("organization.list")["items"]) == 1


def test_readiness_stopping_and_signs_of_life(tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(path)
        notify.settimeout(30)
        process = subprocess.Popen([BINARY, "serve", "--data", str(tmp_path / "d"), "--provisioner", "none"], stderr=subprocess.DEVNULL,
                                   env={**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "20000"})
        heard = set()
        while not {b"READY=1", b"WATCHDOG=1"} <= heard:
            heard.add(notify.recv(100))
        process.terminate()
        while b"STOPPING=1" not in heard:
            heard.add(notify.recv(100))
        assert process.wait(30) == 0


def test_without_a_provisioner_operations_wait_for_one(daemon_factory):
    daemon = daemon_factory(provisioner="none")
    rpc = daemon.client()
    organization = rpc.call("organization.create", name="x")["id"]
    service = rpc.call("service.create", organizationId=organization, name="x", provider="aws", region="us-east-1")["service"]["id"]
    operation = rpc.call("operation.list", organizationId=organization)["items"][0]
    daemon.stop()
    daemon.arguments[daemon.arguments.index("none")] = FAST
    daemon.start()
    rpc = daemon.client()
    rpc.call("event.watch", {"from": 1})
    events = rpc.wait_event(lambda event: event.get("to") == "running" and event["serviceId"] == service)
    assert events[1]["operationId"] == operation["id"]


def test_limits_of_one_kind_of_operation(daemon_factory):
    daemon = daemon_factory("--stop.operation-attempts-max", "1", provisioner="simulated:delay-ms=0..0,stop.fail=1")
    tenant = Tenant(daemon.client())
    service = tenant.running()
    tenant.rpc.call("service.stop", **tenant.of(service))
    assert tenant.wait_state(service, "failed")["failure"]["code"]
    with pytest.raises(RuntimeError) as caught:
        daemon_factory("--stop.operation-attempts-max", "1001")
    assert "stop.operation-attempts-max: must be a number from 0 to 1000 (attempts), not '1001'" in str(caught.value)
