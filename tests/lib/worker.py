"""A worker for tests: a client that does operations when the test says so."""


class Worker:
    def __init__(self, daemon, **params):
        self.rpc = daemon.client()
        self.subscribe(**params)

    def subscribe(self, **params):
        answer = self.rpc.call("worker.subscribe", **params)
        self.number, self.lease_ms = answer["worker"], answer["leaseMs"]

    def take(self, timeout=None):
        """(lease, operation) of the next one that is handed to this client."""
        part = self.rpc.next_notification("worker.operation", timeout)[1]
        return part["lease"], part["operation"]

    def taken(self):
        """What was handed to this client by now and not taken; whatever the server sent before an answer is here."""
        self.rpc.call("hello")
        return [part["operation"] for name, part in self.rpc.notifications if name == "worker.operation"]

    def progress(self, lease, **params):
        return self.rpc.call("worker.progress", lease=lease, **params)

    def finish(self, lease, status="done", **params):
        return self.rpc.call("worker.finish", lease=lease, status=status, **params)

    def do(self, *kinds):
        """Take operations of these kinds, in this order, and do them; returns the last one."""
        for kind in kinds:
            lease, operation = self.take()
            assert operation["kind"] == kind
            self.finish(lease)
        return operation
