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
SMALL = ["--map-initial-bytes", "1048576", "--journal-segment-bytes", "262144", "--journal-max-bytes", "524288",
         "--table-max-bytes", "262144", "--checkpoint-ms", "1"]  # soon full, where checkpoints fail
BUFFERED = "direct EINVAL 0 0\n"  # a file system that has no way past the page cache
NEVER = "simulated:delay-ms=3600000..3600000"  # every batch has commands in it: somebody is told


class Site:
    """A daemon on a disk of this test's making, and what it has acknowledged."""

    def __init__(self, daemon_factory, tmp_path, *arguments, always="", **options):
        self.rules, self.always = tmp_path / "rules", always
        self.daemon = daemon_factory("--http", "127.0.0.1:0", *arguments, start=False, **options)
        self.spoil("")
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
        part.write_text(self.always + text)
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

    def is_ready(self):
        return self.web.get("/readyz").status == 200

    def assert_refuses(self):
        """It tries again by itself, and does not take the silence of a batch with nothing in it for a cure."""
        assert not self.is_ready()
        failures, recoveries = self.rpc.call("stats")["commitFailures"], self.daemon.log().count(RECOVERED)
        self.rpc.wait_stats(lambda stats: stats["commitFailures"] >= failures + 2)
        assert not self.is_ready() and self.daemon.log().count(RECOVERED) == recoveries

    def wait_recovered(self):
        """By itself."""
        self.rpc.wait_stats(lambda _: self.is_ready())
        assert RECOVERED in self.daemon.log()
        self.create()

    def wait_checkpoint_fails(self):
        """A checkpoint begins with the first batch after a change is old enough; it takes its time, and too many commands
        meanwhile would fill the table."""
        for _ in range(40):
            self.create()
            for _ in range(50):
                if self.rpc.call("stats")["checkpointFailures"]:
                    return
        raise AssertionError(self.rpc.call("stats"))

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


# A sync cannot be cut short; a write that is interrupted is in another test.
def cases(**calls):
    return [(file, effect) for file, sync in calls.items() for effect in ERRORS if effect != ("short" if sync else "EINTR")]


JOURNAL = {"direct": ("", "syncwrite pwrite"), "written": (BUFFERED, "pwrite"), "flushed": (BUFFERED, "fdatasync")}
DATABASE = {"pages": "pwrite writev", "meta": "syncwrite", "flushed": "fdatasync"}


@pytest.mark.parametrize("way, effect", cases(direct=False, written=False, flushed=True))
def test_a_journal_that_fails_refuses_writes_until_it_is_well(site, way, effect):
    always, calls = JOURNAL[way]
    s = site(provisioner=SLOW, always=always)
    under_way = s.create()
    s.spoil("".join(f"{call} {effect} 0 0 journal\n" for call in calls.split()))
    assert ERRORS[effect] in s.refused()
    assert "it is not known whether this was done" in s.daemon.log()  # of the first batch: it might come back
    s.assert_reads()
    s.assert_refuses()
    s.spoil("")
    s.wait_recovered()
    s.tenant.wait_state(under_way, "running")
    s.assert_kept()


@pytest.mark.parametrize("way, effect", cases(pages=False, meta=False, flushed=True))
def test_a_database_that_fails_is_waited_for_by_the_journal(site, way, effect):
    s = site(*SMALL, provisioner=NEVER)
    s.create()
    s.spoil("".join(f"{call} {effect} 0 0 data.mdb\n" for call in DATABASE[way].split()))
    s.wait_checkpoint_fails()
    assert s.is_ready()
    s.create()
    assert ERRORS[effect] in s.daemon.log()
    s.assert_reads()
    assert ERRORS[effect] in s.create_until_refused()  # the journal or the table in memory is full
    s.assert_reads()
    s.assert_refuses()
    s.spoil("")
    s.wait_recovered()
    s.assert_kept()


def test_no_read_is_refused_while_checkpoints_fail(site):
    """LMDB refuses reads, too, between a write of its meta page that failed and its being opened again."""
    s = site(*SMALL, provisioner=NEVER)
    get = ("service.get", {"organizationId": s.tenant.id, "serviceId": s.create()["id"]})
    s.spoil("syncwrite EIO 0 0 data.mdb\n")
    s.wait_checkpoint_fails()
    failures = s.rpc.call("stats")["checkpointFailures"]
    while s.rpc.call("stats")["checkpointFailures"] < failures + 8:
        for number in s.rpc.send_many([get] * 500):
            s.rpc.wait(number)
    s.spoil("")
    s.assert_kept()


@pytest.mark.parametrize("call, file", [("pwrite", "data.mdb"), ("writev", "data.mdb"), ("syncwrite", "data.mdb"),
                                        ("syncwrite", "journal"), ("pwrite", "journal")])
def test_a_write_that_is_interrupted_is_made_again(site, call, file):
    s = site(*SMALL, always=BUFFERED if call == "pwrite" else "")
    s.spoil(f"{call} EINTR 0 2 {file}\n")
    checkpoints = s.rpc.call("stats")["checkpoints"]
    while s.rpc.call("stats")["checkpoints"] < checkpoints + 2:
        s.create()
    stats = s.rpc.call("stats")
    assert stats["commitFailures"] == 0 and stats["checkpointFailures"] == 0
    s.assert_kept()


@pytest.mark.parametrize("call", ["open", "mmap"])
def test_a_database_that_cannot_be_opened_again_is_tried_until_it_can(site, call):
    s = site(*SMALL, provisioner=NEVER)
    s.create()
    s.spoil(f"fdatasync EIO 0 0 data.mdb\n{call} {'EMFILE' if call == 'open' else 'ENOMEM'} 0 0 data.mdb\n")
    s.create_until_refused()
    s.assert_refuses()
    with pytest.raises(RpcError) as error:  # nothing is there to be read: told, too
        s.rpc.call("service.list", organizationId=s.tenant.id)
    assert error.value.retryable
    s.spoil("")
    s.wait_recovered()
    s.assert_reads()
    s.assert_kept()


def test_a_journal_that_cannot_be_opened_again_is_tried_until_it_can(site):
    s = site(provisioner=NEVER)
    s.create()
    s.spoil("syncwrite EIO 0 0 journal\npwrite EIO 0 0 journal\nopen EMFILE 0 0 journal\n")
    s.refused()
    assert "Too many open files" in s.refused()
    s.assert_reads()
    s.assert_refuses()
    s.spoil("")
    s.wait_recovered()
    s.assert_kept()


@pytest.mark.parametrize("rule, why", [("open EMFILE 0 0 journal", "Too many open files"), ("pwrite ENOSPC 0 0 journal", "No space left"),
                                       ("fsync EIO 0 0 journal", "Input/output error")])
def test_a_journal_that_cannot_have_another_file_refuses_until_it_can(site, rule, why):
    s = site("--journal-segment-bytes", "262144", provisioner=NEVER)  # no checkpoint makes room so soon
    s.create()
    s.spoil(rule + "\n")
    assert why in s.create_until_refused()
    s.assert_reads()
    with pytest.raises(RpcError):  # a little may fit where much did not
        for _ in range(100):
            s.create()
    s.assert_refuses()
    s.spoil("")
    s.wait_recovered()
    s.assert_kept()


def test_a_journal_that_cannot_have_another_file_uses_those_it_has(site):
    """A checkpoint is started that nothing else would start for a day: before the last file is full, so that who is not
    faster than the disk sees nothing of it."""
    s = site("--journal-segment-bytes", "262144", "--checkpoint-ms", "86400000", provisioner=NEVER)
    while s.rpc.call("stats")["journalFileBytes"] < 2 * 262144:
        s.create()
    assert s.rpc.call("stats")["checkpoints"] == 0
    s.spoil("pwrite ENOSPC 0 0 journal\n")
    while s.rpc.call("stats")["journalBytes"] < 6 * 262144:
        assert all("No space left" in refusal for refusal in s.create_some())
    stats = s.rpc.call("stats")
    assert stats["journalFileBytes"] == 2 * 262144 and stats["checkpoints"] >= 2 and stats["checkpointFailures"] == 0
    s.assert_reads()
    s.assert_kept()


def test_a_map_that_cannot_grow_is_as_large_as_before(site):
    s = site(*SMALL, provisioner=NEVER)
    s.spoil("mmap ENOMEM 0 1 data.mdb\n")  # the larger one; the one of before is had again
    while s.rpc.call("stats")["checkpointFailures"] == 0:
        assert s.create_some() == []  # the next attempt comes before anything is full, or is waited for
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
                                          ("ftruncate", "EIO"), ("open", "EMFILE 0 0 journal")])
def test_a_daemon_that_cannot_open_its_store_says_why(site, call, effect):
    s = site()
    s.create()
    s.daemon.kill()
    s.spoil(f"{call} {effect}\n" if " " in effect else f"{call} {effect} 0 0\n")
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


# One is full of the database, which cannot take what the journal has; the other of the journal.
@pytest.mark.parametrize("limits", [SMALL, ["--journal-segment-bytes", "262144"]], ids=["database", "journal"])
def test_a_full_disk_refuses_writes_until_there_is_room(site, small_disk, limits):
    disk = small_disk(2)
    s = site(*limits, data=disk / "data", provisioner=NEVER)
    assert "No space left on device" in s.create_until_refused()
    s.assert_reads()
    while s.is_ready():
        s.create_some()  # a checkpoint has made room once more
    small_disk(32)
    s.wait_recovered()
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
    s = site(*SMALL, provisioner=NEVER)
    s.create()
    pid = s.daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    used = int(open(f"/proc/{pid}/statm").read().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (used + (12 << 20), before[1]))
    why = s.create_until_refused()
    assert "out of memory" in why or "Cannot allocate memory" in why
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


# ---- Damage to the journal ----

BLOCK = 4096


def frames_of(data):
    return [at for at in range(BLOCK, len(data), BLOCK) if data[at:at + 4] == b"RVRJ"]


def flip_in_frame(path):
    """One bit, in a frame in the middle: what comes after it is whole, and knows that it had been durable."""
    file = path / "journal.0001"
    data = bytearray(file.read_bytes())
    frames = frames_of(data)
    data[frames[len(frames) // 2] + 100] ^= 1
    file.write_bytes(data)


def another_journal(path):
    shutil.copy(path.parent / "other/data/journal.0001", path / "journal.0001")


JOURNAL_DAMAGES = {
    "a frame": (flip_in_frame, "the journal is damaged: batches"),
    "the first file lost": (lambda path: (path / "journal.0001").unlink(), "journal.0001 is missing"),
    "a file in the middle lost": (lambda path: (path / "journal.0002").unlink(), "journal.0002 is missing"),
    "the newest file lost": (lambda path: max(path.glob("journal.*")).unlink(), "is missing: what was acknowledged behind batch"),
    "all files lost": (lambda path: [file.unlink() for file in path.glob("journal.*")], "journal.0001 is missing"),
    "a file of another store": (another_journal, "is the journal of another store"),
    "a file cut short": (lambda path: os.truncate(path / "journal.0001", 65536), "it has 65536 bytes instead of 262144"),
    "a file that begins otherwise": (lambda path: (path / "journal.0001").write_bytes(b"something else\n" * 20000), "is damaged"),
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A store of which nearly everything is in its journal, in more than two files; and another one beside it."""
    from daemon import Daemon
    directory = tmp_path_factory.mktemp("killed")
    for name, count in (("this", 400), ("other", 2)):
        place = directory / name
        place.mkdir()
        daemon = Daemon(place, "--journal-segment-bytes", "262144", "--checkpoint-ms", "86400000")
        daemon.start()
        try:
            tenant = Tenant(daemon.client())
            for _ in range(count):
                tenant.create()
            daemon.kill()
        finally:
            daemon.close()
    assert (directory / "this/data/journal.0003").exists()
    return directory


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name == "data.mdb" or file.name.startswith("journal.")}


@pytest.mark.parametrize("damage", JOURNAL_DAMAGES)
def test_a_damaged_journal_is_told_and_left_as_it_is(killed, daemon_factory, tmp_path, damage):
    change, message = JOURNAL_DAMAGES[damage]
    shutil.copytree(killed / "this/data", tmp_path / "data")
    shutil.copytree(killed / "other", tmp_path / "other", ignore=shutil.ignore_patterns("*.sock"))
    path = tmp_path / "data"
    done = subprocess.run([BINARY, "check", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    change(path)
    before = contents(path)
    done = subprocess.run([BINARY, "check", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode > 0 and message in done.stdout + done.stderr, done
    daemon = daemon_factory(start=False, data=path)
    with pytest.raises(RuntimeError) as error:
        daemon.start()
    assert "ended with 1" in str(error.value) and message in str(error.value)
    assert contents(path) == before


def test_a_torn_last_frame_is_no_damage(killed, daemon_factory, tmp_path):
    """The power failed while it was written: nobody was told."""
    path = tmp_path / "data"
    shutil.copytree(killed / "this/data", path)
    newest = max(path.glob("journal.*"), key=lambda file: (max_sequence(file), file.name))
    data = bytearray(newest.read_bytes())
    last = max(frames_of(data), key=lambda at: int.from_bytes(data[at + 16:at + 24], "little"))
    data[last + 64] ^= 0xff
    newest.write_bytes(data)
    assert subprocess.run([BINARY, "check", str(path)], capture_output=True).returncode == 0
    daemon = daemon_factory(start=False, data=path)
    daemon.start()
    assert daemon.client().call("check")["findingsCount"] == 0


def max_sequence(file):
    data = file.read_bytes()
    return max((int.from_bytes(data[at + 16:at + 24], "little") for at in frames_of(data)), default=0)
