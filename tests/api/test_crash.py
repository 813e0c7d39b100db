"""kill -9 under load, again and again: what was acknowledged is there, and the events explain every state."""

import os
import random
import subprocess

import pytest
from daemon import BINARY
from rpc import Closed, Rpc, RpcError
from tenant import SERVICE

KILLS = 50


class Recorder:
    """Sends commands without waiting and keeps what was acknowledged, and what was asked but not answered."""

    def __init__(self, organization, chance):
        self.organization = organization
        self.chance = chance
        self.acknowledged = {}  # service -> newest generation that an answer showed
        self.deleting = set()   # a delete was asked for: the service may be gone
        self.backups = set()

    def requests(self, count):
        out = []
        for _ in range(count):
            known = list(self.acknowledged)
            method = self.chance.choice(["create", "create", "stop", "start", "delete", "backup", "update"])
            of = {"organizationId": self.organization}
            if method == "create" or not known:
                out.append(("service.create", {**of, "name": "s", **SERVICE}))
                continue
            service = self.chance.choice(known[-40:])
            of["serviceId"] = service
            if method == "delete":
                self.deleting.add(service)
            out.append({"stop": ("service.stop", of), "start": ("service.start", of), "delete": ("service.delete", of),
                        "backup": ("backup.create", of), "update": ("service.update", {**of, "name": "t"})}[method])
        return out

    def note(self, method, params, result):
        if method == "service.create":
            self.acknowledged[result["service"]["id"]] = result["service"]["generation"]
        elif method == "backup.create":
            self.backups.add((params["serviceId"], result["id"]))
        elif "generation" in result:
            service = params["serviceId"]
            self.acknowledged[service] = max(self.acknowledged[service], result["generation"])


def load_and_kill(daemon, recorder, chance):
    """Kill after a random number of requests, some answered and some under way, so that it hits any moment of a batch."""
    client = daemon.client()
    sent = {}
    left = chance.randrange(1, 800)
    try:
        while True:
            requests = recorder.requests(chance.randrange(1, 60))
            for number, request in zip(client.send_many(requests), requests):
                sent[number] = request
            for number in chance.sample(sorted(sent), len(sent) // 2):
                take(client, recorder, sent, number)
            left -= len(requests)
            if left < 0:
                daemon.kill()
                break
    except Closed:
        pass
    try:
        while True:  # what had been answered before the end counts as acknowledged
            client.feed()
            for message in client.unpacker:
                if message[0] == 1 and message[1] in sent and message[2] is None:
                    recorder.note(*sent.pop(message[1]), message[3])
    except (Closed, OSError):
        pass
    for number, (error, result) in client.answers.items():
        if error is None and number in sent:
            recorder.note(*sent[number], result)
    client.close()


def take(client, recorder, sent, number):
    request = sent.pop(number)
    try:
        recorder.note(*request, client.wait(number))
    except RpcError:
        pass


def all_items(client, method, **params):
    items, cursor = [], None
    while True:
        answer = client.call(method, params, **({"cursor": cursor} if cursor else {}))
        items += answer["items"]
        cursor = answer.get("cursor")
        if not cursor:
            return items


def all_events(client):
    events, at = [], 1
    while True:
        answer = client.call("event.list", {"from": at})
        if not answer["items"]:
            return events
        events += answer["items"]
        at = answer["next"]


def verify(client, recorder):
    services = {service["id"]: service for service in all_items(client, "service.list", organizationId=recorder.organization)}
    last, gone, explained = {}, set(), {}
    for number, event in enumerate(all_events(client), 1):
        assert event["sequence"] == number
        service = event.get("serviceId")
        if not service or "to" not in event:
            continue
        assert event.get("from") == last.get(service), f"event {number} does not follow: {event}"
        last[service] = event["to"]
        explained[service, event["generation"]] = event["to"]
        if event["to"] == "gone":
            gone.add(service)
    for service, generation in recorder.acknowledged.items():
        if service in gone:
            assert service in recorder.deleting
            continue
        assert service in services, f"acknowledged and lost: {service}"
        assert services[service]["generation"] >= generation
    for service, backup in recorder.backups:
        if service in services:
            client.call("backup.get", organizationId=recorder.organization, serviceId=service, backupId=backup)
    for service, record in services.items():
        assert explained[service, record["generation"]] == record["state"], "the events do not explain the state"


def wait_quiet(client, organization):
    """Everything in flight comes to an end."""
    number = client.call("event.watch", organizationId=organization)["watch"]
    while client.call("operation.list", organizationId=organization)["items"]:
        client.next_events(60, number)


@pytest.mark.parametrize("seed", [int(os.environ.get("SEED", "20261123"))])
def test_fifty_kills_in_a_row(daemon_factory, seed):
    print(f"SEED={seed}")
    chance = random.Random(seed)
    daemon = daemon_factory(provisioner="simulated:delay-ms=0..20,fail=0.1,duplicate=0.1")
    organization = daemon.client().call("organization.create", name="crash")["id"]
    recorder = Recorder(organization, chance)
    for kill in range(KILLS):
        load_and_kill(daemon, recorder, chance)
        check = subprocess.run([BINARY, "check", str(daemon.data)], capture_output=True, text=True)
        assert check.returncode == 0, f"seed {seed}, kill {kill}: {check.stdout}{check.stderr}"
        daemon.start()
        verify(daemon.client(60), recorder)
    client = daemon.client(60)
    wait_quiet(client, organization)
    verify(client, recorder)
    assert len(recorder.acknowledged) > 100
    assert client.call("check")["findingsCount"] == 0
