"""A `reeve serve` of its own for a test: started, waited for, killed, restarted."""

import os
import pathlib
import select
import signal
import socket
import subprocess
import time

from rpc import Rpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("REEVE_BIN", str(ROOT / "build" / "reeve"))
FAST = "simulated:delay-ms=0..0"


class Daemon:
    """`directory` gets the data, the socket and the log. Readiness is told by the protocol of systemd."""

    def __init__(self, directory, *arguments, provisioner=FAST, data=None, socket_path=None):
        self.directory = pathlib.Path(directory)
        self.data = pathlib.Path(data or self.directory / "data")
        self.socket_path = str(socket_path or self.directory / "reeve.sock")
        self.log_path = self.directory / "reeve.log"
        self.arguments = ["--data", str(self.data), "--socket", self.socket_path, "--provisioner", provisioner]
        self.arguments += [str(argument) for argument in arguments]
        if "--dev" in self.arguments and not {"--http", "--http-cloud"} & set(self.arguments):
            self.arguments += ["--http", "127.0.0.1:0"]  # the ports that it would take are for people
        self.process = None
        self.clients = []

    def start(self, timeout=30, environment=None):
        notify_path = str(self.directory / "notify.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            pathlib.Path(notify_path).unlink(missing_ok=True)
            notify.bind(notify_path)
            with open(self.log_path, "ab") as log:
                self.process = subprocess.Popen(
                    [BINARY, "serve", *self.arguments],
                    env={**os.environ, "NOTIFY_SOCKET": notify_path, **(environment or {})},
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            self.wait_ready(notify, timeout)
        return self

    def wait_ready(self, notify, timeout):
        ended = os.pidfd_open(self.process.pid)
        try:
            while True:
                ready = select.select([notify, ended], [], [], timeout)[0]
                if notify in ready:
                    if b"READY=1" in notify.recv(4096):
                        return
                elif ended in ready:
                    raise RuntimeError(f"reeve serve ended with {self.process.wait()}:\n{self.log()}")
                else:
                    raise TimeoutError(f"reeve serve is not ready:\n{self.log()}")
        finally:
            os.close(ended)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def client(self, timeout=20):
        client = Rpc(self.socket_path, timeout)
        self.clients.append(client)
        return client

    def kill(self):
        """kill -9: nothing is finished, nothing is told."""
        self.process.send_signal(signal.SIGUSR2 if "/coverage/" in BINARY else signal.SIGKILL)  # see tests/coverage/dump.c
        self.process.wait()

    def stop(self, timeout=30):
        """Ask it to end and give back its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def reload(self, timeout=20):
        """SIGHUP, and its line in the log, whichever it is. A daemon that answers has had its turn."""
        client, before, deadline = self.client(), self.log().count("reloaded"), time.monotonic() + timeout
        self.process.send_signal(signal.SIGHUP)
        while self.log().count("reloaded") == before:
            assert time.monotonic() < deadline, self.log()
            client.call("hello")

    def restart(self, kill=False):
        if kill:
            self.kill()
        else:
            assert self.stop() == 0, self.log()
        return self.start()

    def close(self):
        for client in self.clients:
            client.close()
        if self.process and self.process.poll() is None:
            if "/coverage/" in BINARY:  # what was run is written down at a clean end only
                self.process.terminate()
                try:
                    self.process.wait(30)
                    return
                except subprocess.TimeoutExpired:
                    pass
            self.process.kill()
            self.process.wait()
