"""How the binaries are built, and what the daemon leaves open to others on its machine."""

import os
import pathlib
import re
import stat
import subprocess

import pytest
from daemon import BINARY
from tenant import Tenant

BUILD = pathlib.Path(BINARY).parent
RELEASE = BUILD.name == "build"  # sanitizers bring checks of their own, and link in their own way


def readelf(path, *what):
    return subprocess.run(["readelf", "-W", *what, str(path)], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not RELEASE, reason="only of the release flavour")
@pytest.mark.parametrize("name", ["reeve", "libreeve.so"])
def test_binaries_are_hardened(name):
    path = BUILD / name
    assert "DYN (" in readelf(path, "-h")  # may be loaded anywhere
    segments, dynamic, symbols = readelf(path, "-l"), readelf(path, "-d"), readelf(path, "--dyn-syms")
    assert re.search(r"GNU_STACK .* RW +0x", segments), "the stack may be executed"
    assert "GNU_RELRO" in segments and "BIND_NOW" in dynamic
    assert not any(" RWE " in line for line in segments.splitlines() if line.lstrip().startswith("LOAD"))
    assert not re.search("TEXTREL|RPATH|RUNPATH", dynamic)
    assert "__stack_chk_fail" in symbols and re.search(r"__\w+_chk@", symbols.replace("__stack_chk_fail", ""))


@pytest.mark.skipif(not RELEASE or os.uname().machine != "x86_64", reason="only of the release flavour, on x86_64")
def test_functions_can_only_be_entered_at_their_beginnings():
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(BUILD / "libreeve.so")], capture_output=True, text=True, check=True).stdout
    entries = re.findall(r"<reeve_\w+>:\n\s+\w+:\s+(\w+)", text)
    assert len(entries) > 20 and set(entries) == {"endbr64"}


def limit_of_cores(daemon):
    line = re.search(r"Max core file size +(\S+) +(\S+)", pathlib.Path(f"/proc/{daemon.process.pid}/limits").read_text())
    return line.group(1)


def test_core_dumps_are_off_unless_asked_for(daemon_factory):
    assert limit_of_cores(daemon_factory()) == "0"


def test_core_dumps_can_be_asked_for(daemon_factory, tmp_path):
    configuration = tmp_path / "reeve.conf"
    configuration.write_text("core-dumps = true\n")
    own = re.search(r"Max core file size +(\S+)", pathlib.Path("/proc/self/limits").read_text()).group(1)
    assert limit_of_cores(daemon_factory("--core-dumps")) == own
    assert limit_of_cores(daemon_factory("--config", configuration)) == own


def test_everything_it_writes_is_its_own(daemon_factory):
    daemon = daemon_factory("--dev")
    tenant = Tenant(daemon.client())
    tenant.running()
    seen = set()
    for path in [daemon.data, *daemon.data.rglob("*"), pathlib.Path(daemon.socket_path)]:
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        seen.add(path.name)
    assert {"data.mdb", "lock.mdb", "reeve.lock", "dev.env", "reeve.sock"} <= seen
