"""The doors of services: real servers behind them, which idle and wake, and clients that must not notice."""

import pathlib
import re
import socket
import threading
import urllib.request

import pytest
from clock import Clock
from ports import Ports
from tenant import Tenant

PLUGIN = pathlib.Path(__file__).resolve().parents[1] / "fixtures/plugins/echo"
ANYWHERE = [{"source": "0.0.0.0/0"}]


class House:
    def __init__(self, daemon_factory, *arguments, clock=None):
        self.reserved, self.clock = Ports(20), clock
        self.ports = self.reserved.first, self.reserved.last
        self.daemon = daemon_factory("--door", f"127.0.0.1:{self.ports[0]}-{self.ports[1]}", "--http", "127.0.0.1:0", "--door-activity-ms", "100",
                                     *arguments, provisioner=f"exec:{PLUGIN}", start=False)
        self.daemon.start(environment=clock and clock.environment())
        self.rpc = self.daemon.client()
        self.tenant = Tenant(self.rpc)

    def service(self, name="db", **fields):
        return self.tenant.running(name, **{"tier": "production", "ipAccessList": ANYWHERE, **fields})

    def private_port(self, service):
        return int((self.daemon.data / "provisioner/servers" / service["id"] / "port").read_text())

    def starts(self, service):
        return (self.daemon.data / "provisioner/servers" / service["id"] / "starts").read_text().split()

    def metric(self, name):
        address = re.findall(r"listening http=(\S+)", self.daemon.log())[-1]
        page = urllib.request.urlopen(f"http://{address}/metrics", timeout=20).read().decode()
        return int(re.search(rf"^reeve_{name} (\d+)$", page, re.M).group(1))


@pytest.fixture
def house(daemon_factory):
    return House(daemon_factory)


def connect(service, source=None):
    endpoint = service["endpoints"][0]
    client = socket.create_connection((endpoint["host"], endpoint["port"]), timeout=20, source_address=(source, 0) if source else None)
    return client


def ask(service, text=b"hello", source=None):
    """What comes back; nothing where the door shuts."""
    try:
        with connect(service, source) as client:
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while data := client.recv(65536):
                answer += data
            return answer
    except OSError: # shut in our face, sooner or later
        return b""


def test_endpoints_are_those_of_the_door(house):
    service = house.service()
    (endpoint,) = service["endpoints"]
    assert endpoint["protocol"] == "echo" and endpoint["host"] == "127.0.0.1" and house.ports[0] <= endpoint["port"] <= house.ports[1]
    assert endpoint["port"] != house.private_port(service) and ask(service) == b"hello"


def test_each_service_has_its_own_port_for_life(house):
    services = [house.service(f"s{i}") for i in range(4)]
    assert len({service["endpoints"][0]["port"] for service in services}) == 4
    first = services[0]
    house.rpc.call("service.stop", **house.tenant.of(first))
    assert house.tenant.wait_state(first, "stopped")["endpoints"] == first["endpoints"]
    house.rpc.call("service.start", **house.tenant.of(first))
    again = house.tenant.wait_state(first, "running")
    assert again["endpoints"] == first["endpoints"] and ask(again) == b"hello"


def test_a_stopped_service_refuses_and_does_not_wake(house):
    service = house.service()
    house.rpc.call("service.stop", **house.tenant.of(service))
    service = house.tenant.wait_state(service, "stopped")
    assert ask(service) == b"" and house.tenant.get(service)["state"] == "stopped"
    assert house.metric("door_refused_total") == 1


def test_the_access_list_holds_at_the_door(house):
    service = house.service(ipAccessList=[{"source": "127.0.0.2"}, {"source": "127.0.1.0/24"}])
    for source, answer in (("127.0.0.2", b"hello"), ("127.0.1.77", b"hello"), ("127.0.0.3", b""), ("127.0.0.1", b""), ("127.0.2.1", b"")):
        assert ask(service, source=source) == answer, source
    assert house.metric("door_denied_total") == 3
    house.rpc.call("service.update", **house.tenant.of(service), ipAccessList={"remove": [{"source": "127.0.0.2"}], "add": [{"source": "127.0.0.3"}]})
    assert ask(service, source="127.0.0.2") == b"" and ask(service, source="127.0.0.3") == b"hello"


def test_what_was_acknowledged_holds_for_the_next_client(house):
    service = house.service()
    names = house.tenant.of(service)
    for _ in range(30):
        house.rpc.call("service.update", **names, ipAccessList={"remove": ANYWHERE})
        assert ask(service) == b""
        house.rpc.call("service.update", **names, ipAccessList={"add": ANYWHERE})
        assert ask(service) == b"hello"


def test_nobody_enters_by_an_empty_list(house):
    assert ask(house.service(ipAccessList=[])) == b""


def test_a_great_deal_of_bytes_with_half_close_and_a_slow_reader(house):
    service = house.service()
    text = bytes(range(256)) * 40000
    with connect(service) as client:
        sender = threading.Thread(target=lambda: (client.sendall(text), client.shutdown(socket.SHUT_WR)))
        sender.start()
        answer = bytearray()
        while data := client.recv(4096):
            answer += data
        sender.join()
    assert bytes(answer) == text
    assert house.metric("door_bytes_in_total") == house.metric("door_bytes_out_total") == len(text)


def test_a_server_that_dies_under_a_connection_ends_it(house):
    service = house.service()
    with connect(service) as client:
        client.sendall(b"one")
        assert client.recv(3) == b"one"
        house.rpc.call("service.stop", **house.tenant.of(service))
        house.tenant.wait_state(service, "stopped")
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass


def test_doors_are_there_again_after_kill_and_restart(house):
    service, stopped = house.service(), house.service("stopped")
    house.rpc.call("service.stop", **house.tenant.of(stopped))
    house.tenant.wait_state(stopped, "stopped")
    house.daemon.kill()
    house.daemon.start()
    house.rpc = house.daemon.client()
    assert ask(service) == b"hello" and ask(stopped) == b""
    fresh = Tenant(house.rpc, "other").running("n", tier="production", ipAccessList=ANYWHERE)
    assert fresh["endpoints"][0]["port"] not in {service["endpoints"][0]["port"], stopped["endpoints"][0]["port"]}


def test_delete_gives_the_port_back_and_leaves_nothing(house):
    service = house.service()
    house.rpc.call("service.stop", **house.tenant.of(service))
    house.tenant.wait_state(service, "stopped")
    watch = house.rpc.call("event.watch", serviceId=service["id"])["watch"]
    house.rpc.call("service.delete", **house.tenant.of(service))
    house.rpc.wait_event(lambda event: event["type"] == "service_gone", 20, watch)
    with pytest.raises(ConnectionRefusedError):
        connect(service)
    assert not list((house.daemon.data / "provisioner/doors").glob("*.json"))
    assert not list((house.daemon.data / "provisioner/servers").glob("*"))


def test_all_ports_in_use_is_told_and_tried_again(daemon_factory):
    house = House(daemon_factory, "--retry-max-ms", "50")
    services = [house.service(f"s{i}") for i in range(20)]
    one_more = house.tenant.create("more", tier="production", ipAccessList=ANYWHERE)
    watch = house.rpc.call("event.watch", serviceId=one_more["id"], **{"from": 1})["watch"]
    event = house.rpc.wait_event(lambda event: event["type"] == "service_retry", 20, watch)[-1]
    assert (event["code"], event["message"]) == ("door", "all ports of the door are in use")
    house.rpc.call("service.stop", **house.tenant.of(services[0]))
    house.tenant.wait_state(services[0], "stopped")
    house.rpc.call("service.delete", **house.tenant.of(services[0]))
    assert house.tenant.wait_state(one_more, "running")["endpoints"][0]["port"]


# ---- Idle and awake ----


@pytest.fixture
def quiet(daemon_factory, tmp_path):
    """A house whose clock can be put forward."""
    return House(daemon_factory, clock=Clock(tmp_path / "clock"))


def test_an_idle_service_wakes_with_the_first_byte(quiet):
    service = quiet.clock.idle(quiet.tenant, quiet.service())
    assert quiet.starts(service) == ["provision"]
    assert ask(service) == b"hello"
    assert quiet.tenant.get(service)["state"] == "running" and quiet.starts(service) == ["provision", "start"]
    assert quiet.metric("door_wakes_total") == 1


def test_a_connection_without_a_byte_wakes_nobody(quiet):
    service = quiet.clock.idle(quiet.tenant, quiet.service())
    with connect(service):
        quiet.rpc.wait_stats(lambda stats: quiet.metric("door_held") == 1)
    quiet.rpc.wait_stats(lambda stats: quiet.metric("door_held") == 0)
    assert quiet.tenant.get(service)["state"] == "idle"


def test_a_hundred_callers_cause_one_start(quiet):
    service = quiet.clock.idle(quiet.tenant, quiet.service())
    answers = []
    callers = [threading.Thread(target=lambda i=i: answers.append(ask(service, b"%d" % i))) for i in range(100)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(answers, key=int) == [b"%d" % i for i in range(100)]
    assert quiet.starts(service) == ["provision", "start"]


def test_who_is_not_let_in_wakes_nobody(quiet):
    service = quiet.clock.idle(quiet.tenant, quiet.service(ipAccessList=[{"source": "127.0.0.9"}]))
    assert ask(service) == b"" and quiet.tenant.get(service)["state"] == "idle"
    assert ask(service, source="127.0.0.9") == b"hello"


def test_bytes_keep_a_service_from_idling(quiet):
    service = quiet.service(idleTimeoutMinutes=60)
    before = quiet.tenant.get(service)["idleAt"]
    quiet.clock.put_forward(3000)
    watch = quiet.rpc.call("event.watch", serviceId=service["id"])["watch"]
    assert ask(service) == b"hello"
    quiet.rpc.wait_stats(lambda stats: quiet.tenant.get(service)["idleAt"] > before)
    quiet.clock.put_forward(4000)
    assert ask(service) == b"hello" and quiet.tenant.get(service)["state"] == "running"
    quiet.rpc.call("event.unwatch", watch=watch)


def test_bytes_that_moved_before_it_fell_asleep_do_not_wake_it(daemon_factory, tmp_path):
    quiet = House(daemon_factory, "--door-activity-ms", "3600000", clock=Clock(tmp_path / "clock"))
    service, other = quiet.service(), quiet.service("other", idleTimeoutMinutes=1000)
    assert ask(service) == ask(other) == b"hello"  # the way out is told an hour after the way in
    quiet.clock.put_forward_for(quiet.tenant, 1800)
    assert quiet.tenant.wait_state(service, "idle")
    before = quiet.tenant.get(other)["idleAt"]
    quiet.clock.put_forward_for(quiet.tenant, 3 * 3600)
    quiet.rpc.wait_stats(lambda stats: quiet.tenant.get(other)["idleAt"] > before)
    types = [event["type"] for event in quiet.rpc.call("event.list", serviceId=service["id"])["items"]]
    assert "service_idle" in types and "service_awake" not in types


@pytest.mark.parametrize("arguments, words", [
    (["--door", "127.0.0.1:100"], "door: must be ADDRESS:FIRST-LAST"),
    (["--door", "127.0.0.1:300-200"], "door: must be ADDRESS:FIRST-LAST"),
    (["--door", "localhost:300-400"], "door: must have a numeric address"),
])
def test_what_is_no_door(daemon_factory, arguments, words):
    with pytest.raises(RuntimeError) as caught:
        daemon_factory(*arguments, provisioner=f"exec:{PLUGIN}")
    assert words in str(caught.value)


def test_a_door_needs_servers(daemon_factory):
    with pytest.raises(RuntimeError) as caught:
        daemon_factory("--door", "127.0.0.1:20000-20010")
    assert "door: is for --provisioner exec:PROGRAM" in str(caught.value)
