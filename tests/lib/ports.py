"""Ports for the servers of a test: free, and nobody else's while the test runs, not of another run of the tests either."""

import os
import socket

BLOCK = 140
FIRST, LAST = 20000, 32000  # the system gives out none of these


class Ports:
    """`first` to `last`, as long as this object lives: a name that only one process can have stands for each block."""

    def __init__(self, count):
        assert count <= BLOCK
        blocks = range(FIRST, LAST - BLOCK, BLOCK)
        for i in range(len(blocks)):
            self.first = blocks[(os.getpid() + i) % len(blocks)]
            self.last = self.first + count - 1
            self.name = socket.socket(socket.AF_UNIX)
            try:
                self.name.bind(f"\0reeve-test-ports-{self.first}")
                for port in range(self.first, self.last + 1):
                    socket.create_server(("127.0.0.1", port)).close()
                return
            except OSError:
                self.name.close()
        raise RuntimeError("no free ports")

    def __str__(self):
        return f"{self.first}-{self.last}"
