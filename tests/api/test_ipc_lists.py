"""Lists over the IPC: pages, cursors, streams, and a reader that is slower than the server."""

import pytest

from rpc import RpcError
from tenant import SERVICE, Tenant

COUNT = 2500


@pytest.fixture
def services(rpc, tenant):
    """Ids of many services, in the order of the list."""
    requests = [("service.create", {"organizationId": tenant.id, "name": f"s{i}", **SERVICE}) for i in range(COUNT)]
    ids = [rpc.wait(number)["service"]["id"] for number in rpc.send_many(requests)]
    return sorted(ids)


def pages(rpc, params):
    """All pages of a list of services."""
    cursor = None
    while True:
        answer = rpc.call("service.list", {**params, **({"cursor": cursor} if cursor else {})})
        yield answer["items"]
        cursor = answer["cursor"]
        if cursor is None:
            return


def test_pages(rpc, tenant, services):
    params = {"organizationId": tenant.id}
    sizes = [len(page) for page in pages(rpc, params)]
    assert sizes == [1000, 1000, 500]
    found = [item["id"] for page in pages(rpc, {**params, "limit": 300}) for item in page]
    assert found == services
    everything = rpc.call("service.list", {**params, "limit": 100000})
    assert [item["id"] for item in everything["items"]] == services and everything["cursor"] is None


def test_stream(rpc, tenant, services):
    number = rpc.send("service.list", organizationId=tenant.id, stream=True)
    assert rpc.wait(number) == {"count": COUNT}
    parts = [part for method, part in rpc.notifications if method == "list.items"]
    assert all(part["id"] == number for part in parts) and len(parts) > 1
    assert [item["id"] for part in parts for item in part["items"]] == services


def test_stream_with_limit_and_cursor(rpc, tenant, services):
    number = rpc.send("service.list", organizationId=tenant.id, stream=True, limit=700, cursor=services[99])
    assert rpc.wait(number) == {"count": 700}
    found = [item["id"] for method, part in rpc.notifications for item in part["items"]]
    assert found == services[100:800]


def test_stream_waits_for_a_slow_reader_and_nobody_for_the_stream(daemon, tenant, services):
    slow = daemon.client()
    numbers = [slow.send("service.list", organizationId=tenant.id, stream=True) for _ in range(20)]
    other = daemon.client()
    for _ in range(50):
        other.call("service.get", organizationId=tenant.id, serviceId=services[0])
    assert other.call("stats")["ipcRequestsNow"] > 1  # the streams are still under way
    for number in numbers:
        assert slow.wait(number) == {"count": COUNT}


def test_events_are_paged_by_sequence(rpc, tenant, services):
    last = rpc.call("hello")["lastSequence"]
    seen, at = [], 1
    while True:
        answer = rpc.call("event.list", {"from": at, "limit": 400})
        seen += [event["sequence"] for event in answer["items"]]
        assert answer["next"] == (seen[-1] + 1 if answer["items"] else answer["next"])
        at = answer["next"]
        if len(answer["items"]) < 400:
            break
    assert seen[0] == 1 and seen == list(range(1, seen[-1] + 1)) and seen[-1] >= last
    nothing = rpc.call("event.list", {"from": at + 1000000})
    assert nothing == {"items": [], "next": at + 1000000}
    one = rpc.call("event.list", serviceId=services[0])
    assert {event["serviceId"] for event in one["items"]} == {services[0]}
    assert one["next"] > one["items"][-1]["sequence"]
    number = rpc.send("event.list", stream=True, limit=1000)
    answer = rpc.wait(number)
    assert answer == {"count": 1000, "next": 1001}


def test_stream_must_be_a_flag(rpc):
    with pytest.raises(RpcError) as caught:
        rpc.call("organization.list", stream="yes")
    assert caught.value.field == "stream"


def test_list_of_nobody_is_refused(rpc):
    for stream in (False, True):
        with pytest.raises(RpcError) as caught:
            rpc.call("service.list", organizationId="01900000-0000-7000-8000-000000000000", stream=stream)
        assert caught.value.code == "NOT_FOUND"


def test_operations_have_no_pages_but_streams(daemon_factory):
    rpc = daemon_factory("--operations-max", 10, provisioner="simulated:hang=1.0").client()
    tenant = Tenant(rpc)
    requests = [("service.create", {"organizationId": tenant.id, "name": f"s{i}", **SERVICE}) for i in range(1500)]
    services = {rpc.wait(number)["service"]["id"] for number in rpc.send_many(requests)}
    params = {"organizationId": tenant.id}
    numbers = [rpc.send("operation.list", params), rpc.send("operation.list", params, stream=True)]
    answer = rpc.wait(numbers[0])
    assert {item["serviceId"] for item in answer["items"]} == services and answer["cursor"] is None
    assert rpc.wait(numbers[1]) == {"count": 1500}
    assert {item["serviceId"] for _, part in rpc.notifications for item in part["items"]} == services


def test_list_that_is_too_large_for_one_answer(daemon_factory):
    rpc = daemon_factory("--ipc-output-bytes-max", 65536, "--ipc-output-pause-bytes", 16384,
                         provisioner="simulated:hang=1.0").client()
    tenant = Tenant(rpc)
    for i in range(400):
        tenant.create(f"s{i}")
    with pytest.raises(RpcError) as caught:
        rpc.call("operation.list", organizationId=tenant.id)
    assert caught.value.code == "TOO_LARGE"
    # Where there is a cursor, the page ends early instead.
    found = [item["id"] for page in pages(rpc, {"organizationId": tenant.id}) for item in page]
    assert len(found) == len(set(found)) == 400


def test_client_that_leaves_while_its_lists_are_read(daemon, rpc, tenant, services):
    for method in ("service.list", "operation.list", "event.list"):
        other = daemon.client()
        params = {} if method == "event.list" else {"organizationId": tenant.id}
        other.send_many([(method, {**params, "stream": True})] * 10)
        other.close()
    rpc.wait_stats(lambda s: s["ipcAccepted"] == 4 and s["ipcConnections"] == 1 and s["ipcRequestsNow"] == 1)
