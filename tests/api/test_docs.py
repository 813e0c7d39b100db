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


def test_every_file_the_architecture_names_exists():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = set(re.findall(r"`((?:engine|schemas|frontends|provisioners|bench|tests|examples|docs)/[\w./-]*\w)`", text))
    assert len(names) > 20
    missing = [name for name in names if not (ROOT / name).exists()]
    assert not missing
