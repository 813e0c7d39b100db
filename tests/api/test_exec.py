"""The provisioner that runs programs: every way a program may end, and a daemon that dies in the middle."""

import json
import os
import pathlib
import random
import select
import signal
import stat
import subprocess
import time

import pytest
import scram
from daemon import BINARY
from rpc import RpcError
from servers import status_of
from tenant import Tenant

PLUGIN = pathlib.Path(__file__).resolve().parents[1] / "fixtures/plugins/steered"
SECONDS = 20


def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def wait_process(pidfd):
    assert select.select([pidfd], [], [], SECONDS)[0], "the process does not end"
    os.close(pidfd)


class Stage:
    """A daemon with the steered plugin, and a hand on what the plugin does."""

    def __init__(self, daemon_factory, *arguments, settings="", **options):
        self.daemon = daemon_factory("--retry-min-ms", "1", "--retry-max-ms", "20", "--log-level", "debug", *arguments,
                                     provisioner=f"exec:{PLUGIN}{settings}", start=False, **options)
        self.state = self.daemon.data / "provisioner"
        self.control = self.state / "control"
        for directory in (self.daemon.data, self.state, self.control):
            directory.mkdir(0o700)
        for name in ("started", "gate", "going"):
            os.mkfifo(self.control / name)
        self.daemon.start()
        self.rpc = self.daemon.client()
        self.tenant = Tenant(self.rpc)

    def will(self, operation, word):
        (self.control / operation).write_text(word + "\n")

    def wait_started(self):
        """The program has come to its gate; its process id."""
        reader = os.open(self.control / "started", os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert select.select([reader], [], [], SECONDS)[0], self.daemon.log()
            return int(os.read(reader, 100))
        finally:
            os.close(reader)

    def open_gate(self, name="gate"):
        """Let on who waits there."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                writer = os.open(self.control / name, os.O_WRONLY | os.O_NONBLOCK)
                break
            except OSError:  # not there yet: it has said so, and opens the gate next
                assert time.monotonic() < deadline
                os.sched_yield()
        os.write(writer, b"go\n")
        os.close(writer)

    def ran(self, operation):
        """The runs of an operation: names of their directories."""
        try:
            lines = (self.state / "ran").read_text().split("\n")
        except FileNotFoundError:
            return []
        return [line.split()[1] for line in lines if line.startswith(operation + " ")]

    def wrapper(self):
        """A pidfd and the id of what watches the one program that runs."""
        run, = (self.state / "runs").iterdir()
        pid = json.loads((run / "run.json").read_text())["pid"]
        return os.pidfd_open(pid), pid

    def again(self, kill=True):
        """Kill the daemon and start it again."""
        if kill:
            self.daemon.kill()
        self.daemon.start()
        self.rpc = self.daemon.client()
        self.tenant.rpc = self.rpc

    def events(self, service, kind):
        items = self.rpc.call("event.list", serviceId=service["id"])["items"]
        return [event for event in items if event["type"] == kind]

    def wait_no_runs(self):
        """Directories of runs go away once their end is on disk."""
        deadline = time.monotonic() + SECONDS
        while list((self.state / "runs").iterdir()):
            assert time.monotonic() < deadline, list((self.state / "runs").iterdir())
            self.rpc.call("hello")

    def mine(self):
        """Processes that programs of this stage are or have left behind."""
        found = []
        for pid in processes():
            try:
                environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
            except OSError:
                continue
            if f"REEVE_STATE_DIR={self.state}\0".encode() in environment:
                found.append(pid)
        return found

    def assert_nothing_left(self):
        self.wait_no_runs()
        deadline = time.monotonic() + SECONDS
        while self.mine() or [pid for pid in processes() if (status_of(pid) or (0, 0))[1] == self.daemon.process.pid]:
            assert time.monotonic() < deadline, self.mine()
            self.rpc.call("hello")


@pytest.fixture
def stage(daemon_factory):
    return Stage(daemon_factory)


# What a program is given


def test_a_program_gets_all_that_it_needs_and_nothing_else(stage):
    stage.will("provision", "show")
    service = stage.tenant.running("shown", ipAccessList=[{"source": "10.0.0.0/8", "description": "office"}],
                                   tags=[{"key": "a", "value": "b"}])
    request = json.loads((stage.state / "request").read_text())
    assert request["api"] == 1 and request["operation"] == "provision" and request["attempt"] == 1
    assert request["organizationId"] == stage.tenant.id and request["serviceId"] == service["id"]
    assert request["handle"] is None and request["backup"] is None and request["desired"] == 1
    assert 0 < request["deadlineMs"] / 1000 - time.time() < 301
    told = request["service"]
    assert told["name"] == "shown" and told["tier"] == "development" and told["state"] == "provisioning"
    assert told["ipAccessList"] == [{"source": "10.0.0.0/8", "description": "office"}]
    assert told["tags"] == [{"key": "a", "value": "b"}]
    assert len(told["passwordSha256"]) == 64 and "passwordDoubleSha1" not in told
    environment = dict(line.split("=", 1) for line in (stage.state / "environment").read_text().splitlines())
    run = f"{request['operationId']}-1"
    assert environment["REEVE_RUN_DIR"] == str(stage.state / "runs" / run)
    assert environment["REEVE_BACKUP_DIR"] == str(stage.state / "backups")
    assert environment["LANG"] == "C.UTF-8" and environment["TZ"] == "UTC"
    own_to_shells = {"PWD", "OLDPWD", "_", "SHLVL"}
    assert set(environment) - own_to_shells == {"PATH", "LANG", "TZ", "REEVE_STATE_DIR", "REEVE_BACKUP_DIR", "REEVE_RUN_DIR"}
    assert (stage.state / "directory").read_text().split() == [str(stage.state / "runs" / run), "0077"]


def test_a_program_may_ask_for_a_verifier_of_the_password(daemon_factory):
    stage = Stage(daemon_factory, settings=",env.STEERED_DESCRIBE=scram")
    stage.will("provision", "show")
    created = stage.tenant.rpc.call("service.create", organizationId=stage.tenant.id, name="a", provider="aws",
                                    region="us-east-1")
    service = created["service"]
    stage.tenant.wait_state(service, "running")
    told = json.loads((stage.state / "request").read_text())["service"]
    assert scram.verifies(told["passwordScram"], created["password"]) and len(told["passwordSha256"]) == 64
    stage.will("configure", "show")
    stage.again()
    password = stage.rpc.call("service.set_password", **stage.tenant.of(service))["password"]
    watch = stage.rpc.call("event.watch", {"from": 1, "serviceId": service["id"]})["watch"]
    stage.rpc.wait_event(lambda event: event["type"] == "service_configured", watch=watch)
    told = json.loads((stage.state / "request").read_text())["service"]
    assert scram.verifies(told["passwordScram"], password) and not scram.verifies(told["passwordScram"], created["password"])

    with pytest.raises(RpcError) as refused:
        stage.rpc.call("service.set_password", newPasswordHash="ab" * 32, **stage.tenant.of(service))
    assert refused.value.field == "newPasswordHash" and "must be absent" in refused.value.message
    shown = json.dumps([stage.rpc.call("service.get", **stage.tenant.of(service)), stage.rpc.call("event.list", serviceId=service["id"])["items"]])
    assert "SCRAM" not in shown + stage.daemon.log() and "asswordScram" not in shown


def test_a_program_inherits_nothing_and_has_a_session_of_its_own(stage):
    stage.will("provision", "show")
    stage.tenant.running()
    files = [line.split(" -> ")[1] for line in (stage.state / "descriptors").read_text().splitlines() if " -> " in line]
    runs = str(stage.state / "runs")
    assert [os.path.basename(name) for name in files if name.startswith(runs)] == ["request.json", "out.json", "log",
                                                                                       "progress"]
    others = [name for name in files if not name.startswith(runs)]
    assert all(name.endswith("steered") or name.startswith(str(stage.state / "descriptors")) for name in others), others
    pid, rest = (stage.state / "process").read_text().rsplit(")", 1)[0].split()[0], (stage.state / "process").read_text()
    _, _, group, session = rest.rsplit(")", 1)[1].split()[:4]
    assert group == pid and int(session) not in (os.getsid(0), os.getsid(stage.daemon.process.pid))
    assert rest.endswith(f"{PLUGIN}\0provision\0")
    assert stat.S_IMODE(stage.state.stat().st_mode) == 0o700
    limit, _, ignored = (stage.state / "limit").read_text().split()
    assert int(limit) <= 1024 and int(ignored, 16) & 0x7fffffff == 0  # those above are the C library's own


def test_what_a_program_answers_is_kept_and_given_back(stage):
    service = stage.tenant.running()
    assert service["endpoints"] == [{"protocol": "http", "host": "127.0.0.1", "port": 8123, "username": "me"}]
    assert service["clickhouseVersion"] == "1.2.3"
    stage.will("stop", "show")
    stage.rpc.call("service.stop", **stage.tenant.of(service))
    stage.tenant.wait_state(service, "stopped")
    request = json.loads((stage.state / "request").read_text())
    assert request["handle"] == {"slot": 3}
    assert request["service"]["endpoints"][0]["port"] == 8123


def backup_ends(stage, service, backup, status):
    number = stage.rpc.call("event.watch", serviceId=service["id"])["watch"]
    while True:
        record = stage.rpc.call("backup.get", backupId=backup["id"], **stage.tenant.of(service))
        if record["status"] == status:
            stage.rpc.call("event.unwatch", watch=number)
            return record
        stage.rpc.next_events(SECONDS, number)


def test_backups_are_made_restored_and_deleted(stage):
    service = stage.tenant.running()
    backup = stage.rpc.call("backup.create", **stage.tenant.of(service))
    assert backup_ends(stage, service, backup, "done")["sizeInBytes"] == 77
    stage.will("provision", "show")
    stage.tenant.running("restored", backupId=backup["id"])
    request = json.loads((stage.state / "request").read_text())
    assert request["backup"]["id"] == backup["id"] and request["service"]["restoredFrom"] == backup["id"]
    assert request["backup"]["handle"] == {"slot": 3}
    stage.will("delete_backup", "show")
    number = stage.rpc.call("event.watch", serviceId=service["id"])["watch"]
    stage.rpc.call("backup.delete", backupId=backup["id"], **stage.tenant.of(service))
    stage.rpc.wait_event(lambda event: event["type"] == "backup_gone", SECONDS, number)
    request = json.loads((stage.state / "request").read_text())
    assert request["service"] is None and request["backup"]["id"] == backup["id"] and request["handle"] == {"slot": 3}
    stage.assert_nothing_left()


# How a program may end


@pytest.mark.parametrize("word, code, words", [
    ("retry", "not_yet", ["come again"]),
    ("curt", "retry", ["exit code 75", "the disk is full"]),
    ("silent", "bad_answer", ["answered nothing"]),
    ("text", "bad_answer", ["not JSON", "line 1"]),
    ("zeros", "bad_answer", ["not JSON"]),
    ("array", "bad_answer", ["not an object"]),
    ("two", "bad_answer", ["not JSON"]),
    ("huge", "bad_answer", ["1 MiB"]),
    ("crash", "crashed", ["signal 11", "Segmentation fault"]),
    ("code3", "crashed", ["exit code 3", "something broke"]),
    ("error0", "bad_answer", ["exit code 0", "error"]),
    ("port", "bad_answer", ["endpoint", "port"]),
    ("handle", "bad_answer", ["handle"]),
    ("large_handle", "bad_answer", ["handle", "4096"]),
    ("size", "bad_answer", ["sizeBytes"]),
    ("version", "bad_answer", ["version"]),
])
def test_what_may_pass_is_tried_again(stage, word, code, words):
    stage.will("provision", word)
    service = stage.tenant.running()
    retry, = stage.events(service, "service_retry")
    assert retry["code"] == code
    for part in words:
        assert part in retry["message"]
    assert [run[-2:] for run in stage.ran("provision")] == ["-1", "-2"]
    stage.assert_nothing_left()


@pytest.mark.parametrize("word, code, message", [
    ("permanent", "bad_wish", "that cannot be"),
    ("unsupported", "unsupported", "exit code 69"),
])
def test_what_does_not_pass_is_not_tried_again(stage, word, code, message):
    stage.will("provision", word)
    service = stage.tenant.create()
    failed = stage.tenant.wait_state(service, "failed")
    assert failed["failure"]["code"] == code and message in failed["failure"]["message"]
    assert len(stage.ran("provision")) == 1
    stage.assert_nothing_left()


def test_a_program_that_goes_away_while_serving_is_told(stage, daemon_factory, tmp_path):
    program = tmp_path / "plugin"
    program.write_bytes(PLUGIN.read_bytes())
    program.chmod(0o755)
    daemon = daemon_factory("--operation-attempts-max", "2", "--retry-min-ms", "1", provisioner=f"exec:{program}")
    program.unlink()
    tenant = Tenant(daemon.client())
    failed = tenant.wait_state(tenant.create(), "failed")
    assert failed["failure"]["code"] == "cannot_run" and "No such file" in failed["failure"]["message"]


def test_an_operation_that_the_program_does_not_have_fails(daemon_factory):
    daemon = daemon_factory(provisioner=f"exec:{PLUGIN},env.STEERED_DESCRIBE=few")
    assert "does not do stop" in daemon.log()
    tenant = Tenant(daemon.client())
    service = tenant.running()
    tenant.rpc.call("service.stop", **tenant.of(service))
    failed = tenant.wait_state(service, "failed")
    assert failed["failure"]["code"] == "unsupported" and "stop" in failed["failure"]["message"]


# Time


def test_a_program_is_ended_at_its_deadline(daemon_factory):
    stage = Stage(daemon_factory, "--operation-timeout-ms", "1500")
    stage.will("provision", "hang")
    service = stage.tenant.running()
    retry, = stage.events(service, "service_retry")
    assert retry["code"] == "timeout"
    assert len(stage.ran("provision")) == 2
    stage.assert_nothing_left()


def test_a_program_that_is_deaf_to_sigterm_is_killed(daemon_factory):
    stage = Stage(daemon_factory, "--operation-timeout-ms", "1500")
    stage.will("provision", "deaf")
    service = stage.tenant.create()
    program = os.pidfd_open(stage.wait_started())
    wait_process(program)
    stage.tenant.wait_state(service, "running")
    assert len(stage.ran("provision")) == 2
    stage.assert_nothing_left()


def test_the_deadline_holds_while_there_is_no_daemon(daemon_factory):
    stage = Stage(daemon_factory, "--operation-timeout-ms", "2000")
    stage.will("provision", "hang")
    service = stage.tenant.create()
    stage.wait_started()
    wrapper, _ = stage.wrapper()
    stage.daemon.kill()
    wait_process(wrapper)
    stage.again(kill=False)
    stage.tenant.wait_state(service, "running")
    assert [event["code"] for event in stage.events(service, "service_retry")] == ["timeout"]
    stage.assert_nothing_left()


def test_stopping_a_service_ends_the_backup_that_is_made(stage):
    service = stage.tenant.running()
    stage.will("backup", "hang")
    backup = stage.rpc.call("backup.create", **stage.tenant.of(service))
    program = os.pidfd_open(stage.wait_started())
    stage.rpc.call("service.stop", **stage.tenant.of(service))
    wait_process(program)
    stage.tenant.wait_state(service, "stopped")
    assert backup_ends(stage, service, backup, "error")
    assert len(stage.ran("backup")) == 1
    stage.assert_nothing_left()


# A daemon that dies


OPERATIONS = ["provision", "stop", "start", "backup", "delete"]


def begin(stage, operation):
    """Have an operation hang at its gate; returns the service and how its end is waited for."""
    if operation == "provision":
        stage.will(operation, "hang")
        service = stage.tenant.create()
    else:
        service = stage.tenant.running()
        if operation in ("start", "delete"):
            stage.rpc.call("service.stop", **stage.tenant.of(service))
            stage.tenant.wait_state(service, "stopped")
        stage.wait_no_runs()
        stage.will(operation, "hang")
        method = "backup.create" if operation == "backup" else f"service.{operation}"
        backup = stage.rpc.call(method, **stage.tenant.of(service))
    stage.wait_started()

    def wait_done():
        if operation == "backup":
            backup_ends(stage, service, backup, "done")
        elif operation == "delete":
            deadline = time.monotonic() + SECONDS
            while stage.rpc.call("service.list", organizationId=stage.tenant.id)["items"]:
                assert time.monotonic() < deadline
        else:
            stage.tenant.wait_state(service, "stopped" if operation == "stop" else "running")

    return wait_done


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_result_that_is_already_there_is_taken_over(stage, operation):
    wait_done = begin(stage, operation)
    wrapper, _ = stage.wrapper()
    stage.daemon.kill()
    stage.open_gate()
    wait_process(wrapper)
    stage.again(kill=False)
    wait_done()
    assert "its result is taken over" in stage.daemon.log()
    assert len(stage.ran(operation)) == 1
    stage.assert_nothing_left()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_program_that_still_runs_is_adopted(stage, operation):
    wait_done = begin(stage, operation)
    stage.again()
    deadline = time.monotonic() + SECONDS
    while "still runs: adopted" not in stage.daemon.log():
        assert time.monotonic() < deadline, stage.daemon.log()
        stage.rpc.call("hello")
    stage.open_gate()
    wait_done()
    assert len(stage.ran(operation)) == 1
    stage.assert_nothing_left()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_program_that_died_with_its_daemon_runs_again(stage, operation):
    wait_done = begin(stage, operation)
    wrapper, pid = stage.wrapper()
    stage.daemon.kill()
    os.kill(pid, signal.SIGKILL)
    wait_process(wrapper)
    stage.again(kill=False)
    wait_done()
    runs = stage.ran(operation)
    assert len(runs) == 2 and runs[0][:36] == runs[1][:36]
    assert "ended without a result: run again" in stage.daemon.log()
    stage.assert_nothing_left()


def test_a_daemon_that_is_asked_to_stop_leaves_programs_running(stage):
    wait_done = begin(stage, "provision")
    assert stage.daemon.stop() == 0
    assert stage.mine()
    stage.again(kill=False)
    stage.open_gate()
    wait_done()
    assert len(stage.ran("provision")) == 1
    stage.assert_nothing_left()


def test_an_adopted_program_is_ended_when_its_operation_is_given_up(stage):
    service = stage.tenant.running()
    stage.will("backup", "hang")
    stage.rpc.call("backup.create", **stage.tenant.of(service))
    program = os.pidfd_open(stage.wait_started())
    stage.again()
    stage.rpc.call("service.stop", **stage.tenant.of(service))
    wait_process(program)
    stage.tenant.wait_state(service, "stopped")
    stage.assert_nothing_left()


def leave_unwanted(stage):
    """A backup that is deaf to SIGTERM runs, of a service that is to be stopped, and the daemon that finds both has known
    neither. Returns the service and the program."""
    service = stage.tenant.running()
    stage.will("backup", "deaf")
    stage.rpc.call("backup.create", **stage.tenant.of(service))
    program = stage.wait_started()
    own = list(stage.daemon.arguments)
    stage.daemon.kill()
    stage.daemon.arguments[stage.daemon.arguments.index("--provisioner") + 1] = "none"
    stage.again(kill=False)
    stage.rpc.call("service.stop", **stage.tenant.of(service))
    assert stage.daemon.stop() == 0 and status_of(program)
    stage.daemon.arguments = own
    stage.again(kill=False)
    return service, program


def test_a_program_that_is_not_wanted_any_more_is_ended_before_the_next_one_runs(stage):
    service, program = leave_unwanted(stage)
    ended = os.pidfd_open(program)
    stage.tenant.wait_state(service, "stopped")
    assert select.select([ended], [], [], 0)[0], "they ran at the same time"
    os.close(ended)
    assert "is not wanted any more" in stage.daemon.log()
    assert len(stage.ran("stop")) == 1 and not stage.events(service, "service_retry")
    stage.assert_nothing_left()


def test_the_deadline_holds_for_what_waits_for_an_earlier_run(daemon_factory):
    stage = Stage(daemon_factory, "--operation-timeout-ms", "1000", "--backup.operation-timeout-ms", "60000")
    service, program = leave_unwanted(stage)
    number = stage.rpc.call("event.watch", {"from": 1, "serviceId": service["id"]})["watch"]
    events = stage.rpc.wait_event(lambda event: event["type"] == "service_retry", SECONDS, number)
    assert events[-1]["code"] == "timeout" and not stage.ran("stop")
    os.kill(program, signal.SIGKILL)
    stage.tenant.wait_state(service, "stopped")
    assert len(stage.ran("stop")) == 1
    stage.assert_nothing_left()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_adopted_program_that_ends_without_a_result_runs_again(stage, operation):
    wait_done = begin(stage, operation)
    wrapper, pid = stage.wrapper()
    stage.again()
    deadline = time.monotonic() + SECONDS
    while "still runs: adopted" not in stage.daemon.log():
        assert time.monotonic() < deadline, stage.daemon.log()
        stage.rpc.call("hello")
    os.kill(pid, signal.SIGKILL)
    wait_process(wrapper)
    wait_done()
    first, second = stage.ran(operation)
    assert first == second, "that was no attempt"
    assert not [event for event in stage.rpc.call("event.list")["items"] if event["type"].endswith("_retry")]
    stage.assert_nothing_left()


def test_what_watches_a_program_does_nothing_without_the_word_of_its_daemon(tmp_path):
    """As where the daemon dies before it has written down who that is."""
    command = [BINARY, "exec-run", "1000", "/usr/bin/touch", "ran"]
    assert subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=SECONDS).returncode == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [int(os.environ.get("SEED", "20261123"))])
def test_daemons_that_are_killed_at_any_moment(daemon_factory, seed):
    print(f"SEED={seed}")
    chance = random.Random(seed)
    stage = Stage(daemon_factory, settings=",env.STEERED_ALONE=yes")
    services = []
    for _ in range(12):
        services += [stage.tenant.create() for _ in range(3)]
        for service in chance.sample(services, len(services) // 2):
            try:
                stage.rpc.call(chance.choice(["service.stop", "service.start", "backup.create"]), **stage.tenant.of(service))
            except RpcError as error:
                assert error.code == "CONFLICT"
        for _ in range(chance.randrange(30)):  # let it get on with it
            stage.rpc.call("operation.list", organizationId=stage.tenant.id)
        stage.again()
    number = stage.rpc.call("event.watch", organizationId=stage.tenant.id)["watch"]
    while stage.rpc.call("operation.list", organizationId=stage.tenant.id)["items"]:
        stage.rpc.next_events(60, number)
    states = {stage.tenant.get(service)["state"] for service in services}
    assert states <= {"running", "stopped"}, states
    assert not (stage.state / "overlaps").exists()
    assert not [event for event in stage.rpc.call("event.list")["items"] if event["type"] in ("service_retry", "backup_retry")]
    lines = (stage.state / "ran").read_text().split("\n")
    assert len(set(lines)) == len(lines), "something ran twice"
    stage.assert_nothing_left()


def test_a_second_daemon_is_kept_from_the_state_of_the_first(stage, tmp_path):
    done = subprocess.run([BINARY, "serve", "--data", str(tmp_path / "other"), "--provisioner",
                           f"exec:{PLUGIN},state={stage.state}"], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1 and "another daemon uses this state directory" in done.stderr


# What is left behind


def test_orphans_are_reaped_and_strays_are_killed(stage):
    stage.will("provision", "leave")
    service = stage.tenant.create()
    left = stage.wait_started()
    program, _ = stage.wrapper()
    os.close(program)
    deadline = time.monotonic() + SECONDS
    while not (stage.state / "stray").exists() or not (stage.state / "stray").read_text():
        assert time.monotonic() < deadline
        stage.rpc.call("hello")
    stray = os.pidfd_open(int((stage.state / "stray").read_text()))
    stage.open_gate("going")
    stage.tenant.wait_state(service, "running")
    wait_process(stray)
    assert status_of(left) and status_of(left)[1] == stage.daemon.process.pid
    stage.open_gate()
    stage.assert_nothing_left()
    assert status_of(left) is None


def test_the_end_of_a_program_is_that_of_its_whole_group(stage):
    stage.will("provision", "heavy")
    service = stage.tenant.create()
    # A gate whose writer stays: what waits there does not end by itself.
    gate = os.open(stage.control / "gate", os.O_RDWR)
    left = os.pidfd_open(stage.wait_started())
    stage.open_gate("going")
    stage.tenant.wait_state(service, "running")
    assert select.select([left], [], [], 0)[0], "it has outlived its program"
    os.close(left)
    os.close(gate)
    stage.assert_nothing_left()


# Progress and logs


def test_progress_is_told(stage):
    stage.will("provision", "progress")
    service = stage.tenant.create()
    stage.wait_started()
    deadline = time.monotonic() + SECONDS
    while "progress" not in stage.tenant.get(service).get("operation", {}):
        assert time.monotonic() < deadline
    progress = stage.tenant.get(service)["operation"]["progress"]
    assert (progress["done"], progress["total"], progress["text"]) == (2, 4, "second")
    stage.open_gate()
    stage.tenant.wait_state(service, "running")


def command(stage, *words):
    return subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=SECONDS,
                          env={**os.environ, "REEVE_SOCKET": stage.daemon.socket_path, "REEVE_ORG_ID": stage.tenant.id})


def test_logs_can_be_read_while_it_runs_and_afterwards(stage):
    stage.will("provision", "retry")
    service = stage.tenant.running()
    operation = stage.ran("provision")[0][:36]
    log = stage.rpc.call("operation.log", operationId=operation, **stage.tenant.of(service))
    assert log["log"] == ("== provision, attempt 1: exit code 75\nasked for provision\n"
                          "== provision, attempt 2: exit code 0\nasked for provision\n")
    assert log["progress"] == ""
    stage.will("stop", "progress")
    stage.rpc.call("service.stop", **stage.tenant.of(service))
    stage.wait_started()
    operation = stage.ran("stop")[0][:36]
    shown = command(stage, "operation", "log", service["id"], operation)
    assert shown.returncode == 0
    assert shown.stdout.splitlines()[:2] == ["== stop, attempt 1: running", "asked for stop"]
    assert "progress  2 of 4  second" in shown.stdout
    stage.open_gate()
    stage.tenant.wait_state(service, "stopped")
    shown = command(stage, "operation", "log", service["id"], operation, "--json")
    assert json.loads(shown.stdout)["log"].startswith("== stop, attempt 1: exit code 0\n")


def test_a_log_is_of_its_service_and_organization_only(stage):
    service, other = stage.tenant.running(), stage.tenant.running("other")
    operation = stage.ran("provision")[0][:36]
    for where in ({**stage.tenant.of(other)}, {**stage.tenant.of(service), "organizationId": other["id"]}):
        with pytest.raises(RpcError) as refused:
            stage.rpc.call("operation.log", operationId=operation, **where)
        assert refused.value.code == "NOT_FOUND"


def test_logs_are_text_and_have_an_end(stage):
    stage.will("provision", "noise")
    service = stage.tenant.running()
    operation = stage.ran("provision")[0][:36]
    log = stage.rpc.call("operation.log", operationId=operation, **stage.tenant.of(service))["log"]
    assert 65000 < len(log) <= 65536 and log.startswith("== provision, attempt 1: exit code 0\nxxx")
    assert log.endswith("x\n??[1m\nthe end\n")


def test_logs_of_the_last_hundred_operations_are_kept(daemon_factory):
    stage = Stage(daemon_factory)
    services = [stage.tenant.create(f"s{number}") for number in range(110)]
    for service in services:
        stage.tenant.wait_state(service, "running")
    stage.wait_no_runs()
    assert len([path for path in (stage.state / "logs").iterdir() if len(path.name) == 36]) == 100


def test_without_programs_there_are_no_logs(rpc, tenant):
    service = tenant.running()
    with pytest.raises(RpcError) as refused:
        rpc.call("operation.log", operationId=service["id"], **tenant.of(service))
    assert refused.value.code == "NOT_FOUND" and "keeps no logs" in refused.value.message


# What is refused at the start


@pytest.mark.parametrize("spec, words", [
    ("", ["exec:PROGRAM"]),
    ("/no/such/program", ["/no/such/program", "No such file"]),
    (f"{PLUGIN.parent}", ["cannot be executed"]),
    (f"{__file__}", ["cannot be executed"]),
    (f"{PLUGIN},speed=3", ["exec:speed", "known are state=DIR"]),
    (f"{PLUGIN},state", ["exec:state", "key=value"]),
    (f"{PLUGIN},state=", ["exec:state", "needs a directory"]),
    (f"{PLUGIN},state=/proc/x/y", ["exec:state", "/proc/x/y"]),
    (f"{PLUGIN},env.1=x", ["exec:env.1", "no name"]),
    (f"{PLUGIN},env.REEVE_STATE_DIR=x", ["exec:env.REEVE_STATE_DIR", "ours"]),
    (f"{PLUGIN},env.STEERED_DESCRIBE=api7", ["steered describe", "api 7", "api 1"]),
    (f"{PLUGIN},env.STEERED_DESCRIBE=nameless", ["no name"]),
    (f"{PLUGIN},env.STEERED_DESCRIBE=idle", ["no list of operations"]),
    (f"{PLUGIN},env.STEERED_DESCRIBE=words", ["passwords", "sha-256, scram-sha-256 or both"]),
    (f"{PLUGIN},env.STEERED_DESCRIBE=text", ["not JSON"]),
    (f"{PLUGIN},env.STEERED_DESCRIBE=fails", ["exit code 1", "no database here"]),
    ("/bin/true", ["true describe", "answered nothing"]),
])
def test_programs_that_cannot_work_are_refused_at_the_start(spec, words, tmp_path):
    done = subprocess.run([BINARY, "serve", "--data", str(tmp_path / "d"), "--provisioner", f"exec:{spec}"],
                          capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    assert not list((tmp_path / "d").glob("provisioner/runs/*"))


def test_a_path_may_be_relative(daemon_factory, tmp_path):
    daemon = daemon_factory(provisioner=f"exec:{os.path.relpath(PLUGIN)},state={tmp_path}/s,backups={tmp_path}/b,env.A=1=2")
    tenant = Tenant(daemon.client())
    (tmp_path / "s/control").mkdir()
    (tmp_path / "s/control/provision").write_text("show\n")
    tenant.running()
    environment = (tmp_path / "s/environment").read_text().splitlines()
    assert f"REEVE_BACKUP_DIR={tmp_path}/b" in environment and "A=1=2" in environment


# Trying programs out


def check(*arguments):
    done = subprocess.run([BINARY, "provisioner", "check", *map(str, arguments)], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout.splitlines()


def test_the_example_passes_the_check():
    code, lines = check(PLUGIN.parents[3] / "examples/provisioner/sleeper", "--seed", "20261123", "--rounds", "2")
    assert code == 0, "\n".join(lines)
    assert lines[-1].endswith("passed, 0 failed") and int(lines[-1].split()[0]) > 70
    assert "seed 20261123" in lines[0] and all(line.startswith("ok    ") for line in lines[1:-1])


def failed(lines):
    return [line[6:] for line in lines if line.startswith("FAIL")]


def test_what_takes_any_request_fails_the_check(tmp_path):
    code, lines = check(PLUGIN, "--state", tmp_path / "s", "--rounds", "0")
    assert code == 1
    wrong = failed(lines)
    assert [line.split(":")[0] for line in wrong if "exit code 65" in line] == [
        "input that is empty", "input that is not JSON", "input that is no object", "input without serviceId",
        "input without operationId", "input without the service", "a serviceId that is no UUID",
        "an operationId that is no UUID"]
    assert len([line for line in wrong if "exit code 69" in line]) == 2
    assert len([line for line in wrong if line.startswith("health")]) == 3


@pytest.mark.parametrize("fault, words", [
    ("moody", "describe: another answer"),
    ("another", "provision: the same operation again gives another answer"),
    ("logs", "secrets: the password's hash was seen in the log"),
    ("arguments", "secrets: the password's hash was seen in the arguments of process "),
    ("crash", "provision: fails: signal 11 (Segmentation fault)"),
    ("full", "the log ends with: no disk"),
    ("leave", "processes are left"),
])
def test_what_breaks_a_rule_is_found(fault, words, tmp_path):
    code, lines = check(PLUGIN.parent / "faulty", "--env", f"FAULT={fault}", "--state", tmp_path / "s", "--rounds", "1")
    assert code == 1 and any(words in line for line in failed(lines)), "\n".join(lines)
    for pid in processes():
        try:
            if f"REEVE_STATE_DIR={tmp_path}/s\0".encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, signal.SIGKILL)
        except OSError:
            pass


@pytest.mark.parametrize("arguments", [[], ["--seed"], ["--seed", "x", PLUGIN], [PLUGIN, PLUGIN], ["--speed", "3", PLUGIN],
                                       ["--timeout", "0", PLUGIN], [f"{PLUGIN},state=x"]])
def test_wrong_words_of_the_check_are_told(arguments):
    done = subprocess.run([BINARY, "provisioner", "check", *map(str, arguments)], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 2 and "usage: reeve provisioner check" in done.stderr


def test_a_program_that_is_not_there_fails_the_check():
    code, lines = check("/no/such/program")
    assert code == 1 and "No such file" in failed(lines)[0]
