#!/usr/bin/env python3
"""Do the operations of `reeve serve --provisioner workers`, by printing them and sleeping. Run as many as you like:

    reeve serve --dev --provisioner workers &
    python3 examples/python/worker.py reeve-dev/reeve.sock 2

The last argument is how many seconds an operation takes. Needs Python 3 and the msgpack package.
"""

import select
import signal
import socket
import sys
import time

import msgpack


class Client:
    """MessagePack-RPC: request [0, id, method, [params]], response [1, id, error, result], notification [2, method, [params]]."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.unpacker = msgpack.Unpacker()
        self.last_id, self.operations, self.cancelled = 0, [], set()

    def receive(self, seconds=None):
        """The next message if it is a response, else None; what is told is kept."""
        while not (message := next(self.unpacker, None)):
            if not select.select([self.socket], [], [], seconds)[0]:
                return None
            data = self.socket.recv(65536)
            if not data:
                sys.exit("the server has closed the connection")
            self.unpacker.feed(data)
        if message[0] == 2 and message[1] == "worker.operation":
            self.operations.append((message[2][0]["lease"], message[2][0]["operation"]))
        elif message[0] == 2 and message[1] == "worker.cancelled":
            self.cancelled.add(message[2][0]["lease"])
        return message if message[0] == 1 else None

    def call(self, method, **params):
        self.last_id += 1
        self.socket.sendall(msgpack.packb([0, self.last_id, method, [params]]))
        while not (message := self.receive()):
            pass
        if message[2] and message[2].get("field") != "lease":  # that has ended: somebody else does the operation now
            sys.exit(f"{method}: {message[2]['code']}: {message[2]['message']}")
        return message[3]


def work(client, lease, seconds, renew_seconds):
    """The place for the real work. It must be as good when it is done twice: the same id may come again."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        client.call("worker.progress", lease=lease, done=int(1000 * (seconds - left)), total=int(1000 * seconds))
        client.receive(min(left, renew_seconds))
        if lease in client.cancelled:
            return "cancelled"
    return "done"


def main():
    client, seconds = Client(sys.argv[1]), float(sys.argv[2])
    renew_seconds = client.call("worker.subscribe")["leaseMs"] / 3000
    while True:
        while not client.operations:
            client.receive()
        lease, operation = client.operations.pop(0)
        print(f"-> {operation['kind']} of {operation['serviceId']}, attempt {operation['attempt']}", flush=True)
        status = work(client, lease, seconds, renew_seconds)
        client.call("worker.finish", lease=lease, status=status)
        print(f"   {status}", flush=True)


signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    main()
except KeyboardInterrupt:
    print("leaving; what is not done goes to others", flush=True)
