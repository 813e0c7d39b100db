"""bench/profile, with a perf and a bench that tell what was recorded once."""

import json
import os
import pathlib
import re
import struct
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

PROFILE = pathlib.Path(__file__).resolve().parents[2] / "bench/profile"
LIBUV, LIBC, KERNEL = "/usr/lib/libuv.so.1.0.0", "/usr/lib/libc.so.6", "[kernel.kallsyms]"

# Innermost function first, as perf has it.
SAMPLES = f"""\
reeve-engine 9\x20
\t 11 memtable_find.part.0 (/b/bench)
\t 12 run_turn (/b/bench)
\t 13 [unknown] ({LIBUV})
\t 14 [unknown] ({LIBUV})
\t ffffffffffffffff [unknown] ([unknown])

reeve-engine 9\x20
\t 11 memtable_find (/b/bench)
\t 15 memtable_find (/b/bench)
\t 12 run_turn (/b/bench)
\t 13 [unknown] ({LIBUV})
\t 14 [unknown] ({LIBUV})
\t 16 uv_run ({LIBUV})
\t 17 start_thread ({LIBC})

reeve-engine 9\x20
\t ffffffff81000001 ext4_sync_file ({KERNEL})
\t ffffffff81000002 __x64_sys_pwrite64 ({KERNEL})
\t ffffffff81000003 do_syscall_64 ({KERNEL})
\t 18 __libc_pwrite@@GLIBC_2.2.5 ({LIBC})
\t 12 run_turn (/b/bench)
\t 13 [unknown] ({LIBUV})

web <1> 8\x20
\t ffffffff81000004 [unknown] ({KERNEL})
\t 1f [unknown] ([heap])
\t 19 clone3 ({LIBC})
"""
ROW = {"scenario": "lifecycles", "subject": "embedded", "outstanding": 64, "existing": 1000,
       "measuredNs": [[99_999_999_999, 101_000_000_000]]}

PERF = """#!/bin/sh
[ -z "$PERF_REFUSES" ] || { echo 'No permission' >&2; exit 255; }
case $1 in
record)
    while [ "$1" != -o ]; do shift; done
    cp "$(dirname "$0")/recorded" "$2"
    while [ "$1" != -- ]; do shift; done
    shift
    exec "$@" ;;
script)
    cp "$3" "$(dirname "$0")/unwound"
    case "$*" in *"--time 99.999999999,101.000000000 "*) cat "$(dirname "$0")/samples" ;; esac ;;
esac
"""
# It says what it was asked to run, and has nothing to tell of subjects that the scenario does not have.
BENCH = """#!/bin/sh
here=$(dirname "$0")
echo "$@" >>"$here/asked"
case "$*" in *embedded*) rows=$(cat "$here/row") ;; *) rows= ;; esac
while [ "$1" != --json ]; do shift; done
echo "{\\"rows\\": [$rows]}" >"$2"
"""


def recorded(bits):
    """What perf records of a thread and of a process, behind something else; `bits`: of the latter."""
    records = struct.pack("=IHH8x", 3, 0, 16)
    for parent, child, misc in ((7, 7, 0), (7, 8, bits)):
        records += struct.pack("=IHHIIII", 7, misc, 24, child, parent, 9, 7)
    return struct.pack("=40xQQ", 64, len(records)) + bytes(8) + records + b"behind"


@pytest.fixture
def stand(tmp_path):
    """stand(*arguments, **environment) runs bench/profile among the stand-ins."""
    for name, text in (("perf", PERF), ("bench", BENCH), ("samples", SAMPLES), ("row", json.dumps(ROW))):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    (tmp_path / "recorded").write_bytes(recorded(0))

    def run(*arguments, path=f"{tmp_path}:{os.environ['PATH']}", **environment):
        command = [PROFILE, "--bench", tmp_path / "bench", "--out", tmp_path / "out", *arguments]
        return subprocess.run(command, env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True, timeout=60)

    return run


def test_a_profile_counts_what_was_measured_by_thread_and_function(stand, tmp_path):
    done = stand("--scenario", "lifecycles", "--outstanding", "64")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("lifecycles-embedded-64.svg: reeve-engine 75.0 %, web <1> 25.0 %\n")
    assert (tmp_path / "asked").read_text().splitlines()[0].startswith("--scenario lifecycles --subject embedded --seconds 3")
    text = (tmp_path / "out/lifecycles-embedded-64.txt").read_text()
    assert "lifecycles, embedded, 64 outstanding, 1,000 services exist\n4 samples" in text
    assert re.search(r"^reeve-engine +75\.0 % +program 66\.7 %, kernel 33\.3 %$", text, re.M)
    assert re.search(r"^web <1> +25\.0 % +kernel 100\.0 %$", text, re.M)
    itself, callees, *_ = re.findall(r"^reeve-engine: functions .*\n((?: .*\n)+)", text, re.M)
    assert itself.split("\n")[:-1] == ["   66.7 %  memtable_find", "   33.3 %  ext4_sync_file  (kernel)"]
    # Once a stack, however often it calls itself; of the kernel where it was entered.
    assert set(callees.split("\n")[:-1]) == {
        "  100.0 %  [libuv]  (libuv)", "  100.0 %  run_turn", "   66.7 %  memtable_find",
        "   33.3 %  __libc_pwrite  (libc)", "   33.3 %  __x64_sys_pwrite64  (kernel)"}


def test_a_flame_graph_stands_alone_and_callees_stand_on_their_callers(stand, tmp_path):
    assert stand("--scenario", "lifecycles", "--subject", "embedded").returncode == 0
    text = (tmp_path / "out/lifecycles-embedded-64.svg").read_text()
    assert "<script" not in text and "href" not in text and text.count("http") == 1  # the name space
    svg = "{http://www.w3.org/2000/svg}"
    boxes = {}
    for group in ElementTree.fromstring(text).iter(f"{svg}g"):
        name, _, told = group.find(f"{svg}title").text.partition(": ")
        rect = group.find(f"{svg}rect")
        boxes[name] = (*(float(rect.get(key)) for key in ("x", "width", "y")), told)
    assert boxes["all (thread)"][:2] == (0, 1400) and boxes["web <1> (thread)"][:2] == (1050, 350)
    assert boxes["memtable_find (program)"][1] == 700
    assert boxes["run_turn (program)"][3] == "3 samples, 75.0 % of all, 100.0 % of reeve-engine"
    stack = ["all (thread)", "reeve-engine (thread)", "[libuv] (libuv)", "run_turn (program)", "__libc_pwrite (libc)",
             "do_syscall_64 (kernel)", "__x64_sys_pwrite64 (kernel)", "ext4_sync_file (kernel)"]
    for below, above in zip(stack, stack[1:]):
        (x, width, y, _), (above_x, above_width, above_y, _) = boxes[below], boxes[above]
        assert above_y == y - 16 and x <= above_x and above_x + above_width <= x + width


def test_a_daemon_is_not_believed_to_have_the_mappings_of_the_bench(stand, tmp_path):
    assert stand("--scenario", "lifecycles").returncode == 0
    assert (tmp_path / "unwound").read_bytes() == recorded(1 << 13)


def test_a_profile_says_why_there_is_none(stand, tmp_path):
    refused = stand(PERF_REFUSES="1")
    assert refused.returncode == 1 and "kernel.perf_event_paranoid=1" in refused.stderr and "No permission" in refused.stderr
    nowhere = stand(path="/nowhere")
    assert nowhere.returncode == 1 and "`.ci/setup profile` installs it" in nowhere.stderr
    unknown = stand("--scenario", "lifecycle")
    assert unknown.returncode == 2 and "lifecycle is none of lifecycles, start-stop" in unknown.stderr
    (tmp_path / "samples").write_text("")
    assert "perf has taken no samples" in stand("--scenario", "list").stderr
