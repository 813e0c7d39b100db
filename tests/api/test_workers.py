"""Operations that are done by clients of the socket: `reeve serve --provisioner workers`."""

import hashlib
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import scram

from rpc import RpcError
from tenant import Tenant
from worker import Worker

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "python" / "worker.py"
ENDPOINT = {"protocol": "nativesecure", "host": "db.example", "port": 9440}


@pytest.fixture
def daemon(daemon_factory):
    return daemon_factory(provisioner="workers")


@pytest.fixture
def hasty(daemon_factory):
    """Its leases run out soon."""
    return daemon_factory(provisioner="workers:lease-ms=1000")


@pytest.fixture
def worker(daemon):
    return Worker(daemon)


def refused(call, *arguments, **params):
    with pytest.raises(RpcError) as caught:
        call(*arguments, **params)
    return caught.value


def started(rpc, count):
    """Wait until the engine has handed so many operations to the provisioner, whoever has them now."""
    rpc.wait_stats(lambda stats: stats["operationsInFlight"] == count)
    rpc.call("hello")


def wait_gone(tenant, service):
    """What is gone cannot be read: its event tells."""
    watch = tenant.rpc.call("event.watch", {"from": 1, "serviceId": service["id"]})["watch"]
    tenant.rpc.wait_event(lambda event: event.get("to") == "gone", watch=watch)


# What one worker sees and does


def test_workers_may_ask_for_a_verifier_of_the_password(daemon_factory):
    daemon = daemon_factory(provisioner="workers:passwords=sha-256+scram-sha-256,lease-ms=20000")
    worker, tenant = Worker(daemon), Tenant(daemon.client())
    created = tenant.rpc.call("service.create", organizationId=tenant.id, name="a", provider="aws", region="us-east-1")
    told = worker.do("provision")["service"]
    assert scram.verifies(told["passwordScram"], created["password"])
    tenant.wait_state(created["service"], "running")
    tenant.rpc.call("service.set_password", newPasswordHash="ab" * 32, **tenant.of(created["service"]))
    assert "passwordScram" not in worker.do("configure")["service"]


def test_a_whole_life(tenant, worker):
    digest = hashlib.sha256(b"secret").hexdigest()
    service = tenant.create("life", newPasswordHash=digest, ipAccessList=[{"source": "10.0.0.0/8"}])
    lease, operation = worker.take()
    assert operation["kind"] == "provision" and operation["attempt"] == 1 and operation["desired"] >= 1
    assert operation["organizationId"] == tenant.id and operation["serviceId"] == service["id"]
    assert 0 < operation["timeoutMs"] <= 300000 and "backupId" not in operation and "backup" not in operation
    wanted = operation["service"]
    assert wanted["id"] == service["id"] and wanted["name"] == "life" and wanted["provider"] == "aws"
    assert wanted["passwordSha256"] == digest and wanted["mysqlEnabled"] is False and "handle" not in wanted
    assert wanted["ipAccessList"] == [{"source": "10.0.0.0/8", "description": ""}]
    assert worker.finish(lease, endpoints=[ENDPOINT], handle=b"\x00\xff opaque", version="24.8") == {}
    running = tenant.wait_state(service, "running")
    assert running["endpoints"] == [ENDPOINT] and running["clickhouseVersion"] == "24.8" and "handle" not in running

    tenant.rpc.call("service.stop", **tenant.of(service))
    lease, operation = worker.take()
    assert operation["kind"] == "stop" and operation["service"]["handle"] == b"\x00\xff opaque"
    worker.finish(lease)
    tenant.wait_state(service, "stopped")
    tenant.rpc.call("service.start", **tenant.of(service))
    worker.do("start")
    tenant.wait_state(service, "running")
    tenant.rpc.call("service.set_password", newPasswordHash="ab" * 32, **tenant.of(service))
    assert worker.do("configure")["service"]["passwordSha256"] == "ab" * 32
    tenant.rpc.call("service.stop", **tenant.of(service))
    worker.do("stop")
    tenant.wait_state(service, "stopped")
    tenant.rpc.call("service.delete", **tenant.of(service))
    worker.do("delete")
    wait_gone(tenant, service)


def test_a_backup_and_a_restore_from_it(tenant, worker):
    service = tenant.create()
    worker.do("provision")
    tenant.wait_state(service, "running")
    backup = tenant.rpc.call("backup.create", **tenant.of(service))
    names = {**tenant.of(service), "backupId": backup["id"]}
    lease, operation = worker.take()
    assert operation["kind"] == "backup" and operation["backupId"] == backup["id"]
    assert operation["backup"]["id"] == backup["id"] and operation["service"]["id"] == service["id"]
    tenant.rpc.call("event.watch", {"from": 1})
    worker.finish(lease, sizeBytes=4711, handle=b"where it is")
    tenant.rpc.wait_event(lambda event: event["type"] == "backup_done")
    assert tenant.rpc.call("backup.get", **names)["sizeInBytes"] == 4711
    tenant.create("copy", backupId=backup["id"])
    restore = worker.do("provision")
    assert restore["backup"]["id"] == backup["id"] and restore["backup"]["handle"] == b"where it is"
    assert restore["backup"]["serviceId"] == service["id"] and restore["serviceId"] != service["id"]
    tenant.rpc.wait_event(lambda event: event.get("to") == "running")
    tenant.rpc.call("backup.delete", **names)
    gone = worker.do("delete_backup")
    assert gone["backup"]["handle"] == b"where it is" and "service" not in gone
    tenant.rpc.wait_event(lambda event: event["type"] == "backup_gone")


def test_progress_is_seen(tenant, worker):
    service = tenant.create()
    lease, operation = worker.take()
    assert worker.progress(lease) == {}
    assert worker.progress(lease, done=3, total=10, text="copying") == {}
    names = {**tenant.of(service), "operationId": operation["id"]}
    while "progress" not in (record := tenant.rpc.call("operation.get", **names)):
        pass
    told = record["progress"]
    assert (told["done"], told["total"], told["text"]) == (3, 10, "copying")
    worker.finish(lease)
    tenant.wait_state(service, "running")


def test_a_failure_is_tried_again_and_then_final(daemon, tenant, worker):
    service = tenant.create()
    lease, first = worker.take()
    worker.finish(lease, "retry", code="no_disk", message="no disk is free", retryAfterMs=1)
    lease, second = worker.take()
    assert second["id"] == first["id"] and second["attempt"] == 2
    assert second["service"]["operation"]["lastError"]["code"] == "no_disk"
    worker.finish(lease, "failed", code="no_region", message="there is no such place")
    failed = tenant.wait_state(service, "failed")
    assert failed["failure"]["code"] == "no_region" and failed["failure"]["message"] == "there is no such place"


def test_wrong_reports_are_refused_by_field_and_change_nothing(tenant, worker):
    service = tenant.create()
    lease, _ = worker.take()
    wrong = [
        ("lease", {"lease": None}), ("lease", {"lease": "x"}), ("lease", {"lease": 0}),
        ("status", {"status": "perhaps"}), ("status", {"status": "cancelled"}),
        ("code", {"code": "c"}), ("message", {"message": "m"}), ("retryAfterMs", {"retryAfterMs": 5}),
        ("code", {"status": "failed", "code": "c" * 51}), ("message", {"status": "retry", "message": "m" * 501}),
        ("message", {"status": "retry", "message": "two\nlines"}),
        ("retryAfterMs", {"status": "retry", "retryAfterMs": 3600001}),
        ("endpoints", {"status": "failed", "endpoints": [ENDPOINT]}), ("endpoints", {"endpoints": ENDPOINT}),
        ("endpoints", {"endpoints": [ENDPOINT] * 17}), ("endpoints", {"endpoints": []}),
        ("endpoints[1].port", {"endpoints": [ENDPOINT, {**ENDPOINT, "port": 65536}]}),
        ("endpoints[0].host", {"endpoints": [{"protocol": "https", "port": 1}]}),
        ("endpoints[0].protocol", {"endpoints": [{**ENDPOINT, "protocol": "p" * 51}]}),
        ("endpoints[0].username", {"endpoints": [{**ENDPOINT, "username": "u" * 256}]}),
        ("endpoints[0].colour", {"endpoints": [{**ENDPOINT, "colour": "red"}]}),
        ("handle", {"handle": "text"}), ("handle", {"handle": b"h" * 4097}), ("handle", {"status": "retry", "handle": b"h"}),
        ("sizeBytes", {"sizeBytes": -1}), ("sizeBytes", {"status": "failed", "sizeBytes": 1}),
        ("version", {"version": "v" * 51}), ("version", {"status": "retry", "version": "1"}),
        ("mood", {"mood": "good"}),
    ]
    for field, params in wrong:
        error = refused(worker.rpc.call, "worker.finish", {"lease": lease, "status": "done", **params})
        assert error.code == "BAD_REQUEST" and error.field == field, (params, error)
    assert refused(worker.rpc.call, "worker.finish", lease=lease).field == "status"
    for field, params in [("text", {"text": "t" * 201}), ("done", {"done": 1.5}), ("total", {"total": "all"})]:
        assert refused(worker.progress, lease, **params).field == field
    assert tenant.get(service)["state"] == "provisioning"
    assert worker.finish(lease) == {}
    error = refused(worker.finish, lease)
    assert error.code == "NOT_FOUND" and error.field == "lease" and "the lease has ended" in error.message
    tenant.wait_state(service, "running")


@pytest.mark.parametrize("field, params", [
    ("kinds", {"kinds": []}), ("kinds", {"kinds": "backup"}), ("kinds[1]", {"kinds": ["backup", "magic"]}),
    ("kinds[1]", {"kinds": ["stop", "stop"]}), ("kinds[0]", {"kinds": [7]}), ("organizationId", {"organizationId": "x"}),
    ("max", {"max": 0}), ("max", {"max": 65537}), ("mood", {"mood": "good"}),
])
def test_wrong_subscriptions_are_refused_by_field(rpc, field, params):
    error = refused(rpc.call, "worker.subscribe", params)
    assert error.code == "BAD_REQUEST" and error.field == field


def test_workers_of_one_client_are_limited(daemon_factory):
    rpc = daemon_factory("--ipc-client-workers-max", 3, "--ipc-client-leases-max", 10, provisioner="workers").client()
    rpc.call("worker.subscribe", max=8)
    error = refused(rpc.call, "worker.subscribe", max=3)
    assert error.code == "QUOTA_EXCEEDED" and error.field == "max"
    rpc.call("worker.subscribe")
    last = rpc.call("worker.subscribe")["worker"]
    assert refused(rpc.call, "worker.subscribe").code == "QUOTA_EXCEEDED"
    assert rpc.call("stats")["ipcWorkers"] == 3
    assert rpc.call("worker.unsubscribe", worker=last) == {}
    error = refused(rpc.call, "worker.unsubscribe", worker=last)
    assert error.code == "NOT_FOUND" and error.field == "worker"
    assert rpc.call("stats")["ipcWorkers"] == 2


def test_without_the_provisioner_there_is_nothing_to_do(daemon_factory):
    rpc = daemon_factory().client()
    for method, params in [("subscribe", {}), ("unsubscribe", {"worker": 1}), ("progress", {"lease": 1}),
                           ("finish", {"lease": 1, "status": "done"})]:
        error = refused(rpc.call, f"worker.{method}", params)
        assert error.code == "CONFLICT" and "--provisioner workers" in error.message


# Who gets what


def test_two_workers_share_the_load(daemon, tenant):
    workers = [Worker(daemon, max=4), Worker(daemon, max=4)]
    for i in range(6):
        tenant.create(f"s{i}")
    started(tenant.rpc, 6)
    assert [len(worker.taken()) for worker in workers] == [3, 3]
    tenant.create("s6"), tenant.create("s7"), tenant.create("s8")
    started(tenant.rpc, 9)
    assert [len(worker.taken()) for worker in workers] == [4, 4]
    lease, _ = workers[1].take()
    workers[1].finish(lease)
    workers[1].take(), workers[1].take(), workers[1].take()
    assert workers[1].take()[1]["kind"] == "provision"  # the ninth, which had waited


def test_filter_by_kind(daemon, tenant):
    starter, stopper = Worker(daemon, kinds=["provision", "start"]), Worker(daemon, kinds=["stop"])
    service = tenant.create()
    starter.do("provision")
    tenant.wait_state(service, "running")
    tenant.rpc.call("service.stop", **tenant.of(service))
    stopper.do("stop")
    tenant.wait_state(service, "stopped")
    tenant.rpc.call("service.delete", **tenant.of(service))
    started(tenant.rpc, 1)
    assert starter.taken() == [] and stopper.taken() == []
    assert Worker(daemon, kinds=["delete"]).do("delete")["serviceId"] == service["id"]
    wait_gone(tenant, service)


def test_filter_by_organization(daemon, rpc):
    one, two = Tenant(rpc, "one"), Tenant(rpc, "two")
    worker = Worker(daemon, organizationId=two.id, max=10)
    one.create("a"), two.create("b"), one.create("c"), two.create("d")
    started(rpc, 4)
    assert sorted(operation["service"]["name"] for operation in worker.taken()) == ["b", "d"]
    worker.subscribe(organizationId=one.id, max=10)
    assert sorted(operation["service"]["name"] for operation in worker.taken()) == ["a", "b", "c", "d"]


def test_without_a_worker_operations_wait_for_one(daemon_factory):
    """Their time stands still meanwhile: no attempt is spent on nobody being there."""
    daemon = daemon_factory("--operation-timeout-ms", 1000, "--retry-min-ms", 1, provisioner="workers")
    tenant = Tenant(daemon.client())
    waits, other = tenant.create("waits"), tenant.create("other")
    started(tenant.rpc, 2)
    # In the time that the first one waits, another operation is taken and runs out of its time.
    stopper = Worker(daemon, kinds=["stop"])
    tenant.rpc.call("service.stop", **tenant.of(other))
    assert stopper.take()[1]["kind"] == "stop"
    stopper.rpc.next_notification("worker.cancelled")
    record = tenant.get(waits)["operation"]
    assert record["attempt"] == 1 and "lastError" not in record and "started" not in record
    worker = Worker(daemon, kinds=["provision"])
    lease, operation = worker.take()
    assert operation["attempt"] == 1 and operation["serviceId"] == waits["id"] and operation["timeoutMs"] == 1000
    worker.finish(lease)
    tenant.wait_state(waits, "running")


# When a worker does not do what it took


def test_a_lease_that_runs_out_goes_to_another(hasty):
    tenant = Tenant(hasty.client())
    slow = Worker(hasty)
    assert slow.lease_ms == 1000
    service = tenant.create()
    lease, first = slow.take()
    quick = Worker(hasty)
    other, again = quick.take()
    assert other != lease and again["id"] == first["id"] and again["attempt"] == first["attempt"] == 1
    assert again["timeoutMs"] < first["timeoutMs"]
    assert refused(slow.progress, lease, done=1).code == "NOT_FOUND"
    error = refused(slow.finish, lease, "failed", code="late", message="much too late")
    assert error.code == "NOT_FOUND" and error.field == "lease"
    assert tenant.get(service)["state"] == "provisioning"
    quick.finish(other)
    tenant.wait_state(service, "running")


def test_who_let_a_lease_run_out_gets_nothing_until_heard_of(hasty):
    tenant = Tenant(hasty.client())
    silent = Worker(hasty, max=2)
    tenant.create("first")
    lease, first = silent.take()
    other = Worker(hasty)
    again, second = other.take()
    assert second["id"] == first["id"]
    other.finish(again)
    other.rpc.call("worker.unsubscribe", worker=other.number)
    tenant.create("second")
    started(tenant.rpc, 1)
    assert silent.taken() == []
    assert refused(silent.finish, lease).code == "NOT_FOUND"
    assert silent.take()[1]["service"]["name"] == "second"


def test_a_lease_that_is_renewed_stays(hasty):
    tenant = Tenant(hasty.client())
    worker, other = Worker(hasty), Worker(hasty)
    service = tenant.create()
    lease, _ = worker.take()
    end = time.monotonic() + 3 * worker.lease_ms / 1000
    while time.monotonic() < end:
        assert worker.progress(lease) == {}
    assert other.taken() == []
    assert worker.finish(lease) == {}
    tenant.wait_state(service, "running")


def test_a_connection_that_closes_gives_its_operations_back(daemon, tenant):
    leaver = Worker(daemon, max=3)
    for name in "abc":
        tenant.create(name)
    names = [leaver.take()[1]["service"]["name"] for _ in range(3)]
    assert names == ["a", "b", "c"]
    leaver.rpc.close()
    stayer = Worker(daemon)
    for name in names:  # in the order in which they came
        lease, operation = stayer.take()
        assert operation["service"]["name"] == name and operation["attempt"] == 1
        stayer.finish(lease)


def test_unsubscribe_gives_back_and_leases_of_others_are_not_taken(daemon, tenant):
    leaver, stayer = Worker(daemon), Worker(daemon, kinds=["stop"])
    tenant.create()
    lease, first = leaver.take()
    assert refused(stayer.finish, lease).code == "NOT_FOUND"
    assert refused(stayer.progress, lease).code == "NOT_FOUND"
    assert refused(stayer.rpc.call, "worker.unsubscribe", worker=leaver.number).code == "NOT_FOUND"
    assert leaver.rpc.call("worker.unsubscribe", worker=leaver.number) == {}
    assert refused(leaver.finish, lease).code == "NOT_FOUND"
    assert Worker(daemon).take()[1]["id"] == first["id"]


@pytest.mark.parametrize("status", ["done", "cancelled", "failed"])
def test_stop_cancels_what_is_under_way(daemon, tenant, status):
    worker, stopper = Worker(daemon, kinds=["provision"]), Worker(daemon, kinds=["stop"])
    service = tenant.create()
    lease, _ = worker.take()
    tenant.rpc.call("service.stop", **tenant.of(service))
    told = worker.rpc.next_notification("worker.cancelled")[1]
    assert told == {"worker": worker.number, "lease": lease}
    assert worker.progress(lease, done=1, total=2) == {}  # it may take its time, as long as it is heard of
    assert stopper.taken() == []
    assert worker.finish(lease, status) == {}
    assert refused(worker.finish, lease).code == "NOT_FOUND"
    stopper.do("stop")
    tenant.wait_state(service, "stopped")


def test_stop_cancels_what_waits(daemon, tenant):
    service = tenant.create()
    started(tenant.rpc, 1)
    tenant.rpc.call("service.stop", **tenant.of(service))
    worker = Worker(daemon)
    worker.do("stop")
    tenant.wait_state(service, "stopped")
    assert worker.taken() == []


def test_a_cancelled_worker_that_leaves_holds_nobody_up(daemon, tenant):
    worker, stopper = Worker(daemon, kinds=["provision"]), Worker(daemon, kinds=["stop"])
    service = tenant.create()
    worker.take()
    tenant.rpc.call("service.stop", **tenant.of(service))
    worker.rpc.next_notification("worker.cancelled")
    worker.rpc.close()
    stopper.do("stop")
    tenant.wait_state(service, "stopped")


def test_an_attempt_past_its_time_is_cancelled_and_comes_again(daemon_factory):
    daemon = daemon_factory("--operation-timeout-ms", 1000, "--retry-min-ms", 1, provisioner="workers")
    tenant = Tenant(daemon.client())
    worker = Worker(daemon, max=2)
    service = tenant.create()
    lease, first = worker.take()
    assert worker.rpc.next_notification("worker.cancelled")[1]["lease"] == lease
    worker.finish(lease, "cancelled")
    lease, second = worker.take()
    assert second["id"] == first["id"] and second["attempt"] == 2
    worker.finish(lease)
    tenant.wait_state(service, "running")


def test_after_a_crash_operations_come_again_with_the_same_id(daemon, tenant, worker):
    tenant.create()
    lease, first = worker.take()
    daemon.restart(kill=True)
    again = Worker(daemon)
    other, second = again.take()
    assert second["id"] == first["id"] and second["attempt"] == first["attempt"] and other > lease
    assert refused(again.finish, lease).code == "NOT_FOUND"
    again.finish(other)
    tenant.rpc = daemon.client()
    tenant.wait_state({"id": second["serviceId"]}, "running")


def test_a_clean_stop_takes_operations_back_too(daemon, tenant, worker):
    tenant.create()
    _, first = worker.take()
    waits = tenant.create("waits")
    daemon.restart()
    again = Worker(daemon, max=2)
    operations = [again.take()[1], again.take()[1]]
    assert first["id"] in {operation["id"] for operation in operations}
    assert waits["id"] in {operation["serviceId"] for operation in operations}


def test_a_worker_that_does_not_read_is_handed_no_more(daemon_factory):
    daemon = daemon_factory("--ipc-output-pause-bytes", 4096, "--operations-max", 1024,
                            "--operations-per-org-max", 1024, provisioner="workers")
    tenant = Tenant(daemon.client())
    entries = [{"source": f"10.0.{i}.0/24", "description": "x" * 100} for i in range(250)]
    lazy = Worker(daemon, max=1024)
    requests = [("service.create", {"organizationId": tenant.id, "name": f"s{i}", "provider": "aws",
                                    "region": "us-east-1", "ipAccessList": entries}) for i in range(200)]
    for number in tenant.rpc.send_many(requests):
        tenant.rpc.wait(number)
    started(tenant.rpc, 200)
    assert tenant.rpc.call("stats")["ipcLeases"] < 200
    for _ in range(200):
        lease, _ = lazy.take()
        lazy.finish(lease)
    tenant.rpc.wait_stats(lambda stats: stats["operationsInFlight"] == 0)


# Many


def test_fifty_services_with_five_workers(daemon, tenant):
    """They take turns: all have about as much to do."""
    workers = [Worker(daemon, max=2) for _ in range(5)]
    services = [tenant.create(f"s{i}") for i in range(50)]
    done = [0] * 5
    while sum(done) < 50:
        for i, worker in enumerate(workers):
            if worker.taken():
                lease, operation = worker.take()
                worker.progress(lease, done=1, total=1)
                worker.finish(lease)
                done[i] += 1
    for service in services:
        tenant.wait_state(service, "running")
    assert min(done) >= 8, done


class Careless(Worker):
    """Does what it has taken, or loses it in any of the ways in which that can happen."""

    def __init__(self, daemon):
        super().__init__(daemon, max=3)
        self.daemon, self.leases, self.forgotten = daemon, {}, set()

    def step(self, dice, holders, careless=True):
        for name, part in [n for n in self.rpc.notifications if n[0].startswith("worker.")]:
            self.rpc.notifications.remove((name, part))
            if name == "worker.operation":
                self.note(part["lease"], part["operation"]["id"], holders)
        for lease in list(self.leases):
            luck = dice.random() if careless else 1
            if luck < 0.1:
                self.forgotten.add(lease)
                del self.leases[lease]
                continue
            if luck < 0.15:
                self.rpc.close()
                self.__init__(self.daemon)
                return
            if luck < 0.2:
                self.rpc.call("worker.unsubscribe", worker=self.number)
                self.subscribe(max=3)
            status = "retry" if luck < 0.3 else "done"
            try:
                self.finish(lease, status, **({"code": "luck"} if status == "retry" else {}))
            except RpcError as error:
                assert error.code == "NOT_FOUND" and error.field == "lease"
            del self.leases[lease]
        self.rpc.call("hello")

    def note(self, lease, operation, holders):
        """Nobody else has it: whoever had it before can say nothing any more."""
        if operation in holders:
            before, old = holders[operation]
            if old in before.leases or old in before.forgotten:
                assert refused(before.progress, old).code == "NOT_FOUND"
        holders[operation] = (self, lease)
        self.leases[lease] = operation


def test_careless_workers_bring_everything_to_its_end(daemon_factory):
    daemon = daemon_factory("--retry-min-ms", 1, "--retry-max-ms", 2, "--operation-attempts-max", 1000,
                            "--cancel-grace-ms", 100, provisioner="workers:lease-ms=250")
    tenant = Tenant(daemon.client())
    dice, holders = random.Random(7), {}
    workers = [Careless(daemon) for _ in range(6)]
    services = [tenant.create(f"s{i}") for i in range(20)]
    for _ in range(60):
        service = dice.choice(services)
        try:
            tenant.rpc.call(dice.choice(["service.stop", "service.start"]), **tenant.of(service))
        except RpcError as error:
            assert error.code == "CONFLICT"
        for worker in workers:
            worker.step(dice, holders)
    while tenant.rpc.call("stats")["operationsInFlight"] or any("operation" in tenant.get(s) for s in services):
        for worker in workers:
            worker.step(dice, holders, careless=False)
    assert {tenant.get(service)["state"] for service in services} <= {"running", "stopped"}
    assert tenant.rpc.call("check")["findingsCount"] == 0
    assert tenant.rpc.call("stats")["ipcWorkers"] == 6
    assert daemon.stop() == 0


def test_the_example(daemon, tenant):
    with subprocess.Popen([sys.executable, str(EXAMPLE), daemon.socket_path, "0.01"], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            service = tenant.running()
            tenant.rpc.call("service.stop", **tenant.of(service))
            tenant.wait_state(service, "stopped")
            tenant.rpc.call("service.delete", **tenant.of(service))
            wait_gone(tenant, service)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    at = 0
    for words in ["provision", "done", "stop", "done", "delete", "done", "leaving"]:
        at = output.index(words, at) + len(words)
    tenant.rpc.wait_stats(lambda stats: stats["ipcWorkers"] == 0)


def test_the_example_stops_when_cancelled_and_when_told_to_end(daemon, tenant):
    with subprocess.Popen([sys.executable, str(EXAMPLE), daemon.socket_path, "3600"], stdout=subprocess.PIPE,
                          text=True) as process:
        try:
            service = tenant.create()
            assert "provision" in process.stdout.readline()
            tenant.rpc.call("service.stop", **tenant.of(service))
            assert "cancelled" in process.stdout.readline()
            assert "stop" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert "leaving" in process.stdout.readline()
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
    Worker(daemon).do("stop")
    tenant.wait_state(service, "stopped")
