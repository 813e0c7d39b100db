#!/usr/bin/env python3
"""Do the operations of `reeve serve --provisioner workers` by sleeping so many seconds. Run as many as you like:

    reeve serve --dev --provisioner workers &
    python3 examples/python/worker.py reeve-dev/reeve.sock 2
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
        self.unpacker, self.last_id, self.operations, self.cancelled = msgpack.Unpacker(), 0, [], set()

    def receive(self, seconds=None):  # the next message if it is a response, else None
        while not (message := next(self.unpacker, None)):
            if not select.select([self.socket], [], [], seconds)[0]:
                return None
            if not (data := self.socket.recv(65536)):
                sys.exit("the server has closed the connection")
            self.unpacker.feed(data)
        if message[0] == 1:
            return message
        if message[1] == "worker.operation":
            self.operations.append(message[2][0])
        else:
            self.cancelled.add(message[2][0]["lease"])

    def call(self, method, **params):
        self.last_id += 1
        self.socket.sendall(msgpack.packb([0, self.last_id, method, [params]]))
        while not (message := self.receive()):
            pass
        if message[2] and message[2].get("field") != "lease":
            sys.exit(f"{method}: {message[2]['code']}: {message[2]['message']}")
        return message[3]  # None where the lease has ended: somebody else does the operation now


def work(client, lease, seconds, renew_seconds):
    """The place for the real work. It must be as good when it is done twice: the same id may come again."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        told = client.call("worker.progress", lease=lease, text=f"sleeping for {left:.1f} more seconds")
        if told is None or lease in client.cancelled:
            return "cancelled"
        client.receive(min(left, renew_seconds))
    return "done"


def main():
    client, seconds = Client(sys.argv[1]), float(sys.argv[2])
    renew_seconds = client.call("worker.subscribe")["leaseMs"] / 3000
    while True:
        while not client.operations:
            client.receive()
        told = client.operations.pop(0)
        lease, operation = told["lease"], told["operation"]
        print(f"-> {operation['kind']} of {operation['serviceId']}, attempt {operation['attempt']}", flush=True)
        status = work(client, lease, seconds, renew_seconds)
        client.call("worker.finish", lease=lease, status=status)
        print(f"   {status}", flush=True)


signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    main()
except KeyboardInterrupt:
    print("leaving; what is not done goes to others", flush=True)
