"""Every endpoint of the HTTP API against what its own OpenAPI document allows, by generated requests, good and bad."""

import collections
import json
import os
import subprocess

import pytest
from daemon import ROOT
from web import Site

TOOL = ROOT / "build/venv/bin/schemathesis"
REQUIRED = os.environ.get("REEVE_CONTRACT") == "required"

# A run may stop, scale and delete the service it is given; its key and organization stay as they are.
CONFIGURATION = """
hooks = "{hooks}"

[checks]
negative_data_rejection.expected-statuses = ["4xx"]
positive_data_acceptance.expected-statuses = ["2xx", "304", "401", "404", "409", "412"]

[parameters]
"path.organizationId" = "{organization}"
"path.serviceId" = "{service}"
"path.backupId" = "{backup}"
"path.keyId" = "{key}"
"path.activityId" = "3"
"path.quotaCode" = "services-per-organization"
"""

CHECKS = {"cloud": "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,"
                   "unsupported_method,allow_header_conformance,ignored_auth"}
# The cloud dialect takes what it does not know, whatever it is: what is good and what is wrong is only clear in the plain one.
CHECKS["plain"] = CHECKS["cloud"] + ",positive_data_acceptance,negative_data_rejection"

# Nothing is there of these, ever.
NEVER_FOUND = {f"GET /v1/organizations/{{organizationId}}/services/{{serviceId}}/{name}" for name in ("serviceQueryEndpoint", "scalingSchedule", "upgradeWindow", "operations/{operationId}/log")}

pytestmark = pytest.mark.skipif(not TOOL.exists() and not REQUIRED, reason="schemathesis is not in build/venv: `make contract` installs it")


@pytest.fixture
def site(daemon_factory):
    site = Site(daemon_factory, "--http-wait-max-ms", "1000")
    site.rpc.call("organization.update", organizationId=site.id, paid=True)  # the document has the limits of paid ones
    return site


def run(site, dialect, directory, *arguments):
    """What each operation answered, by status."""
    service = site.running(name=f"contract-{dialect}")
    backup = site.plain.post(f"services/{service}/backups", Prefer="wait=20").json["id"]
    key = site.make_key("viewer")[0]
    configuration, report = directory / f"{dialect}.toml", directory / "report.ndjson"
    configuration.write_text(CONFIGURATION.format(hooks=ROOT / "tests/contract/hooks.py", organization=site.id, service=service, backup=backup, key=key))
    command = [TOOL, "--config-file", configuration, "run", f"http://{site.addresses[dialect]}/openapi.json", "--auth", ":".join(site.key),
               "--checks", CHECKS[dialect], "--seed", "7", "--max-examples", "8", "--request-timeout", "20", "--generation-database", "none",
               "--no-color", "--report", "ndjson", "--report-ndjson-path", report, *arguments]
    done = subprocess.run([str(word) for word in command], cwd=directory, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    answers = collections.defaultdict(collections.Counter)
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {"interactions": {}})
        for one in recorder["interactions"].values():
            if one["response"] and recorder["label"].startswith(one["request"]["method"] + " "):
                answers[recorder["label"]][one["response"]["status_code"]] += 1
    return answers


@pytest.mark.parametrize("dialect", ["plain", "cloud"])
def test_every_answer_is_one_the_document_allows(site, tmp_path, dialect):
    answers = run(site, dialect, tmp_path, "--phases", "coverage,fuzzing", "--exclude-path-regex", "events$")
    document = site.web(dialect).get("/openapi.json").json
    operations = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods if not path.endswith("events")}
    operations.remove("GET /openapi.json")  # the tool reads it, and leaves it out then
    assert set(answers) == operations
    assert {operation for operation in operations if 200 not in answers[operation]} == NEVER_FOUND
    assert site.daemon.stop() == 0


@pytest.mark.parametrize("dialect", ["plain", "cloud"])
def test_lists_of_events_are_what_the_document_allows(site, tmp_path, dialect):
    """Asked for JSON alone: a stream would not end."""
    answers = run(site, dialect, tmp_path, "--phases", "fuzzing", "--include-path-regex", "events$", "--header", "Accept: application/json")
    assert len(answers) == 2 and all(200 in answer for answer in answers.values())
