"""Every method of the IPC, what it answers and how it refuses."""

import hashlib
import os
import pathlib
import re

import msgpack
import pytest

from rpc import RpcError
from tenant import SERVICE, Tenant

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "schemas"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOBODY = "01900000-0000-7000-8000-000000000000"


def table(name, macro):
    """The methods named in a .def table."""
    return re.findall(rf'^{macro}\([A-Z_]+,\s*(?:\d+,\s*)?"([a-z_.]+)"', (SCHEMAS / name).read_text(), re.M)


def refused(rpc, method, params=None, **more):
    with pytest.raises(RpcError) as caught:
        rpc.call(method, params, **more)
    return caught.value


def test_hello_tells_version_protocol_and_every_method(rpc):
    hello = rpc.call("hello")
    assert hello["product"] == "reeve"
    assert re.fullmatch(r"\d+\.\d+\.\d+", hello["version"])
    assert hello["protocol"] == 1
    assert hello["lastSequence"] >= 0
    methods = table("commands.def", "COMMAND") + table("local.def", "LOCAL")
    assert len(methods) > 30
    assert sorted(hello["methods"]) == sorted(methods)


def test_organization_methods(rpc):
    made = rpc.call("organization.create", name="one", paid=True, serviceQuota=7)
    assert UUID.fullmatch(made["id"])
    assert made["name"] == "one" and made["paid"] is True and made["serviceQuota"] == 7
    assert made["createdAt"].endswith("Z")
    assert rpc.call("organization.get", organizationId=made["id"]) == made
    changed = rpc.call("organization.update", organizationId=made["id"], name="two", serviceQuota=None)
    assert changed["name"] == "two" and "serviceQuota" not in changed
    assert changed["generation"] > made["generation"]
    assert [o["id"] for o in rpc.call("organization.list")["items"]] == [made["id"]]
    assert rpc.call("organization.delete", organizationId=made["id"]) == {}
    assert refused(rpc, "organization.get", organizationId=made["id"]).code == "NOT_FOUND"


def test_key_methods(rpc, tenant):
    made = rpc.call("key.create", organizationId=tenant.id, name="ci", role="admin",
                    ipAccessList=[{"source": "10.0.0.0/8", "description": "office"}])
    assert made["keyId"] == made["key"]["id"]
    assert made["keySecret"].endswith(made["key"]["keySuffix"])
    names = {"organizationId": tenant.id, "keyId": made["keyId"]}
    key = rpc.call("key.get", **names)
    assert key == made["key"] and key["role"] == "admin" and key["state"] == "enabled"
    assert "keySecret" not in key and "secretSha256" not in key
    changed = rpc.call("key.update", **names, state="disabled", role="viewer")
    assert changed["state"] == "disabled" and changed["role"] == "viewer"
    assert rpc.call("key.list", organizationId=tenant.id)["items"] == [changed]
    assert rpc.call("key.revoke", **names) == {}
    assert rpc.call("key.list", organizationId=tenant.id) == {"items": [], "cursor": None}


def test_service_lives_its_life(rpc, tenant):
    answer = rpc.call("service.create", organizationId=tenant.id, name="db", **SERVICE)
    service = answer["service"]
    assert len(answer["password"]) >= 16
    assert service["state"] == "provisioning" and service["name"] == "db"
    names = tenant.of(service)
    running = tenant.wait_state(service, "running")
    assert running["endpoints"]
    assert rpc.call("service.list", organizationId=tenant.id)["items"] == [running]
    updated = rpc.call("service.update", **names, name="db2",
                       ipAccessList={"add": [{"source": "1.2.3.4", "description": "home"}]})
    assert updated["name"] == "db2"
    assert updated["ipAccessList"] == [{"source": "1.2.3.4", "description": "home"}]
    assert rpc.call("service.set_password", **names)["password"]
    digest = hashlib.sha256(b"secret").hexdigest()
    assert rpc.call("service.set_password", **names, newPasswordHash=digest) == {}
    told = rpc.call("service.activity", **names)
    assert told["id"] == service["id"] and rpc.call("service.activity", **names, ifGeneration=told["generation"])["id"] == service["id"]
    assert refused(rpc, "service.activity", {**names, "ifGeneration": told["generation"] - 1}).code == "STALE_GENERATION"
    assert rpc.call("service.stop", **names)["state"] == "stopping"
    tenant.wait_state(service, "stopped")
    assert rpc.call("service.start", **names)["state"] == "starting"
    tenant.wait_state(service, "running")
    assert rpc.call("service.awake", **names)["state"] == "running"
    assert rpc.call("service.health_lost", **names, code="gone", message="no answer")["state"] == "degraded"
    tenant.wait_state(service, "running")
    rpc.call("service.stop", **names)
    tenant.wait_state(service, "stopped")
    number = rpc.call("event.watch", serviceId=service["id"])["watch"]
    assert rpc.call("service.delete", **names) == {}
    rpc.wait_event(lambda event: event["type"] == "service_gone")
    rpc.call("event.unwatch", watch=number)
    assert refused(rpc, "service.get", **names).code == "NOT_FOUND"


def test_scale(rpc):
    tenant = Tenant(rpc, "paid", paid=True)
    service = tenant.running(tier="production", minTotalMemoryGb=48, maxTotalMemoryGb=96)
    scaled = rpc.call("service.scale", **tenant.of(service), maxTotalMemoryGb=120, idleTimeoutMinutes=30)
    assert scaled["maxTotalMemoryGb"] == 120 and scaled["idleTimeoutMinutes"] == 30
    error = refused(rpc, "service.scale", **tenant.of(service), maxTotalMemoryGb=50)
    assert error.code == "BAD_REQUEST" and error.field == "maxTotalMemoryGb"


def test_backup_methods(rpc, tenant):
    service = tenant.running()
    names = tenant.of(service)
    configuration = rpc.call("backup_configuration.get", **names)
    assert configuration["backupPeriodInHours"] == 24
    changed = rpc.call("backup_configuration.update", **names, backupPeriodInHours=12)
    assert changed["backupPeriodInHours"] == 12
    assert rpc.call("backup_configuration.get", **names) == changed
    watch = rpc.call("event.watch", serviceId=service["id"])["watch"]
    made = rpc.call("backup.create", **names)
    assert made["status"] == "in_progress"
    rpc.wait_event(lambda event: event["type"] == "backup_done")
    backup = rpc.call("backup.get", **names, backupId=made["id"])
    assert backup["status"] == "done" and backup["finishedAt"] >= backup["startedAt"]
    assert rpc.call("backup.list", **names)["items"] == [backup]
    copy = tenant.create("copy", backupId=backup["id"])
    assert copy["restoredFrom"] == backup["id"]
    tenant.wait_state(copy, "running")
    assert rpc.call("backup.delete", **names, backupId=made["id"]) == {}
    rpc.wait_event(lambda event: event["type"] == "backup_gone")
    rpc.call("event.unwatch", watch=watch)
    assert rpc.call("backup.list", **names)["items"] == []


def test_operation_methods(daemon_factory):
    rpc = daemon_factory(provisioner="simulated:hang=1.0").client()
    tenant = Tenant(rpc)
    service = tenant.create()
    operations = rpc.call("operation.list", organizationId=tenant.id)["items"]
    assert [(o["kind"], o["serviceId"]) for o in operations] == [("provision", service["id"])]
    one = rpc.call("operation.get", **tenant.of(service), operationId=operations[0]["id"])
    assert one["id"] == operations[0]["id"] and one["kind"] == "provision" and one["attempt"] >= 1
    assert rpc.call("operation.list", organizationId=tenant.id, serviceId=service["id"])["items"][0]["id"] == one["id"]
    assert refused(rpc, "operation.get", **tenant.of(service), operationId=NOBODY).code == "NOT_FOUND"


def test_stats_count(rpc, tenant):
    before = rpc.call("stats")
    tenant.create()
    after = rpc.call("stats")
    assert after["ipcRequests"] == before["ipcRequests"] + 2
    after = rpc.wait_stats(lambda s: s["commands"] > before["commands"])  # published behind the answers
    assert after["ipcConnections"] == 1 and after["ipcRequestsNow"] == 1
    assert after["lastSequence"] > before["lastSequence"]


def test_snapshot_and_check(daemon, daemon_factory, rpc, tenant):
    service = tenant.running()
    path = str(daemon.directory / "copy")
    snapshot = rpc.call("snapshot", path=path)
    assert snapshot["path"] == path and snapshot["lastSequence"] > 0
    copy = daemon_factory(data=path).client()
    found = copy.call("service.get", **tenant.of(service))
    assert found["id"] == service["id"] and found["state"] == "running"
    assert refused(rpc, "snapshot", path="copy").field == "path"
    assert refused(rpc, "snapshot", path=path).code != "INTERNAL"
    check = rpc.call("check")
    assert check["findings"] == [] and check["findingsCount"] == 0
    assert check["organizations"] == 1 and check["services"] == 1


def test_check_while_serving(rpc, tenant):
    """The store must not be opened a second time in one process: LMDB would give up the first one's readers."""
    create = ("service.create", {"organizationId": tenant.id, "name": "s", **SERVICE})
    services = ("service.list", {"organizationId": tenant.id})
    for _ in range(40):
        numbers = rpc.send_many([create] * 200 + [("check", None)] + [services] * 20)
        assert rpc.wait(numbers[200])["findings"] == []
        for number in numbers[:200] + numbers[201:]:
            rpc.wait(number)


# Refusals


def test_unknown_method(rpc):
    error = refused(rpc, "service.explode")
    assert error.code == "UNKNOWN_METHOD" and "service.explode" in error.message


@pytest.mark.parametrize("method", table("commands.def", "COMMAND"))
def test_unknown_field_is_named(rpc, method):
    error = refused(rpc, method, colour="red")
    assert error.code == "BAD_REQUEST" and error.field == "colour" and not error.retryable


def test_missing_field_is_named(rpc):
    error = refused(rpc, "service.get", serviceId=NOBODY)
    assert (error.code, error.field) == ("BAD_REQUEST", "organizationId")


@pytest.mark.parametrize("field,value", [
    ("organizationId", 7), ("organizationId", "not-a-uuid"), ("name", 7), ("name", ""), ("name", "x" * 51),
    ("provider", "mars"), ("region", "mars-1"), ("tier", "huge"), ("idleScaling", "yes"),
    ("idleTimeoutMinutes", 1), ("idleTimeoutMinutes", -1), ("idleTimeoutMinutes", 5.5), ("ipAccessList", "all"),
    ("ipAccessList[0].source", [{"source": "300.1.2.3"}]), ("ipAccessList[1]", [{"source": "1.2.3.4"}, 5]),
    ("newPasswordHash", "abc"), ("backupId", "x"), ("idempotencyKey", ""), ("idempotencyKey", 5)])
def test_wrong_value_names_the_field(rpc, tenant, field, value):
    params = {"organizationId": tenant.id, "name": "x", **SERVICE, field.split("[")[0]: value}
    error = refused(rpc, "service.create", params)
    assert error.code == "BAD_REQUEST" and error.field == field and error.message


def test_params_must_be_one_map(rpc):
    for params in ([1], [{}, {}], [[]]):
        number = next(rpc.ids)
        rpc.send_raw(msgpack.packb([0, number, "hello", params]))
        with pytest.raises(RpcError) as caught:
            rpc.wait(number)
        assert caught.value.field == "params"
    assert rpc.call("hello")


def test_conflict_tells_state_and_what_is_allowed(rpc, tenant):
    service = tenant.running()
    error = refused(rpc, "service.delete", **tenant.of(service))
    assert error.code == "CONFLICT"
    assert error.details["state"] == "running"
    assert "stop" in error.details["allowed"] and "delete" not in error.details["allowed"]
    assert tenant.get(service)["state"] == "running"


def test_idempotency_key_answers_the_first_answer_again(rpc, tenant):
    params = {"organizationId": tenant.id, "name": "once", **SERVICE, "idempotencyKey": "k1"}
    first = rpc.call("service.create", params)
    again = rpc.call("service.create", params)
    assert again["service"]["id"] == first["service"]["id"] and again["password"] == first["password"]
    assert len(rpc.call("service.list", organizationId=tenant.id)["items"]) == 1
    error = refused(rpc, "service.create", {**params, "name": "other"})
    assert error.code == "IDEMPOTENCY_MISMATCH"


def test_idempotency_key_outlives_the_process(daemon, rpc, tenant):
    params = {"organizationId": tenant.id, "name": "once", **SERVICE, "idempotencyKey": "k1"}
    first = rpc.call("service.create", params)
    daemon.restart(kill=True)
    again = daemon.client().call("service.create", params)
    assert again["service"]["id"] == first["service"]["id"] and again["password"] == first["password"]


def test_stale_generation_is_refused(rpc, tenant):
    service = tenant.running()
    names = tenant.of(service)
    generation = tenant.get(service)["generation"]
    updated = rpc.call("service.update", **names, name="new", ifGeneration=generation)
    error = refused(rpc, "service.update", **names, name="newer", ifGeneration=generation)
    assert error.code == "STALE_GENERATION"
    assert tenant.get(service)["name"] == "new" and updated["generation"] > generation
    assert refused(rpc, "service.get", **names, ifGeneration=1).field == "ifGeneration"


def test_actor_is_the_user_of_the_socket(rpc, tenant):
    service = tenant.create()
    events = rpc.call("event.list", serviceId=service["id"])["items"]
    assert events[0]["type"] == "service_create" and events[0]["actor"] == f"uid:{os.getuid()}"
