"""The rules of values: memory, tiers, regions, access lists, passwords, keys, backup configuration."""

import base64
import hashlib

import pytest
from rpc import RpcError
from tenant import Tenant

PRODUCTION = {"name": "db", "provider": "aws", "region": "us-east-1", "tier": "production"}
DEVELOPMENT = {**PRODUCTION, "tier": "development"}


def create(tenant, **fields):
    return tenant.rpc.call("service.create", organizationId=tenant.id, **fields)["service"]


def refused(call, field, *words):
    with pytest.raises(RpcError) as caught:
        call()
    assert caught.value.code == "BAD_REQUEST" and caught.value.field == field
    for word in words:
        assert word in caught.value.message


@pytest.mark.parametrize("paid, low, high, field, words", [
    (False, 24, 360, None, ()),
    (False, 24, 24, None, ()),
    (False, 12, 360, "minTotalMemoryGb", ("at least 24", "<number:12>")),
    (False, 0, 360, "minTotalMemoryGb", ("at least 24",)),
    (False, 25, 360, "minTotalMemoryGb", ("multiple of 12", "<number:25>")),
    (False, 24, 372, "maxTotalMemoryGb", ("at most 360", "unpaid")),
    (False, 48, 36, "maxTotalMemoryGb", ("must not be above",)),
    (True, 24, 720, None, ()),
    (True, 24.0, 720.0, None, ()),
    (True, 24, 732, "maxTotalMemoryGb", ("at most 720",)),
])
def test_memory(rpc, paid, low, high, field, words):
    tenant = Tenant(rpc, paid=paid)
    fields = {**PRODUCTION, "minTotalMemoryGb": low, "maxTotalMemoryGb": high}
    if field:
        refused(lambda: create(tenant, **fields), field, *words)
        assert rpc.call("organization.get", organizationId=tenant.id)["serviceCount"] == 0
    else:
        service = create(tenant, **fields)
        assert (service["minTotalMemoryGb"], service["maxTotalMemoryGb"]) == (low, high)


def test_presets(tenant):
    service = create(tenant, **PRODUCTION)
    assert (service["minTotalMemoryGb"], service["maxTotalMemoryGb"]) == (48, 360)
    assert service["idleScaling"] is True and service["idleTimeoutMinutes"] == 15 and service["ipAccessList"] == []
    hosts = {endpoint["host"] for endpoint in service["endpoints"]}
    assert [(endpoint["protocol"], endpoint["port"]) for endpoint in service["endpoints"]] == [("nativesecure", 9440), ("https", 8443)]
    assert len(hosts) == 1 and hosts.pop().endswith(".us-east-1.aws.reeve.local")


def test_development_is_of_fixed_size_and_always_idles(tenant):
    service = create(tenant, **DEVELOPMENT)
    assert "minTotalMemoryGb" not in service and service["idleScaling"] is True
    refused(lambda: create(tenant, **DEVELOPMENT, minTotalMemoryGb=24), "minTotalMemoryGb", "production")
    refused(lambda: create(tenant, **DEVELOPMENT, idleScaling=False), "idleScaling", "always true")
    assert create(tenant, **DEVELOPMENT, idleScaling=True, idleTimeoutMinutes=5)["idleTimeoutMinutes"] == 5


def test_a_service_without_a_tier_has_none(tenant):
    assert "tier" not in create(tenant, name="x", provider="aws", region="us-east-1")


@pytest.mark.parametrize("fields, field, word", [
    ({"name": "a/b"}, "name", "letters"), ({"name": "   "}, "name", "blank"), ({"name": ""}, "name", "from 1 to 50"),
    ({"name": "x" * 51}, "name", "has 51"), ({"provider": "ibm"}, "provider", "'aws'"),
    ({"region": "us-central1"}, "region", "us-east-1"), ({"tier": "huge"}, "tier", "'development'"),
    ({"idleTimeoutMinutes": 4}, "idleTimeoutMinutes", "from 5"),
    ({"ipAccessList": [{"source": "1.2.3.4"}, {"source": "1.2.3.4/33"}]}, "ipAccessList[1].source", "10.0.0.0/8"),
    ({"ipAccessList": [{"description": "nothing"}]}, "ipAccessList[0].source", "required"),
    ({"newPasswordHash": "test"}, "newPasswordHash", "SHA-256"),
])
def test_wrong_values_name_the_field_and_what_is_allowed(tenant, fields, field, word):
    refused(lambda: create(tenant, **{**PRODUCTION, **fields}), field, word)


@pytest.mark.parametrize("source", ["1.2.3.4", "0.0.0.0", "0.0.0.0/0", "10.0.0.0/8", "::1", "2001:DB8::/32"])
def test_sources_are_kept_as_they_were_written(tenant, source):
    assert create(tenant, **PRODUCTION, ipAccessList=[{"source": source}])["ipAccessList"][0]["source"] == source


def test_access_list_removes_first_then_appends_in_order(tenant):
    service = tenant.running(**PRODUCTION)

    def patch(expected, **change):
        entries = {key: [{"source": f"{n}.{n}.{n}.{n}"} for n in value] for key, value in change.items()}
        answer = tenant.rpc.call("service.update", **tenant.of(service), ipAccessList=entries)
        assert [int(entry["source"][0]) for entry in answer["ipAccessList"]] == expected

    patch([1, 2], add=[1, 2])
    patch([1, 2, 3], add=[3])
    patch([1, 3], remove=[2])
    patch([1, 3], remove=[2])
    patch([3, 1], remove=[1], add=[1])
    patch([3, 1], add=[3, 1])
    patch([1, 3, 2], add=[2, 3, 2])
    patch([1, 3, 2])


def test_password_hashes_in_both_forms(tenant):
    service = tenant.running(**PRODUCTION)
    digest = hashlib.sha256(b"test").digest()
    for form in (base64.b64encode(digest).decode(), digest.hex()):
        assert tenant.rpc.call("service.set_password", **tenant.of(service), newPasswordHash=form) == {}
    assert len(tenant.rpc.call("service.set_password", **tenant.of(service))["password"]) == 24


def test_backup_configuration(tenant):
    service = create(tenant, **PRODUCTION)

    def change(**fields):
        return tenant.rpc.call("backup_configuration.update", **tenant.of(service), **fields)

    assert tenant.rpc.call("backup_configuration.get", **tenant.of(service)) == {
        "backupPeriodInHours": 24, "backupRetentionPeriodInHours": 48}
    assert change(backupPeriodInHours=12)["backupPeriodInHours"] == 12
    refused(lambda: change(backupStartTime="03:00"), "backupPeriodInHours", "24 or 48")
    assert change(backupPeriodInHours=48, backupStartTime="03:00")["backupStartTime"] == "03:00"
    refused(lambda: change(backupPeriodInHours=7), "backupPeriodInHours", "6, 8, 12")
    refused(lambda: change(backupRetentionPeriodInHours=25), "backupRetentionPeriodInHours", "multiple of 24")
    refused(lambda: change(backupStartTime="3:00"), "backupStartTime", "03:00")
    assert change(backupPeriodInHours=None, backupRetentionPeriodInHours=None, backupStartTime=None) == {
        "backupPeriodInHours": 24, "backupRetentionPeriodInHours": 48}


def test_keys(tenant):
    created = tenant.rpc.call("key.create", organizationId=tenant.id, name="ci")
    key, of = created["key"], {"organizationId": tenant.id, "keyId": created["keyId"]}
    assert created["keySecret"].endswith(key["keySuffix"]) and key["role"] == "developer" and len(key["ipAccessList"]) == 2
    assert "keySecret" not in tenant.rpc.call("key.get", **of)
    refused(lambda: tenant.rpc.call("key.update", **of, expireAt="2001-01-01T00:00:00Z"), "expireAt", "future")
    changed = tenant.rpc.call("key.update", **of, role="viewer", state="disabled", ipAccessList=[], expireAt="2100-01-01T00:00:00Z")
    assert (changed["role"], changed["state"], changed["ipAccessList"], changed["expireAt"]) == (
        "viewer", "disabled", [], "2100-01-01T00:00:00Z")
    assert "expireAt" not in tenant.rpc.call("key.update", **of, expireAt=None)
    tenant.rpc.call("key.revoke", **of)
    with pytest.raises(RpcError, match="NOT_FOUND"):
        tenant.rpc.call("key.get", **of)


def test_an_organization_with_services_stays(tenant):
    service = tenant.running(**PRODUCTION)
    with pytest.raises(RpcError, match="CONFLICT.*1 services"):
        tenant.rpc.call("organization.delete", organizationId=tenant.id)
    tenant.rpc.call("service.stop", **tenant.of(service))
    tenant.wait_state(service, "stopped")
    number = tenant.rpc.call("event.watch", serviceId=service["id"])["watch"]
    tenant.rpc.call("service.delete", **tenant.of(service))
    tenant.rpc.wait_event(lambda event: event.get("to") == "gone", watch=number)
    assert tenant.rpc.call("organization.delete", organizationId=tenant.id) == {}
