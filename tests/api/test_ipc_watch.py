"""Watching events over the IPC: from a sequence number, after a reconnect, with filters, and slower than they come."""

import time

import pytest

from rpc import RpcError
from tenant import Tenant


def drain(rpc, last):
    """Events up to the one with this sequence number."""
    return rpc.wait_event(lambda event: event["sequence"] >= last)


def test_from_now_on(rpc, tenant):
    before = rpc.call("hello")["lastSequence"]
    watch = rpc.call("event.watch")
    assert watch["from"] == before + 1
    service = tenant.create()
    events = rpc.wait_event(lambda event: event.get("to") == "running")
    assert [event["type"] for event in events] == ["service_create", "service_running"]
    assert {event["serviceId"] for event in events} == {service["id"]}
    assert [event["sequence"] for event in events] == [before + 1, before + 2]


def test_what_comes_of_a_command_is_told_after_its_answer(rpc, tenant):
    """One message at a time, in the order of the socket."""
    rpc.call("event.watch")
    params = {"organizationId": tenant.id, "name": "n", "provider": "aws", "region": "us-east-1"}
    for _ in range(20):
        numbers = rpc.send_many([("service.create", params)] * 100)
        answered, left = set(), 200
        while left:
            rpc.receive(time.monotonic() + 20)
            answered |= {rpc.answers.pop(number)[1]["service"]["id"] for number in numbers if number in rpc.answers}
            for _, part in rpc.notifications:
                assert {event["serviceId"] for event in part["events"]} <= answered
                left -= len(part["events"])
            rpc.notifications.clear()


def test_notifications_name_their_watch(rpc, tenant):
    first, second = rpc.call("event.watch")["watch"], rpc.call("event.watch")["watch"]
    assert first != second
    tenant.create()
    heard = {rpc.next_notification("events")[1]["watch"] for _ in range(2)}
    assert heard == {first, second}


def test_from_a_sequence_number(rpc, tenant):
    tenant.running()
    last = rpc.call("hello")["lastSequence"]
    assert rpc.call("event.watch", {"from": 1})["from"] == 1
    events = drain(rpc, last)
    assert [event["sequence"] for event in events] == list(range(1, last + 1))
    assert events == rpc.call("event.list", limit=last)["items"]


def test_resume_after_reconnect_has_no_gap(daemon, rpc, tenant):
    rpc.call("event.watch", {"from": 1})
    tenant.running("one")
    seen = [event["sequence"] for event in rpc.wait_event(lambda event: event.get("to") == "running")]
    rpc.close()
    other = daemon.client()
    tenant.rpc = other
    tenant.running("two")
    daemon.restart(kill=True)
    again = daemon.client()
    last = again.call("hello")["lastSequence"]
    again.call("event.watch", {"from": seen[-1] + 1})
    seen += [event["sequence"] for event in drain(again, last)]
    assert seen == list(range(1, last + 1))


def test_unwatch(rpc, tenant):
    watch = rpc.call("event.watch")["watch"]
    tenant.create()
    assert rpc.call("event.unwatch", watch=watch) == {}
    rpc.notifications.clear()
    tenant.running()  # by a watch of its own
    assert all(part["watch"] != watch for _, part in rpc.notifications)
    with pytest.raises(RpcError) as caught:
        rpc.call("event.unwatch", watch=watch)
    assert caught.value.code == "NOT_FOUND" and caught.value.field == "watch"


def test_watches_of_others_cannot_be_ended(daemon, rpc):
    watch = rpc.call("event.watch")["watch"]
    with pytest.raises(RpcError):
        daemon.client().call("event.unwatch", watch=watch)


def test_filters(rpc):
    one, two = Tenant(rpc, "one"), Tenant(rpc, "two")
    rpc.call("event.watch", organizationId=two.id)
    one.create()
    service, other = two.create("a"), two.create("b")
    events = []
    while len([event for event in events if event.get("to") == "running"]) < 2:
        events += rpc.next_events()
    assert {event["organizationId"] for event in events} == {two.id}
    rpc.call("event.watch", {"from": 1, "serviceId": service["id"]})
    again = rpc.wait_event(lambda event: event.get("to") == "running")
    assert {event["serviceId"] for event in again} == {service["id"]} and other["id"] != service["id"]


def make_events(rpc, tenant, count):
    """Change the name of an organization so many times."""
    requests = [("organization.update", {"organizationId": tenant.id, "name": f"n{i}"}) for i in range(count)]
    for number in rpc.send_many(requests):
        rpc.wait(number)
    return rpc.call("hello")["lastSequence"]


def test_events_are_gathered(rpc, tenant):
    last = make_events(rpc, tenant, 1000)
    rpc.call("event.watch", {"from": 1})
    drain(rpc, last)
    while rpc.notifications:
        rpc.notifications.pop()
    assert rpc.call("stats")["ipcEvents"] >= 1000


def test_sleeping_watcher_slows_nobody_and_misses_nothing(daemon, rpc, tenant):
    sleeper = daemon.client()
    sleeper.call("event.watch", {"from": 1})
    last = make_events(rpc, tenant, 20000)
    assert rpc.call("stats")["ipcSlow"] == 0
    assert [event["sequence"] for event in drain(sleeper, last)] == list(range(1, last + 1))


def test_watches_of_one_client_take_turns(daemon_factory):
    """None of them is passed over for another one, however small the output that may wait."""
    daemon = daemon_factory("--ipc-output-pause-bytes", 4096)
    rpc, client = daemon.client(), daemon.client()
    last = make_events(rpc, Tenant(rpc), 5000)
    numbers = client.send_many([("event.watch", {"from": 1})] * 4)
    watches = [client.wait(number)["watch"] for number in numbers]
    seen = {watch: [] for watch in watches}
    order = []
    while any(len(numbers) < last for numbers in seen.values()):
        _, part = client.next_notification("events")
        order.append(part["watch"])
        seen[part["watch"]] += [event["sequence"] for event in part["events"]]
    assert all(numbers == list(range(1, last + 1)) for numbers in seen.values())
    assert set(order[: len(order) // 2]) == set(watches)


def test_many_watchers_are_told_everything_while_commands_come(daemon, rpc, tenant):
    watchers = [daemon.client() for _ in range(50)]
    firsts = [watcher.call("event.watch")["from"] for watcher in watchers]
    other = watchers[0].call("event.watch", organizationId="01890a5d-ac96-774b-bcce-b302099a8057")["watch"]
    last = make_events(rpc, tenant, 3000)
    for first, watcher in zip(firsts, watchers):
        numbers = []
        while not numbers or numbers[-1] < last:
            _, part = watcher.next_notification("events")
            assert part["watch"] != other
            numbers += [event["sequence"] for event in part["events"]]
        assert numbers == list(range(first, last + 1))


def test_watcher_that_lags_too_far_is_told_where_to_resume(daemon_factory):
    daemon = daemon_factory("--events-max", 1000)
    rpc = daemon.client()
    tenant = Tenant(rpc)
    sleeper = daemon.client()
    sleeper.call("event.watch", {"from": 1})
    last = make_events(rpc, tenant, 30000)
    seen = []
    while not seen or seen[-1] < last:
        method, part = sleeper.next_notification()
        if method == "lagged":
            assert part["resume"] > seen[-1] + 1
            lagged = part["resume"]
        else:
            if seen and part["events"][0]["sequence"] != seen[-1] + 1:
                assert part["events"][0]["sequence"] == lagged
            seen += [event["sequence"] for event in part["events"]]
    assert lagged and rpc.call("stats")["ipcLagged"] >= 1
    with pytest.raises(RpcError) as caught:
        rpc.call("event.watch", {"from": 1})
    assert caught.value.code == "LAGGED"
    resume = caught.value.details["resume"]
    assert rpc.call("event.watch", {"from": resume})["from"] == resume


def test_watches_of_one_client_are_limited(rpc):
    for _ in range(64):
        rpc.call("event.watch")
    with pytest.raises(RpcError) as caught:
        rpc.call("event.watch")
    assert caught.value.code == "QUOTA_EXCEEDED"
