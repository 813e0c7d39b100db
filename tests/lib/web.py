"""An HTTP client for tests: one connection, answers as they came."""

import base64
import http.client
import json
import re

from daemon import Daemon

SERVICE = {"name": "db", "provider": "aws", "region": "us-east-1"}
PRODUCTION = {**SERVICE, "tier": "production"}
DEVELOPMENT = {**SERVICE, "tier": "development"}


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def result(self):
        """What the cloud dialect wraps."""
        answer = self.json
        assert answer["status"] == 200 and re.fullmatch(r"[0-9a-f-]{36}", answer["requestId"])
        return answer["result"]

    @property
    def error(self):
        answer = self.json
        assert answer["status"] == self.status and set(answer) == {"status", "error", "requestId", "details"}
        assert answer["requestId"] == self.headers["X-Request-Id"]
        return answer["error"]


class Web:
    """`key` is (id, secret), or None. `base` is put in front of paths that do not start with a slash."""

    def __init__(self, address, key=None, base="", timeout=30):
        self.address, self.key, self.base, self.timeout = address, key, base, timeout
        self.connection = None

    def as_key(self, key):
        return Web(self.address, key, self.base, self.timeout)

    def request(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key and "Authorization" not in headers:
            text = base64.b64encode(":".join(self.key).encode()).decode()
            headers["Authorization"] = f"Basic {text}"
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        if self.connection is None:
            host, port = self.address.rsplit(":", 1)
            self.connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=self.timeout)
        self.connection.request(method, path if path.startswith("/") else f"{self.base}/{path}".rstrip("/"), body, headers)
        response = self.connection.getresponse()
        return Answer(response, response.read())

    def get(self, path, **headers):
        return self.request("GET", path, **headers)

    def post(self, path, body=None, **headers):
        return self.request("POST", path, body, **headers)

    def patch(self, path, body=None, **headers):
        return self.request("PATCH", path, body, **headers)

    def delete(self, path, **headers):
        return self.request("DELETE", path, **headers)


class Site:
    """A daemon with both dialects, an organization and an admin's key."""

    def __init__(self, daemon_factory, *arguments, **options):
        self.daemon: Daemon = daemon_factory("--http", "127.0.0.1:0", "--http-cloud", "127.0.0.1:0",
                                             "--http-failure-delay-ms", "1", *arguments, **options)
        self.rpc = self.daemon.client()
        self.find()
        self.id = self.organization()
        self.key = self.make_key("admin")
        self.plain = self.web("plain")
        self.cloud = self.web("cloud")

    def find(self):
        """Where it listens, by its log."""
        log = self.daemon.log()
        self.addresses = {"plain": re.findall(r"listening http=(\S+)", log)[-1],
                          "cloud": re.findall(r"listening http-cloud=(\S+)", log)[-1]}

    def organization(self, **more):
        return self.rpc.call("organization.create", name="org", **more)["id"]

    def make_key(self, role, organization=None, **more):
        key = self.rpc.call("key.create", organizationId=organization or self.id, name=role, role=role, **more)
        return key["keyId"], key["keySecret"]

    def web(self, dialect, organization=None, key=None):
        return Web(self.addresses[dialect], key or self.key, f"/v1/organizations/{organization or self.id}")

    def running(self, **fields):
        """The id of a new service that runs."""
        answer = self.plain.post("services", {**PRODUCTION, **fields}, Prefer="wait=20")
        assert answer.status == 200 and answer.json["service"]["state"] == "running", answer.body
        return answer.json["service"]["id"]

    def stopped(self, **fields):
        service = self.running(**fields)
        answer = self.plain.patch(f"services/{service}/state", {"command": "stop"}, Prefer="wait=20")
        assert answer.json["state"] == "stopped", answer.body
        return service
