"""One service: its directory, what is written down of it, its uid and ports, its server.

    STATE/services/ID/record.json   what we know of it; ours
    STATE/services/ID/server        the process that is or was its server
    STATE/services/ID/home/         all that belongs to the server: its uid's, 0700
    STATE/locks/ID                  held by who does something to it
    STATE/allocations.json          uid and ports of each service

Above `home` everything is ours alone, so that a server cannot even name what is another's. It reaches its own files as
/proc/self/cwd/...: home is its working directory, and nothing above it has to let it through."""

import json
import os
import socket

import process
from base import locked, log, not_now, read, remove_tree, sync_directory, write
from process import Process

HOME = "/proc/self/cwd"  # how a server names its home


def state(*names):
    return os.path.join(os.environ["REEVE_STATE_DIR"], *names)


def make_directory(path):
    try:
        os.mkdir(path, 0o700)
        sync_directory(os.path.dirname(path))
    except FileExistsError:
        pass


# ---- Uids and ports ----


class Allocations:
    """Who has what, in one file. An entry is written before anything of its service is made, and goes when nothing of
    it is left: whenever we are killed, nothing is in use that is not written down."""

    def __enter__(self):
        self.lock = locked(state("allocations.lock"))
        self.table = json.loads(read(state("allocations.json")) or "{}")
        return self

    def __exit__(self, *_):
        os.close(self.lock)

    def save(self):
        write(state("allocations.json"), json.dumps(self.table, sort_keys=True))

    def taken(self, kind):
        return {number for entry in self.table.values() for number in entry[kind]}

    def take(self, kind, range_, count, is_free, what):
        taken = self.taken(kind)
        found = []
        for number in range_:
            if len(found) == count:
                break
            if number not in taken and is_free(number):
                found.append(number)
        if len(found) < count:
            raise not_now("full", f"no {what} of {range_[0]}-{range_[-1]} is free")
        return found


def port_is_free(host):
    def is_free(port):
        try:
            socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
        except OSError:
            return False
        return True

    return is_free


def uid_is_free(uid):
    import pwd

    try:
        pwd.getpwuid(uid)
    except KeyError:
        return not process.family(None, uid)
    return False


def allocate(identity, ports, ports_range, uids_range, host):
    """The uid (None: we are not root, all run as ourselves) and ports of a service; the same when asked again."""
    with Allocations() as allocations:
        entry = allocations.table.get(identity)
        if not entry:
            uids = allocations.take("uids", uids_range, 1, uid_is_free, "uid") if os.geteuid() == 0 else []
            entry = {"uids": uids, "ports": allocations.take("ports", ports_range, ports, port_is_free(host), "port")}
            allocations.table[identity] = entry
            allocations.save()
    return (entry["uids"] or [None])[0], entry["ports"]


def release(identity):
    with Allocations() as allocations:
        if allocations.table.pop(identity, None):
            allocations.save()


# ---- A service ----


class AtHome:
    """The rights of the service and its home as the working directory: whatever its server has put there, links to
    elsewhere say, leads no further than the server itself could go. Who is there already stays there."""

    def __init__(self, service):
        self.service = service

    def __enter__(self):
        self.service.visits += 1
        if self.service.visits > 1:
            return
        os.chdir(self.service.home)
        if self.service.uid is not None:
            os.setegid(self.service.uid)
            os.seteuid(self.service.uid)

    def __exit__(self, *_):
        self.service.visits -= 1
        if self.service.visits:
            return
        if self.service.uid is not None:
            os.seteuid(0)
            os.setegid(0)
        os.chdir("/")


class Service:
    def __init__(self, identity, clear):
        """clear(service), at home: remove what an ended server leaves behind."""
        self.identity, self.clear, self.visits = identity, clear, 0
        self.directory = state("services", identity)
        self.home = os.path.join(self.directory, "home")
        self.record = self.read_record()

    def read_record(self):
        """Nothing, where it is damaged: what is there can still be ended and deleted."""
        try:
            return json.loads(read(self.path("record.json")) or "{}")
        except ValueError as error:
            log(f"{self.path('record.json')} is damaged: {error}")
            return {}

    def path(self, name):
        return os.path.join(self.directory, name)

    def lock(self):
        """Who we start does not have it."""
        for name in ("services", "locks"):
            make_directory(state(name))
        self.lock_file = locked(state("locks", self.identity))
        self.record = self.read_record()

    def unlock(self):
        """A lock of what is not there need not be there. We end, and others see that it is another file, if any."""
        if not self.exists():
            os.remove(state("locks", self.identity))
        os.close(self.lock_file)

    def exists(self):
        return os.path.isdir(self.directory)

    def save(self):
        write(self.path("record.json"), json.dumps(self.record, sort_keys=True))

    uid = property(lambda self: self.record.get("uid"))
    ports = property(lambda self: self.record["ports"])
    control = property(lambda self: self.record["control"])  # our own password at its server
    provisioned = property(lambda self: self.record.get("provisioned", False))

    def make(self, plugin, uid, ports):
        """An empty home, whatever an earlier attempt has left there."""
        make_directory(self.directory)
        self.record = {"plugin": plugin, "uid": uid, "ports": ports, "control": self.record.get("control") or os.urandom(24).hex(),
                       "provisioned": False}
        self.save()
        self.end(0)
        remove_tree(self.home)
        make_directory(self.home)
        if uid is not None:
            os.chown(self.home, uid, uid)

    def at_home(self):
        return AtHome(self)

    # Its server

    def process(self):
        """Of the server that runs, or None."""
        found = Process.written(self.path("server"))
        return found if found and found.alive() else None

    def start(self, arguments):
        return process.launch(arguments, self.path("server"), self.home, self.uid, "server.log")

    def was_started(self):
        """Not asked to end since: where it does not run, it has died."""
        return os.path.exists(self.path("server"))

    def end(self, grace_ms):
        server = Process.written(self.path("server"))
        if server and server.alive() and not server.end(grace_ms) and grace_ms:
            log(f"process {server.pid} did not end within {grace_ms} ms of SIGTERM: killed")
        if server or self.uid is not None:
            process.end_family(server, self.uid, self.home)
        if os.path.isdir(self.home) and (self.uid is not None or os.geteuid() != 0):  # never as root
            with self.at_home():
                self.clear(self)
        if self.was_started():
            os.remove(self.path("server"))

    def last_words(self, name="server.log", size=2000):
        """The last line of the server's log, for who wants to know why it died."""
        try:
            with self.at_home(), open(name, "rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - size, 0))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip()[:300] if lines else ""

    # The end

    def remove(self):
        remove_tree(self.directory)
        release(self.identity)

