"""A MessagePack-RPC client on a plain socket, for tests: calls, pipelining, notifications, and raw bytes."""

import itertools
import select
import socket
import time

import msgpack

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2


class RpcError(Exception):
    """The server refused a request; `error` is the map it answered."""

    def __init__(self, error):
        super().__init__(f"{error['code']}: {error['message']}")
        self.error = error
        self.code = error["code"]
        self.message = error["message"]
        self.field = error.get("field")
        self.details = error.get("details")
        self.retryable = error.get("retryable")


class Closed(Exception):
    """The server closed the connection; `notifications` are those that had not been asked for."""

    def __init__(self, notifications):
        super().__init__(f"connection closed, last heard: {notifications}")
        self.notifications = notifications


class Rpc:
    def __init__(self, path, timeout=20):
        self.timeout = timeout
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 30)
        self.ids = itertools.count(1)
        self.answers = {}
        self.order = []  # ids of answers as they came
        self.notifications = []

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.socket.close()

    # Sending

    def send(self, method, params=None, **more):
        """Send a request and return its id; the answer is fetched with wait()."""
        number = next(self.ids)
        self.write(self.encode(number, method, {**(params or {}), **more}))
        return number

    def send_many(self, requests):
        """Send [(method, params)...] in one piece; returns their ids."""
        numbers = [next(self.ids) for _ in requests]
        self.write(b"".join(self.encode(n, *request) for n, request in zip(numbers, requests)))
        return numbers

    def write(self, data):
        """Read meanwhile: the server takes no more requests from who does not take its answers."""
        rest = memoryview(data)
        poll = select.poll()
        poll.register(self.socket, select.POLLIN | select.POLLOUT)
        while rest:
            ready = dict(poll.poll(self.timeout * 1000)).get(self.socket.fileno(), 0)
            if ready == 0:
                raise TimeoutError("the server neither reads nor writes")
            if ready & ~select.POLLOUT:
                self.feed()
            if ready & select.POLLOUT:
                rest = rest[self.socket.send(rest, socket.MSG_DONTWAIT):]

    @staticmethod
    def encode(number, method, params=None):
        return msgpack.packb([REQUEST, number, method, [params] if params else []])

    def notify(self, method, params=None):
        self.write(msgpack.packb([NOTIFICATION, method, [params or {}]]))

    def send_raw(self, data):
        self.socket.sendall(data)

    # Receiving

    def receive(self, deadline):
        """Take the next message off the socket and file it."""
        while True:
            for message in self.unpacker:
                if message[0] == RESPONSE:
                    self.answers[message[1]] = (message[2], message[3])
                    self.order.append(message[1])
                else:
                    self.notifications.append((message[1], message[2][0]))
                return
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                self.feed()
            finally:
                self.socket.settimeout(self.timeout)

    def feed(self):
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(self.notifications)
        self.unpacker.feed(data)

    def wait(self, number, timeout=None):
        """The result of a request that was sent; raises RpcError where it was refused."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while number not in self.answers:
            self.receive(deadline)
        error, result = self.answers.pop(number)
        if error is not None:
            raise RpcError(error)
        return result

    def call(self, method, params=None, **more):
        return self.wait(self.send(method, params, **more))

    def next_notification(self, method=None, timeout=None, watch=None):
        """(method, map) of the next notification, of one method or one watch if that is named."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            for i, (name, part) in enumerate(self.notifications):
                if method in (None, name) and watch in (None, part.get("watch")):
                    return self.notifications.pop(i)
            self.receive(deadline)

    def next_events(self, timeout=None, watch=None):
        return self.next_notification("events", timeout, watch)[1]["events"]

    def wait_event(self, wanted, timeout=None, watch=None):
        """Watch until wanted(event) holds; returns all events up to then."""
        deadline = time.monotonic() + (timeout or self.timeout)
        seen = []
        while True:
            for event in self.next_events(max(deadline - time.monotonic(), 0.001), watch):
                seen.append(event)
                if wanted(event):
                    return seen

    def wait_stats(self, wanted, timeout=None):
        """Ask for the counters until wanted(stats) holds, for what tells no event."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            stats = self.call("stats")
            if wanted(stats):
                return stats
            if time.monotonic() > deadline:
                raise TimeoutError(f"stats are {stats}")

    def wait_closed(self, timeout=None):
        """Read until the server closes; returns the notifications that came before."""
        deadline = time.monotonic() + (timeout or self.timeout)
        try:
            while True:
                self.receive(deadline)
        except Closed as closed:
            return closed.notifications
