"""The wire itself: pipelining, order, what is no MessagePack and what is no RPC."""

import socket
import struct
import time

import msgpack
import pytest

from rpc import Rpc
from tenant import SERVICE


def test_pipelined_answers_carry_the_id_of_their_request(rpc, tenant):
    requests = []
    for i in range(500):
        requests.append(("service.create", {"organizationId": tenant.id, "name": f"s{i}", **SERVICE}))
        requests.append(("organization.get", {"organizationId": tenant.id}))
    numbers = rpc.send_many(requests)
    for i, number in enumerate(numbers):
        answer = rpc.wait(number)
        if i % 2:
            assert answer["id"] == tenant.id
        else:
            assert answer["service"]["name"] == f"s{i // 2}"
    # Reads need not wait for the writes before them.
    assert rpc.order[-1000:] != numbers


def test_more_requests_than_may_be_under_way_are_all_answered(daemon_factory):
    rpc = daemon_factory("--ipc-client-requests-max", 16, "--ipc-requests-max", 32).client()
    numbers = rpc.send_many([("organization.create", {"name": f"o{i}"}) for i in range(2000)])
    assert sorted(rpc.wait(number)["name"] for number in numbers) == sorted(f"o{i}" for i in range(2000))


def test_many_clients_at_once(daemon, tenant):
    clients = [daemon.client() for _ in range(50)]
    numbers = [client.send_many([("organization.get", {"organizationId": tenant.id})] * 20) for client in clients]
    for client, mine in zip(clients, numbers):
        for number in mine:
            assert client.wait(number)["id"] == tenant.id


def test_a_request_in_single_bytes(rpc):
    for byte in Rpc.encode(77, "hello"):
        rpc.send_raw(bytes([byte]))
    assert rpc.wait(77)["product"] == "reeve"


def test_ids_are_the_clients_business(rpc):
    for number in (0, 0xFFFFFFFF, 5, 5):
        rpc.send_raw(Rpc.encode(number, "hello"))
        assert rpc.wait(number)["product"] == "reeve"


def test_answers_come_after_half_close(daemon):
    rpc = daemon.client()
    number = rpc.send("organization.create", name="last words")
    rpc.socket.shutdown(socket.SHUT_WR)
    assert rpc.wait(number)["name"] == "last words"
    assert rpc.wait_closed() == []


def refused(daemon, data, half_close=False):
    """Send bytes; the connection must end with one error notification, and the server must not mind."""
    rpc = daemon.client()
    rpc.send_raw(data)
    if half_close:
        rpc.socket.shutdown(socket.SHUT_WR)
    heard = rpc.wait_closed()
    assert daemon.client().call("hello")
    assert [method for method, _ in heard] == ["error"]
    return heard[0][1]


@pytest.mark.parametrize("data", [
    b"\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"\xc0", b"\x90", b"\x80", b"\xa5hello",
    msgpack.packb([0, 1, "hello"]), msgpack.packb([0, 1, 2, []]), msgpack.packb([0, -1, "hello", []]),
    msgpack.packb([0, 1 << 32, "hello", []]), msgpack.packb([0, "1", "hello", []]),
    msgpack.packb([0, 1, "hello", {}]), msgpack.packb([3, 1, "hello", []]), msgpack.packb([2, 5, []]),
    msgpack.packb([1, 1, None, None]), msgpack.packb([0, 1, "hello", [], 5])])
def test_what_is_no_rpc_ends_the_connection(daemon, data):
    error = refused(daemon, data)
    assert error["code"] == "BAD_REQUEST" and error["message"]


@pytest.mark.parametrize("first", [0xC6, 0xC9, 0xDB, 0xDD, 0xDF], ids=["bin32", "ext32", "str32", "array32", "map32"])
@pytest.mark.parametrize("before", [b"", b"\x94\x00\x01\xa5hello\x91"], ids=["outside", "inside"])
def test_gigabyte_lengths(daemon, first, before):
    assert refused(daemon, before + struct.pack(">BI", first, 1 << 30))["code"] == "TOO_LARGE"
    assert refused(daemon, before + struct.pack(">BI", first, 0xFFFFFFFF))["code"] == "TOO_LARGE"


def test_too_long_a_message_that_is_all_there(daemon):
    rpc = daemon.client()
    rpc.send_raw(b"\x94\x00\x01\xa5hello\x91\x81\xa1x\xc6" + struct.pack(">I", (1 << 20) - 10))
    assert rpc.wait_closed()[0][1]["code"] == "TOO_LARGE"


def test_a_large_message_is_taken(rpc):
    rpc.send_raw(Rpc.encode(5, "hello", {"x": "y" * 1000000}))
    rpc.receive(time.monotonic() + 10)
    assert rpc.answers[5][0]["field"] == "x"


@pytest.mark.parametrize("opener", [b"\x91", b"\x81\xa1k", b"\xdc\x00\x01", b"\xdd\x00\x00\x00\x01"])
def test_deep_nesting(daemon, opener):
    error = refused(daemon, opener * 1000)
    assert error["code"] == "BAD_REQUEST" and "deep" in error["message"]


def test_truncated_message(daemon):
    whole = Rpc.encode(1, "organization.list", {"limit": 5})
    for size in (1, 2, len(whole) // 2, len(whole) - 1):
        assert refused(daemon, whole[:size], half_close=True)["code"] == "BAD_REQUEST"


def test_truncated_message_and_gone(daemon):
    whole = Rpc.encode(1, "hello")
    for size in range(1, len(whole)):
        rpc = daemon.client()
        rpc.send_raw(whole[:size])
        rpc.close()
    assert daemon.client().call("hello")


def test_requests_before_the_error_are_answered(daemon):
    rpc = daemon.client()
    number = next(rpc.ids)
    rpc.send_raw(Rpc.encode(number, "organization.create", {"name": "before"}) + b"\xc1")
    assert rpc.wait(number)["name"] == "before"
    assert [method for method, _ in rpc.wait_closed()] == ["error"]


def test_notifications_are_refused_in_kind(rpc):
    rpc.notify("organization.create", {"name": "nobody hears"})
    assert rpc.next_notification("error")[1]["code"] == "BAD_REQUEST"
    assert rpc.call("organization.list")["items"] == []


def test_client_that_leaves_with_requests_under_way(daemon, rpc):
    for _ in range(20):
        other = daemon.client()
        other.send_many([("organization.create", {"name": "left"})] * 50)
        other.close()
    assert rpc.call("hello")


def test_same_name_twice_in_one_map(rpc):
    pair = msgpack.packb("name") + msgpack.packb("x")
    rpc.send_raw(b"\x94\x00\x09" + msgpack.packb("organization.create") + b"\x91\x82" + pair + pair)
    rpc.receive(time.monotonic() + 10)
    assert rpc.answers[9][0]["field"] == "name"
