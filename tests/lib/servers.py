"""Real database servers: how a client of each kind writes, reads and looks, and a daemon whose services they are.

A new kind is a class with the methods of Kind, and its place in KINDS."""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import threading
import time
import uuid

import pytest
from ports import Ports
from rpc import RpcError
from tenant import Tenant

ROOT = pathlib.Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "provisioners/plugins"
ANYWHERE = [{"source": "0.0.0.0/0"}]
SECONDS = 60


def status_of(pid):
    """(state, parent) of a process; None where there is none, or none any more."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1])


def wait_until(holds):
    """Ask again and again, for what tells no event; each question is a run of a program, and takes its time."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline


# ---- Kinds ----


class Refused(Exception):
    """The server does not let this client in."""


class Kind:
    """Hooks get a Client."""

    name = program = ""
    protocol = ""  # of the endpoint that is used here
    takes_hashes = True  # of passwords that reeve has not made

    @property
    def plugin(self):
        return PLUGINS / self.name

    def need(self):
        if os.access(self.program, os.X_OK):
            return
        assert "REEVE_SERVERS" not in os.environ, f"{self.program} is required here and not installed"
        pytest.skip(f"{self.program} is not installed")


class Client:
    def __init__(self, kind, service, password, source=None):
        self.kind, self.password, self.source = kind, password, source
        endpoint = next(endpoint for endpoint in service["endpoints"] if endpoint["protocol"] == kind.protocol)
        self.address = endpoint["host"], endpoint["port"]

    def connect(self):
        return socket.create_connection(self.address, timeout=SECONDS, source_address=(self.source, 0) if self.source else None)

    def fill(self):
        self.kind.fill(self)

    def content(self):
        """All that was written, in a form that can be compared."""
        return self.kind.content(self)

    def is_let_in(self):
        try:
            self.kind.greet(self)
        except (Refused, OSError, http.client.HTTPException):
            return False
        return True


class Redis(Kind):
    name, program, protocol = "redis", "/usr/bin/redis-server", "redis"
    data_file = "dump.rdb"

    def call(self, client, *commands):
        """Answers of commands; one connection for them."""
        with client.connect() as connection, connection.makefile("rb") as answers:
            for command in [("AUTH", "default", client.password), *commands]:
                words = [str(word).encode() for word in command]
                connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
                answer = self.answer(answers)
            return answer

    def answer(self, answers):
        line = answers.readline().rstrip(b"\r\n")
        if line[:1] == b"-" or not line:
            raise Refused(line.decode() or "closed")
        if line[:1] == b"*":
            return [self.answer(answers) for _ in range(int(line[1:]))]
        if line[:1] == b"$":
            return answers.read(int(line[1:]) + 2)[:-2]
        return line[1:]

    def greet(self, client):
        assert self.call(client, ("PING",)) == b"PONG"

    def fill(self, client):
        assert self.call(client, ("EVAL", "for i = 1, 20000 do redis.call('SET', 'k' .. i, i * i) end return 1", 0)) == b"1"
        self.call(client, ("RPUSH", "list", *range(100)), ("HSET", "hash", "a b", "c\r\nd"))

    def content(self, client):
        sums = "local t = 0 for _, k in ipairs(redis.call('KEYS', 'k*')) do t = t + redis.call('GET', k) end return {redis.call('DBSIZE'), tostring(t)}"
        return (self.call(client, ("EVAL", sums, 0)), self.call(client, ("LRANGE", "list", 0, -1)), self.call(client, ("HGETALL", "hash")))

    def memory(self, client):
        """The limit, as the server has it."""
        return int(next(line for line in self.call(client, ("INFO", "memory")).splitlines() if line.startswith(b"maxmemory:")).split(b":")[1])

    def memory_of(self, bytes_):
        return bytes_


class ClickHouse(Kind):
    name, program, protocol = "clickhouse", "/usr/sbin/clickhouse-server", "http"
    data_file = "data.tar"

    def query(self, client, query):
        connection = http.client.HTTPConnection(*client.address, timeout=SECONDS, source_address=(client.source, 0) if client.source else None)
        try:
            connection.request("POST", "/", query.encode(), {"X-ClickHouse-User": "default", "X-ClickHouse-Key": client.password})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if any(f"Code: {code}," in text for code in (193, 194, 195)):  # wrong password, none, address not allowed
            raise Refused(text)
        assert answer.status == 200, text
        return text

    def greet(self, client):
        assert self.query(client, "SELECT 1") == "1\n"

    def fill(self, client):
        for query in ("CREATE DATABASE `odd-name.db`",
                      "CREATE DATABASE empty",
                      "CREATE TABLE t (d Date, id UInt64, s String) ENGINE = MergeTree PARTITION BY toYYYYMM(d) ORDER BY id",
                      "CREATE TABLE old (d Date, id UInt64) ENGINE = MergeTree(d, id, 8192)",
                      "CREATE TABLE `odd-name.db`.`a.b ``c` (id UInt64, s String) ENGINE = Log",
                      "CREATE TABLE tiny (id UInt64) ENGINE = TinyLog",
                      "CREATE TABLE nothing (id UInt64) ENGINE = StripeLog",
                      "CREATE TABLE latest (id UInt64, n UInt64) ENGINE = ReplacingMergeTree ORDER BY id",
                      "CREATE TABLE lost (id UInt64) ENGINE = Memory",
                      "CREATE MATERIALIZED VIEW fed ENGINE = SummingMergeTree ORDER BY k AS SELECT id % 7 AS k, count() AS n FROM tiny GROUP BY k",
                      "INSERT INTO t SELECT toDate('2023-01-01') + number % 90, number, toString(cityHash64(number)) FROM numbers(200000)",
                      "INSERT INTO old SELECT toDate('2023-01-01') + number % 90, number FROM numbers(1000)",
                      "INSERT INTO `odd-name.db`.`a.b ``c` SELECT number, toString(number) FROM numbers(1000)",
                      "INSERT INTO tiny SELECT number FROM numbers(1000)",
                      "INSERT INTO latest SELECT number % 10, number FROM numbers(1000)"):
            self.query(client, query)

    def content(self, client):
        return [self.query(client, query) for query in (
            "SELECT count(), sum(id), sum(cityHash64(s)), min(d), max(d) FROM t", "SELECT count(), sum(id) FROM old",
            "SELECT count(), sum(id), sum(cityHash64(s)) FROM `odd-name.db`.`a.b ``c`", "SELECT count(), sum(id) FROM tiny",
            "SELECT count() FROM nothing", "SELECT id, n FROM latest FINAL ORDER BY id", "SELECT k, sum(n) FROM fed GROUP BY k ORDER BY k",
            "SELECT name FROM system.databases ORDER BY name")]

    def memory(self, client):
        return int(self.query(client, "SELECT value FROM system.settings WHERE name = 'max_memory_usage'"))

    def memory_of(self, bytes_):
        return bytes_ * 9 // 10


@contextlib.contextmanager
def way_to(client):
    """(host, port) for programs that cannot choose the address they come from."""
    if not client.source:
        yield client.address
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=relay, args=(client, listener), daemon=True).start()
        yield listener.getsockname()


def relay(client, listener):
    with contextlib.suppress(OSError):  # the listener is closed
        while True:
            inner = listener.accept()[0]
            try:
                outer = client.connect()
            except OSError:
                inner.close()
                continue
            for one, other in ((inner, outer), (outer, inner)):
                threading.Thread(target=pump, args=(one, other), daemon=True).start()


def pump(source, target):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Postgres(Kind):
    name, protocol = "postgresql", "postgresql"
    program = "/usr/lib/postgresql/15/bin/postgres"
    data_file = "base.tar.gz"
    takes_hashes = False

    def query(self, client, text, database="default", user="default"):
        """Rows, as psql prints them."""
        with way_to(client) as (host, port):
            done = subprocess.run([self.program.replace("bin/postgres", "bin/psql"), "-XAtq", "-v", "ON_ERROR_STOP=1"], input=text,
                                  capture_output=True, text=True, timeout=SECONDS,
                                  env={**os.environ, "PGHOST": host, "PGPORT": str(port), "PGUSER": user, "PGDATABASE": database, "PGPASSWORD": client.password,
                                       "PGCONNECT_TIMEOUT": str(SECONDS)})
        if done.returncode == 2 and "connection to server" in done.stderr:
            raise Refused(done.stderr)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def greet(self, client):
        assert self.query(client, "SELECT 1") == "1\n"

    def fill(self, client):
        self.query(client, """
            CREATE TABLE t (id bigint PRIMARY KEY, at date, s text);
            INSERT INTO t SELECT n, date '2023-01-01' + n % 90, md5(n::text) FROM generate_series(1, 200000) AS n;
            CREATE INDEX ON t (s);
            CREATE SEQUENCE numbers START 7; SELECT nextval('numbers');
            CREATE TABLE "odd name" (id serial, "ü" jsonb DEFAULT '{"a": [1]}'); INSERT INTO "odd name" DEFAULT VALUES;
            CREATE VIEW months AS SELECT date_trunc('month', at) AS month, count(*) FROM t GROUP BY 1;
            CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
            CREATE EXTENSION pgcrypto;
            SELECT lo_from_bytea(4711, 'large');
            CREATE DATABASE "another-one";""")
        self.query(client, "CREATE TABLE there (id int); INSERT INTO there VALUES (1), (2)", "another-one")

    def content(self, client):
        here = self.query(client, """
            SELECT count(*), sum(id), sum(('x' || left(s, 8))::bit(32)::bigint), min(at), max(at) FROM t;
            SELECT * FROM "odd name"; SELECT * FROM months ORDER BY 1; SELECT twice(21); SELECT last_value >= 7 FROM numbers;
            SELECT lo_get(4711); SELECT extname FROM pg_extension ORDER BY 1; SELECT datname FROM pg_database ORDER BY 1;""")
        return here, self.query(client, "SELECT sum(id) FROM there", "another-one")

    def memory(self, client):
        return int(self.query(client, "SELECT setting FROM pg_settings WHERE name = 'effective_cache_size'")) * 8192

    def memory_of(self, bytes_):
        return bytes_ * 3 // 4


KINDS = [Redis(), ClickHouse(), Postgres()]


# ---- A daemon ----


class Servers:
    """A daemon with a plugin, and a look at what the plugin does and leaves."""

    def __init__(self, kind, daemon_factory, *arguments, door=True, settings="", ports=20, clock=None):
        kind.need()
        self.kind = kind
        self.reserved = Ports(20 + ports)
        first, last = self.reserved.first, self.reserved.last
        # Of the uids, too, each daemon has its own: others may run on this machine at the same time.
        door_arguments = ["--door", f"127.0.0.1:{first}-{first + 19}", "--door-activity-ms", "100"] if door else []
        self.ports = range(first + 20, last + 1)
        # Looks would come at any time, and be found where operations are waited for.
        self.daemon = daemon_factory("--retry-min-ms", "1", "--retry-max-ms", "100", "--health-ms", "86400000", *door_arguments, *arguments, start=False,
                                     provisioner=f"exec:{kind.plugin},env.MB_PER_GB=4,env.PORTS={first + 20}-{last},env.UIDS={first + 80000}-{last + 80000}{settings}")
        self.state = self.daemon.data / "provisioner"
        self.clock = clock
        self.environment = clock.environment() if clock else None
        self.start()

    def start(self):
        self.daemon.start(environment=self.environment)
        self.rpc = self.daemon.client(SECONDS)
        if hasattr(self, "tenant"):
            self.tenant.rpc = self.rpc
        else:
            self.tenant = Tenant(self.rpc)

    def create(self, name="db", **fields):
        """(service that runs, its password)."""
        answer = self.rpc.call("service.create", organizationId=self.tenant.id, name=name,
                               **{"provider": "aws", "region": "us-east-1", "tier": "production", "ipAccessList": ANYWHERE,
                                  "minTotalMemoryGb": 24, "maxTotalMemoryGb": 24, **fields})
        return answer["service"], answer["password"]

    def running(self, name="db", **fields):
        service, password = self.create(name, **fields)
        return self.tenant.wait_state(service, "running", SECONDS), password

    def client(self, service, password, source=None):
        return Client(self.kind, service, password, source)

    def do(self, method, service, **fields):
        return self.rpc.call(method, **self.tenant.of(service), **fields)

    def settled(self, service, state):
        """Once it is in that state, and nothing is under way."""
        def is_settled(_):
            nonlocal record
            record = self.tenant.get(service)
            return record["state"] == state and "operation" not in record

        record = None
        try:
            self.rpc.wait_stats(is_settled, SECONDS)
        except TimeoutError:
            raise AssertionError(f"not {state}, but {record}") from None
        return record

    def change(self, service, method, **fields):
        """A change of a service that runs, in full effect."""
        answer = self.do(method, service, **fields)
        self.settled(service, "running")
        return answer

    def revive(self, service):
        """What a daemon does whose look at the server's health went wrong."""
        self.do("service.health_lost", service, message="it hangs")
        return self.settled(service, "running")

    def crash(self, service):
        """Kill its server; the daemon notices, and starts another one."""
        restarts = self.tenant.get(service).get("restarts", 0)
        self.kill_server(service)
        self.rpc.wait_stats(lambda _: self.tenant.get(service).get("restarts", 0) > restarts, SECONDS)
        return self.settled(service, "running")

    def stop(self, service):
        self.do("service.stop", service)
        return self.settled(service, "stopped")

    def backup(self, service, status="done"):
        backup = self.do("backup.create", service)
        return self.backup_ends(service, backup, status)

    def backup_ends(self, service, backup, status="done"):
        number = self.rpc.call("event.watch", serviceId=service["id"])["watch"]
        while True:
            record = self.rpc.call("backup.get", backupId=backup["id"], **self.tenant.of(service))
            if record["status"] != "in_progress":
                assert record["status"] == status, record
                self.rpc.call("event.unwatch", watch=number)
                return record
            self.rpc.next_events(SECONDS, number)

    def delete(self, service):
        number = self.rpc.call("event.watch", serviceId=service["id"])["watch"]
        self.do("service.delete", service)
        self.rpc.wait_event(lambda event: event["type"] == "service_gone", SECONDS, number)

    def wait_gone(self, method, service, **fields):
        """Until what that would show is not there."""
        def is_gone(_):
            try:
                self.do(method, service, **fields)
                return False
            except RpcError as error:
                assert error.code == "NOT_FOUND", error
                return True

        self.rpc.wait_stats(is_gone, SECONDS)

    def kill_daemon_in(self, milliseconds):
        """As long after a program has begun; then start it again."""
        self.rpc.wait_stats(lambda _: os.listdir(self.state / "runs"))
        select.select([], [], [], milliseconds / 1000)  # what is disturbed does not wait for us
        self.daemon.kill()
        self.start()

    def failure(self, service):
        """(code, message) of what ended in `failed`."""
        self.settled(service, "failed")
        events = self.rpc.call("event.list", serviceId=service["id"])["items"]
        event = [event for event in events if event.get("to") == "failed"][-1]
        return event["code"], event["message"]

    # The plugin's side

    def record(self, service):
        return json.loads((self.state / "services" / service["id"] / "record.json").read_text())

    def pid(self, service):
        return int((self.state / "services" / service["id"] / "server").read_text().split()[0])

    def kill_server(self, service, number=signal.SIGKILL):
        os.kill(self.pid(service), number)

    def ask(self, operation, subject, **more):
        """Run the plugin ourselves for that service; (exit code, answer)."""
        wanted = {"api": 1, "operation": operation, "operationId": str(uuid.uuid4()), "attempt": 1, "desired": 1,
                  "deadlineMs": int(time.time() * 1000) + 1000 * SECONDS, "organizationId": self.tenant.id, "serviceId": subject["id"],
                  "service": None, "backup": None, "handle": None, **more}
        environment = {"REEVE_STATE_DIR": str(self.state), "REEVE_BACKUP_DIR": str(self.state / "backups"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run([self.kind.plugin, operation], input=json.dumps(wanted), env=environment, capture_output=True, text=True, timeout=SECONDS)
        return done.returncode, json.loads(done.stdout)

    def health(self, service):
        code, answer = self.ask("health", service)
        assert code == 0
        return answer

    def processes(self):
        """Servers of ours: those that have a home below our state as their working directory."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{name}/cwd").startswith(str(self.state / "services")):
                    found.append(int(name))
            except OSError:
                continue
        return found

    def leaders(self):
        """The servers among them: who was not started by another one. What has ended meanwhile is none."""
        found = self.processes()
        parents = {pid: status[1] for pid in found if (status := status_of(pid))}
        return [pid for pid, parent in parents.items() if parent not in found]

    def processor_seconds(self):
        """Of the daemon, and of all that it has started."""
        def spent(pid, first, last):
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            return sum(int(field) for field in fields[first:last]) / os.sysconf("SC_CLK_TCK")

        pid = self.daemon.process.pid
        return {"daemon": spent(pid, 11, 13), "started": spent(pid, 13, 15) + sum(spent(server, 11, 15) for server in self.processes())}

    def close(self):
        """Nothing outlives a test, however it has ended. What a plugin deletes leaves nothing outside of its files, either."""
        self.daemon.close()
        services = self.state / "services"
        for name in os.listdir(services) if services.exists() else ():
            self.ask("delete", {"id": name})
        while left := self.processes():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def assert_nothing_left(self, backups=()):
        """But the backups of those ids."""
        assert self.processes() == []
        assert os.listdir(self.state / "services") == [] and os.listdir(self.state / "locks") == []
        assert json.loads((self.state / "allocations.json").read_text()) == {}
        assert sorted(os.listdir(self.state / "backups")) == sorted(backups)
        for port in self.ports:
            socket.create_server(("127.0.0.1", port)).close()


def sha256_of(password):
    return hashlib.sha256(password.encode()).hexdigest()
