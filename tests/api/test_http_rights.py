"""Who may do what: keys, roles, addresses, organizations, TLS, rates."""

import ssl
import subprocess
import urllib.request

import pytest
from web import PRODUCTION, Site, Web

MISSING = "01890000-0000-7000-8000-000000000000"


@pytest.fixture
def site(daemon_factory):
    return Site(daemon_factory)


def test_without_a_key(site):
    answer = site.plain.as_key(None).get("services")
    assert answer.status == 401 and answer.error.startswith("UNAUTHORIZED: a key is needed")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("header", ["Basic", "Basic ", "Basic !!!", "Basic bm9jb2xvbg==", "Bearer x", "Basic " + "QUFB" * 200, "Basic Og=="])
def test_headers_that_are_no_key(site, header):
    answer = site.plain.as_key(None).get("services", Authorization=header)
    assert answer.status == 401


def test_an_unknown_id_and_a_wrong_secret_are_not_told_apart(site):
    errors = {site.plain.as_key(key).get("services").error for key in ((MISSING, site.key[1]), (site.key[0], "wrong"), ("x", "y"))}
    assert errors == {"UNAUTHORIZED: Key is not found"}


def test_another_organization_is_like_a_missing_one(site):
    other = site.organization()
    service = site.rpc.call("service.create", organizationId=other, **PRODUCTION)["service"]["id"]
    for path in ("", "/services", f"/services/{service}", "/keys", "/events", "/quotas"):
        foreign = site.plain.get(f"/v1/organizations/{other}{path}")
        missing = site.plain.get(f"/v1/organizations/{MISSING}{path}")
        assert foreign.status == missing.status == 404 and foreign.error == missing.error
    assert site.plain.get(f"services/{service}").status == 404
    assert site.plain.patch(f"/v1/organizations/{other}/services/{service}/state", {"command": "stop"}).status == 404


# What each role may do: method, path, body, least role.
RIGHTS = [
    ("GET", "", None, "viewer"), ("PATCH", "", {}, "admin"), ("GET", "services", None, "viewer"), ("POST", "services", PRODUCTION, "developer"),
    ("GET", "services/{s}", None, "viewer"), ("PATCH", "services/{s}", {}, "developer"), ("PATCH", "services/{s}/scaling", {}, "developer"),
    ("PATCH", "services/{s}/password", {}, "developer"), ("PATCH", "services/{s}/state", {"command": "start"}, "developer"),
    ("GET", "services/{s}/backups", None, "viewer"), ("POST", "services/{s}/backups", None, "developer"),
    ("GET", "services/{s}/backupConfiguration", None, "viewer"), ("PATCH", "services/{s}/backupConfiguration", {}, "admin"),
    ("GET", "services/{s}/operations", None, "viewer"), ("GET", "events", None, "viewer"), ("GET", "activities", None, "viewer"),
    ("GET", "keys", None, "admin"), ("POST", "keys", {"name": "k"}, "admin"), ("DELETE", "services/{s}", None, "developer"),
]


@pytest.mark.parametrize("role", ["viewer", "developer", "admin"])
def test_roles(site, role):
    ranks = ["viewer", "developer", "admin"]
    service = site.running()
    web = site.web("plain", key=site.make_key(role))
    for method, path, body, least in RIGHTS:
        answer = web.request(method, path.format(s=service), body)
        if ranks.index(role) >= ranks.index(least):
            assert answer.status in (200, 409), (method, path, answer.body)
        else:
            assert answer.status == 403 and answer.error == f"FORBIDDEN: this needs a key with role '{least}', this one has '{role}'"


def test_state_and_expiry(site):
    disabled = site.web("plain", key=site.make_key("viewer", state="disabled"))
    assert disabled.get("services").error == "UNAUTHORIZED: Key is disabled"
    site.rpc.call("key.update", organizationId=site.id, keyId=disabled.key[0], state="enabled")
    assert disabled.get("services").status == 200
    site.rpc.call("key.update", organizationId=site.id, keyId=disabled.key[0], state="disabled")
    assert disabled.get("services").status == 401


def test_a_key_ends_at_its_time(site):
    created = site.rpc.call("key.create", organizationId=site.id, name="short", expireAt="2126-01-01T00:00:00Z")
    web = site.web("plain", key=(created["keyId"], created["keySecret"]))
    assert web.get("services").status == 200
    watch = site.rpc.call("event.watch", organizationId=site.id)["watch"]
    soon = subprocess.run(["date", "-u", "-d", "+2 seconds", "+%Y-%m-%dT%H:%M:%SZ"], capture_output=True, text=True, check=True).stdout.strip()
    site.rpc.call("key.update", organizationId=site.id, keyId=created["keyId"], expireAt=soon)
    site.rpc.wait_event(lambda event: event["type"] == "key_expire", 20, watch)
    assert web.get("services").error == "UNAUTHORIZED: Key is not found"


def test_revocation_counts_at_once(site):
    for _ in range(20):
        web = site.web("plain", key=site.make_key("viewer"))
        assert web.get("services").status == 200
        assert site.plain.delete(f"keys/{web.key[0]}").status == 200
        assert web.get("services").status == 401


@pytest.mark.parametrize("source, status", [("127.0.0.1", 200), ("127.0.0.0/8", 200), ("0.0.0.0/0", 200), ("10.0.0.0/8", 403), ("::1", 403), ("127.0.0.2/31", 403)])
def test_allow_list(site, source, status):
    web = site.web("plain", key=site.make_key("viewer", ipAccessList=[{"source": "192.0.2.1"}, {"source": source}]))
    assert web.get("services").status == status


def test_an_empty_allow_list_allows_nobody(site):
    assert site.web("plain", key=site.make_key("viewer", ipAccessList=[])).get("services").error == "FORBIDDEN: Key may not be used from this address"


def test_failures_are_counted_and_held_back(daemon_factory):
    site = Site(daemon_factory, "--http-failure-delay-ms", "40")
    wrong = site.plain.as_key((site.key[0], "wrong"))
    answers = [wrong.get("services") for _ in range(3)]
    assert [answer.status for answer in answers] == [401] * 3
    metrics = site.plain.get("/metrics").body.decode()
    assert "reeve_http_unauthorized_total 3\n" in metrics
    assert site.plain.get("services").status == 200


def test_rate_limit(daemon_factory):
    site = Site(daemon_factory, "--http-rate-requests", "3", "--http-rate-ms", "600000")
    answers = [site.plain.get("services") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    refused = answers[3]
    assert refused.error.startswith("TOO_MANY_REQUESTS: the key may make 3 requests")
    assert 1 <= int(refused.headers["X-RateLimit-Reset"]) <= 600 and refused.headers["Retry-After"] == refused.headers["X-RateLimit-Reset"]
    assert site.web("plain", key=site.make_key("viewer")).get("services").status == 200


# ---- TLS ----


def make_certificate(directory, name):
    paths = str(directory / f"{name}.crt"), str(directory / f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


def fetch(address, certificate):
    context = ssl.create_default_context(cafile=certificate)
    with urllib.request.urlopen(f"https://{address}/healthz", context=context, timeout=20) as answer:
        return answer.read()


def test_tls_and_its_reload(daemon_factory, tmp_path):
    old, new = make_certificate(tmp_path, "old"), make_certificate(tmp_path, "new")
    used = tmp_path / "used.crt", tmp_path / "used.key"
    for source, target in zip(old, used):
        target.write_bytes(open(source, "rb").read())
    site = Site(daemon_factory, "--http-cert", used[0], "--http-key", used[1])
    assert fetch(site.addresses["plain"], old[0]) == b"ok\n"
    for source, target in zip(new, used):
        target.write_bytes(open(source, "rb").read())
    site.daemon.reload()
    assert fetch(site.addresses["plain"], new[0]) == b"ok\n"
    with pytest.raises(OSError):
        fetch(site.addresses["plain"], old[0])
    used[1].write_text("no key at all")
    site.daemon.reload()
    assert "not reloaded" in site.daemon.log() and "http-key: cannot use" in site.daemon.log()
    assert fetch(site.addresses["plain"], new[0]) == b"ok\n"


@pytest.mark.parametrize("arguments, words", [
    (["--http", "0.0.0.0:0"], "http: 0.0.0.0:0 is not an address of loopback"),
    (["--http-cloud", "[::]:0"], "http-cloud: [::]:0 is not an address of loopback"),
    (["--http", "8080"], "http: must be ADDRESS:PORT like"),
    (["--http", "127.0.0.1:99999"], "http: must be ADDRESS:PORT like"),
    (["--http", "::1:80"], "http: must be ADDRESS:PORT like"),
    (["--http", "127.0.0.1:0", "--http-cert", "/nowhere"], "http-key: is required"),
    (["--http", "127.0.0.1:0", "--http-cert", "/nowhere", "--http-key", "/nowhere"], "http-cert: cannot use /nowhere"),
    (["--http-body-ms", "5"], "http-body-ms: must be a number from 100"),
])
def test_what_does_not_start(daemon_factory, arguments, words):
    with pytest.raises(RuntimeError) as caught:
        daemon_factory(*arguments)
    assert words in str(caught.value)


def test_insecure_is_possible_when_said(daemon_factory):
    daemon = daemon_factory("--http", "0.0.0.0:0", "--insecure")
    assert "listening http=0.0.0.0:" in daemon.log()


def test_a_port_that_is_taken(site, daemon_factory):
    with pytest.raises(RuntimeError) as caught:
        daemon_factory("--http", site.addresses["plain"])
    assert f"http: cannot listen on {site.addresses['plain']}: Address already in use" in str(caught.value)


def test_addresses_may_be_repeated(daemon_factory):
    daemon = daemon_factory("--http", "127.0.0.1:0", "--http", "127.0.0.1:0")
    assert daemon.log().count("listening http=127.0.0.1:") == 2
    for line in daemon.log().splitlines():
        if "listening http=" in line:
            assert Web(line.split("http=")[1].split()[0]).get("/healthz").body == b"ok\n"
