"""Nobody reaches into another organization, by any path and method of the documents, with any mix of ids."""

import itertools
import json

import pytest
from web import Site

MISSING = "01890000-0000-7000-8000-000000000000"
BODIES = {"POST services": {"name": "x", "provider": "aws", "region": "us-east-1", "tier": "production"}, "POST keys": {"name": "k", "roles": ["admin"]},
          "PATCH state": {"command": "stop"}}


class Stranger:
    """An organization with one of everything, and what of it can be seen."""

    def __init__(self, site):
        self.site, self.id = site, site.organization()
        self.key = site.make_key("admin", self.id)
        self.web = site.web("plain", organization=self.id, key=self.key)
        service = self.web.post("services", {**BODIES["POST services"]}, Prefer="wait=20").json["service"]["id"]
        backup = self.web.post(f"services/{service}/backups", Prefer="wait=20").json["id"]
        event = self.web.get("events").json[-1]["sequence"]
        self.ids = {"organizationId": self.id, "serviceId": service, "backupId": backup, "keyId": self.key[0], "operationId": MISSING,
                    "activityId": str(event), "quotaCode": "services-per-organization"}

    def picture(self):
        services = f"services/{self.ids['serviceId']}"
        return [self.web.get(path).json for path in ("", "services", services, f"{services}/backups", f"{services}/backupConfiguration", "keys", "quotas")]


@pytest.fixture
def site(daemon_factory):
    return Site(daemon_factory)


def routes(web):
    document = web.get("/openapi.json").json
    for path, methods in document["paths"].items():
        for method in methods:
            if "{organizationId}" in path and method in ("get", "post", "patch", "delete"):
                yield method.upper(), path


def body_of(method, path):
    return next((body for name, body in BODIES.items() if name == f"{method} {path.rsplit('/', 1)[-1]}"), None if method in ("GET", "DELETE") else {})


def ask(web, method, path, ids):
    for name, value in ids.items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path
    return web.request(method, path, body_of(method, path))


@pytest.mark.parametrize("dialect", ["plain", "cloud"])
def test_another_organization_is_like_one_that_does_not_exist(site, dialect):
    stranger, web = Stranger(site), site.web(dialect)
    before, tried = stranger.picture(), 0
    for method, path in routes(web):
        foreign = ask(web, method, path, stranger.ids)
        missing = ask(web, method, path, {**stranger.ids, "organizationId": MISSING})
        assert foreign.status == missing.status == 404 and foreign.error == missing.error, (method, path, foreign.body)
        tried += 1
    assert tried > 35 and stranger.picture() == before


@pytest.mark.parametrize("dialect", ["plain", "cloud"])
def test_its_things_are_not_there_in_ones_own(site, dialect):
    """With every mix of own and foreign ids that has a foreign one in it."""
    stranger, web = Stranger(site), site.web(dialect)
    own = Stranger(site)
    web = site.web(dialect, organization=own.id, key=own.key)
    before, tried = stranger.picture(), 0
    for method, path in routes(web):
        names = [name for name in ("serviceId", "backupId", "keyId") if "{" + name + "}" in path]
        for foreign in itertools.chain.from_iterable(itertools.combinations(names, count + 1) for count in range(len(names))):
            ids = {**own.ids, **{name: stranger.ids[name] for name in foreign}}
            answer = ask(web, method, path, ids)
            nothing = ask(web, method, path, {**own.ids, **{name: MISSING for name in foreign}})
            assert (answer.status, shape(answer, ids)) == (nothing.status, shape(nothing, ids)), (method, path, foreign, answer.body)
            assert answer.status == 404 or (answer.status == 200 and method == "GET" and path.endswith("events")), (method, path, foreign, answer.body)
            tried += 1
    assert tried > 25 and stranger.picture() == before


def shape(answer, ids):
    """What it says, whatever ids it repeats."""
    text = json.dumps(answer.json)
    for value in (answer.headers["X-Request-Id"], MISSING, *(value for value in ids.values() if len(value) == 36)):
        text = text.replace(value, "ID")
    return text
