"""The plugins that ship, with the real servers: what was written is there after everything that may happen, and what was
deleted is gone without a trace."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest
from clock import FAKETIME, Clock
from daemon import BINARY
from ports import Ports
from servers import ANYWHERE, KINDS, PLUGINS, ROOT, SECONDS, ClickHouse, Postgres, Redis, sha256_of, wait_until

SANITIZED = "address" in str(BINARY) or "thread" in str(BINARY)
once = pytest.mark.skipif(SANITIZED, reason="it is the plugin that is tried, and it is the same under a sanitizer")


def of_kind(kinds=KINDS):
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.name)


@pytest.fixture
def servers(kind, make_servers):
    return make_servers(kind)


# ---- A whole life ----


@of_kind()
def test_what_was_written_outlives_everything_but_delete(servers):
    service, password = servers.running()
    client = servers.client(service, password)
    client.fill()
    content = client.content()

    servers.stop(service)
    assert servers.processes() == [] and not client.is_let_in()
    servers.do("service.start", service)
    servers.settled(service, "running")
    assert client.content() == content

    assert servers.crash(service)["restarts"] == 1
    servers.settled(service, "running")
    assert client.content() == content

    backup = servers.backup(service)
    copy, its_password = servers.running("copy", backupId=backup["id"])
    assert servers.client(copy, its_password).content() == content
    assert not servers.client(copy, password).is_let_in() and not servers.client(service, its_password).is_let_in()

    for which in (service, copy):
        servers.stop(which)
        servers.delete(which)
    servers.assert_nothing_left([backup["id"]])


@of_kind()
@once
def test_conformance(kind, tmp_path):
    kind.need()
    ports = Ports(40)
    done = subprocess.run([BINARY, "provisioner", "check", kind.plugin, "--state", tmp_path / "state", "--rounds", "1", "--env", "MB_PER_GB=4",
                           "--env", f"PORTS={ports}"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and " 0 failed" in done.stdout, done.stdout
    assert os.listdir(tmp_path / "state/services") == os.listdir(tmp_path / "state/backups") == os.listdir(tmp_path / "state/locks") == []


@of_kind()
@once
def test_an_idle_server_is_stopped_and_the_next_caller_does_not_notice(kind, make_servers, tmp_path):
    servers = make_servers(kind, clock=Clock(tmp_path / "clock"))
    service, password = servers.running()
    client = servers.client(service, password)
    client.fill()
    content = client.content()
    servers.clock.idle(servers.tenant, service)
    assert servers.processes() == []
    assert client.content() == content and len(servers.leaders()) == 1


# ---- Changes of what runs ----


@of_kind()
@once
def test_a_new_password_replaces_the_old_one(servers):
    service, password = servers.running()
    pid = servers.pid(service)
    new = servers.change(service, "service.set_password")["password"]
    assert servers.client(service, new).is_let_in() and not servers.client(service, password).is_let_in()
    assert not servers.client(service, "").is_let_in()
    if servers.kind.takes_hashes:
        servers.change(service, "service.set_password", newPasswordHash=sha256_of("of mine"))
        assert servers.client(service, "of mine").is_let_in() and not servers.client(service, new).is_let_in()
        new = "of mine"
    assert servers.pid(service) == pid
    servers.stop(service)
    servers.do("service.start", service)
    servers.settled(service, "running")
    assert servers.client(service, new).is_let_in()


@of_kind()
@once
def test_more_memory_is_seen_by_the_server_that_runs(servers):
    service, password = servers.running()
    client, pid = servers.client(service, password), servers.pid(service)
    assert client.kind.memory(client) == client.kind.memory_of(24 * 4 << 20)
    servers.change(service, "service.scale", maxTotalMemoryGb=48)
    assert client.kind.memory(client) == client.kind.memory_of(48 * 4 << 20)
    assert servers.pid(service) == pid


def let_in(servers, service, password):
    return [source for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.1.9", "127.0.2.1")
            if servers.client(service, password, source).is_let_in()]


def try_access_list(servers):
    service, password = servers.running(ipAccessList=[{"source": "127.0.0.2"}, {"source": "127.0.1.0/24"}, {"source": "10.0.0.0/8"}])
    assert let_in(servers, service, password) == ["127.0.0.2", "127.0.1.9"]
    servers.change(service, "service.update", ipAccessList={"remove": [{"source": "127.0.0.2"}], "add": [{"source": "127.0.0.3/32"}]})
    assert let_in(servers, service, password) == ["127.0.0.3", "127.0.1.9"]
    servers.change(service, "service.update", ipAccessList={"remove": [{"source": "127.0.0.3/32"}, {"source": "127.0.1.0/24"}, {"source": "10.0.0.0/8"}]})
    assert let_in(servers, service, password) == []
    servers.change(service, "service.update", ipAccessList={"add": ANYWHERE})
    assert len(let_in(servers, service, password)) == 5


@of_kind()
@once
def test_the_access_list_holds_behind_a_door(servers):
    try_access_list(servers)


@of_kind([ClickHouse(), Postgres()])
@once
def test_the_access_list_holds_at_the_server(kind, make_servers):
    try_access_list(make_servers(kind, door=False))


@of_kind([Redis()])
@once
def test_redis_without_a_door_lets_in_everybody_or_nobody(kind, make_servers):
    servers = make_servers(kind, door=False)
    service, password = servers.running()
    assert servers.client(service, password).is_let_in()
    servers.change(service, "service.update", ipAccessList={"remove": ANYWHERE})
    assert not servers.client(service, password).is_let_in()
    refused, _ = servers.create("refused", ipAccessList=[{"source": "127.0.0.2"}])
    code, message = servers.failure(refused)
    assert code == "access_list" and "reeve serve --door" in message
    assert not (servers.state / "services" / refused["id"]).exists()


# ---- Health ----


@of_kind()
@once
def test_health_tells_why_not(servers):
    service, password = servers.running()
    seen = servers.health(service)
    assert seen["running"] is True and seen["queries"] == 0 and seen["pid"] == servers.pid(service) and seen["rssBytes"] > 1 << 20
    assert servers.health(service).get("activity") == seen.get("activity")  # our looks are no use of it
    servers.kill_server(service, signal.SIGSTOP)
    seen = servers.health(service)
    assert seen["running"] is False and seen["message"].startswith("hung: ")
    servers.kill_server(service, signal.SIGCONT)
    assert servers.health(service)["running"] is True
    servers.daemon.kill()
    servers.kill_server(service)
    wait_until(lambda: not servers.health(service)["running"])
    assert "has died" in servers.health(service)["message"]
    servers.start()  # and finds it gone
    wait_until(lambda: servers.health(service)["running"])
    servers.settled(service, "running")
    servers.stop(service)
    assert servers.health(service) == {"running": False, "queries": 0, "message": "it is stopped"}


@of_kind()
@once
def test_a_server_that_hangs_is_replaced_and_can_be_stopped(kind, make_servers):
    servers = make_servers(kind, settings=",env.STOP_GRACE_MS=200")
    service, password = servers.running()
    client, hung = servers.client(service, password), servers.pid(service)
    client.fill()
    content = client.content()
    servers.kill_server(service, signal.SIGSTOP)
    servers.revive(service)
    assert servers.pid(service) != hung and client.content() == content
    servers.kill_server(service, signal.SIGSTOP)
    servers.stop(service)
    assert servers.processes() == []


@of_kind([ClickHouse()])
@once
def test_queries_of_clients_are_counted_and_do_not_hold_up_a_stop(servers):
    service, password = servers.running()
    client = servers.client(service, password)
    with client.connect() as connection:
        query = b"SELECT sum(cityHash64(number)) FROM system.numbers"
        connection.sendall(b"POST / HTTP/1.0\r\nX-ClickHouse-User: default\r\nX-ClickHouse-Key: %s\r\nContent-Length: %d\r\n\r\n%s"
                           % (password.encode(), len(query), query))
        servers.rpc.wait_stats(lambda _: servers.health(service)["queries"] == 1)
        servers.stop(service)
    log = servers.daemon.log()
    assert "SIGTERM: killed" not in log and servers.processes() == []


@of_kind()
@once
def test_what_is_broken_can_be_stopped_and_deleted(servers):
    service, _ = servers.running()
    (servers.state / "services" / service["id"] / "record.json").write_text("{")
    servers.stop(service)
    assert servers.processes() == []
    servers.delete(service)
    servers.assert_nothing_left()


# ---- Backups that are none ----


def change_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change_plugin(directory):
    """As another plugin would have written it, with checksums that fit."""
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["plugin"] = "another"
    (directory / "manifest.json").write_text(json.dumps(manifest))
    write_sums(directory)


def write_sums(directory):
    files = [name for name in os.listdir(directory) if name != "SHA256SUMS"]
    sums = subprocess.run(["sha256sum", *files], cwd=directory, capture_output=True, check=True).stdout
    (directory / "SHA256SUMS").write_bytes(sums)


DAMAGES = {
    "changed": (lambda backup, file: change_byte(backup / file), "backup_damaged", "other bytes than were written"),
    "cut": (lambda backup, file: os.truncate(backup / file, 10), "backup_damaged", "has 10 bytes"),
    "missing": (lambda backup, file: os.remove(backup / file), "backup_damaged", "is missing"),
    "manifest": (lambda backup, file: change_byte(backup / "manifest.json"), "backup_damaged", "manifest.json is not what was written"),
    "no manifest": (lambda backup, file: os.remove(backup / "manifest.json"), "backup_damaged", "manifest.json is missing"),
    "foreign": (lambda backup, file: change_plugin(backup), "backup_foreign", "is one of another"),
    "gone": (lambda backup, file: shutil.rmtree(backup), "no_such_backup", "there is no backup"),
}


@of_kind()
@once
def test_a_damaged_backup_fails_before_anything_is_there(servers):
    service, password = servers.running()
    servers.client(service, password).fill()
    good = servers.backup(service)["id"]
    directory, kept = servers.state / "backups" / good, servers.state / "kept"
    assert subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=directory).returncode == 0
    shutil.copytree(directory, kept)
    for name, (damage, code, words) in DAMAGES.items():
        damage(directory, servers.kind.data_file)
        copy, _ = servers.create(name, backupId=good)
        assert servers.failure(copy)[0] == code and words in servers.failure(copy)[1], servers.failure(copy)
        assert os.listdir(servers.state / "services") == [service["id"]] and len(servers.leaders()) == 1
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(kept, directory)
    copy, its_password = servers.running("copy", backupId=good)
    assert servers.client(copy, its_password).content() == servers.client(service, password).content()


def change_count(directory):
    manifest = json.loads((directory / "manifest.json").read_text())
    next(table for table in manifest["counts"]["tables"] if table["name"] == "t")["rows"] += 1
    (directory / "manifest.json").write_text(json.dumps(manifest))


@of_kind([ClickHouse()])
@once
def test_a_restore_with_fewer_rows_than_the_backup_leaves_nothing(servers):
    service, password = servers.running()
    servers.client(service, password).fill()
    backup = servers.backup(service)["id"]
    change_count(servers.state / "backups" / backup)
    write_sums(servers.state / "backups" / backup)
    code, answer = servers.ask("provision", {"id": backup}, backup={"id": backup, "serviceId": service["id"], "handle": None},
                               service={"maxTotalMemoryGb": 24, "passwordSha256": sha256_of("x"), "ipAccessList": ANYWHERE})
    assert code == 65 and answer["error"]["code"] == "restore_incomplete"
    assert answer["error"]["message"] == "default.t has 200000 rows after restoring, the backup has 200001"
    assert os.listdir(servers.state / "services") == [service["id"]] and len(servers.processes()) == 1
    copy, _ = servers.create("copy", backupId=backup)  # the engine knows which manifest it was
    assert servers.failure(copy) == ("backup_damaged", f"the backup {backup} is damaged: it is not the one that was made then: its manifest is another")


@of_kind([ClickHouse()])
@once
def test_what_a_backup_leaves_out_is_told(servers):
    service, password = servers.running()
    servers.client(service, password).fill()
    backup = servers.backup(service)
    manifest = json.loads((servers.state / "backups" / backup["id"] / "manifest.json").read_text())
    assert manifest["counts"]["leftOut"] == ["default.lost (Memory)"]
    assert {table["name"]: table["rows"] for table in manifest["counts"]["tables"]}["t"] == 200000
    assert backup["sizeInBytes"] == sum(file["size"] for file in manifest["files"].values())


# ---- A daemon that dies in the middle ----


@of_kind()
@once
def test_each_operation_ends_well_where_the_daemon_is_killed_in_it(servers):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)

    def interrupt():
        servers.kill_daemon_in(chance.randrange(150))

    service, password = servers.create()
    interrupt()
    service = servers.settled(service, "running")
    servers.client(service, password).fill()
    content = servers.client(service, password).content()

    servers.do("service.stop", service)
    interrupt()
    servers.settled(service, "stopped")
    assert servers.processes() == []
    servers.do("service.start", service)
    interrupt()
    servers.settled(service, "running")
    password = servers.do("service.set_password", service)["password"]
    interrupt()
    servers.settled(service, "running")
    assert servers.client(service, password).content() == content

    backup = servers.do("backup.create", service)
    interrupt()
    assert servers.backup_ends(service, backup)["sizeInBytes"] > 0
    copy, its_password = servers.create("copy", backupId=backup["id"])
    interrupt()
    copy = servers.settled(copy, "running")
    assert servers.client(copy, its_password).content() == content
    assert len(servers.leaders()) == 2

    for which in (copy, service):
        servers.stop(which)
        servers.do("service.delete", which)
        interrupt()
        servers.wait_gone("service.get", which)
    servers.assert_nothing_left([backup["id"]])


@of_kind()
@once
def test_backups_are_deleted_where_the_daemon_is_killed_meanwhile(servers):
    service, _ = servers.running()
    backup = servers.backup(service)
    servers.do("backup.delete", service, backupId=backup["id"])
    servers.kill_daemon_in(random.randrange(60))
    servers.wait_gone("backup.get", service, backupId=backup["id"])
    servers.rpc.wait_stats(lambda _: os.listdir(servers.state / "backups") == [])
    servers.stop(service)
    servers.delete(service)
    servers.assert_nothing_left()


@of_kind()
@once
def test_servers_fall_asleep_wake_and_are_restarted_where_the_daemon_is_killed_meanwhile(kind, make_servers, tmp_path):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    chance = random.Random(seed)
    servers = make_servers(kind, clock=Clock(tmp_path / "clock"))
    service, password = servers.running()
    client = servers.client(service, password)
    client.fill()
    content = client.content()

    servers.clock.pass_until(servers.tenant, service, lambda record: record["state"] == "idle")
    servers.kill_daemon_in(chance.randrange(100))
    servers.settled(service, "idle")
    assert servers.processes() == []
    servers.do("service.awake", service)
    servers.kill_daemon_in(chance.randrange(100))
    servers.settled(service, "running")
    assert client.content() == content and len(servers.leaders()) == 1

    servers.kill_server(service)
    servers.kill_daemon_in(chance.randrange(100))
    servers.settled(service, "running")
    assert client.content() == content and len(servers.leaders()) == 1
    servers.stop(service)
    servers.delete(service)
    servers.assert_nothing_left()


# ---- Places ----


@of_kind()
@once
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give services uids of their own")
def test_services_are_kept_apart(servers):
    one, other = servers.running("one")[0], servers.running("other")[0]
    uids = [os.stat(f"/proc/{servers.pid(service)}").st_uid for service in (one, other)]
    assert uids == [servers.record(service)["uid"] for service in (one, other)] and len({0, *uids}) == 3
    for service in (one, other):
        status = open(f"/proc/{servers.pid(service)}/status").read()
        assert "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status and "Groups:\t \n" in status
        assert set(open(f"/proc/{servers.pid(service)}/environ").read().split("\0")) <= {
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/proc/self/cwd", "LANG=C.UTF-8", "TZ=UTC", ""}
    home = servers.state / "services" / one["id"] / "home"
    assert home.stat().st_mode & 0o777 == 0o700 and home.stat().st_uid == uids[0]
    for target in (f"/proc/{servers.pid(one)}/cwd/", home, f"/proc/{servers.pid(one)}/environ"):
        tried = subprocess.run(["setpriv", f"--reuid={uids[1]}", f"--regid={uids[1]}", "--clear-groups", "head", "-c1", target],
                               capture_output=True, text=True)
        assert "Permission denied" in tried.stderr, (target, tried)


@of_kind([Redis()])
@once
def test_a_port_that_was_given_back_is_given_out_again(kind, make_servers):
    servers = make_servers(kind, ports=1)
    service, _ = servers.running()
    waiting, its_password = servers.create("waiting")
    watch = servers.rpc.call("event.watch", serviceId=waiting["id"], **{"from": 1})["watch"]
    event = servers.rpc.wait_event(lambda event: event["type"] == "service_retry", SECONDS, watch)[-1]
    assert event["code"] == "full" and "no port of" in event["message"]
    servers.stop(service)
    servers.delete(service)
    assert servers.client(servers.settled(waiting, "running"), its_password).is_let_in()


@of_kind()
@once
@pytest.mark.parametrize("setting, words", [
    ("PORTS=9", "env.PORTS=9: must be FIRST-LAST, from 1 to 65535"),
    ("UIDS=0-5", "env.UIDS=0-5: must be FIRST-LAST, from 1 to"),
    ("MB_PER_GB=none", "env.MB_PER_GB=none: must be a whole number from 1 to 1024"),
    ("LISTEN=localhost", "env.LISTEN=localhost: must be a numeric address"),
])
def test_settings_that_are_wrong_are_refused_at_once(kind, daemon_factory, setting, words):
    kind.need()
    with pytest.raises(RuntimeError) as caught:
        daemon_factory(provisioner=f"exec:{kind.plugin},env.{setting}")
    assert words in str(caught.value)


@once
def test_a_server_that_is_not_installed_is_named(tmp_path):
    program = ("import sys; sys.path.insert(0, sys.argv.pop(1)); import plugin\n"
               "class Missing(plugin.Plugin): name, package, program = 'missing', 'missing-server', '/usr/bin/missing-server'\n"
               "sys.exit(plugin.main(Missing))")
    done = subprocess.run([sys.executable, "-c", program, PLUGINS / "lib", "describe"], capture_output=True, text=True)
    assert done.returncode == 65
    assert json.loads(done.stdout)["error"]["message"] == "/usr/bin/missing-server is not installed: apt-get install missing-server"


@once
def test_the_demonstration_does_what_it_says():
    ClickHouse().need()
    if not FAKETIME or not shutil.which("clickhouse-client"):
        pytest.skip("libfaketime or clickhouse-client is not installed")
    done = subprocess.run([ROOT / "examples/demo-clickhouse.sh"], env={**os.environ, "REEVE_BIN": BINARY, "NO_COLOR": "1"},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    for words in ("its state is idle, servers that run: 0", "Wrong password", "they are the same", "directories of services: 0", "in use: {}"):
        assert words in done.stdout, done.stdout


@of_kind([Redis(), ClickHouse()])
@once
def test_fifty_at_once_all_run_and_nobody_starves(kind, make_servers):
    """The first half of one organization, then the other half of another one."""
    servers = make_servers(kind, "--services-per-org", "100", door=False, ports=120)
    first, second = servers.tenant.id, servers.rpc.call("organization.create", name="second")["id"]
    servers.rpc.call("event.watch")
    made, order = [], []
    for i in range(50):
        servers.tenant.id = first if i < 25 else second
        made.append((servers.tenant.id, *servers.create(f"s{i}")))
    while len(order) < 50:
        order += [event["organizationId"] for event in servers.rpc.next_events(SECONDS) if event["type"] == "service_running"]
    assert 5 <= order[16:34].count(second) <= 13, order  # 16 are under way when the second one comes; then it is turn by turn
    spent = servers.processor_seconds()  # the share itself is for bench/servers to measure: here, that nothing is polled for
    assert spent["daemon"] < 0.25 * (spent["daemon"] + spent["started"]), spent
    assert len(servers.leaders()) == 50
    for servers.tenant.id, service, password in made[::7]:
        assert servers.client(servers.tenant.get(service), password).is_let_in()


@of_kind()
@once
def test_many_at_once_have_places_of_their_own(kind, make_servers):
    servers = make_servers(kind, door=False, ports=40)
    made = [servers.create(f"s{i}") for i in range(12)]
    services = [servers.tenant.wait_state(service, "running", SECONDS) for service, _ in made]
    records = [servers.record(service) for service in services]
    ports = [port for record in records for port in record["ports"]]
    assert len(set(ports)) == len(ports) and len(servers.leaders()) >= 12
    assert os.geteuid() != 0 or len({record["uid"] for record in records}) == 12
    for i, (service, (_, password)) in enumerate(zip(services, made)):
        assert servers.client(service, password).is_let_in() and not servers.client(services[i - 1], password).is_let_in()
        servers.do("service.stop", service)
    for service in services:
        servers.settled(service, "stopped")
        servers.do("service.delete", service)
    for service in services:
        servers.wait_gone("service.get", service)
    servers.assert_nothing_left()
