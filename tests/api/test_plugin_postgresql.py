"""What is special to PostgreSQL among the plugins: passwords without a clear text, settings that wait for a restart, what a
killed server leaves behind, and what tenants may not do."""

import json
import os
import subprocess
import threading

import pytest
import scram
from daemon import BINARY
from rpc import RpcError
from servers import SECONDS, Postgres, Refused

KIND = Postgres()
SANITIZED = "address" in str(BINARY) or "thread" in str(BINARY)
pytestmark = pytest.mark.skipif(SANITIZED, reason="it is the plugin that is tried, and it is the same under a sanitizer")


@pytest.fixture
def servers(make_servers):
    return make_servers(KIND, door=False)


def segment(servers, service):
    """The shared memory of its server."""
    return (servers.state / "services" / service["id"] / "home/data/postmaster.pid").read_text().splitlines()[6].split()[1]


def segments():
    """All of this machine."""
    with open("/proc/sysvipc/shm") as file:
        return {line.split()[1] for line in file.readlines()[1:]}


def hold(client, statement):
    """A session that runs a statement: its process, once it is at it."""
    session = subprocess.Popen(["/usr/lib/postgresql/15/bin/psql", "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, "PGHOST": client.address[0], "PGPORT": str(client.address[1]), "PGUSER": "default",
                                    "PGDATABASE": "default", "PGPASSWORD": client.password})
    session.stdin.write("SELECT 'here';\n")
    session.stdin.flush()
    assert session.stdout.readline() == "here\n"
    session.stdin.write(statement + "\n")
    session.stdin.flush()
    return session


# ---- Passwords ----


def test_a_password_is_never_anywhere_in_clear(servers):
    service, password = servers.running()
    client = servers.client(service, password)
    assert client.is_let_in()
    changed = servers.change(service, "service.set_password")["password"]
    assert not client.is_let_in() and servers.client(service, changed).is_let_in()
    assert scram.verifies(servers.record(service)["scram"], changed)
    for directory, _, names in os.walk(servers.daemon.data):
        for name in names:
            path = os.path.join(directory, name)
            if not os.path.isfile(path):
                continue
            with open(path, "rb") as file:
                content = file.read()
            assert password.encode() not in content and changed.encode() not in content, path


def test_a_password_that_was_changed_while_it_was_stopped_lets_nobody_in_before_it_is_set(servers):
    service, password = servers.running()
    servers.stop(service)
    changed = servers.do("service.set_password", service)["password"]
    servers.do("service.start", service)
    servers.settled(service, "running")
    assert not servers.client(service, password).is_let_in() and servers.client(service, changed).is_let_in()
    log = (servers.state / "services" / service["id"] / "home/server.log").read_text()
    assert log.count("received SIGHUP") == 2  # closed until then: once for each password


def test_a_hash_is_refused_by_the_api_and_changes_nothing(servers):
    with pytest.raises(RpcError) as refused:
        servers.create(newPasswordHash="ab" * 32)
    assert refused.value.code == "BAD_REQUEST" and refused.value.field == "newPasswordHash"
    assert "must be absent" in refused.value.message and "one is generated" in refused.value.message
    assert servers.rpc.call("service.list", organizationId=servers.tenant.id)["items"] == []
    service, password = servers.running()
    with pytest.raises(RpcError, match="newPasswordHash|must be absent"):
        servers.do("service.set_password", service, newPasswordHash="ab" * 32)
    assert servers.client(service, password).is_let_in()


def test_the_plugin_itself_refuses_a_service_with_nothing_but_a_hash(tmp_path):
    KIND.need()

    def provision(**fields):
        identity = "01890000-0000-7000-8000-000000000001"
        service = {"id": identity, "maxTotalMemoryGb": 24, "passwordSha256": "ab" * 32, "ipAccessList": [], **fields}
        wanted = {"api": 1, "operation": "provision", "operationId": identity, "serviceId": identity, "deadlineMs": 1 << 42, "service": service}
        done = subprocess.run([KIND.plugin, "provision"], input=json.dumps(wanted), capture_output=True, text=True, timeout=SECONDS,
                              env={"REEVE_STATE_DIR": str(tmp_path), "REEVE_BACKUP_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"})
        return done.returncode, json.loads(done.stdout)["error"]

    code, error = provision()
    assert code == 65 and error["code"] == "password_form"
    assert "cannot be made from its SHA-256" in error["message"] and "let reeve generate" in error["message"]
    code, error = provision(passwordScram="SCRAM-SHA-256$4096:x'; DROP ROLE")
    assert code == 65 and "service.passwordScram: must be" in error["message"]
    assert not os.listdir(tmp_path)


# ---- Who may do what ----


def test_only_addresses_on_the_list_are_let_in_and_sessions_of_others_end(servers):
    service, password = servers.running(ipAccessList=[{"source": "127.0.0.0/30"}, {"source": "2001:db8::/64"}])
    inside, outside = (servers.client(service, password, source) for source in ("127.0.0.2", "127.0.0.5"))
    assert inside.is_let_in() and not outside.is_let_in()
    session = hold(servers.client(service, password), "SELECT pg_sleep(60);")
    servers.change(service, "service.update", ipAccessList={"remove": [{"source": "127.0.0.0/30"}], "add": [{"source": "127.0.0.5"}]})
    assert not inside.is_let_in() and outside.is_let_in()
    assert "terminating connection" in session.communicate(timeout=SECONDS)[0]


def test_tenants_can_do_much_and_get_at_nothing_of_the_server(servers):
    service, password = servers.running()
    client = servers.client(service, password)
    KIND.query(client, 'CREATE DATABASE mine; CREATE SCHEMA s; CREATE EXTENSION pg_trgm; DROP DATABASE mine')
    for statement in ("CREATE ROLE other", "ALTER ROLE svc_control PASSWORD 'x'", "GRANT pg_execute_server_program TO \"default\"",
                      "COPY (SELECT 1) TO PROGRAM 'id'", "COPY (SELECT 1) TO '/tmp/x'", "SELECT pg_read_file('postmaster.pid')",
                      "ALTER SYSTEM SET port = 1", "SELECT pg_reload_conf()", "CREATE EXTENSION dblink", "SET ROLE svc_control",
                      "SELECT rolpassword FROM pg_authid"):
        with pytest.raises(AssertionError, match="permission denied|must be superuser|must have CREATEROLE|must have admin option"):
            KIND.query(client, statement)
    for user in ("svc_control", "postgres"):
        with pytest.raises(Refused, match="no pg_hba.conf entry"):
            KIND.query(client, "SELECT 1", user=user, database="postgres")


def test_tenants_that_take_all_connections_do_not_lock_us_out(make_servers):
    servers = make_servers(KIND, door=False, settings=",env.MAX_CONNECTIONS=10")
    service, password = servers.running()
    client = servers.client(service, password)
    sessions = [hold(client, "SELECT pg_sleep(60);") for _ in range(7)]
    with pytest.raises(Refused, match="remaining connection slots are reserved"):
        client.kind.greet(client)
    assert servers.health(service)["queries"] == 7 and servers.health(service)["running"] is True
    servers.change(service, "service.set_password")
    for session in sessions:
        session.kill()
        session.communicate()


# ---- Settings ----


def test_shared_buffers_wait_for_the_next_start(servers):
    service, password = servers.running(minTotalMemoryGb=24, maxTotalMemoryGb=24)
    client = servers.client(service, password)
    setting = "SELECT setting::int * 8 FROM pg_settings WHERE name = 'shared_buffers'; SELECT current_setting('work_mem');"
    before = KIND.query(client, setting)
    servers.change(service, "service.scale", maxTotalMemoryGb=360)
    assert KIND.memory(client) == 360 * 4 * 1024 * 1024 * 3 // 4
    assert KIND.query(client, setting).split()[0] == before.split()[0] == str(24 * 1024) and KIND.query(client, setting) != before
    assert servers.health(service)["pendingRestart"] == ["shared_buffers"]
    servers.stop(service)
    servers.do("service.start", service)
    servers.settled(service, "running")
    assert KIND.query(client, setting).split()[0] == str(360 * 1024) and servers.health(service)["pendingRestart"] == []


# ---- Ends ----


def test_a_stop_does_not_wait_for_clients(servers):
    service, password = servers.running()
    session = hold(servers.client(service, password), "SELECT pg_sleep(60);")
    servers.stop(service)
    assert "terminating connection due to administrator command" in session.communicate(timeout=SECONDS)[0]
    log = (servers.state / "services" / service["id"] / "home/server.log").read_text()
    assert "received fast shutdown request" in log and "database system is shut down" in log


def test_a_killed_server_leaves_nothing_that_another_would_stumble_over(servers):
    service, password = servers.running()
    shared = {segment(servers, service)}
    client = servers.client(service, password)
    client.fill()
    content = client.content()
    session = hold(client, "SELECT sum(a) FROM generate_series(1, 1000000000) AS a;")
    servers.crash(service)
    assert client.content() == content
    session.communicate(timeout=SECONDS)
    shared.add(segment(servers, service))
    assert len(shared) == 2 and len(shared & segments()) == 1
    servers.kill_server(service)
    servers.stop(service)
    servers.delete(service)
    servers.assert_nothing_left()
    assert not shared & segments()


def test_a_zombie_does_not_keep_the_next_server_from_starting(servers):
    """The server as our own child that has ended and that nobody has taken notice of."""
    service, password = servers.running()
    servers.stop(service)
    home = servers.state / "services" / service["id"] / "home"
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    (home / "data/postmaster.pid").write_text(f"{child.pid}\n/data\n1\n1\n\n\n 1 999999\nready\n")
    (home / f"run/.s.PGSQL.{service['endpoints'][0]['port']}.lock").write_text(f"{child.pid}\n/data\n1\n1\n\n\n\n")
    servers.do("service.start", service)
    servers.settled(service, "running")
    assert servers.client(service, password).is_let_in()
    child.wait()


# ---- Backups ----


def test_what_is_written_during_a_backup_does_no_harm(servers):
    service, password = servers.running()
    client = servers.client(service, password)
    client.fill()
    KIND.query(client, "CREATE TABLE stream (batch int, id int)")
    going = threading.Event()

    def write():
        batch = 0
        while not going.is_set():
            KIND.query(client, f"INSERT INTO stream SELECT {batch}, generate_series(1, 1000)")
            batch += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backup = servers.backup(service)
    finally:
        going.set()
        writer.join()
    copy, its_password = servers.running("copy", backupId=backup["id"])
    there = servers.client(copy, its_password)
    assert there.content() == client.content()
    assert KIND.query(there, "SELECT count(*) FROM stream GROUP BY batch HAVING count(*) <> 1000") == ""
    assert KIND.query(client, "SELECT count(*) FROM pg_replication_slots") == "0\n"
