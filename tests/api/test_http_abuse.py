"""What hostile and broken HTTP clients do: each is answered or closed in time, and leaves nothing behind.

What libmicrohttpd answers itself, before this server is asked, is a page of HTML: requests it cannot parse (400), HTTP
versions it does not speak (505), chunk sizes that are no numbers (400, 413), heads that do not fit into its memory
(414, 431), a Content-Length that is no number (400, 413) and HTTP/1.1 without Host (400).
"""

import base64
import json
import os
import pathlib
import re
import resource
import select
import signal
import socket
import struct
import time

import pytest

from daemon import Daemon
from web import PRODUCTION, Site

HEAD_BYTES, URI_BYTES, BODY_BYTES, CONNECTIONS = 2048, 1024, 4096, 8
LIMITS = ("--http-head-bytes-max", HEAD_BYTES, "--http-uri-bytes-max", URI_BYTES, "--http-body-bytes-max", BODY_BYTES,
          "--http-connections-max", CONNECTIONS)
HASTY_MS = 600
HASTY_LIMITS = ("--http-head-ms", HASTY_MS, "--http-body-ms", HASTY_MS, "--http-stall-ms", 1000)
SOON = 20  # seconds; what is waited for comes long before, unless the machine is busy with something else
RENAME = b'{"name":"renamed"}'
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


class Reply:
    def __init__(self, head, body):
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body.decode())


class Wire:
    """A connection on which anything may be sent."""

    def __init__(self, address, data=b""):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=SOON)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.send(data)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def send(self, data):
        """False: the server has closed meanwhile."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def end(self):
        """Nothing more will be sent."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the server has closed meanwhile
            pass

    def more(self):
        """False: the end."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def take(self, size):
        while len(self.buffer) < size:
            assert self.more(), f"closed after {self.buffer}"
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def reply(self, body=True):
        """The next answer; None: closed without one."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                assert not self.buffer
                return None
        head = self.take(self.buffer.index(b"\r\n\r\n") + 4)[:-4]
        reply = Reply(head, b"")
        if body and reply.status not in (100, 204, 304):
            reply.body = self.take(int(reply.headers["content-length"]))
        return reply

    def rest(self):
        """All there is until the server closes."""
        while self.more():
            pass
        return self.buffer

    def reset(self):
        """Close so that the server hears of an error."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Target(Site):
    """Requests as bytes."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.authorization = b"Authorization: Basic " + base64.b64encode(":".join(self.key).encode()) + b"\r\n"
        self.organization_path = f"/v1/organizations/{self.id}".encode()
        self.services_path = self.organization_path + b"/services"

    def wire(self, data=b"", dialect="plain"):
        return Wire(self.addresses[dialect], data)

    def request(self, method, path, headers=b"", body=None):
        length = b"Content-Length: %d\r\n" % len(body) if body is not None else b""
        return (method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n" + self.authorization + headers + length + b"\r\n"
                + (body or b""))

    def rename(self, headers, body):
        """A change that is done by who believes `headers`."""
        return (b"PATCH " + self.organization_path + b" HTTP/1.1\r\nHost: x\r\n" + self.authorization + headers
                + b"\r\n" + body)

    def name(self):
        return self.rpc.call("organization.get", organizationId=self.id)["name"]

    def ask(self, data, dialect="plain"):
        with self.wire(data, dialect) as wire:
            return wire.reply()

    def create(self, body):
        return self.ask(self.request(b"POST", self.services_path, body=body))

    def connections(self):
        text = self.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").body.decode()
        return int(re.search(r"^reeve_http_connections (\d+)$", text, re.M)[1])

    def files(self):
        return len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))

    def resident_kb(self):
        status = pathlib.Path(f"/proc/{self.daemon.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    def wait_quiet(self):
        """Nobody but who asks is connected. Each question is answered behind what the server has heard before."""
        end = time.monotonic() + SOON
        while self.connections() > 1:
            assert time.monotonic() < end, f"{self.connections()} connections are left"

    def check_well(self, files):
        assert self.daemon.process.poll() is None, self.daemon.log()
        assert self.ask(HEALTH).status == 200
        assert self.ask(self.request(b"GET", self.organization_path)).json["id"] == self.id
        self.wait_quiet()
        end = time.monotonic() + SOON
        while self.files() > files:
            self.wait_quiet()
            assert time.monotonic() < end, f"{self.files()} files are open, {files} were"


@pytest.fixture(scope="module")
def make_target(tmp_path_factory):
    daemons = []

    def make(*arguments, **options):
        daemons.append(Daemon(tmp_path_factory.mktemp("abuse"), *arguments, **options))
        return daemons[-1].start()

    yield lambda *arguments: Target(make, *LIMITS, *arguments)
    for daemon in daemons:
        daemon.close()


@pytest.fixture(scope="module")
def target(make_target):
    return make_target()


@pytest.fixture(scope="module")
def hasty_target(make_target):
    return make_target(*HASTY_LIMITS)


def same_afterwards(target):
    """One server for many tests: what one of them leaves behind is found by its own end."""
    target.wait_quiet()
    files, resident = target.files(), target.resident_kb()
    yield target
    target.check_well(files)
    if not os.environ.get("SANITIZE"):
        assert target.resident_kb() - resident < 8 * 1024


@pytest.fixture
def site(target):
    """It has all the time that anybody may need."""
    yield from same_afterwards(target)


@pytest.fixture
def hasty(hasty_target):
    """It has not: for what is about time."""
    yield from same_afterwards(hasty_target)


def refusal(reply, status, text=""):
    """A refusal as they all are."""
    answer = reply.json
    assert reply.status == answer["status"] == status, answer
    assert set(answer) == {"status", "error", "requestId", "details"} and isinstance(answer["details"], list)
    assert re.match(r"[A-Z][A-Z_]+: .", answer["error"]) and text in answer["error"], answer["error"]
    assert reply.headers["x-request-id"] == answer["requestId"] and reply.headers["content-type"] == "application/json"
    return answer


def by_library(reply, status):
    assert reply.status == status and reply.body.startswith(b"<html>") and reply.headers["connection"] == "close"


# ---- Slow ----


def test_slow_heads_are_closed(hasty):
    started = time.monotonic()
    parts = [b"", b"G", b"GET /healthz", HEALTH[:-2], HEALTH[:-1], HEALTH + b"GET /he"]
    wires = [hasty.wire(part) for part in parts]
    for part, wire in zip(parts, wires):
        with wire:
            if part.startswith(HEALTH):
                assert wire.reply().status == 200
            assert wire.rest() == b""
    assert time.monotonic() - started < SOON / 2


def drip(wire, data):
    """A byte now and then; returns when the server has closed."""
    for byte in data:
        if select.select([wire.socket], [], [], 0.02)[0] or not wire.send(bytes([byte])):
            break
    return wire.rest()


def test_dripping_does_not_prolong(hasty):
    with hasty.wire() as wire:
        assert drip(wire, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 100) == b""
    with hasty.wire(hasty.rename(b"Content-Length: 4000\r\n", b"")) as wire:
        heard = drip(wire, b'{"name":"' + b"a" * 3000)
        assert heard == b"" or heard.startswith(b"HTTP/1.1 408 ")


def test_slow_bodies_are_told(hasty):
    chunked = b"Transfer-Encoding: chunked\r\n"
    slow = [hasty.rename(b"Content-Length: 19\r\n", RENAME), hasty.rename(b"Content-Length: 1\r\n", b""),
            hasty.rename(chunked, b""), hasty.rename(chunked, b"2\r\n{}\r\n"), hasty.rename(chunked, b"2\r\n{"),
            hasty.request(b"POST", b"/nowhere", b"Content-Length: 5\r\n")]
    wires = [hasty.wire(data) for data in slow]
    for wire in wires:
        with wire:
            refusal(wire.reply(), 408, "REQUEST_TIMEOUT: ")
            assert wire.rest() == b""
    with hasty.wire(hasty.rename(b"Expect: 100-continue\r\nContent-Length: 5\r\n", b"")) as wire:
        assert wire.reply().status == 100
        refusal(wire.reply(), 408)


def test_a_head_may_come_in_pieces(site):
    for head in (HEALTH, b"\r\n\n" + HEALTH, HEALTH.replace(b"\r\n", b"\n"), HEALTH[:-2] + b"\n"):
        for size in (1, 7):
            with site.wire() as wire:
                for at in range(0, len(head), size):
                    assert not select.select([wire.socket], [], [], 0)[0]
                    wire.send(head[at:at + size])
                assert wire.reply().body == b"ok\n"
                wire.send(HEALTH)
                assert wire.reply().body == b"ok\n"


def test_what_is_no_request_is_answered_without_waiting_for_more(daemon_factory):
    patient = Target(daemon_factory, "--http-head-ms", 86400000)
    for data in (b"SSH-2.0-x\r\n", b"*1\r\n$4\r\nPING\r\n", b"GET /healthz\r\n"):
        with patient.wire(data) as wire:
            heard = wire.rest()
            assert heard == b"" or heard.startswith(b"HTTP/1.1 400 "), heard


def test_slow_clients_cost_little_and_do_not_keep_the_daemon(daemon_factory):
    patient = Target(daemon_factory, "--http-head-ms", 86400000)
    files, resident, count = patient.files(), patient.resident_kb(), 300
    crowd = [patient.wire(b"GET /healthz HTTP/1.1\r\nX-Slow: ") for _ in range(count)]
    for _ in range(10):
        for wire in crowd:
            wire.send(b"x")
    assert patient.connections() == count + 1 and patient.files() >= files + count
    if not os.environ.get("SANITIZE"):
        assert patient.resident_kb() - resident < count  # 1 KiB of each
    crowd.pop().send(b"\r\nHost: x\r\n\r\n")
    crowd.pop().socket.shutdown(socket.SHUT_WR)
    assert patient.ask(HEALTH).status == 200
    patient.daemon.stop()
    assert all(wire.rest() == b"" for wire in crowd)


def test_clients_that_go_away(site):
    part = site.rename(b"Content-Length: 100\r\n", RENAME)
    for data in (b"", b"GET /hea", part[:40], part, HEALTH):
        site.wire(data).socket.close()
        site.wire(data).reset()
        with site.wire(data) as wire:  # half open: it still listens
            wire.end()
            heard = wire.rest()
            assert heard.startswith(b"HTTP/1.1 200 ") if data == HEALTH else heard == b"", (data, heard)
    assert site.name() == "org"


def test_who_asks_and_closes_is_answered_and_closed(site):
    """Both come in one piece, or one after the other: no connection is kept for somebody who will ask no more."""
    ask = site.request(b"GET", site.organization_path)
    for _ in range(30):
        with site.wire(ask) as wire:
            wire.end()
            assert wire.rest().startswith(b"HTTP/1.1 200 ")
    with site.wire() as wire:  # certainly in one piece
        os.kill(site.daemon.process.pid, signal.SIGSTOP)
        try:
            wire.send(ask)
            wire.end()
        finally:
            os.kill(site.daemon.process.pid, signal.SIGCONT)
        assert wire.rest().startswith(b"HTTP/1.1 200 ")


def test_a_server_that_is_late_blames_nobody(hasty):
    """It is stopped while the rest of a request comes, longer than anybody has time, and then reads what came in time."""
    part = hasty.rename(b"Content-Length: 14\r\n", b'{"name"')
    asks = [(b"", HEALTH), (HEALTH[:10], HEALTH[10:]), (part, b':"org"}'), (part, b"")]
    for _ in range(3):  # at another moment of its own clock each time
        wires = [hasty.wire(first) for first, _ in asks]
        taken = hasty.connections() - 1  # answered behind what was sent before: they have been heard
        os.kill(hasty.daemon.process.pid, signal.SIGSTOP)
        try:
            for wire, (_, rest) in zip(wires, asks):
                wire.send(rest)
            wires[-1].end()
            select.select([], [], [], 1.2 * HASTY_MS / 1000)  # what is disturbed tells nothing
        finally:
            os.kill(hasty.daemon.process.pid, signal.SIGCONT)
        heard = [wire.rest() for wire in wires]
        for wire in wires:
            wire.socket.close()
        if taken == len(asks):  # else we were too slow ourselves
            assert [text[:13] for text in heard] == [b"HTTP/1.1 200 "] * 3 + [b""]


def test_answers_that_are_not_read(hasty):
    """Requests without end, and none of the answers taken: disconnected after the stall."""
    with hasty.wire() as wire:
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        many = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100
        while wire.send(many):
            pass


# ---- Framing ----


def test_pipelined_requests_are_answered_in_order(site):
    requests = [HEALTH, b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Request-Id: second\r\n\r\n",
                site.request(b"PATCH", site.organization_path, body=b'{"name":"org"}'),
                site.request(b"GET", site.services_path), b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                site.request(b"GET", site.organization_path, b"X-Request-Id: last\r\n")]
    with site.wire(b"".join(requests)) as wire:
        replies = [wire.reply(body=b"HEAD" not in request) for request in requests]
    assert [reply.status for reply in replies] == [200, 404, 200, 200, 200, 200]
    assert replies[1].headers["x-request-id"] == "second" and replies[5].headers["x-request-id"] == "last"
    with site.wire(HEALTH * 500) as wire:
        assert [wire.reply().status for _ in range(500)] == [200] * 500


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"


def test_chunked_bodies(site):
    pieces = b"".join(chunk(bytes([byte])) for byte in b'{"name":"org"}')
    for body in (chunk(b'{"name":"org"}'), pieces, b"00e;extension=1\r\n" + b'{"name":"org"}\r\n'):
        with site.wire(site.rename(CHUNKED, body + END) + HEALTH) as wire:
            assert wire.reply().status == 200 and wire.reply().body == b"ok\n"
    with site.wire(site.rename(CHUNKED, chunk(b"x" * (BODY_BYTES + 1)) + END) + HEALTH) as wire:
        refusal(wire.reply(), 413, "TOO_LARGE: ")
        assert wire.reply().status == 200
    with site.wire(site.rename(CHUNKED, chunk(b"x" * BODY_BYTES) + END)) as wire:
        refusal(wire.reply(), 400, "is not JSON")


def test_endless_chunked_body_is_closed(site):
    for data in (chunk(b"x" * 1000), b"1\r\nx\r\n"):
        with site.wire(site.rename(CHUNKED, b"")) as wire:
            while wire.send(data * 50):
                pass
            wire.rest()


@pytest.mark.parametrize("body, status", [(b"zz\r\n{}\r\n", 400), (b"-1\r\n{}\r\n", 400), (b"\r\n{}\r\n", 400),
                                          (b"2\r\n{}xx0\r\n\r\n", 400), (b"ffffffffffffffffff\r\n{}", 413)])
def test_broken_chunks(site, body, status):
    with site.wire(site.rename(CHUNKED, body)) as wire:
        by_library(wire.reply(), status)
        assert wire.rest() == b""


@pytest.mark.parametrize("headers", [b"Content-Length: 4097\r\n", b"Content-Length: 999999999999999999\r\n",
                                     b"Expect: 100-continue\r\nContent-Length: 4097\r\n"])
def test_announced_bodies_that_are_too_large(site, headers):
    """Refused before anything of the body is sent."""
    with site.wire(site.rename(headers, b"")) as wire:
        refusal(wire.reply(), 413, "TOO_LARGE: ")
        assert wire.rest() == b""


def never_done(site, data):
    """Whatever was answered, what the request smuggles was not done, nor anything that came behind it."""
    with site.wire(data + site.request(b"PATCH", site.organization_path, body=b'{"name":"smuggled"}')) as wire:
        reply = wire.reply()
        wire.rest()
    assert site.name() == "org"
    return reply


@pytest.mark.parametrize("headers", [
    b"Content-Length: 18\r\nContent-Length: 18\r\n", b"Content-Length: 18\r\nContent-Length: 0\r\n",
    b"Content-Length: 0\r\nContent-Length: 18\r\n", b"Content-Length: 18\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n", b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n", b"Transfer-Encoding:\r\n", b"Transfer-Encoding: chunked \r\n",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Content-Length : 18\r\n", b"Content-Length\t: 18\r\n",
    b"X-A : b\r\nContent-Length: 18\r\n", b"Transfer-Encoding:\r\n chunked\r\n", b"Content-Length: 1\r\n 8\r\n",
    b"Content-Length:\r\n\t18\r\n", b"X-A: b\r\n c\r\n", b" X-A: b\r\n", b"X-A: b\rContent-Length: 18\r\n",
    b"Host: y\r\n", b"X A: b\r\n", b"Content-Length: 9223372036854775807\r\n" * 2, b"\xff: x\r\n"],
    ids=repr)
@pytest.mark.parametrize("body", [b"", RENAME, chunk(RENAME) + END], ids=["none", "plain", "chunked"])
def test_smuggling(site, headers, body):
    refusal(never_done(site, site.rename(headers, body)), 400, "BAD_REQUEST: request header")


@pytest.mark.parametrize("length", [b"+18", b"18x", b"0x12", b"-1", b"", b"1 8", b"18, 18", b"9" * 30, b"18 "])
def test_lengths_that_are_no_numbers(site, length):
    """libmicrohttpd answers these, the older ones with their head twice: only the first line can be relied on."""
    with site.wire(site.rename(b"Content-Length: " + length + b"\r\n", RENAME) + HEALTH) as wire:
        assert re.match(rb"HTTP/1\.1 4(00|13) .*\r\nConnection: close\r\n", wire.rest(), re.S)
    assert site.name() == "org"


def test_line_ends(hasty):
    """Bare line feeds end lines, as RFC 9112 allows; bare carriage returns do not."""
    assert hasty.ask(b"GET /healthz HTTP/1.1\nHost: x\n\n").status == 200
    assert hasty.ask(b"\r\n\r\n" + HEALTH).status == 200
    with hasty.wire(b"GET /healthz HTTP/1.1\rHost: x\r\r") as wire:
        assert wire.rest() == b""


# ---- Too much ----


def with_headers(headers):
    return b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"


def test_headers_that_are_too_large(site):
    assert site.ask(with_headers(b"X-A: " + b"a" * 1900 + b"\r\n")).status == 200
    assert site.ask(with_headers(b"A: b\r\n" * 40)).status == 200
    refusal(site.ask(with_headers(b"X-A: " + b"a" * HEAD_BYTES + b"\r\n")), 431, "HEADERS_TOO_LARGE: ")
    refusal(site.ask(site.rename(b"X-A: " + b"a" * HEAD_BYTES + b"\r\nContent-Length: 18\r\n", RENAME)), 431)
    for headers in (b"X-A: " + b"a" * 50000, b"A: b\r\n" * 100, b"A: b\r\n" * 300, b"A: b\r\n" * 5000, b"a" * 50000, b":" * 50000):
        with site.wire(with_headers(headers + b"\r\n")) as wire:
            heard = wire.rest()
            assert heard == b"" or re.match(rb"HTTP/1\.1 4(31|00) ", heard)
    with site.wire(HEALTH[:-2] + b"X-A: ") as wire:
        while wire.send(b"a" * 10000):
            pass


def test_paths_that_are_too_long(site):
    path = b"/v1/" + b"a" * URI_BYTES
    refusal(site.ask(site.request(b"GET", path)), 414, "URI_TOO_LONG: ")
    refusal(site.ask(site.request(b"GET", b"/healthz?" + b"a" * URI_BYTES)), 414)
    refusal(site.ask(site.request(b"GET", b"/" * 500)), 404)
    with site.wire(b"GET /" + b"a" * 50000) as wire:
        heard = wire.rest()
        assert heard == b"" or heard.startswith(b"HTTP/1.1 414 ")


def test_many_parameters(site):
    refusal(site.ask(site.request(b"GET", site.services_path + b"?" + b"limit=1&" * 33)), 400, "at most 32 parameters")
    refusal(site.ask(site.request(b"GET", site.services_path + b"?limit=1&limit=2")), 400, "given twice")
    assert site.ask(site.request(b"GET", site.services_path + b"?&&=&=&#")).status == 200


# ---- Text ----


@pytest.mark.parametrize("dialect", ["plain", "cloud"])
def test_bytes_that_are_not_text(site, dialect):
    def refused(data, text):
        refusal(site.ask(data, dialect), 400, text)

    for word in (b"%FF", b"\xff", b"%C3", b"%C0%80", b"%ED%A0%80", b"%00", b"%1b", b"\x1b", b"%", b"%4", b"%zz"):
        refused(site.request(b"GET", site.organization_path + b"/" + word), "request path: is not well-formed")
        refused(site.request(b"GET", site.services_path + b"?cursor=" + word), "request query: must be well-formed")
        refused(site.request(b"GET", site.services_path + b"?" + word + b"=1"), "request query: must be well-formed")
    for body in (b'{"name":"\xff\xfe"}', b'{"\xff":1}', b'{"name":"\xed\xa0\x80"}', b'{"name":"\xc3', b"\xef\xbb\xbf{}"):
        refused(site.request(b"PATCH", site.organization_path, body=body), "request body: is not JSON")
    assert site.name() == "org"


def test_refusals_are_json_whatever_they_quote(site):
    refusal(site.ask(site.request(b"\xff\xfe\x1b\"", b"/healthz")), 405)
    refusal(site.ask(site.request(b"POST", site.services_path, b"Content-Type: \xff\"\\\r\n", b"{}")), 415)
    refusal(site.ask(site.request(b"POST", site.services_path, b"Content-Type: " + b"a" * 39 + "\u00e9".encode() + b"\r\n", b"{}")), 415)
    refusal(site.ask(site.request(b"GET", site.services_path + b"?" + b"a" * 39 + b"%C3%A9=1")), 400)
    state = site.services_path + b"/00000000-0000-7000-8000-000000000000/state"
    for size in range(40, 130):
        key = b"a" * size + "\u00e9\u20ac\U0001f600".encode() * 8
        for path in (state, site.organization_path):
            refusal(site.ask(site.request(b"PATCH", path, body=b'{"' + key + b'":1}')), 400, "is not known here")
    refusal(site.ask(site.request(b"PATCH", site.organization_path, b"If-Match: \xff\r\n", RENAME)), 400, 'like "7"')
    refusal(site.ask(site.request(b"PATCH", site.organization_path, b"Idempotency-Key: \xff\r\n", RENAME)), 400)
    refusal(site.ask(site.request(b"GET", b"/healthz", b"X-Request-Id: \xff\r\n")), 400)


@pytest.mark.parametrize("path, status", [
    (b"/../healthz", 404), (b"/v1/../healthz", 404), (b"/./healthz", 404), (b"/%2e%2e/healthz", 404),
    (b"/%2E%2e%2Fhealthz", 404), (b"/v1%2Forganizations", 404), (b"/%252e%252e/healthz", 404),
    (b"/healthz%2500", 404), (b"/%2568ealthz", 404), (b"/%68ealthz", 200), (b"//healthz", 404), (b"/healthz/", 404),
    (b"/healthz/..", 404), (b"/healthz\\", 404), (b"/healthz;a=b", 404), (b"/healthz?", 200), (b"/healthz?a=b", 400),
    (b"/", 404), (b"*", 404), (b"healthz", 404), (b"?", 404), (b"#", 404), (b"/HEALTHZ", 404),
    (b"/etc/passwd", 404), (b"/v1/organizations/..%2f..%2fetc", 400)])
def test_paths(site, path, status):
    reply = site.ask(site.request(b"GET", path))
    if status == 200:
        assert reply.status == 200
    else:
        refusal(reply, status)


# ---- JSON ----


def service(number):
    return json.dumps(PRODUCTION).encode()[:-1] + b',"minTotalMemoryGb":' + number + b"}"


@pytest.mark.parametrize("number", [b"24", b"24.0", b"2.4e1", b"240e-1"])
def test_whole_numbers_however_they_are_written(site, number):
    reply = site.create(service(number))
    assert reply.status == 200 and re.search(rb'"minTotalMemoryGb":24[,}]', reply.body)


@pytest.mark.parametrize("number", [
    b"24.5", b"1e400", b"-1e400", b"-1", b"-24.0", b"-0.0", b"1e30", b"18446744073709551616.0", b"9223372036854775807",
    b"99999999999999999999", b'"24"', b"true", b"null", b"[]", b"{}", b"NaN", b"Infinity", b"0x18", b"024", b"+24", b"24."])
def test_numbers_that_are_refused(site, number):
    reply = site.create(service(number))
    if number == b"null":
        assert reply.status in (200, 400)
    else:
        refusal(reply, 400, "request body")


@pytest.mark.parametrize("body", [
    b'{"name":"a","name":"b"}', b'{"name":"a\\u0000b"}', b'{"na\\u0000me":"b"}', b'{"name":"\\ud800"}',
    b'{"name":"a\nb"}', b'{"name":"a\x00b"}', b'{"name":"a"}x', b'{"name":"a"}{}', b'{"name":"a",}', b"{'name':'a'}",
    b'{"name":"a"', b"[", b"[]", b"1", b"null", b'"name"', b"\x00", b" ", b"{]", b'{"name":{"name":"a"}}', b'{"name":1}'])
def test_json_that_is_refused(site, body):
    refusal(site.ask(site.request(b"PATCH", site.organization_path, body=body)), 400, "request body")
    assert site.name() == "org"


def test_deep_json(site, daemon_factory):
    for levels in (100, 1500):
        refusal(site.create(b"[" * levels + b"]" * levels), 400)
        refusal(site.create(b'{"name":' + b"[" * levels + b"]" * levels + b"}"), 400, "is nested deeper than")
    refusal(site.create(b"[" * BODY_BYTES), 400, "is not JSON")
    refusal(site.create(b"[" * 100000), 413)
    roomy = Target(daemon_factory)
    for body in (b"[" * 100000 + b"]" * 100000, b"[" * 1000000, b'{"a":' * 100000 + b"1" + b"}" * 100000):
        refusal(roomy.create(body), 400, "is not JSON")
    assert roomy.ask(HEALTH).status == 200


# ---- Methods and versions ----


@pytest.mark.parametrize("line", [
    b"GET /healthz", b"GET", b"GET  ", b"GET /healthz HTTP/1.10", b"GET /healthz http/1.1", b"GET /healthz HTTP/x",
    b"GET /healthz HTTX/1.1", b"GET /healthz HTTP/1.1 x", b"GET /heal thz HTTP/1.1", b"\xff" * 200, b"   ", b"{}"])
def test_request_lines_that_are_none(site, line):
    with site.wire(line + b"\r\nHost: x\r\n\r\n") as wire:
        reply = wire.reply()
        if reply:
            by_library(reply, 400)
        wire.rest()


def test_versions(site):
    with site.wire(b"GET /healthz HTTP/1.0\r\n\r\n") as wire:
        assert wire.reply().headers["connection"] == "close" and wire.rest() == b""
    with site.wire(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + HEALTH) as wire:
        assert wire.reply().status == wire.reply().status == 200
    for line in (b"GET /healthz HTTP/0.9", b"GET /healthz HTTP/2.0", b"GET /healthz HTTP/3.0", b"PRI * HTTP/2.0"):
        with site.wire(line + b"\r\nHost: x\r\n\r\nSM\r\n\r\n") as wire:
            by_library(wire.reply(), 505)
            assert wire.rest() == b""
    with site.wire(b"GET /healthz HTTP/1.1\r\n\r\n") as wire:
        assert wire.rest().startswith(b"HTTP/1.1 400 ")


def test_methods(site):
    for method in (b"BREW", b"TRACE", b"CONNECT", b"PUT", b"get", b"A" * 2000, b"GE\x1bT", b'G"T'):
        reply = site.ask(method + b" /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        refusal(reply, 405, "METHOD_NOT_ALLOWED: ")
        assert reply.headers["allow"] == "GET, HEAD, OPTIONS"
    for path, allowed in ((b"/healthz", "GET, HEAD, OPTIONS"), (site.services_path, "GET, HEAD, POST, OPTIONS")):
        with site.wire(site.request(b"OPTIONS", path) + HEALTH) as wire:
            reply = wire.reply()
            assert (reply.status, reply.headers["allow"]) == (204, allowed) and wire.reply().body == b"ok\n"
    refusal(site.ask(site.request(b"OPTIONS", b"/nowhere")), 404)
    for path in (b"/healthz", b"/nowhere", b"/docs", site.services_path, site.organization_path):
        with site.wire(site.request(b"HEAD", path) + site.request(b"GET", path) + HEALTH) as wire:
            head, get = wire.reply(body=False), wire.reply()
            assert head.status == get.status and set(head.headers) == set(get.headers)
            assert head.headers["content-length"] == get.headers["content-length"] and wire.reply().body == b"ok\n"


def test_nul_in_the_request_line(hasty):
    """The line ends there for libmicrohttpd: what comes behind is never part of a path."""
    refusal(hasty.ask(b"GET /heal\x00thz HTTP/1.1\r\nHost: x\r\n\r\n"), 404)
    refusal(hasty.ask(b"GET /nowhere\x00/../healthz HTTP/1.1\r\nHost: x\r\n\r\n"), 404)
    refusal(hasty.ask(b"G\x00T /healthz HTTP/1.1\r\nHost: x\r\n\r\n"), 405)
    with hasty.wire(b"\x00" * 100 + b"\r\n\r\n") as wire:
        wire.rest()


TLS_HELLO = bytes.fromhex("16030100750100007103030000000000000000000000000000000000000000000000000000000000000000")


@pytest.mark.parametrize("data", [TLS_HELLO + bytes(80), bytes(range(256)) * 8, b"\xff" * 5000, b"\r\n" * 20000,
                                  b"\x94\xa2hi" * 500, b"SSH-2.0-x\r\n", b"*1\r\n$4\r\nPING\r\n"],
                         ids=["tls", "bytes", "ff", "crlf", "msgpack", "ssh", "redis"])
def test_other_protocols(hasty, data):
    with hasty.wire(data) as wire:
        heard = wire.rest()
        assert heard == b"" or heard.startswith(b"HTTP/1.1 4")


def test_bodies_where_there_is_none(site):
    for path, body, status in ((b"/healthz", b"abc", 200), (site.services_path, b"{}", 200),
                               (site.services_path, b"abc", 400), (site.services_path, b'{"a":1}', 400),
                               (b"/nowhere", b"abc", 404)):
        with site.wire(site.request(b"GET", path, body=body) + HEALTH) as wire:
            assert wire.reply().status == status and wire.reply().body == b"ok\n"


def test_what_the_head_must_say(site):
    refusal(site.ask(site.request(b"POST", site.services_path)), 411, "LENGTH_REQUIRED: ")
    refusal(site.ask(site.request(b"GET", site.services_path, b"Accept: text/html\r\n")), 406, "NOT_ACCEPTABLE: ")
    with site.wire(site.request(b"POST", site.services_path, b"Content-Type: text/plain\r\n", b"{}") + HEALTH) as wire:
        refusal(wire.reply(), 415, "UNSUPPORTED_MEDIA_TYPE: ")
        assert wire.reply().status == 200
    for word in (b"", b"Basic", b"Basic !", b"Basic AAAA", b"Basic " + b"QUFB" * 300, b"Bearer x", b"Basic \xff"):
        head = b"GET " + site.services_path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: " + word + b"\r\n\r\n"
        refusal(site.ask(head), 401, "UNAUTHORIZED: ")


# ---- Many ----


def connect_all(site, count):
    return [site.wire() for _ in range(count)]


def test_two_hundred_more_than_may_be_connected(site):
    crowd = connect_all(site, CONNECTIONS + 200)
    with site.wire(HEALTH) as last:
        for wire in crowd:
            wire.socket.close()
        assert last.reply().status == 200


def test_who_waits_is_served_when_the_idle_are_closed(hasty):
    """All that are connected leave at once, and none of them wakes the server up for those who wait."""
    for _ in range(3):
        crowd = connect_all(hasty, CONNECTIONS)
        with hasty.wire(HEALTH) as last:
            assert last.reply().status == 200
        for wire in crowd:
            assert wire.rest() == b""
            wire.socket.close()


def test_no_more_files(hasty):
    """Clients that the system has no file for wait; they are served when there is one."""
    pid = hasty.daemon.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hasty.files() + 3, limits[1]))
    try:
        crowd = connect_all(hasty, 50)
        assert crowd[0].rest() == b""  # it was taken, and was too slow
        for wire in crowd:
            wire.socket.close()
        assert hasty.ask(HEALTH).status == 200
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
