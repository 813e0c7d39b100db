"""The operations of a provisioner, for any kind of server. What is special to one kind is a subclass of Plugin.

    sys.exit(plugin.main(Redis()))"""

import json
import os
import signal
import sys
import time

import base
import process
from base import DONE, UNSUPPORTED, Refused, log, never, not_now
from service import Service, allocate

API = 1
OPERATIONS = ["provision", "start", "stop", "suspend", "configure", "delete", "backup", "delete_backup", "health"]
REPLAYED = ("provision", "start", "stop", "suspend", "configure", "backup")
LOG_BYTES_MAX = 4 << 20
HUNG_LOOKS = 5  # that time out
RESERVE_MS = 300  # of an operation's time, for the answer


# ---- The request ----


def uuid_of(value, name):
    hexadecimal = isinstance(value, str) and value.count("-") == 4 and [len(part) for part in value.split("-")] == [8, 4, 4, 4, 12]
    if not hexadecimal or not set(value) <= set("0123456789abcdefABCDEF-"):
        raise never("bad_request", f"{name}: must be a UUID")
    return value.lower()


class Request:
    """What is wanted, checked."""

    def __init__(self, operation):
        try:
            self.json = json.load(sys.stdin)
        except ValueError as error:
            raise never("bad_request", f"the request is not JSON: {error}") from None
        if not isinstance(self.json, dict):
            raise never("bad_request", "the request must be a JSON object")
        self.operation_id = uuid_of(self.json.get("operationId"), "operationId")
        self.service_id = uuid_of(self.json.get("serviceId"), "serviceId")
        if self.json.get("api") != API or operation not in OPERATIONS:
            raise Refused(UNSUPPORTED, "unsupported", f"api {self.json.get('api')}, operation {operation}: not known here; known is api {API} "
                                                      f"with {', '.join(OPERATIONS)}")
        self.deadline_ms = self.json.get("deadlineMs")
        if type(self.deadline_ms) is not int:
            raise never("bad_request", "deadlineMs: must be a whole number of milliseconds")
        if operation in ("provision", "start", "configure"):
            self.take_service(self.json.get("service"))
        self.backup = self.json.get("backup")
        if operation in ("backup", "delete_backup") or self.backup is not None:
            self.take_backup(self.backup)

    def take_service(self, service):
        if not isinstance(service, dict):
            raise never("bad_request", "service: must be an object")
        self.memory_gb = service.get("maxTotalMemoryGb")
        if type(self.memory_gb) is not int or self.memory_gb < 1:
            raise never("bad_request", "service.maxTotalMemoryGb: must be a whole number from 1")
        self.password_sha256 = service.get("passwordSha256")
        if not isinstance(self.password_sha256, str) or len(self.password_sha256) != 64 or not set(self.password_sha256) <= set("0123456789abcdef"):
            raise never("bad_request", "service.passwordSha256: must be 64 hexadecimal digits")
        self.mysql = bool(service.get("mysqlEnabled"))
        entries = service.get("ipAccessList")
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise never("bad_request", "service.ipAccessList: must be a list of objects")
        self.networks = [self.network(entry.get("source")) for entry in entries]

    @staticmethod
    def network(source):
        if source in ("0.0.0.0/0", "::/0"):  # spares the import
            return source
        import ipaddress

        try:
            return str(ipaddress.ip_network(source, strict=False))
        except ValueError:
            raise never("bad_request", f"service.ipAccessList: '{source}' is no address or network") from None

    def take_backup(self, backup):
        if not isinstance(backup, dict):
            raise never("bad_request", "backup: must be an object")
        self.backup_id = uuid_of(backup.get("id"), "backup.id")
        self.backup_service_id = uuid_of(backup.get("serviceId"), "backup.serviceId")
        self.backup_handle = backup.get("handle") if isinstance(backup.get("handle"), dict) else None

    def left_ms(self):
        return self.deadline_ms - time.time() * 1000 - RESERVE_MS


# ---- What is special to a kind of server ----


class Plugin:
    """Hooks get a Service, and the Request where they need to know what is wanted. Where it says `at home`, they run
    with the rights of the service, in its home."""

    name = ""  # of the plugin
    package = ""  # of Debian, that has it
    program = ""  # the server
    protocols = ()  # of its endpoints; each has a port
    username = "default"
    features = {}  # for `describe`
    queries_of_a_look = 0  # so many of queryCount are those of one look; 0: that cannot be told

    def __init__(self):
        self.take_settings()

    def take_settings(self):
        self.mb_per_gb = base.number("MB_PER_GB", 1024, 1, 1024)
        self.ports_range = base.number_range("PORTS", "21000-22999", 1, 65535)
        self.uids_range = base.number_range("UIDS", "42000-43999", 1, 4294967293)
        self.listen = base.address("LISTEN", "127.0.0.1")
        self.stop_grace_ms = base.number("STOP_GRACE_MS", 20000, 0, 3600000)
        self.behind_door = os.environ.get("REEVE_DOOR") == "1"

    def memory_bytes(self, request):
        return request.memory_gb * self.mb_per_gb << 20

    def version(self):
        """Of the server program that is installed."""
        raise NotImplementedError

    def running_version(self, service):
        """Of the server that runs: where to ask it is quicker."""
        return self.version()

    def check(self, request):
        """Refuse what this kind of server cannot do, before anything is changed."""
        if request.mysql:
            raise never("mysql", f"{self.name} has no MySQL interface here: mysqlEnabled must be false")

    def create(self, service, request):
        """At home: make the data of a new service."""

    def restore(self, service, request, manifest, files):
        """At home: the same, from a backup that is good. Its files are open: {name: file}."""
        raise NotImplementedError

    def settings(self, service, request):
        """At home: write what the server reads when it starts."""
        raise NotImplementedError

    def command(self, service):
        """The arguments that start the server; its home is /proc/self/cwd."""
        raise NotImplementedError

    def ready(self, service):
        """It answers and would serve clients. TimeoutError: it takes connections and does not answer within a second."""
        raise NotImplementedError

    def reload(self, service, request):
        """Let the server that runs take over what settings() has written."""
        raise NotImplementedError

    def finish(self, service, request):
        """What remains of restore() once the server runs; done again where we were killed in it."""

    def before_stop(self, service):
        """What makes a stop quick. It may fail: then the stop takes its time."""

    def clear(self, service):
        """At home: remove what a server that has ended, whatever way, has left behind and the next one would stumble over,
        or what would be left in the machine after the home is gone."""

    def dump(self, service, request, backup):
        """Add all data of the server that runs to a backup.New; return counts for its manifest."""
        raise NotImplementedError

    def look(self, service):
        """For health, in less than a second: {"queries": N, "connections": N, "queryCount": N, ...}; but for the last
        of clients, not ours."""
        raise NotImplementedError

    def last_words(self, service):
        return service.last_words()

    def describe(self):
        return {"api": API, "name": self.name, "operations": OPERATIONS, "serverVersion": self.version(), "protocols": list(self.protocols),
                **self.features}


# ---- Operations ----


class Operation:
    def __init__(self, plugin, name, request):
        self.plugin, self.name, self.request = plugin, name, request
        self.service = Service(request.service_id, plugin.clear)

    def run(self):
        if self.name == "health":
            return self.health()
        self.mind_the_time()
        if self.name in ("provision", "start", "configure"):
            self.plugin.check(self.request)
        self.service.lock()
        try:
            answer = self.answered()
            if answer is None:
                answer = getattr(self, self.name)()
                self.remember(answer)
            return answer
        finally:
            self.service.unlock()

    def mind_the_time(self):
        def out_of_time(*_):
            raise not_now("deadline", "the time is up")

        signal.signal(signal.SIGALRM, out_of_time)
        signal.signal(signal.SIGTERM, out_of_time)
        signal.setitimer(signal.ITIMER_REAL, max(self.request.left_ms() / 1000, 0.001))

    # The same operation again

    def answered(self):
        """What this very operation has answered before: it has no second effect. Where it was to run and has died
        since, it is not done."""
        last = json.loads(base.read(self.service.path("answer.json")) or "{}")
        if last.get("operationId") != self.request.operation_id or last.get("operation") != self.name:
            return None
        if self.name in ("provision", "start") and not self.service.process():
            return None
        return last["answer"]

    def remember(self, answer):
        if self.name in REPLAYED and self.service.exists():
            text = json.dumps({"operationId": self.request.operation_id, "operation": self.name, "answer": answer})
            base.write(self.service.path("answer.json"), text, durable=False)

    # Existing and running

    def need(self):
        if not self.service.provisioned:
            raise never("no_such_service", f"there is no service {self.request.service_id} here")
        self.fits()

    def fits(self):
        """What lies here is ours to touch."""
        kind = self.service.record.get("plugin", self.plugin.name)
        if kind != self.plugin.name:
            raise never("foreign_service", f"the service {self.request.service_id} is one of {kind}, not of {self.plugin.name}")
        if self.service.record and (self.service.uid is None) == (os.geteuid() == 0):
            raise never("wrong_user", "the service was made by root; run reeve as root, as then" if self.service.uid is not None else
                        "the service was not made by root, and is not run by root: run reeve as the user that made it")

    def provision(self):
        if self.service.provisioned:
            return self.start()
        old = self.backup_to_restore()
        try:
            self.make(old)
            return self.start()
        except Refused as refused:
            if refused.exit_code == base.PERMANENT:
                self.delete()  # it will not come to be: nothing of it stays
            raise

    def make(self, old):
        uid, ports = allocate(self.request.service_id, len(self.plugin.protocols), self.plugin.ports_range, self.plugin.uids_range,
                              self.plugin.listen)
        self.service.make(self.plugin.name, uid, ports)
        self.fill(old)
        self.service.record["provisioned"] = True
        self.service.save()

    def backup_to_restore(self):
        """None: there is none to be restored. It is checked before anything is made."""
        if self.request.backup is None:
            return None
        import backup

        return backup.Old(self.request.backup_id, self.request.backup_service_id, self.plugin.name, self.plugin.version(),
                          self.request.backup_handle)

    def fill(self, old):
        if not old:
            with self.service.at_home():
                self.plugin.create(self.service, self.request)
            return
        files = {name: open(old.path(name), "rb") for name in old.manifest["files"]}  # the server's uid may not
        with self.service.at_home():
            self.plugin.restore(self.service, self.request, old.manifest, files)

    def start(self):
        self.need()
        server = self.service.process()
        fresh = server is None or (self.name != "configure" and self.is_hung(server))  # who changes a busy one waits
        with self.service.at_home():
            self.plugin.settings(self.service, self.request)
            if fresh:
                keep_small("server.log")
        if fresh:
            self.service.end(0)  # what a server that died has left behind
            server = self.service.start(self.plugin.command(self.service))
        self.await_ready(server)
        if not fresh:
            self.plugin.reload(self.service, self.request)
        self.plugin.finish(self.service, self.request)
        return {**self.answer(), "version": self.plugin.running_version(self.service), "process": server.pid}

    def is_hung(self, server):
        """A server that runs and does not answer will not; one that is not ready yet says so, or does not listen."""
        for _ in range(HUNG_LOOKS):
            try:
                self.plugin.ready(self.service)
                return False
            except TimeoutError:
                pass
        log(f"process {server.pid} does not answer: it is ended")
        return True

    def is_ready(self):
        try:
            return self.plugin.ready(self.service)
        except TimeoutError:
            return False

    def await_ready(self, server):
        if not process.wait_until(self.is_ready, server):
            raise not_now("server_ended", f"{self.plugin.name} ended while it was starting: {self.plugin.last_words(self.service)}")

    def configure(self):
        self.need()
        if self.service.process():
            return self.start()
        with self.service.at_home():
            self.plugin.settings(self.service, self.request)
        return self.answer()

    def answer(self):
        endpoints = [{"protocol": protocol, "host": self.plugin.listen, "port": port, "username": self.plugin.username}
                     for protocol, port in zip(self.plugin.protocols, self.service.ports)]
        return {"endpoints": endpoints, "handle": {"uid": self.service.uid, "ports": self.service.ports}}

    # Not running, not existing

    def stop(self):
        self.fits()
        if self.service.provisioned and self.service.process():
            try:
                self.plugin.before_stop(self.service)
            except Refused as refused:
                if refused.code == "deadline":
                    raise
                log(f"before the stop: {refused}")
            except OSError as error:  # whatever it is: stopping must not depend on it
                log(f"before the stop: {error}")
        self.service.end(max(min(self.plugin.stop_grace_ms, self.request.left_ms() - 1000), 0))
        return {}

    suspend = stop

    def delete(self):
        import backup

        self.fits()
        self.service.end(0)
        backup.clean(self.request.service_id)
        self.service.remove()
        return {}

    # Backups

    def backup(self):
        import backup

        if backup.exists(self.request.backup_id):
            return backup.answer_of(*backup.read_manifest(self.request.backup_id))
        self.need()
        if not self.service.process():
            raise not_now("not_running", "a backup is made by the server, which does not run")
        new = backup.New(self.request.backup_id, self.request.service_id)
        counts = self.plugin.dump(self.service, self.request, new)
        return new.publish(self.plugin.name, self.plugin.running_version(self.service), counts)

    def delete_backup(self):
        import backup

        backup.remove(self.request.backup_id, self.request.service_id)
        return {}

    # Health

    def health(self):
        server = self.service.process()
        if not server or not self.service.provisioned:
            return {"running": False, "queries": 0, "message": self.why_not()}
        try:
            seen = self.plugin.look(self.service)
        except (OSError, Refused) as error:
            return {"running": False, "queries": 0, "message": f"hung: process {server.pid} does not answer: {error}"}
        return {"running": True, "queries": 0, **seen, **self.activity(seen), "pid": server.pid, "rssBytes": server.rss_bytes()}

    def activity(self, seen):
        """A number that changes when tenants use the server: what it has done, but for what our looks have. Other work of
        ours changes it too; that keeps a service awake a little longer, and harms nobody."""
        if "queryCount" not in seen or not self.plugin.queries_of_a_look:
            return {}
        looks = int(base.read(self.service.path("looks")) or 0) + 1
        base.write(self.service.path("looks"), str(looks), durable=False)
        return {"activity": seen["queryCount"] - looks * self.plugin.queries_of_a_look}

    def why_not(self):
        if not self.service.provisioned:
            return "it does not exist"
        if not self.service.was_started():
            return "it is stopped"
        return f"its server has died; the last it said: {self.plugin.last_words(self.service)}"


def keep_small(path):
    """Logs of servers start anew when they are long; the one before is kept."""
    try:
        if os.path.getsize(path) > LOG_BYTES_MAX:
            os.rename(path, path + ".1")
    except FileNotFoundError:
        pass


def perform(plugin_type, arguments):
    if len(arguments) != 2:
        raise never("usage", f"usage: {os.path.basename(arguments[0])} OPERATION < request; operations are describe, {', '.join(OPERATIONS)}")
    operation = arguments[1]
    if not os.access(plugin_type.program, os.X_OK):
        raise never("not_installed", f"{plugin_type.program} is not installed: apt-get install {plugin_type.package}")
    plugin = plugin_type()
    if operation == "describe":
        return plugin.describe()
    request = Request(operation)
    for name in ("REEVE_STATE_DIR", "REEVE_BACKUP_DIR"):
        if not os.path.isabs(os.environ.get(name, "")):
            raise never("bad_setting", f"{name} must be set to a whole path")
    return Operation(plugin, operation, request).run()


def main(plugin_type):
    os.umask(0o077)
    if os.geteuid() == 0:
        os.setgroups([])
    try:
        answer, exit_code = perform(plugin_type, sys.argv), DONE
    except Refused as refused:
        answer, exit_code = {"error": {"code": refused.code, "message": str(refused)}}, refused.exit_code
    except OSError as error:
        answer, exit_code = {"error": {"code": "system", "message": str(error)}}, base.RETRY
    signal.setitimer(signal.ITIMER_REAL, 0)
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    return exit_code
