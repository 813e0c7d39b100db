"""The command line, as people and scripts use it."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest
from daemon import BINARY

CREATE = ("service", "create", "--name", "db", "--provider", "aws", "--region", "us-east-1", "--tier", "production")


class Cli:
    def __init__(self, daemon, organization=None):
        self.environment = {**os.environ, "REEVE_SOCKET": daemon.socket_path}
        if organization:
            self.environment["REEVE_ORG_ID"] = organization

    def __call__(self, *words, code=0, stdin=None):
        done = subprocess.run([BINARY, *map(str, words)], env=self.environment, input=stdin, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def json(self, *words):
        return json.loads(self(*words, "--json").stdout)


@pytest.fixture
def cli(daemon, tenant):
    return Cli(daemon, tenant.id)


def test_a_whole_life(cli):
    created = cli.json(*CREATE, "--ip-access-list", "10.0.0.0/8=office", "--ip-access-list", "::1", "--wait")
    service = created["service"]
    assert service["state"] == "running" and len(created["password"]) == 24
    assert service["ipAccessList"] == [{"source": "10.0.0.0/8", "description": "office"}, {"source": "::1", "description": ""}]
    identity = service["id"]
    updated = cli.json("service", "update", identity, "--remove", "::1", "--add", "1.2.3.4=me")
    assert [entry["source"] for entry in updated["ipAccessList"]] == ["10.0.0.0/8", "1.2.3.4"]
    assert cli.json("service", "scale", identity, "--min-total-memory-gb", 24, "--no-idle-scaling")["idleScaling"] is False
    backup = cli.json("backup", "create", identity, "--wait")
    assert backup["status"] == "done" and backup["sizeInBytes"] > 0
    copy = cli.json(*CREATE, "--backup-id", backup["id"], "--wait")["service"]
    assert copy["restoredFrom"] == backup["id"]
    assert cli.json("service", "stop", identity, "--wait")["state"] == "stopped"
    assert cli.json("service", "stop", identity, "--wait")["state"] == "stopped", "already so: no waiting"
    assert cli.json("service", "start", identity, "--wait")["state"] == "running"
    cli("service", "stop", identity, "--wait")
    cli("service", "delete", identity, "--wait")
    assert "NOT_FOUND" in cli("service", "get", identity, code=1).stderr
    assert cli.json("backup", "get", identity, backup["id"])["status"] == "done"


def test_tables_and_records_for_people(cli):
    assert cli("service", "list").stdout == "none\n"
    service = cli.json(*CREATE, "--wait")["service"]
    table = cli("service", "list").stdout.splitlines()
    assert table[0].split()[:3] == ["id", "name", "state"] and table[1].split()[:3] == [service["id"], "db", "running"]
    record = cli("service", "get", service["id"]).stdout
    assert re.search(r"^state +running$", record, re.M)
    assert "\033" not in record, "no colour where no terminal is"


def test_lists_go_on_page_after_page(cli, rpc, tenant):
    for number in rpc.send_many([("service.create", {"organizationId": tenant.id, "name": "s", "provider": "aws", "region": "us-east-1"})] * 2500):
        rpc.wait(number)
    assert len(cli("service", "list", "--json").stdout.splitlines()) == 2500
    assert len(cli("service", "list", "--limit", 7, "--json").stdout.splitlines()) == 7


def test_refusals_name_field_and_reason(cli):
    assert "minTotalMemoryGb: must be a multiple of 12" in cli(*CREATE, "--min-total-memory-gb", 25, code=1).stderr
    identity = cli.json(*CREATE, "--wait")["service"]["id"]
    assert "allowed now: update" in cli("service", "delete", identity, code=1).stderr


@pytest.mark.parametrize("words, hint", [
    (["servce"], "not known"),
    (["service", "crate"], "create"),
    (["service", "create", "--nmae", "x"], "did you mean --name"),
    (["service", "get"], "service-id is missing"),
    (["service", "create", "--name", "x", "--provider", "aws"], "--region is missing"),
    (["service", "list", "--limit", "many"], "whole number"),
    (["service", "list", "--wait"], "nothing to wait for"),
    (["service", "list", "too", "many"], "one word too many"),
    (["org", "create", "--params", "{"], "not JSON"),
    (["check", "a", "b"], "not understood"),
])
def test_usage_errors_hint(cli, words, hint):
    done = cli(*words, code=2)
    assert hint in done.stderr + done.stdout


def test_without_a_daemon(tmp_path, daemon):
    cli = Cli(daemon, "00000000-0000-0000-0000-000000000001")
    cli.environment["REEVE_SOCKET"] = str(tmp_path / "nobody.sock")
    assert "reeve serve" in cli("service", "list", code=3).stderr
    del cli.environment["REEVE_SOCKET"]
    assert "--socket" in cli("service", "list", code=2).stderr


def test_waiting_ends_in_failure_or_takes_too_long(daemon_factory):
    failing = daemon_factory(provisioner="simulated:delay-ms=0,fatal=1")
    cli = Cli(failing, failing.client().call("organization.create", name="x")["id"])
    done = cli(*CREATE, "--wait", code=4)
    assert "simulated error" in done.stderr and "failed" in done.stdout
    slow = daemon_factory(provisioner="simulated:delay-ms=60000")
    cli = Cli(slow, slow.client().call("organization.create", name="x")["id"])
    assert "still 'provisioning'" in cli(*CREATE, "--timeout", 1, code=5).stderr


def test_idempotency_and_generation(cli):
    first = cli.json(*CREATE, "--idempotency-key", "k")
    assert cli.json(*CREATE, "--idempotency-key", "k") == first
    assert "IDEMPOTENCY_MISMATCH" in cli("service", "create", "--name", "other", "--provider", "aws", "--region", "us-east-1", "--idempotency-key", "k", code=1).stderr
    assert "STALE_GENERATION" in cli("service", "stop", first["service"]["id"], "--if-generation", 77, code=1).stderr


def test_snapshot_and_check(cli, tmp_path):
    cli(*CREATE, "--wait")
    copy = tmp_path / "copy"
    cli("snapshot", copy)
    assert "nothing is wrong" in cli("check", copy).stdout
    assert "nothing is wrong" in cli("check").stdout
    assert "File exists" in cli("snapshot", copy, code=1).stderr
    cli("check", tmp_path / "nothing", code=1)


def test_check_of_a_damaged_store(cli, daemon, tmp_path):
    """A copy in which one byte of a record was changed on disk."""
    cli(*CREATE, "--wait")
    daemon.stop()
    shutil.copytree(daemon.data, tmp_path / "damaged")
    path = tmp_path / "damaged/data.mdb"
    content = path.read_bytes()
    marker = b"\xa2db\xa3aws"
    assert marker in content
    path.write_bytes(content.replace(marker, b"\xc1db\xa3aws"))
    done = cli("check", tmp_path / "damaged", code=6)
    assert "services" in done.stdout and "damaged" in done.stdout


def test_watch_goes_on_over_a_restart(cli, daemon):
    cli(*CREATE, "--wait")
    watch = subprocess.Popen([BINARY, "watch", "--from", "1", "--json"], env=cli.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        seen = [json.loads(watch.stdout.readline())["sequence"] for _ in range(3)]
        daemon.restart(kill=True)
        cli(*CREATE, "--wait")
        lines = [watch.stdout.readline() for _ in range(2)]
        assert all(lines), watch.stderr.read()
        assert seen + [json.loads(line)["sequence"] for line in lines] == [1, 2, 3, 4, 5]
    finally:
        watch.kill()
        watch.wait()


def test_help_of_everything(cli):
    overview = cli("help").stdout
    commands = re.findall(r"^  ([a-z-]+) ([a-z-]+) +[a-z]", overview, re.M)
    assert len(commands) >= 28
    for noun, verb in commands:
        assert cli(noun, verb, "--help").stdout.startswith("usage: reeve ")
    assert "--queue-capacity" in cli("serve", "--help").stdout


def test_completion(cli):
    for shell in ("bash", "zsh", "fish"):
        assert "health-lost" in cli("completion", shell).stdout
    script = cli("completion", "bash").stdout + """
COMP_WORDS=(reeve service st); COMP_CWORD=2; _reeve; echo "${COMPREPLY[@]}"
COMP_WORDS=(reeve org create --na); COMP_CWORD=3; _reeve; echo "${COMPREPLY[@]}"
"""
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["start stop", "--name"]


def test_version(cli):
    assert cli("version").stdout == cli("--version").stdout and cli("version").stdout.startswith("reeve 0.")


def test_interrupting_a_wait_leaves_the_work_going(daemon_factory):
    daemon = daemon_factory(provisioner="simulated:delay-ms=300")
    client = daemon.client()
    cli = Cli(daemon, client.call("organization.create", name="x")["id"])
    number = client.call("event.watch")["watch"]
    waiting = subprocess.Popen([BINARY, *CREATE, "--wait"], env=cli.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client.wait_event(lambda event: event["type"] == "service_create", watch=number)
    waiting.send_signal(signal.SIGINT)
    waiting.wait()
    client.wait_event(lambda event: event.get("to") == "running", watch=number)
