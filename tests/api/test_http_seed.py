"""The services API as its text has it, sentence by sentence, in the plain dialect: docs/http.md lists which test proves
which endpoint and field."""

import base64
import hashlib
import re

import pytest
from web import DEVELOPMENT, PRODUCTION, Site

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
SERVICE_FIELDS = {"id", "name", "provider", "region", "state", "endpoints", "tier", "minTotalMemoryGb", "maxTotalMemoryGb",
                  "idleScaling", "idleTimeoutMinutes", "ipAccessList", "createdAt"}
DEVELOPMENT_FIELDS = SERVICE_FIELDS - {"minTotalMemoryGb", "maxTotalMemoryGb"}


@pytest.fixture
def site(daemon_factory):
    return Site(daemon_factory)


@pytest.fixture
def held(daemon_factory):
    """Operations take until the daemon ends: what is under way can be looked at."""
    return Site(daemon_factory, provisioner="simulated:delay-ms=600000..600000")


def refused(answer, status, *words):
    assert answer.status == status, answer.body
    for word in words:
        assert word in answer.error, answer.error


# ---- List, get ----


def test_list_is_empty_at_first(site):
    answer = site.plain.get("services")
    assert (answer.status, answer.json) == (200, [])


def test_list_has_all_services_of_the_organization_and_no_other(site):
    other = site.organization()
    site.web("plain", other, site.make_key("admin", other)).post("services", PRODUCTION)
    names = {f"s{i}" for i in range(5)}
    for name in names:
        assert site.plain.post("services", {**PRODUCTION, "name": name}).status == 200
    assert {service["name"] for service in site.plain.get("services").json} == names


def test_list_and_get_show_the_same_fields_no_more_and_no_fewer(site):
    service = site.running(minTotalMemoryGb=24, maxTotalMemoryGb=48)
    shown = site.plain.get(f"services/{service}").json
    assert set(shown) == SERVICE_FIELDS and site.plain.get("services").json == [shown]


def test_service_fields(site):
    service = site.running(minTotalMemoryGb=24, maxTotalMemoryGb=48, idleScaling=False, idleTimeoutMinutes=7,
                           ipAccessList=[{"source": "1.2.3.4", "description": "me"}])
    shown = site.plain.get(f"services/{service}").json
    assert UUID.fullmatch(shown["id"]) and shown["id"] == service
    assert (shown["name"], shown["provider"], shown["region"]) == ("db", "aws", "us-east-1")
    assert (shown["state"], shown["tier"]) == ("running", "production")
    assert (shown["minTotalMemoryGb"], shown["maxTotalMemoryGb"]) == (24, 48)
    assert (shown["idleScaling"], shown["idleTimeoutMinutes"]) == (False, 7)
    assert shown["ipAccessList"] == [{"source": "1.2.3.4", "description": "me"}]
    assert TIME.fullmatch(shown["createdAt"])
    assert [(end["protocol"], end["port"]) for end in shown["endpoints"]] == [("nativesecure", 9440), ("https", 8443)]
    assert all(end["host"].endswith(".us-east-1.aws.reeve.local") for end in shown["endpoints"])
    assert set(shown["endpoints"][0]) == {"protocol", "host", "port"}


def test_numbers_are_written_as_integers(site):
    service = site.running(minTotalMemoryGb=24)
    assert b'"minTotalMemoryGb":24,' in site.plain.get(f"services/{service}").body


def test_get_of_what_is_not_there(site):
    missing = "01890000-0000-7000-8000-000000000000"
    refused(site.plain.get(f"services/{missing}"), 404, "NOT_FOUND: there is no such service")
    refused(site.plain.get("services/nonsense"), 400, "request path.serviceId: must be a UUID <string:nonsense>")


def test_ids_in_paths_are_uuids(site):
    service = site.running()
    base = f"/v1/organizations/{site.id}/services"
    refused(site.plain.get("/v1/organizations/nonsense/services"), 400, "request path.organizationId: must be a UUID <string:nonsense>")
    refused(site.plain.get(f"{base}/nonsense/backups"), 400, "request path.serviceId: must be a UUID <string:nonsense>")
    refused(site.plain.get(f"{base}/{service}/backups/nonsense"), 400, "request path.backupId: must be a UUID <string:nonsense>")
    for change in (site.plain.patch(f"{base}/nonsense", {}), site.plain.delete(f"{base}/nonsense"),
                   site.plain.patch(f"{base}/nonsense/state", {"command": "stop"}), site.plain.patch(f"{base}/nonsense/scaling", {}),
                   site.plain.patch(f"{base}/nonsense/password", {})):
        refused(change, 400, "request path.serviceId: must be a UUID")


# ---- Create ----


def test_create_answers_service_and_password(held):
    answer = held.plain.post("services", PRODUCTION)
    assert answer.status == 200 and set(answer.json) == {"service", "password"}
    assert answer.json["service"]["state"] == "provisioning" and len(answer.json["password"]) >= 16
    assert answer.json["service"]["endpoints"]


def test_create_starts_asynchronously(site):
    service = site.plain.post("services", PRODUCTION).json["service"]
    assert service["state"] in ("provisioning", "running")
    watch = site.rpc.call("event.watch", serviceId=service["id"], **{"from": 1})["watch"]
    site.rpc.wait_event(lambda event: event.get("to") == "running", 20, watch)
    assert site.plain.get(f"services/{service['id']}").json["state"] == "running"


@pytest.mark.parametrize("field", ["name", "provider", "region"])
def test_create_needs(site, field):
    body = {key: value for key, value in PRODUCTION.items() if key != field}
    refused(site.plain.post("services", body), 400, f"BAD_REQUEST: request body.{field}: is required")


@pytest.mark.parametrize("change, words", [
    ({"name": ""}, "request body.name: must have from 1 to 50 characters, has 0"),
    ({"name": "x" * 51}, "request body.name: must have from 1 to 50 characters, has 51"),
    ({"name": "a/b"}, "request body.name: may have letters, digits"),
    ({"name": 7}, "request body.name: must be a string <number:7>"),
    ({"provider": "ovh"}, "request body.provider: must be one of"),
    ({"region": "moon"}, "request body.region: must be a region of aws"),
    ({"tier": "huge"}, "request body.tier: must be one of 'development', 'production' <string:huge>"),
    ({"idleTimeoutMinutes": 4}, "request body.idleTimeoutMinutes: must be from 5"),
    ({"idleScaling": "yes"}, "request body.idleScaling: must be true or false <string:yes>"),
    ({"minTotalMemoryGb": 32}, "request body.minTotalMemoryGb: must be a multiple of 12 <number:32>"),
    ({"minTotalMemoryGb": 12}, "request body.minTotalMemoryGb: must be at least 24 <number:12>"),
    ({"minTotalMemoryGb": 24.5}, "request body.minTotalMemoryGb: must be a whole number from 0 on <number:24.5>"),
    ({"maxTotalMemoryGb": 372}, "request body.maxTotalMemoryGb: must be at most 360 for unpaid organizations <number:372>"),
    ({"minTotalMemoryGb": 48, "maxTotalMemoryGb": 36}, "must not be above the largest"),
    ({"ipAccessList": [{"source": "1.2.3"}]}, "request body.ipAccessList[0].source: must be an IPv4 or IPv6 address"),
    ({"ipAccessList": [{"source": "1.2.3.4/33"}]}, "request body.ipAccessList[0].source: must be"),
    ({"ipAccessList": [{"description": "x"}]}, "request body.ipAccessList[0].source: is required"),
    ({"ipAccessList": [{"source": "1.2.3.4"}] * 251}, "request body.ipAccessList: may have 250 entries at the most, has 251"),
    ({"ipAccessList": "all"}, "request body.ipAccessList: must be a list <string:all>"),
    ({"backupId": "x"}, "request body.backupId: must be a UUID <string:x>"),
    ({"minTotalMemoryGB": 24}, "request body.minTotalMemoryGB: is not known here; known are name provider"),
    ({"numReplicas": 3}, "request body.numReplicas: is not known here"),
    ({"tier": None}, "request body.tier: must not be null"),
])
def test_create_refuses(site, change, words):
    answer = site.plain.post("services", {**PRODUCTION, **change})
    refused(answer, 400, words)
    field = re.search(r"request body\.\S+?(?=:)", answer.error).group()
    assert answer.json["details"][0]["field"] == field
    assert site.plain.get("services").json == []


def test_production_scales_and_has_presets(site):
    shown = site.plain.get(f"services/{site.running()}").json
    assert (shown["minTotalMemoryGb"], shown["maxTotalMemoryGb"], shown["idleScaling"], shown["idleTimeoutMinutes"],
            shown["ipAccessList"]) == (48, 360, True, 15, [])


def test_development_is_of_fixed_size_and_always_idles(site):
    answer = site.plain.post("services", DEVELOPMENT)
    assert set(answer.json["service"]) == DEVELOPMENT_FIELDS and answer.json["service"]["idleScaling"] is True
    for field in ("minTotalMemoryGb", "maxTotalMemoryGb"):
        refused(site.plain.post("services", {**DEVELOPMENT, field: 24}), 400, f"request body.{field}: is available only for 'production'")
    refused(site.plain.post("services", {**DEVELOPMENT, "idleScaling": False}), 400, "idleScaling: is always true for 'development'")


def test_a_service_without_a_tier_scales(site):
    body = {field: value for field, value in PRODUCTION.items() if field != "tier"}
    shown = site.plain.post("services", {**body, "minTotalMemoryGb": 36}).json["service"]
    assert set(shown) == SERVICE_FIELDS - {"tier"} and (shown["minTotalMemoryGb"], shown["maxTotalMemoryGb"]) == (36, 360)


def test_paid_organizations_may_have_more_memory(site):
    paid = site.organization(paid=True)
    web = site.web("plain", paid, site.make_key("admin", paid))
    assert web.post("services", {**PRODUCTION, "maxTotalMemoryGb": 720}).status == 200
    refused(web.post("services", {**PRODUCTION, "maxTotalMemoryGb": 732}), 400, "at most 720 for paid organizations")


@pytest.mark.parametrize("number", ["24", "24.0", "2.4e1", "240e-1"])
def test_integral_numbers_in_any_notation(site, number):
    body = '{"name": "n", "provider": "aws", "region": "us-east-1", "tier": "production", "minTotalMemoryGb": %s}' % number
    assert site.plain.post("services", body).json["service"]["minTotalMemoryGb"] == 24


def test_restore_from_a_backup(site):
    source = site.running()
    backup = site.plain.post(f"services/{source}/backups", Prefer="wait=20").json
    assert backup["status"] == "done"
    restored = site.plain.post("services", {**PRODUCTION, "name": "copy", "backupId": backup["id"]}, Prefer="wait=20")
    assert restored.json["service"]["state"] == "running" and set(restored.json["service"]) == SERVICE_FIELDS
    assert site.rpc.call("service.get", organizationId=site.id, serviceId=restored.json["service"]["id"])["restoredFrom"] == backup["id"]
    refused(site.plain.post("services", {**PRODUCTION, "region": "us-east-2", "backupId": backup["id"]}), 400, "request body.region: must be that of the backup")
    refused(site.plain.post("services", {**DEVELOPMENT, "backupId": backup["id"]}), 400, "request body.tier: must be that of the backup")
    refused(site.plain.post("services", {**PRODUCTION, "backupId": source}), 404, "request body.backupId: there is no such backup")
    other = site.organization()
    foreign = site.web("plain", other, site.make_key("admin", other))
    refused(foreign.post("services", {**PRODUCTION, "backupId": backup["id"]}), 404, "there is no such backup")


def test_restore_needs_a_finished_backup(daemon_factory):
    site = Site(daemon_factory, provisioner="simulated:delay-ms=0..0,backup.delay-ms=600000..600000")
    source = site.running()
    backup = site.plain.post(f"services/{source}/backups").json
    refused(site.plain.post("services", {**PRODUCTION, "backupId": backup["id"]}), 400, "backupId: must be a finished backup, is 'in_progress'")


# ---- Update ----


def test_update_of_the_name(site):
    service = site.running()
    answer = site.plain.patch(f"services/{service}", {"name": "other"})
    assert answer.status == 200 and set(answer.json) == SERVICE_FIELDS and answer.json["name"] == "other"
    assert site.plain.get(f"services/{service}").json["name"] == "other"


def test_an_empty_update_changes_nothing(site):
    service = site.running()
    before = site.plain.get(f"services/{service}")
    for body in ({}, {"ipAccessList": {}}, {"ipAccessList": {"add": [], "remove": []}}, None):
        answer = site.plain.patch(f"services/{service}", body)
        assert answer.status == 200 and answer.headers["ETag"] == before.headers["ETag"]


def test_access_list_patch_removes_then_adds_in_order_and_keeps_text(site):
    def entries(*names):
        return [{"source": name, "description": f"about {name}"} for name in names]

    service = site.running(ipAccessList=entries("1.1.1.1", "2.2.2.2", "3.3.3.3"))
    patch = {"remove": [{"source": "2.2.2.2"}, {"source": "9.9.9.9"}], "add": entries("10.0.0.0/8", "0.0.0.0")}
    answer = site.plain.patch(f"services/{service}", {"ipAccessList": patch})
    assert answer.json["ipAccessList"] == entries("1.1.1.1", "3.3.3.3", "10.0.0.0/8", "0.0.0.0")
    whole = {"remove": answer.json["ipAccessList"], "add": entries("3.3.3.3", "5.5.5.5", "1.1.1.1")}
    answer = site.plain.patch(f"services/{service}", {"ipAccessList": whole})
    assert answer.json["ipAccessList"] == entries("3.3.3.3", "5.5.5.5", "1.1.1.1")
    refused(site.plain.patch(f"services/{service}", {"ipAccessList": {"add": [{"source": "x"}]}}), 400, "request body.ipAccessList.add[0].source")


def test_update_refuses_what_it_does_not_take(site):
    service = site.running()
    refused(site.plain.patch(f"services/{service}", {"tier": "production"}), 400, "request body.tier: is not known here; known are name ipAccessList")
    refused(site.plain.patch(f"services/{service}", {"name": ""}), 400, "request body.name: must have from 1 to 50 characters, has 0")
    for entry in ({}, {"description": "me"}, {"source": ""}):
        refused(site.plain.patch(f"services/{service}", {"ipAccessList": {"remove": [entry]}}), 400, "request body.ipAccessList.remove[0].source: is required")
    refused(site.plain.patch(f"services/{service}", {"ipAccessList": []}), 400, "request body.ipAccessList: must be an object")


def test_every_change_answers_the_whole_service_as_it_is_then(site):
    service = site.running()
    for path, body in (("", {"name": "other"}), ("/scaling", {"maxTotalMemoryGb": 96}), ("/state", {"command": "stop"})):
        answer = site.plain.patch(f"services/{service}{path}", body, Prefer="wait=20")
        assert answer.status == 200 and set(answer.json) == SERVICE_FIELDS
        assert answer.json == site.plain.get(f"services/{service}").json


# ---- Delete ----


def test_delete_needs_a_stopped_service_and_is_asynchronous(site):
    service = site.running()
    answer = site.plain.delete(f"services/{service}")
    refused(answer, 409, "CONFLICT", "'running'")
    assert answer.json["details"] == [{"state": "running", "allowed": ["update", "scale", "set_password", "start", "stop", "awake", "backup"]}]
    assert site.plain.patch(f"services/{service}/state", {"command": "stop"}, Prefer="wait=20").json["state"] == "stopped"
    answer = site.plain.delete(f"services/{service}", Prefer="wait=20")
    assert (answer.status, answer.json) == (200, {})
    assert site.plain.get(f"services/{service}").status == 404 and site.plain.get("services").json == []


def test_delete_shows_its_state_until_it_is_done(daemon_factory):
    site = Site(daemon_factory, provisioner="simulated:delay-ms=0..0,delete.delay-ms=600000..600000")
    service = site.stopped()
    assert site.plain.delete(f"services/{service}").status == 200
    assert site.plain.get(f"services/{service}").json["state"] == "deleting"
    assert site.cloud.get(f"services/{service}").result["state"] == "terminating"
    refused(site.plain.delete(f"services/{service}"), 409, "'deleting'")


# ---- State ----


def test_state_stop_and_start(site):
    service = site.running()
    answer = site.plain.patch(f"services/{service}/state", {"command": "stop"})
    assert answer.status == 200 and set(answer.json) == SERVICE_FIELDS
    assert answer.json["state"] == "stopping"
    site.plain.patch(f"services/{service}/state", {"command": "stop"}, Prefer="wait=20")
    assert site.plain.get(f"services/{service}").json["state"] == "stopped"
    answer = site.plain.patch(f"services/{service}/state", {"command": "start"}, Prefer="wait=20")
    assert answer.json["state"] == "running"


def test_state_repeated_commands_change_nothing(site):
    service = site.stopped()
    before = site.plain.get(f"services/{service}").headers["ETag"]
    answer = site.plain.patch(f"services/{service}/state", {"command": "stop"})
    assert (answer.status, answer.json["state"], answer.headers["ETag"]) == (200, "stopped", before)


def test_state_awake_wakes_an_idle_service_only(site):
    service = site.stopped()
    answer = site.plain.patch(f"services/{service}/state", {"command": "awake"})
    refused(answer, 409, "'stopped'", "start")
    assert "start" in answer.json["details"][0]["allowed"]
    running = site.running(name="two")
    assert site.plain.patch(f"services/{running}/state", {"command": "awake"}).json["state"] == "running"


@pytest.mark.parametrize("body, words", [
    ({"command": "explode"}, "request body.command: must be one of 'start', 'stop', 'awake' <string:explode>"),
    ({}, "request body.command: is required"),
    ({"command": 7}, "request body.command: must be one of"),
    ({"command": "stop", "force": True}, "request body.force: is not known here"),
])
def test_state_refuses(site, body, words):
    refused(site.plain.patch(f"services/{site.running()}/state", body), 400, words)


# ---- Scaling ----


def test_scaling_changes_each_field_alone(site):
    service = site.running()
    for field, value in (("minTotalMemoryGb", 24), ("maxTotalMemoryGb", 96), ("idleScaling", False), ("idleTimeoutMinutes", 5)):
        answer = site.plain.patch(f"services/{service}/scaling", {field: value})
        assert answer.status == 200 and set(answer.json) == SERVICE_FIELDS and answer.json[field] == value
    shown = site.plain.get(f"services/{service}").json
    assert (shown["minTotalMemoryGb"], shown["maxTotalMemoryGb"], shown["idleScaling"], shown["idleTimeoutMinutes"]) == (24, 96, False, 5)


@pytest.mark.parametrize("body, words", [
    ({"minTotalMemoryGb": 30}, "request body.minTotalMemoryGb: must be a multiple of 12 <number:30>"),
    ({"minTotalMemoryGb": 12}, "request body.minTotalMemoryGb: must be at least 24"),
    ({"maxTotalMemoryGb": 36}, "must not be above the largest"),
    ({"idleTimeoutMinutes": 4}, "request body.idleTimeoutMinutes"),
    ({"maxTotalMemoryGb": 372}, "request body.maxTotalMemoryGb: must be at most 360 for unpaid organizations <number:372>"),
    ({"idleScaling": "no"}, "request body.idleScaling: must be true or false <string:no>"),
    ({"minReplicaMemoryGb": 8}, "request body.minReplicaMemoryGb: is not known here"),
])
def test_scaling_refuses(site, body, words):
    refused(site.plain.patch(f"services/{site.running()}/scaling", body), 400, words)


def test_scaling_of_memory_is_for_production_only(site):
    service = site.plain.post("services", DEVELOPMENT, Prefer="wait=20").json["service"]["id"]
    refused(site.plain.patch(f"services/{service}/scaling", {"maxTotalMemoryGb": 48}), 400, "available only for 'production'")
    refused(site.plain.patch(f"services/{service}/scaling", {"idleScaling": False}), 400, "idleScaling: is always true for 'development'")
    assert site.plain.patch(f"services/{service}/scaling", {"idleTimeoutMinutes": 30}).json["idleTimeoutMinutes"] == 30


# ---- Password ----


def hashes(password):
    digest = hashlib.sha256(password.encode()).digest()
    return base64.b64encode(digest).decode(), digest.hex()


def test_password_is_generated_where_no_hash_is_given(site):
    service = site.running()
    answers = [site.plain.patch(f"services/{service}/password", body).json for body in ({}, None, {})]
    assert all(set(answer) == {"password"} and len(answer["password"]) >= 16 for answer in answers)
    assert len({answer["password"] for answer in answers}) == 3


@pytest.mark.parametrize("form", [0, 1])
def test_password_by_hash_is_not_answered_stored_or_logged_in_clear(site, form):
    service = site.running()
    answer = site.plain.patch(f"services/{service}/password", {"newPasswordHash": hashes("correct horse")[form]})
    assert (answer.status, answer.json) == (200, {})
    generated = site.plain.patch(f"services/{service}/password").json["password"]
    assert site.daemon.stop() == 0
    stored = (site.daemon.data / "data.mdb").read_bytes() + site.daemon.log().encode()
    for secret in ("correct horse", generated, site.key[1]):
        assert secret.encode() not in stored


@pytest.mark.parametrize("wrong", ["", "short", "z" * 64, "A" * 44, 7])
def test_password_refuses_what_is_no_hash(site, wrong):
    refused(site.plain.patch(f"services/{site.running()}/password", {"newPasswordHash": wrong}), 400, "request body.newPasswordHash: must be a")


# ---- Backups ----


def test_backups_newest_first_with_their_fields(site):
    service = site.running()
    assert site.plain.get(f"services/{service}/backups").json == []
    made = [site.plain.post(f"services/{service}/backups", Prefer="wait=20").json for _ in range(3)]
    listed = site.plain.get(f"services/{service}/backups").json
    assert [backup["id"] for backup in listed] == [backup["id"] for backup in reversed(made)]
    for backup in listed:
        assert set(backup) == {"id", "status", "serviceId", "startedAt", "finishedAt"}
        assert UUID.fullmatch(backup["id"]) and backup["status"] == "done" and backup["serviceId"] == service
        assert TIME.fullmatch(backup["startedAt"]) and TIME.fullmatch(backup["finishedAt"])
        assert site.plain.get(f"services/{service}/backups/{backup['id']}").json == backup


def test_backup_in_progress_has_no_end(daemon_factory):
    site = Site(daemon_factory, provisioner="simulated:delay-ms=0..0,backup.delay-ms=600000..600000")
    service = site.running()
    backup = site.plain.post(f"services/{service}/backups").json
    assert set(backup) == {"id", "status", "serviceId", "startedAt"} and backup["status"] == "in_progress"
    refused(site.plain.post(f"services/{service}/backups"), 409, "CONFLICT")
    site.plain.patch(f"services/{service}/state", {"command": "stop"}, Prefer="wait=20")
    ended = site.plain.get(f"services/{service}/backups/{backup['id']}").json
    assert ended["status"] == "error" and "finishedAt" in ended


def test_backup_needs_a_running_service(site):
    refused(site.plain.post(f"services/{site.stopped()}/backups"), 409, "'stopped'")


def test_backup_is_deleted_and_outlives_its_service(site):
    service = site.running()
    first, second = (site.plain.post(f"services/{service}/backups", Prefer="wait=20").json["id"] for _ in range(2))
    answer = site.plain.delete(f"services/{service}/backups/{first}", Prefer="wait=20")
    assert (answer.status, answer.json) == (200, {})
    assert site.plain.get(f"services/{service}/backups/{first}").status == 404
    site.plain.patch(f"services/{service}/state", {"command": "stop"}, Prefer="wait=20")
    site.plain.delete(f"services/{service}", Prefer="wait=20")
    assert [backup["id"] for backup in site.plain.get(f"services/{service}/backups").json] == [second]
    assert site.plain.get(f"services/{service}/backups/{second}").json["status"] == "done"


def test_a_backup_that_is_being_deleted_is_not_shown(daemon_factory):
    site = Site(daemon_factory, provisioner="simulated:delay-ms=0..0,delete_backup.delay-ms=600000..600000")
    service = site.running()
    backup = site.plain.post(f"services/{service}/backups", Prefer="wait=20").json["id"]
    assert site.plain.delete(f"services/{service}/backups/{backup}").status == 200
    assert site.plain.get(f"services/{service}/backups").json == []
    refused(site.plain.get(f"services/{service}/backups/{backup}"), 404, "there is no such backup")


def test_backups_of_what_is_not_there(site):
    service, missing = site.running(), "01890000-0000-7000-8000-000000000000"
    refused(site.plain.get(f"services/{missing}/backups"), 404, "there is no such service")
    refused(site.plain.get(f"services/{service}/backups/{missing}"), 404, "there is no such backup")


# ---- What the state machine adds ----


def test_operations_under_way(held):
    service = held.plain.post("services", PRODUCTION).json["service"]["id"]
    for path in (f"services/{service}/operations", "operations"):
        operations = held.plain.get(path).json
        assert [(op["kind"], op["attempt"], op["serviceId"]) for op in operations] == [("provision", 1, service)]


def test_events_of_a_service_and_of_the_organization(site):
    service = site.running()
    events = site.plain.get(f"services/{service}/events").json
    assert [event["type"] for event in events] == ["service_create", "service_running"]
    assert events[0]["actor"] == f"key:{site.key[0]}"
    everything = site.plain.get("events").json
    assert everything[0]["type"] == "organization_create" and everything[-1] == events[-1]
    assert site.plain.get(f"events?from={events[-1]['sequence']}&limit=1").json == [events[-1]]
