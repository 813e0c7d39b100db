"""An organization and what tests do in it."""

SERVICE = {"provider": "aws", "region": "us-east-1", "tier": "development"}


class Tenant:
    def __init__(self, rpc, name="test", **more):
        self.rpc = rpc
        self.organization = rpc.call("organization.create", name=name, **more)
        self.id = self.organization["id"]

    def create(self, name="service", **more):
        """Create a service; it is provisioning when this returns."""
        answer = self.rpc.call("service.create", organizationId=self.id, name=name, **{**SERVICE, **more})
        return answer["service"]

    def get(self, service):
        return self.rpc.call("service.get", **self.of(service))

    def of(self, service):
        """The parameters that name a service."""
        return {"organizationId": self.id, "serviceId": service["id"]}

    def wait_state(self, service, state, timeout=20):
        """Wait by a watch, without asking again and again."""
        number = self.rpc.call("event.watch", serviceId=service["id"])["watch"]
        try:
            record = self.get(service)
            if record["state"] != state:
                self.rpc.wait_event(lambda event: event.get("to") == state, timeout, number)
                record = self.get(service)
            return record
        finally:
            self.rpc.call("event.unwatch", watch=number)
            self.rpc.notifications = [n for n in self.rpc.notifications if n[1].get("watch") != number]

    def running(self, name="service", **more):
        return self.wait_state(self.create(name, **more), "running")
