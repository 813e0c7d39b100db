#!/usr/bin/env python3
"""Walk one service through its whole life over the socket of `reeve serve`, and print every answer and event.

Needs Python 3 and the msgpack package (Debian: python3-msgpack). Start a server and run this:

    reeve serve --dev &
    python3 examples/python/lifecycle.py reeve-dev/reeve.sock

The socket may be named by REEVE_SOCKET too; the organization is REEVE_ORG_ID, or a new one.
"""

import os
import socket
import sys

import msgpack


class Client:
    """MessagePack-RPC: request [0, id, method, [params]], response [1, id, error, result], notification [2, method, [params]]."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.unpacker = msgpack.Unpacker()
        self.last_id = 0
        self.events = []

    def receive(self):
        while True:
            for message in self.unpacker:
                return message
            data = self.socket.recv(65536)
            if not data:
                sys.exit("the server has closed the connection")
            self.unpacker.feed(data)

    def call(self, method, **params):
        self.last_id += 1
        self.socket.sendall(msgpack.packb([0, self.last_id, method, [params]]))
        while True:
            message = self.receive()
            if message[0] == 2:
                self.keep(message)
            elif message[1] == self.last_id:
                if message[2] is not None:
                    sys.exit(f"{method}: {message[2]['code']}: {message[2].get('field', '')} {message[2]['message']}")
                print(f"-> {method}")
                return message[3]

    def keep(self, message):
        if message[1] == "events":
            self.events += message[2][0]["events"]

    def wait_until(self, state):
        """Take events until the service has come to this state; nobody asks again and again."""
        while True:
            while self.events:
                event = self.events.pop(0)
                print(f"   {event['sequence']} {event['type']}: {event.get('from', '')} -> {event.get('to', '')}")
                if event.get("to") == state:
                    return
            self.keep(self.receive())


client = Client(sys.argv[1] if len(sys.argv) > 1 else os.environ["REEVE_SOCKET"])
hello = client.call("hello")
print(f"   {hello['product']} {hello['version']}, protocol {hello['protocol']}, {len(hello['methods'])} methods")
organization = os.environ.get("REEVE_ORG_ID") or client.call("organization.create", name="example")["id"]
client.call("event.watch", organizationId=organization, **{"from": hello["lastSequence"] + 1})

created = client.call("service.create", organizationId=organization, name="example", provider="aws",
                      region="us-east-1", tier="development", idempotencyKey=f"example-{os.getpid()}")
service = {"organizationId": organization, "serviceId": created["service"]["id"]}
client.wait_until("running")
for method, state in (("stop", "stopped"), ("start", "running"), ("stop", "stopped"), ("delete", "gone")):
    client.call(f"service.{method}", **service)
    client.wait_until(state)
