"""kill -9 under load, a few times in the build that people use; `make crash` does it at every point, any number of times."""

import os
import subprocess

from daemon import BINARY, ROOT

KILLS = 25


def test_twenty_five_kills_in_a_row():
    run = [ROOT / "tests/crash/run", "--kills", str(KILLS), "--point", "anytime", "--seed", os.environ.get("SEED", "20261123")]
    done = subprocess.run(run, env={**os.environ, "REEVE_BIN": BINARY}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert f"{KILLS} kills survived" in done.stdout, done.stdout
