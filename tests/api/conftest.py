"""What all black-box tests share."""

import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from daemon import Daemon  # noqa: E402
from servers import Servers  # noqa: E402
from tenant import Tenant  # noqa: E402

LIMIT_SECONDS = 300


@pytest.fixture(autouse=True)
def limit():
    """A test that hangs fails, with where it hung."""

    def ring(*_):
        raise TimeoutError(f"the test is not done after {LIMIT_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def daemon_factory(tmp_path):
    """daemon_factory(*arguments, **options) starts a `reeve serve`; all are ended with the test."""
    daemons = []

    def make(*arguments, start=True, **options):
        directory = tmp_path / f"d{len(daemons)}"
        directory.mkdir()
        daemon = Daemon(directory, *arguments, **options)
        daemons.append(daemon)
        return daemon.start() if start else daemon

    yield make
    for daemon in daemons:
        daemon.close()


@pytest.fixture
def make_servers(daemon_factory):
    """make_servers(kind, *arguments, **options); servers that a test has left are ended after it."""
    made = []

    def make(kind, *arguments, **options):
        made.append(Servers(kind, daemon_factory, *arguments, **options))
        return made[-1]

    yield make
    for servers in made:
        servers.close()


@pytest.fixture
def daemon(daemon_factory):
    return daemon_factory()


@pytest.fixture
def rpc(daemon):
    return daemon.client()


@pytest.fixture
def tenant(rpc):
    """An organization with helpers to make services in it."""
    return Tenant(rpc)
