"""The cloud dialect, as the clients that exist speak it: what each of their generations sends, and needs back."""

import re

import pytest
from web import PRODUCTION, SERVICE, Site


@pytest.fixture
def site(daemon_factory):
    return Site(daemon_factory)


def create(site, **fields):
    answer = site.cloud.post("services", {**SERVICE, **fields}, Prefer="wait=20")
    assert answer.status == 200, answer.body
    return answer.result["service"]


# ---- The rules that break clients ----


def test_every_success_is_200_with_an_object(site):
    created = site.cloud.post("services", PRODUCTION)
    assert created.status == 200 and set(created.json) == {"status", "requestId", "result"}
    assert set(created.result) == {"service", "password"}
    service = created.result["service"]["id"]
    for answer in (site.cloud.get("services"), site.cloud.get(f"services/{service}"), site.cloud.patch(f"services/{service}/state", {"command": "stop"}, Prefer="wait=20")):
        assert answer.status == 200 and isinstance(answer.json, dict) and "result" in answer.json
    deleted = site.cloud.delete(f"services/{service}", Prefer="wait=20")
    assert deleted.status == 200 and set(deleted.json) == {"status", "requestId"}
    gone = site.cloud.get(f"services/{service}")
    assert gone.status == 404 and gone.error.startswith("NOT_FOUND: ") and gone.json["status"] == 404


def test_integers_leave_as_integers_and_come_as_any_integral_number(site):
    answer = site.cloud.post("services", '{"name":"n","provider":"aws","region":"us-east-1","ipAccessList":[],"minReplicaMemoryGb":8.0,"maxReplicaMemoryGb":16.0,"numReplicas":2.0}')
    assert answer.status == 200
    for text in (b'"minReplicaMemoryGb":8,', b'"maxReplicaMemoryGb":16,', b'"numReplicas":2,', b'"minTotalMemoryGb":24,', b'"maxTotalMemoryGb":48,'):
        assert text in answer.body


def test_unknown_fields_are_ignored_and_an_empty_patch_is_fine(site):
    service = create(site, byocId="x", hasTransparentDataEncryption=False, unheard={"of": [1]})["id"]
    for body in ({}, {"privateEndpointIds": {"add": [], "remove": []}}, {"nonsense": None}):
        assert site.cloud.patch(f"services/{service}", body).status == 200
    assert site.cloud.get(f"services/{service}?unheard=of").status == 200


def test_the_smallest_create_is_answered_with_all_defaults(site):
    service = create(site, ipAccessList=[])
    expected = {"idleScaling": True, "idleTimeoutMinutes": 15, "minReplicaMemoryGb": 16, "maxReplicaMemoryGb": 120,
                "minTotalMemoryGb": 48, "maxTotalMemoryGb": 360, "numReplicas": 3, "isPrimary": True, "isReadonly": False,
                "releaseChannel": "default", "tags": []}
    assert {name: service[name] for name in expected} == expected
    for absent in ("tier", "autoscalingMode", "clickhouseVersion"):
        assert absent not in service


def test_totals_are_three_times_a_replica_whatever_their_number(site):
    service = create(site, minReplicaMemoryGb=8, maxReplicaMemoryGb=8, numReplicas=1)
    assert (service["minTotalMemoryGb"], service["maxTotalMemoryGb"], service["numReplicas"]) == (24, 24, 1)


def test_password_answers(site):
    service = create(site)["id"]
    path, digest = f"services/{service}/password", "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="
    double = "94bdcebe19083ce2a1f959fd02f964c7af4cfc29"
    assert len(site.cloud.patch(path, {}).result["password"]) >= 16
    assert site.cloud.patch(path, {"newPasswordHash": digest}).result == {}
    assert site.cloud.patch(path, {"newPasswordHash": digest, "newDoubleSha1Hash": double}).result == {}
    assert site.cloud.patch(path, {"newDoubleSha1Hash": double}).result["password"]
    wrong = site.cloud.patch(path, {"newPasswordHash": digest, "newDoubleSha1Hash": "x"})
    assert wrong.status == 400 and "request body.newDoubleSha1Hash: must be a SHA-1" in wrong.error


# ---- Replicas, tags, channels, protocols ----


@pytest.mark.parametrize("body, words", [
    ({"minReplicaMemoryGb": 10}, "request body.minReplicaMemoryGb: must be a multiple of 4 <number:10>"),
    ({"minReplicaMemoryGb": 4}, "request body.minReplicaMemoryGb: must be at least 8"),
    ({"maxReplicaMemoryGb": 124}, "request body.maxReplicaMemoryGb: must be at most 120 for unpaid"),
    ({"minReplicaMemoryGb": 40, "maxReplicaMemoryGb": 20}, "must not be above the largest"),
    ({"minReplicaMemoryGb": 8, "minTotalMemoryGb": 48}, "request body.minReplicaMemoryGb: must be a third of minTotalMemoryGb"),
    ({"numReplicas": 0}, "request body.numReplicas: must be from 1 to 20 <number:0>"),
    ({"numReplicas": 21}, "request body.numReplicas: must be from 1 to 20 <number:21>"),
    ({"autoscalingMode": "sideways"}, "request body.autoscalingMode: must be one of 'vertical', 'horizontal'"),
])
def test_replica_scaling_refuses(site, body, words):
    service = create(site)["id"]
    answer = site.cloud.patch(f"services/{service}/replicaScaling", body)
    assert answer.status == 400 and words in answer.error


def test_replica_scaling(site):
    service = create(site)["id"]
    body = {"minReplicaMemoryGb": 8, "maxReplicaMemoryGb": 32, "numReplicas": 5, "autoscalingMode": "horizontal", "idleScaling": False, "idleTimeoutMinutes": 9}
    answer = site.cloud.patch(f"services/{service}/replicaScaling", body).result
    assert {name: answer[name] for name in body} == body
    again = site.cloud.get(f"services/{service}").result
    assert {name: again[name] for name in body} == body


def test_paid_organizations_may_have_larger_replicas(site):
    paid = site.organization(paid=True)
    web = site.web("cloud", paid, site.make_key("admin", paid))
    assert web.post("services", {**SERVICE, "maxReplicaMemoryGb": 356}).result["service"]["maxReplicaMemoryGb"] == 356
    assert web.post("services", {**SERVICE, "maxReplicaMemoryGb": 360}).status == 400


def test_release_channel_and_tags(site):
    service = create(site, releaseChannel="fast", tags=[{"key": "env", "value": "prod"}, {"key": "team"}])
    assert service["releaseChannel"] == "fast" and service["tags"] == [{"key": "env", "value": "prod"}, {"key": "team"}]
    patch = {"releaseChannel": "slow", "tags": {"remove": [{"key": "team"}], "add": [{"key": "env", "value": "test"}, {"key": "x", "value": "1"}]}}
    shown = site.cloud.patch(f"services/{service['id']}", patch).result
    assert shown["releaseChannel"] == "slow" and shown["tags"] == [{"key": "env", "value": "test"}, {"key": "x", "value": "1"}]


@pytest.mark.parametrize("tags, words", [
    ([{"key": "a b"}], "request body.tags[0].key: must have from 1 to 128 letters"),
    ([{"value": "x"}], "request body.tags[0].key"),
    ([{"key": "ok"}, {"key": "k", "value": "ä"}], "request body.tags[1].value"),
    ([{"key": f"k{i}"} for i in range(51)], "request body.tags: may have 50 tags at the most, has 51"),
])
def test_tags_refuse(site, tags, words):
    answer = site.cloud.post("services", {**SERVICE, "tags": tags})
    assert answer.status == 400 and words in answer.error


def test_tags_are_taken_away_by_their_key(site):
    service = create(site)["id"]
    answer = site.cloud.patch(f"services/{service}", {"tags": {"remove": [{"value": "x"}]}})
    assert answer.status == 400 and "request body.tags.remove[0].key: is required" in answer.error


def test_list_by_tags(site):
    for name, tags in (("a", {"env": "prod", "team": "x"}), ("b", {"env": "prod"}), ("c", {"env": "test"}), ("d", {})):
        create(site, name=name, tags=[{"key": key, "value": value} for key, value in tags.items()])

    def names(query):
        return sorted(service["name"] for service in site.cloud.get(f"services{query}").result)

    assert names("") == ["a", "b", "c", "d"]
    assert names("?filter=tag:env=prod") == ["a", "b"]
    assert names("?filter=tag%3Aenv%3Dprod&filter=tag:team=x") == ["a"]
    assert names("?filter=tag:env") == ["a", "b", "c"]
    assert names("?filter=tag:env=nothing") == []
    assert site.cloud.get("services?filter=env").status == 400


def test_mysql_endpoint(site):
    service = create(site)
    path = f"services/{service['id']}"
    shown = site.cloud.patch(path, {"endpoints": [{"protocol": "mysql", "enabled": True}]}).result
    assert [(end["protocol"], end["port"]) for end in shown["endpoints"]] == [("nativesecure", 9440), ("https", 8443), ("mysql", 3306)]
    assert shown["endpoints"][2]["username"].startswith("mysql4") and shown["endpoints"][2]["host"] == shown["endpoints"][0]["host"]
    assert site.cloud.get(path).result["endpoints"] == shown["endpoints"]
    assert len(site.cloud.patch(path, {"endpoints": [{"protocol": "mysql", "enabled": False}]}).result["endpoints"]) == 2
    assert "must be 'mysql'" in site.cloud.patch(path, {"endpoints": [{"protocol": "https", "enabled": False}]}).error
    assert create(site, name="m", endpoints=[{"protocol": "mysql", "enabled": True}])["endpoints"][2]["protocol"] == "mysql"


def test_secondary_services_are_refused(site):
    assert "request body.isReadonly: must be false" in site.cloud.post("services", {**SERVICE, "isReadonly": True}).error


# ---- Organizations, keys, quotas, costs ----


def test_organizations(site):
    listed = site.cloud.get("/v1/organizations").result
    assert [organization["id"] for organization in listed] == [site.id]
    shown = site.cloud.get("").result
    assert shown == listed[0] and set(shown) == {"id", "name", "createdAt", "privateEndpoints"} and shown["privateEndpoints"] == []
    assert site.cloud.patch("", {"name": "renamed", "paid": True}).result["name"] == "renamed"
    assert site.rpc.call("organization.get", organizationId=site.id)["paid"] is False
    refused = site.plain.patch("", {"paid": True})
    assert refused.status == 400 and "request body.paid: is not known here" in refused.error


def test_keys(site):
    body = {"name": "ci", "state": "enabled", "roles": ["developer"], "ipAccessList": [{"source": "127.0.0.1", "description": ""}],
            "assignedRoleIds": [], "expireAt": "2040-01-01T00:00:00Z"}
    created = site.cloud.post("keys", body).result
    assert set(created) == {"key", "keyId", "keySecret"}
    key = created["key"]
    assert key["roles"] == ["developer"] and key["state"] == "enabled" and key["expireAt"] == "2040-01-01T00:00:00Z"
    assert key["keySuffix"] == created["keySecret"][-4:] and key["id"] == created["keyId"]
    assert site.cloud.get(f"keys/{key['id']}").result == key and key in site.cloud.get("keys").result
    assert b"keySecret" not in site.cloud.get("keys").body
    web = site.web("cloud", key=(created["keyId"], created["keySecret"]))
    assert web.get("services").status == 200 and web.get("keys").status == 403
    changed = site.cloud.patch(f"keys/{key['id']}", {"roles": ["admin"], "name": "boss", "expireAt": None}).result
    assert changed["roles"] == ["admin"] and changed["name"] == "boss" and "expireAt" not in changed
    assert web.get("keys").status == 200
    assert site.cloud.delete(f"keys/{key['id']}").status == 200
    assert site.cloud.get(f"keys/{key['id']}").status == 404 and web.get("services").status == 401


@pytest.mark.parametrize("body, words", [
    ({"name": "k", "roles": ["king"]}, "request body.roles: must be a list of 'admin', 'developer' or 'viewer'"),
    ({"name": "k", "roles": []}, "request body.roles: must be"),
    ({"name": "k", "hashData": {"keyIdHash": "x"}}, "request body.hashData: is not possible here"),
    ({"roles": ["admin"]}, "request body.name: is required"),
    ({"name": "k", "expireAt": "2001-01-01T00:00:00Z"}, "request body.expireAt: must be in the future"),
])
def test_keys_refuse(site, body, words):
    answer = site.cloud.post("keys", body)
    assert answer.status == 400 and words in answer.error


def test_quotas(site):
    create(site)
    quotas = {quota["quotaCode"]: quota for quota in site.cloud.get("quotas").result}
    assert set(quotas) == {"services-per-organization", "replicas-per-warehouse"}
    assert quotas["services-per-organization"]["usage"] == 1 and quotas["replicas-per-warehouse"]["value"] == 20
    assert site.cloud.get("quotas/services-per-organization").result == quotas["services-per-organization"]
    assert site.cloud.get("quotas/moons").status == 404
    small = site.organization(serviceQuota=1)
    web = site.web("cloud", small, site.make_key("admin", small))
    assert web.get("quotas/services-per-organization").result["value"] == 1
    assert web.post("services", SERVICE).status == 200
    refused = web.post("services", SERVICE)
    assert refused.status == 409 and refused.error.startswith("QUOTA_EXCEEDED: ")


def test_usage_cost(site):
    assert "request query.to_date: must be a date" in site.cloud.get("usageCost?to_date=").error
    assert site.cloud.get("usageCost?from_date=2026-01-01&to_date=2026-01-31").result == {"grandTotalCHC": 0, "costs": []}
    assert "from 0 to 31 days" in site.cloud.get("usageCost?from_date=2026-01-01&to_date=2026-03-31").error
    assert "request query.from_date: must be a date" in site.cloud.get("usageCost?from_date=yesterday").error


# ---- What providers ask on every read ----


def test_parts_of_a_service_that_there_are_none_of(site):
    service = create(site)["id"]
    assert site.cloud.get(f"services/{service}/privateEndpointConfig").result == {"endpointServiceId": "", "privateDnsHostname": ""}
    for part in ("serviceQueryEndpoint", "scalingSchedule", "upgradeWindow"):
        answer = site.cloud.get(f"services/{service}/{part}")
        assert answer.status == 404 and answer.error == f"NOT_FOUND: the service has no {part}"
    assert site.cloud.get("services/01890000-0000-7000-8000-000000000000/privateEndpointConfig").status == 404


def test_backup_configuration(site):
    service = create(site, tier="production")["id"]
    path = f"services/{service}/backupConfiguration"
    assert site.cloud.get(path).result == {"backupPeriodInHours": 24, "backupRetentionPeriodInHours": 48}
    sent = {"backupPeriodInHours": 48, "backupRetentionPeriodInHours": 168, "backupStartTime": "03:00"}
    assert site.cloud.patch(path, sent).result == sent
    nulls = {"backupPeriodInHours": None, "backupRetentionPeriodInHours": None, "backupStartTime": None}
    assert site.cloud.patch(path, nulls).result == {"backupPeriodInHours": 24, "backupRetentionPeriodInHours": 48}
    assert "request body.backupPeriodInHours: must be 24 or 48 when backupStartTime is set" in site.cloud.patch(path, {"backupPeriodInHours": 6, "backupStartTime": "03:00"}).error
    assert "must be one of 6, 8" in site.cloud.patch(path, {"backupPeriodInHours": 7}).error
    developer = site.web("cloud", key=site.make_key("developer"))
    assert developer.patch(path, sent).status == 403 and developer.get(path).status == 200


def test_backups_have_size_and_duration(site):
    service = create(site)["id"]
    backup = site.cloud.post(f"services/{service}/backups", Prefer="wait=20").result
    assert backup["status"] == "done" and backup["type"] == "full" and backup["sizeInBytes"] >= 0


# ---- Activities ----


def test_activities(site):
    service = create(site, tier="production")["id"]
    path = f"services/{service}"
    site.cloud.patch(path, {"name": "other"})
    site.cloud.patch(path, {"ipAccessList": {"add": [{"source": "1.1.1.1"}]}})
    site.cloud.patch(f"{path}/scaling", {"minTotalMemoryGb": 24})
    site.cloud.patch(f"{path}/scaling", {"idleTimeoutMinutes": 20})
    site.cloud.patch(f"{path}/password", {})
    site.cloud.patch(f"{path}/state", {"command": "stop"}, Prefer="wait=20")
    site.cloud.delete(path, Prefer="wait=20")
    activities = site.cloud.get("activities").result
    assert [activity["type"] for activity in activities] == [
        "create_organization", "key_create", "service_create", "service_running", "service_update_name",
        "service_update_ip_access_list", "service_update_autoscaling_memory", "service_update_autoscaling_idling",
        "service_update_password", "service_stop", "service_delete"]
    last = activities[-1]
    assert last["actorType"] == "api" and last["actorId"] == site.key[0] and last["serviceId"] == service and last["organizationId"] == site.id
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", last["createdAt"])
    assert site.cloud.get(f"activities/{last['id']}").result == last
    assert site.cloud.get("activities/99999").status == 404 and site.cloud.get("activities/x").status == 404
    assert site.cloud.get("activities?from_date=2001-01-01&to_date=2001-01-02").result == []
    assert site.cloud.get("activities?from_date=2001-01-01T00:00:00Z").result == activities
    other = site.organization()
    assert site.web("cloud", other, site.make_key("admin", other)).get(f"activities/{last['id']}").status == 404


# ---- Whole clients ----


def test_the_first_terraform_provider(site):
    """Sends what the 2023 API has, stops before it deletes, and wants the list as it gave it."""
    entries = [{"source": "0.0.0.0", "description": "Test IP"}]
    created = site.cloud.post("services", {**PRODUCTION, "idleScaling": True, "ipAccessList": entries, "minTotalMemoryGb": 24,
                                           "maxTotalMemoryGb": 360, "idleTimeoutMinutes": 5}, Prefer="wait=20").result
    service = created["service"]["id"]
    assert created["service"]["ipAccessList"] == entries and created["service"]["tier"] == "production"
    digest = "44d9f0d1e3d4a4ba3a6a4a0e3ec6bb14a3ef6c9e0a3b7ac1cbb0b1a37f2b4d11"
    assert site.cloud.patch(f"services/{service}/password", {"newPasswordHash": digest}).result == {}
    new = [{"source": "10.0.0.1", "description": "b"}]
    assert site.cloud.patch(f"services/{service}", {"ipAccessList": {"add": new, "remove": entries}}).result["ipAccessList"] == new
    assert site.cloud.patch(f"services/{service}/scaling", {"idleScaling": True, "minTotalMemoryGb": 48}).result["minTotalMemoryGb"] == 48
    for _ in range(2):
        assert site.cloud.patch(f"services/{service}/state", {"command": "stop"}, Prefer="wait=20").result["state"] == "stopped"
    assert site.cloud.delete(f"services/{service}", Prefer="wait=20").status == 200
    assert site.cloud.get(f"services/{service}").status == 404


def test_the_present_terraform_provider(site):
    """Sends memory per replica and no tier, and asks for four things on each read."""
    created = site.cloud.post("services", {**SERVICE, "isReadonly": False, "idleScaling": False, "ipAccessList": [], "autoscalingMode": "vertical",
                                           "minReplicaMemoryGb": 8, "maxReplicaMemoryGb": 120, "numReplicas": 3, "idleTimeoutMinutes": 5,
                                           "releaseChannel": "default", "tags": [{"key": "a", "value": "b"}]}, Prefer="wait=20").result["service"]
    path = f"services/{created['id']}"
    assert created["isPrimary"] is True and "tier" not in created and created["idleScaling"] is False
    for part, status in (("", 200), ("/privateEndpointConfig", 200), ("/backupConfiguration", 200), ("/serviceQueryEndpoint", 404)):
        assert site.cloud.get(path + part).status == status
    running = site.cloud.delete(path)
    assert running.status == 409 and "running" in running.error
    site.cloud.patch(f"{path}/state", {"command": "stop"}, Prefer="wait=20")
    assert site.cloud.delete(path, Prefer="wait=20").status == 200


def metrics_of(text):
    """{name: its samples}. A metric is one group of lines that begins with its HELP and TYPE: so the format wants it."""
    groups, name = {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in groups, f"{name} comes again"
            groups[name] = []
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name and not groups[name], line
        else:
            assert re.fullmatch(re.escape(name) + r"(_bucket|_sum|_count)?(\{.*\})? [0-9.e+-]+", line), line
            groups[name].append(line)
    return groups


def test_metrics_are_whole_groups(site):
    ids = {site.cloud.post("services", {**SERVICE, "name": f"grouped-{i}"}).result["service"]["id"] for i in range(300)}  # more than are read at once
    answer = site.cloud.get("prometheus")
    groups = metrics_of(answer.body.decode())
    assert set(groups) == {"reeve_service_info", "reeve_service_memory_gb"}
    for name, of_each in (("reeve_service_info", 1), ("reeve_service_memory_gb", 2)):
        found = [re.search(r'service="([^"]*)"', line)[1] for line in groups[name]]
        assert ids <= set(found) and len(found) == of_each * len(set(found))
    metrics_of(site.cloud.get(f"services/{ids.pop()}/prometheus").body.decode())
    metrics_of(site.cloud.get("/metrics").body.decode())


def test_prometheus_of_services(site):
    service = create(site, name="metered")["id"]
    for answer in (site.cloud.get("prometheus"), site.cloud.get(f"services/{service}/prometheus?filtered_metrics=true")):
        assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain")
        assert f'reeve_service_info{{service="{service}",name="metered",state="running"' in answer.body.decode()
