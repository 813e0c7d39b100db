"""The printed documents say what the tables say."""

import json
import os
import pathlib
import re
import subprocess

import pytest
import yaml
from daemon import BINARY
from web import Site

ROOT = pathlib.Path(__file__).resolve().parents[2]


def printed(part):
    return subprocess.run([os.environ["REEVE_GENERATE"], part], capture_output=True, text=True, check=True).stdout


def test_the_diagram_is_that_of_the_table():
    assert (ROOT / "docs/lifecycle.dot").read_text() == printed("dot"), "run `make docs`"


def test_the_reference_is_that_of_the_tables():
    assert (ROOT / "docs/reference.md").read_text() == printed("markdown"), "run `make docs`"


@pytest.mark.parametrize("dialect, name", [("plain", "openapi.yaml"), ("cloud", "openapi-cloud.yaml")])
def test_the_openapi_documents_are_those_of_the_tables(daemon_factory, dialect, name):
    written = yaml.safe_load((ROOT / "schemas" / name).read_text())
    assert written == json.loads(subprocess.run([BINARY, "openapi", dialect], capture_output=True, check=True).stdout), "run `make docs`"
    assert written == Site(daemon_factory).web(dialect).get("/openapi.json").json


def test_the_program_in_the_readme_is_the_one_that_is_built():
    readme = (ROOT / "README.md").read_text()
    program = (ROOT / "examples/embed/embed.c").read_text()
    blocks = re.findall(r"```c\n(.*?)```", readme, re.S)
    assert program in blocks


def test_the_provisioner_in_the_documents_is_the_one_that_is_checked():
    program = (ROOT / "examples/provisioner/sleeper").read_text()
    assert program in re.findall(r"```python\n(.*?)```", (ROOT / "docs/provisioners.md").read_text(), re.S)


def test_every_file_the_architecture_names_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = set(re.findall(r"`((?:engine|schemas|frontends|provisioners|bench|tests|examples|docs)/[\w./-]*\w)`", text))
    assert len(names) > 20
    missing = [name for name in names if not (ROOT / name).exists()]
    assert not missing


SEED_ENDPOINTS = (("GET", ""), ("POST", ""), ("GET", "/:serviceId"), ("PATCH", "/:serviceId"), ("DELETE", "/:serviceId"),
                  ("PATCH", "/:serviceId/state"), ("PATCH", "/:serviceId/scaling"), ("PATCH", "/:serviceId/password"),
                  ("GET", "/:serviceId/backups"), ("GET", "/:serviceId/backups/:backupId"))


def table_of_the_text():
    """What stands below each endpoint: its rows."""
    text = (ROOT / "docs/http.md").read_text().split("## The text of the API")[1]
    table = {}
    for line in [line for line in text.splitlines() if line.startswith("| ")][2:]:
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if row[0].startswith("`"):
            rows = table.setdefault(row[0].strip("`"), [])
        rows.append(row)
    return table


def test_every_sentence_of_the_api_has_its_test():
    tests = {path.name: set(re.findall(r"^def (test_\w+)", path.read_text(), re.M)) for path in (ROOT / "tests/api").glob("test_*.py")}
    for row in (row for rows in table_of_the_text().values() for row in rows):
        assert len(row) == 3 and all(row), row
        named = re.findall(r"`(test_\w+)`(?: in `(test_\w+\.py)`)?", row[2])
        assert named, row
        for name, file in named:
            assert name in tests[file or "test_http_seed.py"], name


def test_the_table_of_the_api_has_every_endpoint_and_field():
    document = json.loads(subprocess.run([BINARY, "openapi", "plain"], capture_output=True, check=True).stdout)
    table = table_of_the_text()
    assert set(table) == {f"{method} /v1/organizations/:organizationId/services{path}" for method, path in SEED_ENDPOINTS}
    for endpoint, rows in table.items():
        method, path = endpoint.split()
        operation = document["paths"][re.sub(r":(\w+)", r"{\1}", path)][method.lower()]
        left = {row[0] for row in rows}
        needed = {f"path `{name}`" for name in re.findall(r":(\w+)", path)}
        if "requestBody" in operation:
            needed |= {f"body `{name}`" for name in operation["requestBody"]["content"]["application/json"]["schema"]["properties"]}
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        name = answer.get("items", answer).get("$ref", "").split("/")[-1]
        if name and f"answer: a {name}" not in left:
            needed |= {f"answer `{field}`" for field in document["components"]["schemas"][name]["properties"]}
        assert needed <= left, (endpoint, needed - left)


def shell_blocks(name, section=""):
    """Those under a heading."""
    text = (ROOT / name).read_text()
    text = text.split(f"\n## {section}\n")[1].split("\n## ")[0] if section else text
    return re.findall(r"```sh\n(.*?)```", text, re.S)


def test_the_walk_with_curl_works_as_it_is_written(daemon_factory, tmp_path):
    """docs/http.md, block by block, in one shell, against the daemon that it tells to start."""
    daemon = daemon_factory("--dev")
    (tmp_path / "reeve-dev").symlink_to(daemon.data)
    blocks = shell_blocks("docs/http.md", "A whole life with curl")
    assert len(blocks) == 4
    script = "set -eu\n" + "\necho '--'\n".join(blocks)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
    _, created, changed, ended = done.stdout.split("--\n")
    answers = [json.loads(line) for line in changed.splitlines()]
    assert created == "" and [answer.get("state") for answer in answers[:3]] == ["running"] * 3
    assert answers[1]["maxTotalMemoryGb"] == 96 and answers[2]["ipAccessList"] == [{"source": "10.0.0.0/8", "description": "office"}]
    assert answers[3]["password"] and answers[4][0]["status"] == "done" and answers[5]["service"]["state"] == "running"
    states = [json.loads(line) for line in ended.splitlines()]
    assert [answer["state"] for answer in states[:3]] == ["stopped", "running", "stopped"]
    assert states[3] == {} and states[4]["status"] == 404 and len(states[5]) == 1 and [service["name"] for service in states[6]] == ["copy"]


def test_the_other_blocks_with_curl_work_as_they_are_written(daemon_factory, tmp_path):
    daemon = daemon_factory("--dev")
    (tmp_path / "reeve-dev").symlink_to(daemon.data)
    first = shell_blocks("docs/http.md", "A whole life with curl")[0]
    headers, events = (shell_blocks("docs/http.md", section)[0] for section in ("Headers", "Lists and events"))
    script = "\n".join([first, headers, "echo '--'", events])
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    changed, told = done.stdout.split("--\n")
    renamed, stale, again = (json.loads(line) for line in changed.splitlines())
    assert renamed["name"] == "shop" and stale["status"] == 412 and again["service"]["id"] == renamed["id"]
    listed, stream = told.split("\n", 1)
    assert [event["sequence"] for event in json.loads(listed)] == [1, 2]
    assert "\nid: 3\nevent: service_create\n" in stream and "timed out" in done.stderr


def test_the_http_block_of_the_readme_works(daemon_factory):
    daemon = daemon_factory("--dev")
    script = f"set -eu\n. {daemon.data}/dev.env\n" + "".join(block for block in shell_blocks("README.md") if "curl" in block)
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr
    created, scaled, password, backup, stopped, deleted, left = (json.loads(line) for line in done.stdout.splitlines())
    assert created["service"]["state"] == "running" and scaled["maxTotalMemoryGb"] == 96 and password["password"]
    assert backup["status"] == "done" and stopped["state"] == "stopped" and deleted == {} and left == []
