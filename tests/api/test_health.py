"""Servers that crash, hang or are gone after a restart of their host are noticed, and started again."""

import json
import os
import pathlib
import signal

import pytest
from tenant import Tenant

PLUGIN = pathlib.Path(__file__).resolve().parents[1] / "fixtures/plugins/echo"


class Ward:
    def __init__(self, daemon_factory, *arguments, settings="", **options):
        self.daemon = daemon_factory("--health-ms", "100", "--http", "127.0.0.1:0", *arguments, provisioner=f"exec:{PLUGIN}{settings}", **options)
        self.rpc = self.daemon.client()
        self.tenant = Tenant(self.rpc)
        self.watch()

    def watch(self):
        self.events = []
        self.rpc.call("event.watch", **{"from": 1})

    def reconnect(self):
        self.rpc = self.tenant.rpc = self.daemon.client()
        self.watch()

    def home(self, service):
        return self.daemon.data / "provisioner/servers" / service["id"]

    def pid(self, service):
        return int((self.home(service) / "pid").read_text())

    def answer(self, service, **health):
        """From now on, to each look."""
        part = self.home(service) / "health.part"
        part.write_text(json.dumps(health))
        part.rename(self.home(service) / "health")

    def starts(self, service):
        return (self.home(service) / "starts").read_text().split()

    def event(self, kind, service):
        """The next one of that kind, in the order of events of that service."""
        while True:
            for index, event in enumerate(self.events):
                if (event["type"], event.get("serviceId")) == (kind, service["id"]):
                    self.events = [other for other in self.events[:index] if other.get("serviceId") != service["id"]] + self.events[index + 1:]
                    return event
            self.events += self.rpc.next_events()


@pytest.fixture
def ward(daemon_factory):
    return Ward(daemon_factory)


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def test_a_server_that_crashes_is_started_again_at_once(daemon_factory):
    ward = Ward(daemon_factory, "--health-ms", "86400000")  # no look sees it
    service = ward.tenant.running()
    dead = ward.pid(service)
    kill(dead)
    lost = ward.event("service_degraded", service)
    assert (lost["from"], lost["to"], lost["code"], lost["message"]) == ("running", "degraded", "process_ended", f"the server's process {dead} has ended")
    assert lost["actor"] == "health"
    ward.event("service_running", service)
    record = ward.tenant.get(service)
    assert record["state"] == "running" and record["restarts"] == 1 and "lostAt" in record and "failure" not in record
    assert ward.pid(service) != dead and ward.starts(service) == ["provision", "start"]


def test_the_reason_is_shown_while_it_is_degraded(daemon_factory):
    ward = Ward(daemon_factory, "--restart-min-ms", "3600000", "--restart-max-ms", "3600000")
    service = ward.tenant.running()
    for _ in range(2):
        ward.event("service_running", service)
        kill(ward.pid(service))
        ward.event("service_degraded", service)
    record = ward.tenant.get(service)
    assert record["state"] == "degraded" and record["restarts"] == 2 and record["failure"]["code"] == "process_ended"
    assert record["operation"]["kind"] == "start" and record["operation"]["retryAt"]  # after a pause
    ward.rpc.call("service.stop", **ward.tenant.of(service))
    assert ward.tenant.wait_state(service, "stopped").get("restarts", 0) == 0


def test_a_server_that_hangs_is_started_again_after_some_looks(ward):
    service = ward.tenant.running()
    ward.answer(service, running=False, message="it answers\nno query")
    lost = ward.event("service_degraded", service)
    assert (lost["code"], lost["message"]) == ("unhealthy", "it answers no query")
    assert len((ward.home(service) / "looks").read_text().split()) >= 3
    (ward.home(service) / "health").unlink()
    ward.event("service_running", service)


def test_a_look_that_fails_tells_nothing(daemon_factory):
    ward = Ward(daemon_factory, "--health-failures", "1")
    service = ward.tenant.running()
    ward.answer(service, queries=1)  # it does not say whether it runs
    looks = ward.home(service) / "looks"
    while len(looks.read_text().split() if looks.exists() else []) < 5:
        ward.rpc.call("stats")
    assert ward.tenant.get(service)["state"] == "running" and ward.tenant.get(service).get("restarts", 0) == 0


def test_without_a_process_looks_notice_that_it_is_gone(daemon_factory):
    ward = Ward(daemon_factory, settings=",env.NAMELESS=1")
    service = ward.tenant.running()
    kill(ward.pid(service))
    assert ward.event("service_degraded", service)["message"] == "there is no process"
    ward.event("service_running", service)


def test_what_is_stopped_on_purpose_is_not_lost(ward):
    service = ward.tenant.running()
    for _ in range(5):
        ward.rpc.call("service.stop", **ward.tenant.of(service))
        ward.tenant.wait_state(service, "stopped")
        ward.rpc.call("service.start", **ward.tenant.of(service))
        ward.tenant.wait_state(service, "running")
    assert ward.tenant.get(service).get("restarts", 0) == 0
    assert not list((ward.daemon.data / "provisioner/processes").glob("*.part"))


def test_delete_leaves_nothing_of_it(ward):
    service = ward.tenant.running()
    processes = ward.daemon.data / "provisioner/processes"
    assert [path.stem for path in processes.iterdir()] == [service["id"]]
    ward.rpc.call("service.stop", **ward.tenant.of(service))
    ward.tenant.wait_state(service, "stopped")
    assert not list(processes.iterdir())


def test_queries_and_a_counter_that_moves_are_activity(daemon_factory):
    ward = Ward(daemon_factory)
    service = ward.tenant.running(tier="production", idleScaling=True, idleTimeoutMinutes=5)
    before = ward.tenant.get(service)["idleAt"]
    ward.answer(service, running=True, queries=2)
    while ward.tenant.get(service)["idleAt"] == before:  # pushed back, by a sixteenth more than it must be
        ward.rpc.call("stats")


def test_servers_that_are_gone_with_their_host_are_started_again_a_few_at_a_time(daemon_factory):
    ward = Ward(daemon_factory, "--operations-max", "3", "--health-ms", "86400000")
    services = [ward.tenant.create(f"s{number}") for number in range(12)]
    for service in services:
        ward.tenant.wait_state(service, "running")
    stopped = services.pop()
    ward.rpc.call("service.stop", **ward.tenant.of(stopped))
    ward.tenant.wait_state(stopped, "stopped")
    ward.daemon.kill()
    processes = ward.daemon.data / "provisioner/processes"
    for service in services:
        kill(ward.pid(service))
        file = processes / f"{service['id']}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "bootId": "another"}))
    ward.daemon.start()
    ward.reconnect()
    for service in services:
        ward.event("service_degraded", service)
    for service in services:
        ward.tenant.wait_state(service, "running")
        assert ward.starts(service) == ["provision", "start"]
    assert ward.tenant.get(stopped)["state"] == "stopped" and ward.starts(stopped) == ["provision"]


def test_one_that_runs_on_while_the_daemon_is_away_is_left_alone(ward):
    service = ward.tenant.running()
    pid = ward.pid(service)
    ward.daemon.kill()
    ward.daemon.start()
    ward.reconnect()
    assert ward.tenant.get(service)["state"] == "running"
    kill(pid)  # and is watched again
    assert ward.event("service_degraded", service)["code"] == "process_ended"


def test_counters_are_among_the_metrics(ward):
    import urllib.request
    import re

    service = ward.tenant.running()
    kill(ward.pid(service))
    ward.event("service_degraded", service)
    ward.event("service_running", service)
    address = re.findall(r"listening http=(\S+)", ward.daemon.log())[-1]
    metrics = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    assert "reeve_health_lost_total 1\n" in metrics, [line for line in metrics.splitlines() if "health" in line]
    assert "reeve_health_ended_total 1\n" in metrics


@pytest.mark.parametrize("value, words", [("0", "50 to 86400000"), ("x", "50 to 86400000")])
def test_limits_are_checked(daemon_factory, value, words):
    with pytest.raises(RuntimeError) as refused:
        daemon_factory("--health-ms", value, provisioner=f"exec:{PLUGIN}")
    assert "health-ms" in str(refused.value)
