"""What a client of reeve knows for certain: what was acknowledged, and what was asked for and not answered.

Holds the daemon to it after a crash: the acknowledged is there, the rest is there as a whole or not at all, and asking again
with the same idempotency key has the effect of asking once. One command for each service is under way at a time, so that
what may be the newest is known."""

import itertools

from rpc import RpcError

PRODUCTION = {"provider": "aws", "region": "us-east-1", "tier": "production"}
KINDS = ["create", "create", "update", "update", "stop", "start", "delete", "backup"]


class Command:
    def __init__(self, kind, service, token):
        self.kind, self.service, self.token = kind, service, token
        self.key = f"{kind}-{token}"


class Service:
    def __init__(self, token, generation):
        self.token, self.generation = token, generation
        self.busy = None
        self.deleting = self.gone = False
        self.backups = set()
        self.told = []  # for people, when something is wrong


class Ledger:
    """For one organization. `chance` chooses what is asked for next."""

    def __init__(self, organization, chance):
        self.organization, self.chance = organization, chance
        self.tokens = itertools.count(1)
        self.services = {}
        self.creating = {}  # token -> command, not answered
        self.acknowledged = self.refused = self.unanswered = self.applied = 0

    # Asking

    def next_command(self):
        kind, token = self.chance.choice(KINDS), next(self.tokens)
        free = [] if kind == "create" else [id for id, s in self.services.items() if not s.busy and not s.gone][-60:]
        command = Command(kind if free else "create", self.chance.choice(free) if free else None, token)
        if command.service:
            self.services[command.service].busy = command
        else:
            self.creating[token] = command
        return command

    @staticmethod
    def mark(token):
        """Two fields that say the same: a change that is there by half is seen."""
        source = f"10.{token >> 16 & 255}.{token >> 8 & 255}.{token & 255}/32"
        return f"t{token}", [{"source": source, "description": f"t{token}"}]

    def fields(self, command):
        name, access = self.mark(command.token)
        if command.kind == "create":
            return {**PRODUCTION, "name": name, "ipAccessList": access}
        if command.kind == "update":
            before = self.mark(self.services[command.service].token)[1]
            return {"name": name, "ipAccessList": {"remove": [{"source": before[0]["source"]}], "add": access}}
        return {}

    def ipc(self, command):
        """(method, params)"""
        method = "backup.create" if command.kind == "backup" else f"service.{command.kind}"
        params = {"organizationId": self.organization, "idempotencyKey": command.key, **self.fields(command)}
        return method, {**params, **({"serviceId": command.service} if command.service else {})}

    def http(self, command):
        """(method, path, body)"""
        path = "services" + (f"/{command.service}" if command.service else "")
        if command.kind in ("stop", "start"):
            return "PATCH", path + "/state", {"command": command.kind}
        if command.kind == "backup":
            return "POST", path + "/backups", None
        return {"create": "POST", "update": "PATCH", "delete": "DELETE"}[command.kind], path, self.fields(command) or None

    # Being answered

    def answered(self, command, answer):
        """`answer` as over the socket: a map with `service`, a service, a backup, or nothing."""
        self.acknowledged += 1
        if command.kind == "create":
            record = answer["service"]
            assert record["id"] not in self.services or self.services[record["id"]].token >= command.token
            self.creating.pop(command.token, None)
            self.services.setdefault(record["id"], Service(command.token, record.get("generation", 1)))
            return
        service = self.services[command.service]
        service.busy = None
        service.told.append(f"{command.key} done")
        if command.kind == "update":
            service.token = command.token
        elif command.kind == "delete":
            service.deleting = True
        elif command.kind == "backup":
            service.backups.add(answer["id"])
        service.generation = max(service.generation, (answer or {}).get("generation", 1) if command.kind != "backup" else 1)

    def was_refused(self, command, why):
        self.refused += 1
        self.creating.pop(command.token, None)
        if command.service:
            self.services[command.service].busy = None
            self.services[command.service].told.append(f"{command.key} refused: {why}")

    # Verifying

    def pending(self):
        return list(self.creating.values()) + [s.busy for s in self.services.values() if s.busy]

    def verify(self, client, history):
        """After a restart, before anything else is asked."""
        there = {record["id"]: record for record in all_items(client, "service.list", organizationId=self.organization)}
        history.read_on(client)  # afterwards: work goes on meanwhile
        for id, service in self.services.items():
            self.verify_service(id, service, there.get(id), history)
        unknown = [record for id, record in there.items() if id not in self.services]
        names = [record["name"] for record in unknown]
        assert len(names) == len(set(names)), "one command made two services"
        for record in unknown:
            token = int(record["name"][1:])
            assert token in self.creating, f"nobody asked for {record}"
            self.assert_whole(record, {token})
        for id, record in there.items():
            assert history.explained[id, record["generation"]] == record["state"], f"the events do not explain {record}"

    def verify_service(self, id, service, record, history):
        if service.gone:
            assert record is None, f"gone, and there again: {record}"
            return
        if record is None:
            asked = service.deleting or service.busy and service.busy.kind == "delete"
            assert asked and id in history.gone, f"acknowledged and lost: {id}; {service.told}; {history.of(id)}"
            service.gone, service.busy = True, None
            return
        tokens = {service.token} | ({service.busy.token} if service.busy and service.busy.kind == "update" else set())
        self.assert_whole(record, tokens)
        assert record["generation"] >= service.generation, f"{id} is older than what was acknowledged"

    def assert_whole(self, record, tokens):
        name, access = record["name"], record["ipAccessList"]
        assert any((name, access) == self.mark(token) for token in tokens), f"there by half, or not of {tokens}: {record}"

    def verify_backups(self, client):
        for id, service in self.services.items():
            for backup in () if service.gone or service.deleting else service.backups:
                client.call("backup.get", organizationId=self.organization, serviceId=id, backupId=backup)

    def ask_again(self, client):
        """What was not answered, with the same keys, over the socket or not; it counts once."""
        for command in self.pending():
            self.unanswered += 1
            before = {s["name"]: s["id"] for s in all_items(client, "service.list", organizationId=self.organization)} \
                if command.kind == "create" else {}
            try:
                answer = client.call(*self.ipc(command))
            except RpcError as error:
                assert error.code in ("CONFLICT", "NOT_FOUND"), error
                self.was_refused(command, error)  # so it had no effect before the crash: the next look holds it to that
                continue
            if command.kind == "create" and self.mark(command.token)[0] in before:
                self.applied += 1
                assert before[self.mark(command.token)[0]] == answer["service"]["id"], "the same key made another service"
            self.answered(command, answer)


class History:
    """All events so far: without a gap, and each service's states in a chain."""

    def __init__(self):
        self.events = []
        self.last, self.explained, self.gone = {}, {}, set()

    def read_on(self, client):
        while True:
            items = client.call("event.list", {"from": len(self.events) + 1})["items"]
            if not items:
                return
            for event in items:
                self.take(event)

    def of(self, service):
        return [event for event in self.events if event.get("serviceId") == service]

    def take(self, event):
        self.events.append(event)
        assert event["sequence"] == len(self.events), f"a gap before {event}"
        service = event.get("serviceId")
        if not service or "to" not in event:
            return
        assert event.get("from") == self.last.get(service), f"does not follow: {event}"
        self.last[service] = self.explained[service, event["generation"]] = event["to"]
        if event["to"] == "gone":
            self.gone.add(service)


def all_items(client, method, **params):
    items, cursor = [], None
    while True:
        answer = client.call(method, params, **({"cursor": cursor} if cursor else {}))
        items += answer["items"]
        cursor = answer.get("cursor")
        if not cursor:
            return items


def wait_quiet(client, organization):
    """Everything in flight comes to an end."""
    number = client.call("event.watch", organizationId=organization)["watch"]
    while client.call("operation.list", organizationId=organization)["items"]:
        client.next_events(60, number)
    client.call("event.unwatch", watch=number)

