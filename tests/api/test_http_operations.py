"""Logs of operations over HTTP, of a daemon whose work is done by programs."""

import pytest
from daemon import ROOT
from web import Site


@pytest.fixture
def site(daemon_factory):
    return Site(daemon_factory, provisioner=f"exec:{ROOT}/tests/fixtures/plugins/steered")


def operation_of(site, service, kind):
    events = site.plain.get(f"services/{service}/events").json
    return next(event["operationId"] for event in events if event.get("operationKind") == kind)


@pytest.mark.parametrize("dialect", ["plain", "cloud"])
def test_the_log_of_an_operation(site, dialect):
    service = site.running(name=dialect)
    path = f"services/{service}/operations/{operation_of(site, service, 'provision')}/log"
    answer = site.web(dialect).get(path)
    log = answer.json if dialect == "plain" else answer.result
    assert log == {"log": "== provision, attempt 1: exit code 0\nasked for provision\n", "progress": ""}
    assert site.web(dialect, key=site.make_key("viewer")).get(path).status == 200


def test_the_log_outlives_the_service(site):
    service = site.stopped()
    assert site.plain.delete(f"services/{service}", Prefer="wait=20").status == 200
    assert site.plain.get(f"services/{service}").status == 404
    answer = site.plain.get(f"services/{service}/operations/{operation_of(site, service, 'delete')}/log")
    assert answer.json["log"].startswith("== delete, attempt 1: exit code 0\n")


def test_a_log_is_of_its_service_and_organization_only(site):
    service, other = site.running(name="one"), site.running(name="other")
    operation = operation_of(site, service, "provision")
    refused = site.plain.get(f"services/{other}/operations/{operation}/log")
    assert refused.status == 404 and "nothing is kept of such an operation of this service" in refused.error
    stranger = site.organization()
    web = site.web("plain", organization=stranger, key=site.make_key("admin", stranger))
    assert web.get(f"services/{service}/operations/{operation}/log").status == 404
    assert web.get(f"/v1/organizations/{site.id}/services/{service}/operations/{operation}/log").status == 404


@pytest.mark.parametrize("service, operation, name", [("x", None, "serviceId"), (None, "x", "operationId")])
def test_what_is_no_id(site, service, operation, name):
    nobody = "00000000-0000-7000-8000-000000000000"
    refused = site.plain.get(f"services/{service or nobody}/operations/{operation or nobody}/log")
    assert refused.status == 400 and f"{name}: must be a UUID <string:x>" in refused.error


def test_without_programs_there_are_no_logs(daemon_factory):
    site = Site(daemon_factory)
    service = site.running()
    refused = site.plain.get(f"services/{service}/operations/{operation_of(site, service, 'provision')}/log")
    assert refused.status == 404 and "keeps no logs of operations" in refused.error
