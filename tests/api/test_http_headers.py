"""Good citizenship: what HTTP itself offers, and what operators look at."""

import base64
import gzip
import http.client
import json
import re
import socket
import threading

import pytest
from web import PRODUCTION, Site


@pytest.fixture
def site(daemon_factory):
    return Site(daemon_factory)


# ---- Request ids ----


def test_request_ids_are_made_taken_answered_and_logged(site):
    answer = site.plain.patch(f"services/{site.running()}", {"name": "x"}, X_Request_Id="my-id-7")
    assert answer.headers["X-Request-Id"] == "my-id-7"
    site.rpc.wait_stats(lambda stats: "http request=my-id-7 method=PATCH" in site.daemon.log()) # written behind the answer
    made = site.cloud.get("services")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made.headers["X-Request-Id"])
    assert made.json["requestId"] == made.headers["X-Request-Id"]
    assert len({site.plain.get("/healthz").headers["X-Request-Id"] for _ in range(500)}) == 500


@pytest.mark.parametrize("wrong", ["a b", 'a"b', "x" * 129])
def test_request_ids_that_cannot_be_logged(site, wrong):
    answer = site.plain.get("services", X_Request_Id=wrong)
    assert answer.status == 400 and "request header.X-Request-Id" in answer.error


# ---- Conditions ----


def test_etag_and_if_none_match(site):
    service = site.running()
    answer = site.plain.get(f"services/{service}")
    tag = answer.headers["ETag"]
    for text in (tag, f'"999", {tag}', "*", f"W/{tag}"):
        unchanged = site.plain.get(f"services/{service}", If_None_Match=text)
        assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", tag)
    assert site.plain.get(f"services/{service}", If_None_Match='"999"').status == 200
    site.plain.patch(f"services/{service}", {"name": "new"})
    assert site.plain.get(f"services/{service}", If_None_Match=tag).status == 200


def test_if_match(site):
    service = site.running()
    tag = site.plain.get(f"services/{service}").headers["ETag"]
    first = site.plain.patch(f"services/{service}", {"name": "one"}, If_Match=tag)
    assert first.status == 200 and first.headers["ETag"] != tag
    second = site.plain.patch(f"services/{service}", {"name": "two"}, If_Match=tag)
    assert second.status == 412 and second.error.startswith("STALE_GENERATION: request header.If-Match: the generation is")
    assert site.plain.patch(f"services/{service}", {"name": "three"}, If_Match="*").status == 200
    assert "request header.If-Match: must be one ETag" in site.plain.patch(f"services/{service}", {}, If_Match="abc").error
    assert site.plain.delete(f"services/{service}", If_Match='"1"').status == 412


def test_idempotency_key(site):
    first = site.plain.post("services", PRODUCTION, Idempotency_Key="k1")
    again = site.plain.post("services", PRODUCTION, Idempotency_Key="k1")
    assert again.json["service"]["id"] == first.json["service"]["id"] and again.json["password"] == first.json["password"]
    assert again.headers["Idempotency-Replayed"] == "true" and "Idempotency-Replayed" not in first.headers
    other = site.plain.post("services", {**PRODUCTION, "name": "other"}, Idempotency_Key="k1")
    assert other.status == 422 and other.error.startswith("IDEMPOTENCY_MISMATCH: request header.Idempotency-Key")
    assert len(site.plain.get("services").json) == 1
    assert site.plain.post("services", PRODUCTION, Idempotency_Key="x" * 256).status == 400


# ---- Prefer: wait ----


def test_prefer_wait_answers_when_the_state_is_reached(site):
    answer = site.plain.post("services", PRODUCTION, Prefer="respond-async, wait=20")
    assert answer.headers["Preference-Applied"] == "wait=20" and answer.json["service"]["state"] == "running" and answer.json["password"]


def test_prefer_wait_ends_with_its_time(daemon_factory):
    site = Site(daemon_factory, provisioner="simulated:delay-ms=600000..600000")
    answer = site.plain.post("services", PRODUCTION, Prefer="wait=1")
    assert answer.status == 200 and answer.json["service"]["state"] == "provisioning" and answer.json["password"]
    assert "reeve_http_streams 0\n" in site.plain.get("/metrics").body.decode()


def test_prefer_wait_ends_with_failure(daemon_factory):
    site = Site(daemon_factory, provisioner="simulated:delay-ms=0..0,fatal=1")
    assert site.plain.post("services", PRODUCTION, Prefer="wait=20").json["service"]["state"] == "failed"


def test_what_is_waited_for_is_answered_when_the_server_closes(daemon_factory):
    site = Site(daemon_factory, provisioner="simulated:delay-ms=600000..600000")
    host, port = site.addresses["plain"].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    web = site.plain
    web.connection = connection
    key = base64.b64encode(":".join(site.key).encode()).decode()
    watch = site.rpc.call("event.watch", organizationId=site.id)["watch"]
    connection.request("POST", f"{web.base}/services", json.dumps(PRODUCTION), {"Authorization": f"Basic {key}", "Content-Type": "application/json", "Prefer": "wait=60"})
    site.rpc.wait_event(lambda event: event["type"] == "service_create", 20, watch)
    assert site.daemon.stop() == 0
    answer = connection.getresponse()
    assert answer.status == 200 and json.loads(answer.read())["service"]["state"] == "provisioning"


# ---- Methods, types ----


def test_head_is_get_without_a_body(site):
    service = site.running()
    for path in (f"services/{service}", "services", "/healthz", "/metrics", "/openapi.json"):
        head, get = site.plain.request("HEAD", path), site.plain.get(path)
        assert head.status == get.status == 200 and head.body == b""
        assert head.headers["Content-Type"] == get.headers["Content-Type"] and head.headers["ETag"] == get.headers["ETag"]


def test_options_and_wrong_methods_tell_what_is_allowed(site):
    allowed = {"services": "GET, HEAD, POST, OPTIONS", f"services/{site.running()}": "GET, HEAD, PATCH, DELETE, OPTIONS",
               "/healthz": "GET, HEAD, OPTIONS"}
    for path, methods in allowed.items():
        options = site.plain.request("OPTIONS", path)
        assert options.status == 204 and options.headers["Allow"] == methods
        wrong = site.plain.request("PUT", path)
        assert wrong.status == 405 and wrong.headers["Allow"] == methods and wrong.error.startswith("METHOD_NOT_ALLOWED: ") and wrong.error.endswith(f"only {methods}")
    assert site.plain.get("nothing/like/this").status == 404
    assert site.plain.get("/").status == 404


def test_types(site):
    assert site.plain.get("services", Accept="text/html").status == 406
    assert site.plain.get("services", Accept="application/json;q=0").status == 406
    for fine in ("*/*", "application/*", "text/html, application/json;q=0.5"):
        assert site.plain.get("services", Accept=fine).status == 200
    wrong = site.plain.post("services", PRODUCTION, Content_Type="text/plain")
    assert wrong.status == 415 and "request header.Content-Type: must be application/json <string:text/plain>" in wrong.error
    assert site.plain.post("services", PRODUCTION, Content_Type="application/json; charset=utf-8").status == 200
    missing = site.plain.as_key(site.key)
    host, port = site.addresses["plain"].split(":")
    raw = http.client.HTTPConnection(host, int(port), timeout=20)
    missing.connection = raw
    raw.putrequest("POST", f"{site.plain.base}/services")
    raw.putheader("Authorization", "Basic " + base64.b64encode(":".join(site.key).encode()).decode())
    raw.endheaders()
    assert raw.getresponse().status == 411


# ---- Lists ----


def test_big_lists_are_streamed_paged_and_compressed(site):
    names = [f"service-{i:04}" for i in range(700)]
    for name in names:
        site.rpc.call("service.create", organizationId=site.id, **{**PRODUCTION, "name": name})
    whole = site.plain.get("services")
    ids = [service["id"] for service in whole.json]
    assert ids == sorted(ids) and sorted(service["name"] for service in whole.json) == names and "Content-Length" not in whole.headers
    zipped = site.plain.get("services", Accept_Encoding="gzip")
    assert zipped.headers["Content-Encoding"] == "gzip" and [service["id"] for service in json.loads(gzip.decompress(zipped.body))] == ids
    assert len(zipped.body) * 5 < len(whole.body)
    small = site.plain.get("services?limit=2", Accept_Encoding="gzip")
    assert "Content-Encoding" not in small.headers and [service["id"] for service in small.json] == ids[:2]
    seen, cursor = [], ""
    while page := site.plain.get(f"services?limit=300{cursor}").json:
        seen += [service["id"] for service in page]
        cursor = f"&cursor={page[-1]['id']}"
    assert seen == ids
    assert [service["name"] for service in site.cloud.get("services?filter=tag:none").result] == []
    assert "request query.limit: must be from 1" in site.plain.get("services?limit=0").error
    assert "request query.limits: is not known here; known are filter limit cursor" in site.plain.get("services?limits=1").error


# ---- Events ----


class Stream:
    """Server-sent events, read as they come."""

    def __init__(self, site, path="events", **headers):
        host, port = site.addresses["plain"].split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        key = base64.b64encode(":".join(site.key).encode()).decode()
        lines = [f"GET {site.plain.base}/{path} HTTP/1.1", "Host: x", "Accept: text/event-stream", f"Authorization: Basic {key}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.socket.sendall("\r\n".join(lines + ["", ""]).encode())
        self.response = http.client.HTTPResponse(self.socket)
        self.response.begin()

    def next(self):
        """The next event as a dict of its lines; comments are passed over."""
        event = {}
        while True:
            line = self.response.readline().decode().rstrip("\n")
            if line == "":
                if "data" in event:
                    return event
                event = {}
            if line and not line.startswith(":") and ": " in line:
                name, value = line.split(": ", 1)
                event[name] = value

    def close(self):
        self.socket.close()


def test_stream_of_events_and_its_resume(site):
    service = site.running()
    stream = Stream(site, "events?from=1")
    assert stream.response.status == 200 and stream.response.headers["Content-Type"] == "text/event-stream"
    types = []
    while "service_running" not in types:
        event = stream.next()
        types.append(event["event"])
    assert types == ["organization_create", "key_create", "service_create", "service_running"]
    last = event["id"]
    site.plain.patch(f"services/{service}", {"name": "live"})
    live = stream.next()
    assert live["event"] == "service_update" and int(live["id"]) == int(last) + 1
    stream.close()
    resumed = Stream(site, f"services/{service}/events", Last_Event_ID=last)
    assert resumed.next() == live
    resumed.close()


def test_a_stream_shows_only_its_organization(site):
    other = site.organization()
    stream = Stream(site)
    site.rpc.call("organization.update", organizationId=other, name="unseen")
    site.rpc.call("organization.update", organizationId=site.id, name="seen")
    assert '"organizationId":"%s"' % site.id in stream.next()["data"]
    stream.close()


def test_streams_beside_each_other_show_each_its_own(site):
    """What was made for one is used for the next only where that one wants the same."""
    services = [site.stopped(), site.stopped()]
    paths = ["events", "events", f"services/{services[0]}/events", f"services/{services[1]}/events", "events"]
    streams = [Stream(site, path) for path in paths]
    for service in services * 50:
        site.plain.patch(f"services/{service}", {"name": "live"})
    told = [[stream.next() for _ in range(50 if "services" in path else 100)] for path, stream in zip(paths, streams)]
    assert told[0] == told[1] == told[4]
    for events, service in zip(told[2:4], services):
        assert events == [event for event in told[0] if f'"serviceId":"{service}"' in event["data"]]
    for stream in streams:
        stream.close()


def test_a_stream_that_is_behind_is_told(daemon_factory):
    site = Site(daemon_factory, "--events-max", "1000")
    service = site.stopped()
    for i in range(1200):
        site.rpc.call("service.update", organizationId=site.id, serviceId=service, name=f"n{i}")
    answer = site.plain.get("events?from=1", Accept="text/event-stream")
    assert answer.status == 410 and answer.error.startswith("LAGGED: ") and answer.json["details"][0]["resume"] > 1


def test_a_slow_stream_gets_everything_in_the_end(daemon_factory):
    site = Site(daemon_factory, "--http-stream-bytes", "4096")
    service, stream = site.stopped(), Stream(site)
    for i in range(3000):
        site.rpc.call("service.update", organizationId=site.id, serviceId=service, name=f"n{i}")
    ids = [int(stream.next()["id"]) for _ in range(3000)]
    assert ids == list(range(ids[0], ids[0] + 3000))
    stream.close()


def test_streams_are_limited_and_end_with_the_server(daemon_factory):
    site = Site(daemon_factory, "--http-streams-max", "1")
    stream = Stream(site)
    refused = site.plain.get("events", Accept="text/event-stream")
    assert refused.status == 503 and refused.headers["Retry-After"] and refused.error.startswith("BUSY: ")
    assert site.plain.post("services", PRODUCTION, Prefer="wait=20").status == 200
    assert site.daemon.stop() == 0
    assert stream.response.read().startswith(b"retry: 1000")
    stream.close()


# ---- Operators ----


def test_health_and_readiness(site):
    web = site.plain.as_key(None)
    assert (web.get("/healthz").status, web.get("/healthz").body) == (200, b"ok\n")
    assert (web.get("/readyz").status, web.get("/readyz").body) == (200, b"ready\n")


def test_a_full_queue_is_503_with_retry_after(daemon_factory):
    site = Site(daemon_factory, "--queue-capacity", "1")
    service = site.stopped()
    statuses, webs = [], [site.web("plain") for _ in range(24)]

    def hammer(web):
        for i in range(40):
            answer = web.patch(f"services/{service}", {"name": f"n{i}"})
            statuses.append((answer.status, answer.headers["Retry-After"]))

    threads = [threading.Thread(target=hammer, args=(web,)) for web in webs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (200, None) in statuses and set(statuses) <= {(200, None), (503, "1")}


def test_metrics(site):
    service = site.running()
    site.plain.get(f"services/{service}")
    site.plain.get("nowhere")
    text = site.plain.get("/metrics").body.decode()
    values = dict(re.findall(r"^(reeve_\S+) (\S+)$", text, re.MULTILINE))
    assert values['reeve_services{state="running"}'] == "1" and values['reeve_services{state="stopped"}'] == "0"
    route = 'method="GET",route="/v1/organizations/{organizationId}/services/{serviceId}"'
    assert values[f'reeve_http_requests_by_route_total{{{route},code="200"}}'] == "1"
    assert values['reeve_http_requests_by_route_total{method="",route="none",code="404"}'] == "1"
    assert int(values["reeve_commit_seconds_count"]) == int(values['reeve_commit_seconds_bucket{le="+Inf"}']) > 0
    for name in ("reeve_commands_total", "reeve_operations_done_total", "reeve_map_bytes", "reeve_map_used_bytes", "reeve_ipc_requests_total",
                 "reeve_http_requests_total", "reeve_batch_size_sum"):
        assert name in values
    names = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .+|[a-z_]+(\{[^{}]*(\{[^{}]*\}[^{}]*)*\})? [0-9.e+-]+', line), line


def test_documents_stand_alone(site):
    page = site.plain.as_key(None).get("/docs").body.decode()
    assert "<title>reeve: services API</title>" in page and "http://" not in page.replace("http://www.w3.org", "") and "minTotalMemoryGb" in page
    for words in ("a multiple of 12 up to 360, paid 720 (default: 360)", "entries to take away first", "1 to 50 characters", "<code>stopping</code>"):
        assert words in page
    links, places = set(re.findall(r'href="#([^"]+)"', page)), re.findall(r'id="([^"]+)"', page)
    assert len(links) > 15 and links <= set(places) and len(places) == len(set(places))
    for web, words in ((site.plain, "plain"), (site.cloud, "cloud")):
        document = web.as_key(None).get("/openapi.json").json
        assert document["openapi"] == "3.1.0" and words in document["info"]["title"] and len(document["paths"]) > 30


def test_restart_keeps_what_was_answered(site):
    created = site.plain.post("services", PRODUCTION, Prefer="wait=20").json["service"]
    site.daemon.kill()
    site.daemon.start()
    site.find()
    assert site.web("plain").get(f"services/{created['id']}").json == created


def test_targets_in_the_other_forms(site):
    host, port = site.addresses["plain"].split(":")
    for method, target, status in (("GET", "http://elsewhere:1/healthz", 200), ("GET", "HTTPS://x/healthz?", 200), ("GET", "http://x", 404),
                                   ("OPTIONS", "*", 204), ("GET", "*", 404)):
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.request(method, target)
        assert connection.getresponse().status == status, target
