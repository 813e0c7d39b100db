"""A disk that fails, fills up or is damaged, and what else runs out: a clear refusal of writes while reads go on, recovery
without a restart, and nothing acknowledged lost. Power cuts are in tests/crash/run."""

import os
import resource
import shutil
import socket
import subprocess

import pytest
from daemon import BINARY
from ledger import all_items
from rpc import Closed, Rpc, RpcError
from tenant import Tenant
from web import Web

FAULTS = os.environ.get("REEVE_FAULTS_LIB")
SLOW = "simulated:delay-ms=200..200"
NEVER = "simulated:delay-ms=3600000..3600000"  # every batch has commands in it: somebody is told


class Site:
    """A daemon on a disk of this test's making, and what it has acknowledged."""

    def __init__(self, daemon_factory, tmp_path, *arguments, **options):
        self.rules = tmp_path / "rules"
        self.daemon = daemon_factory("--http", "127.0.0.1:0", *arguments, start=False, **options)
        self.rules.write_text("")
        self.start()
        self.rpc = self.daemon.client()
        self.tenant = Tenant(self.rpc)
        self.web = Web(self.daemon.log().split("listening http=")[-1].split()[0])
        self.web.get("/healthz")  # connected by now
        self.acknowledged = set()

    def start(self):
        self.daemon.start(environment={"LD_PRELOAD": FAULTS, "REEVE_FAULTS": str(self.rules), "REEVE_FAULTS_DIR": str(self.daemon.data)})

    def spoil(self, text):
        """Whole at once: half a rule would be another one."""
        part = self.rules.with_suffix(".part")
        part.write_text(text)
        part.rename(self.rules)

    def create(self):
        service = self.tenant.create()
        self.acknowledged.add(service["id"])
        return service

    def assert_reads(self):
        listed = {service["id"] for service in all_items(self.rpc, "service.list", organizationId=self.tenant.id)}
        assert listed == self.acknowledged
        assert self.web.get("/healthz").status == 200

    def refused(self):
        with pytest.raises(RpcError) as error:
            self.tenant.create()
        assert error.value.code in ("UNAVAILABLE", "NO_MEMORY") and error.value.retryable
        return error.value.message

    def create_some(self):
        """Many at once: what is refused is refused, what is not is there. Returns why some were refused."""
        params = {"organizationId": self.tenant.id, "name": "n" * 50, "provider": "aws", "region": "us-east-1"}
        refusals = []
        for number in self.rpc.send_many([("service.create", params)] * 64):
            try:
                self.acknowledged.add(self.rpc.wait(number)["service"]["id"])
            except RpcError as error:
                assert error.retryable, error
                refusals.append(error.message)
        return refusals

    def create_until_refused(self):
        for _ in range(300):
            refusals = self.create_some()
            if refusals:
                return refusals[-1]
        raise AssertionError("nothing ran out")

    def assert_kept(self):
        """After a crash, too."""
        self.daemon.kill()
        done = subprocess.run([BINARY, "check", str(self.daemon.data)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        self.daemon.start()
        self.rpc = self.daemon.client()
        self.web = Web(self.daemon.log().split("listening http=")[-1].split()[0])
        self.assert_reads()


@pytest.fixture
def site(daemon_factory, tmp_path):
    if not FAULTS:
        pytest.skip("make builds the library that spoils the disk, and names it in REEVE_FAULTS_LIB")
    if "address" in BINARY or "thread" in BINARY:
        pytest.skip("a sanitizer and another preloaded library do not go together")
    return lambda *arguments, **options: Site(daemon_factory, tmp_path, *arguments, **options)


# ---- A disk that fails ----

RECOVERED = "info    the store can write again"

ERRORS = {"EIO": "Input/output error", "ENOSPC": "No space left on device", "EDQUOT": "Disk quota exceeded",
          "EINTR": "Interrupted system call", "short": "Input/output error"}


# A sync cannot be cut short; a write that is interrupted is in the next test.
CASES = [(calls, effect) for calls in ("pwrite writev", "syncwrite", "fdatasync") for effect in ERRORS
         if effect != ("short" if calls == "fdatasync" else "EINTR")]


@pytest.mark.parametrize("calls, effect", CASES)
def test_a_failing_disk_refuses_writes_until_it_is_well(site, calls, effect):
    s = site(provisioner=SLOW)
    under_way = s.create()
    s.spoil("".join(f"{call} {effect} 0 0\n" for call in calls.split()))
    assert ERRORS[effect] in s.refused()
    s.assert_reads()
    assert s.web.get("/readyz").status == 503
    # It tries again by itself, and does not take the silence of a batch with nothing in it for a cure.
    failures = s.rpc.call("stats")["commitFailures"]
    s.rpc.wait_stats(lambda stats: stats["commitFailures"] >= failures + 2)
    assert s.web.get("/readyz").status == 503 and RECOVERED not in s.daemon.log()
    s.spoil("")
    s.rpc.wait_stats(lambda _: s.web.get("/readyz").status == 200)
    assert RECOVERED in s.daemon.log()
    s.create()
    s.tenant.wait_state(under_way, "running")
    s.assert_kept()


@pytest.mark.parametrize("call", ["pwrite", "writev", "syncwrite"])
def test_a_write_that_is_interrupted_is_made_again(site, call):
    s = site()
    s.spoil(f"{call} EINTR 0 2\n")
    for _ in range(5):
        s.create()
    assert s.rpc.call("stats")["commitFailures"] == 0
    s.assert_kept()


@pytest.mark.parametrize("call", ["open", "mmap"])
def test_a_store_that_cannot_be_opened_again_is_tried_until_it_can(site, call):
    s = site()
    s.create()
    s.spoil(f"fdatasync EIO 0 0\n{call} {'EMFILE' if call == 'open' else 'ENOMEM'} 0 0\n")
    s.refused()
    failures = s.rpc.call("stats")["commitFailures"]
    s.rpc.wait_stats(lambda stats: stats["commitFailures"] >= failures + 2)
    with pytest.raises(RpcError) as error:  # nothing is there to be read: told, too
        s.rpc.call("service.list", organizationId=s.tenant.id)
    assert error.value.retryable
    s.spoil("")
    s.rpc.wait_stats(lambda _: s.web.get("/readyz").status == 200)
    s.create()
    s.assert_reads()
    s.assert_kept()


def test_a_map_that_cannot_grow_is_as_large_as_before(site):
    s = site("--map-initial-bytes", "1048576", provisioner=NEVER)
    s.spoil("mmap ENOMEM 0 1\n")  # the larger one; the one of before is had again
    assert s.create_until_refused()
    s.assert_reads()
    s.create()
    s.assert_kept()


@pytest.mark.parametrize("effect", ["EIO", "ENOSPC", "short"])
def test_a_snapshot_that_fails_leaves_nothing(site, effect):
    s = site()
    s.create()
    path = s.daemon.data / "copy"
    s.spoil(f"write {effect} 0 0\n")
    with pytest.raises(RpcError) as error:
        s.rpc.call("snapshot", path=str(path))
    assert str(path) in error.value.message and not path.exists()
    s.spoil("")
    s.create()
    s.rpc.call("snapshot", path=str(path))
    assert subprocess.run([BINARY, "check", str(path)], capture_output=True).returncode == 0


@pytest.mark.parametrize("call, effect", [("open", "EIO"), ("open", "EMFILE"), ("mmap", "ENOMEM"), ("pwrite", "ENOSPC"),
                                          ("ftruncate", "EIO")])
def test_a_daemon_that_cannot_open_its_store_says_why(site, call, effect):
    s = site()
    s.create()
    s.daemon.kill()
    s.spoil(f"{call} {effect} 0 0\n")
    with pytest.raises(RuntimeError) as error:
        s.start()
    assert "ended with 1" in str(error.value) and "STORE" in str(error.value) or "cannot" in str(error.value)
    s.spoil("")
    s.start()
    s.rpc = s.daemon.client()
    s.web = Web(s.daemon.log().split("listening http=")[-1].split()[0])
    s.assert_reads()


# ---- What runs out ----


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(megabytes) is a directory on a disk of that size, or changes it."""
    path = tmp_path / "disk"

    def make(megabytes):
        again = path.is_mount()
        path.mkdir(exist_ok=True)
        options = f"size={megabytes}m" + (",remount" if again else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "reeve-test", str(path)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        return path

    yield make
    if path.is_mount():
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_refuses_writes_until_there_is_room(site, small_disk):
    disk = small_disk(2)
    s = site(data=disk / "data")
    assert "No space left on device" in s.create_until_refused()
    s.assert_reads()
    assert s.web.get("/readyz").status == 503
    small_disk(32)
    s.rpc.wait_stats(lambda _: s.web.get("/readyz").status == 200)
    s.create()
    s.assert_kept()


def test_without_a_descriptor_to_be_had_those_who_are_in_are_served(site):
    s = site()
    s.create()
    pid = s.daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    open_now = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, before[1]))
    with socket.socket(socket.AF_UNIX) as late:
        late.settimeout(20)
        late.connect(s.daemon.socket_path)
        assert late.recv(1) == b""  # turned away, not kept waiting
    s.create()
    s.assert_reads()
    with pytest.raises(RpcError) as error:
        s.rpc.call("snapshot", path=str(s.daemon.directory / "copy"))
    assert "Too many open files" in error.value.message
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    with Rpc(s.daemon.socket_path) as late:
        assert late.call("hello")["product"]
    s.create()
    s.assert_kept()


def test_without_memory_for_a_larger_map_it_refuses_until_there_is(site):
    s = site("--map-initial-bytes", "1048576")
    s.create()
    pid = s.daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    used = int(open(f"/proc/{pid}/statm").read().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (used + (12 << 20), before[1]))
    assert "out of memory" in s.create_until_refused()
    s.assert_reads()
    resource.prlimit(pid, resource.RLIMIT_AS, before)
    s.rpc.wait_stats(lambda _: s.web.get("/readyz").status == 200)
    s.create()
    s.assert_kept()


def test_without_any_memory_nothing_is_lost(site):
    s = site()
    s.create()
    pid = s.daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    used = int(open(f"/proc/{pid}/statm").read().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (used, before[1]))
    try:
        s.create_some()
    except (Closed, TimeoutError):
        pass  # of what was on its way it is not known whether it was done
    resource.prlimit(pid, resource.RLIMIT_AS, before)
    s.rpc = s.tenant.rpc = s.daemon.client()
    s.create()
    listed = {service["id"] for service in all_items(s.rpc, "service.list", organizationId=s.tenant.id)}
    assert s.acknowledged <= listed
    s.acknowledged = listed
    s.assert_kept()


# ---- Damage ----

PAGE = 4096
PAGES = {"branch": 0x01, "leaf": 0x02}  # of LMDB: what the flags of a page say


def flags_of(data, page):
    return int.from_bytes(data[page * PAGE + 10:page * PAGE + 12], "little")


def damage_pages(kind, change):
    """All pages in use of a kind; those that are not may be damaged without harm."""
    def apply(path):
        data = bytearray((path / "data.mdb").read_bytes())
        pages = [page for page in range(2, len(data) // PAGE) if flags_of(data, page) == PAGES[kind]]
        assert pages
        for page in pages:
            change(data, page * PAGE)
        (path / "data.mdb").write_bytes(data)
    return apply


def fill(byte):
    def change(data, at):
        data[at:at + PAGE] = bytes([byte]) * PAGE
    return change


def fill_body(data, at):
    data[at + 16:at + PAGE] = b"\xa5" * (PAGE - 16)


def wrong_flags(data, at):
    data[at + 10:at + 12] = b"\x04\x00"


def cut_values(data, at):
    """Half of each page is lost, as by a torn write of long ago."""
    data[at + PAGE // 2:at + PAGE] = bytes(PAGE // 2)


def change_file(change):
    def apply(path):
        (path / "data.mdb").write_bytes(change((path / "data.mdb").read_bytes()))
    return apply


DAMAGES = {
    "leaves of zeros": damage_pages("leaf", fill(0)),
    "leaves of ones": damage_pages("leaf", fill(255)),
    "leaves with rubbish": damage_pages("leaf", fill_body),
    "leaves that say they are something else": damage_pages("leaf", wrong_flags),
    "torn leaves": damage_pages("leaf", cut_values),
    "branches of zeros": damage_pages("branch", fill(0)),
    "branches with rubbish": damage_pages("branch", fill_body),
    "both meta pages lost": change_file(lambda data: bytes(2 * PAGE) + data[2 * PAGE:]),
    "the file cut in half": change_file(lambda data: data[:len(data) // 2 // PAGE * PAGE]),
    "the file cut to its meta pages": change_file(lambda data: data[:2 * PAGE]),
    "an empty file": change_file(lambda data: b""),
    "another file": change_file(lambda data: b"something else entirely\n" * 1000),
}


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """A store with branches and leaves, compact, so that nothing in it is unused."""
    from daemon import Daemon
    daemon = Daemon(tmp_path_factory.mktemp("healthy"))
    daemon.start()
    try:
        tenant = Tenant(daemon.client())
        for _ in range(200):
            tenant.create()
        tenant.rpc.call("snapshot", path=str(daemon.directory / "compact"))
    finally:
        daemon.close()
    return daemon.directory / "compact"


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_check_finds_damage_of_faults(healthy, tmp_path, damage):
    path = tmp_path / "damaged"
    shutil.copytree(healthy, path)
    assert subprocess.run([BINARY, "check", str(path)], capture_output=True).returncode == 0
    DAMAGES[damage](path)
    done = subprocess.run([BINARY, "check", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode > 0, f"not found, or died of it: {done}"
    assert "nothing is wrong" not in done.stdout and (done.stdout + done.stderr).strip()


# An empty file is what a crash may leave of a store that was being made: it is made again.
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "an empty file"])
def test_a_daemon_with_a_damaged_store_says_so(healthy, daemon_factory, tmp_path, damage):
    """It does not come up, or refuses what it cannot read; it neither hangs nor makes a new one in silence."""
    path = tmp_path / "damaged"
    shutil.copytree(healthy, path)
    DAMAGES[damage](path)
    daemon = daemon_factory(start=False, data=path)
    try:
        daemon.start()
    except RuntimeError as problem:
        assert "ended with 1" in str(problem), problem
        return
    with pytest.raises(RpcError) as error:
        client = daemon.client()
        organization = client.call("organization.list")["items"][0]["id"]
        client.call("service.list", organizationId=organization)
        raise AssertionError("damage was not noticed")
    assert error.value.code == "STORE_DAMAGED"
