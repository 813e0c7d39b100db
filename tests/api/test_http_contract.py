"""Every endpoint of the HTTP API against what its own OpenAPI document allows, by generated requests, good and bad."""

import os
import pathlib
import subprocess

import pytest
from daemon import ROOT
from web import Site

TOOL = ROOT / "build/venv/bin/schemathesis"
REQUIRED = os.environ.get("REEVE_CONTRACT") == "required"

# A run may stop, scale and delete the service it is given; its key and organization stay as they are.
CONFIGURATION = """
[parameters]
"path.organizationId" = "{organization}"
"path.serviceId" = "{service}"
"path.backupId" = "{backup}"
"path.keyId" = "{key}"
"path.activityId" = "3"
"path.quotaCode" = "services-per-organization"
"""

# What the rules of the engine refuse beyond the document (a region that does not exist, a service that is not stopped) is
# no breach of it; that wrong values are refused is what the other tests are about.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,unsupported_method,ignored_auth"


def run(site, dialect, directory, *arguments):
    service = site.running(name=f"contract-{dialect}")
    backup = site.plain.post(f"services/{service}/backups", Prefer="wait=20").json["id"]
    key = site.make_key("viewer")[0]
    configuration = directory / f"{dialect}.toml"
    configuration.write_text(CONFIGURATION.format(organization=site.id, service=service, backup=backup, key=key))
    command = [TOOL, "--config-file", configuration, "run", f"http://{site.addresses[dialect]}/openapi.json", "--auth", ":".join(site.key),
               "--checks", CHECKS, "--seed", "7", "--generation-database", "none", "--no-color", *arguments]
    return subprocess.run([str(word) for word in command], cwd=directory, capture_output=True, text=True, timeout=240)


@pytest.mark.skipif(not TOOL.exists() and not REQUIRED, reason="schemathesis is not in build/venv: `make contract` installs it")
@pytest.mark.parametrize("dialect", ["plain", "cloud"])
def test_every_answer_is_one_the_document_allows(daemon_factory, tmp_path, dialect):
    site = Site(daemon_factory)
    done = run(site, dialect, pathlib.Path(tmp_path), "--max-examples", "12", "--phases", "coverage,fuzzing",
               "--exclude-path-regex", "events$")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 40" in done.stdout, done.stdout[-3000:]
    assert site.daemon.stop() == 0


@pytest.mark.skipif(not TOOL.exists() and not REQUIRED, reason="schemathesis is not in build/venv: `make contract` installs it")
def test_lists_of_events_are_what_the_document_allows(daemon_factory, tmp_path):
    """Asked for JSON alone: a stream would not end."""
    site = Site(daemon_factory)
    done = run(site, "plain", pathlib.Path(tmp_path), "--max-examples", "12", "--phases", "fuzzing", "--include-path-regex", "events$",
               "--header", "Accept: application/json")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
