"""Who asks over HTTP: what a change of a key means for the very next request."""

import base64
import json
import re
import urllib.error
import urllib.request

import pytest


@pytest.fixture
def http(daemon_factory):
    return daemon_factory("--http", "127.0.0.1:0")


def ask(daemon, key, secret=None):
    """Status and message of the answer to a question that every key may ask."""
    port = re.search(r"listening http=127\.0\.0\.1:(\d+)", daemon.log()).group(1)
    credentials = base64.b64encode(f"{key['keyId']}:{secret or key['keySecret']}".encode()).decode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/organizations",
                                     headers={"Authorization": "Basic " + credentials})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_change_of_a_key_counts_for_the_next_request(http):
    rpc = http.client()
    organization = rpc.call("organization.create", name="one")["id"]
    key = rpc.call("key.create", organizationId=organization, name="ci")
    names = {"organizationId": organization, "keyId": key["keyId"]}
    assert ask(http, key)[0] == 200
    rpc.call("key.update", **names, state="disabled")
    status, text = ask(http, key)
    assert status == 401 and "Key is disabled" in text
    rpc.call("key.update", **names, state="enabled", ipAccessList=[{"source": "10.0.0.0/8"}])
    assert ask(http, key)[0] == 403
    rpc.call("key.update", **names, ipAccessList=[{"source": "127.0.0.0/8"}])
    assert ask(http, key)[0] == 200
    rpc.call("key.revoke", **names)
    assert ask(http, key)[0] == 401


def test_a_wrong_secret_and_an_unknown_key_get_the_same_answer(http):
    rpc = http.client()
    organization = rpc.call("organization.create", name="one")["id"]
    key = rpc.call("key.create", organizationId=organization, name="ci")
    unknown = {"keyId": "01900000-0000-7000-8000-000000000000", "keySecret": key["keySecret"]}
    for status, text in (ask(http, key, secret="wrong"), ask(http, unknown)):
        assert status == 401 and "Key is not found" in text
