"""A clock for a daemon that tests put forward: minutes of idling are a jump."""

import pathlib

import pytest
from daemon import BINARY

FAKETIME = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


class Clock:
    def __init__(self, path):
        if not FAKETIME:
            pytest.skip("libfaketime is not installed")
        if "address" in str(BINARY) or "thread" in str(BINARY):
            pytest.skip("a sanitizer and another preloaded library do not go together")
        self.path, self.hours = path, 0
        self.put_forward(0)

    def environment(self):
        return {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.path), "FAKETIME_NO_CACHE": "1"}

    def put_forward(self, seconds):
        """Whole at once: half a file would be the time of now, and clocks do not go back."""
        part = self.path.with_suffix(".part")
        part.write_text(f"+{seconds}s\n")
        part.rename(self.path)

    def put_forward_for(self, tenant, seconds):
        """The engine looks at the clock when it has something to do."""
        self.put_forward(seconds)
        tenant.rpc.call("organization.create", name="later")

    def pass_until(self, tenant, service, holds):
        """Let its time pass until that holds for its record. What moved before may be told behind the jump."""
        def look(_):
            record = tenant.get(service)
            if record["state"] == "running":
                self.hours += 1
                self.put_forward_for(tenant, self.hours * 3600)
            return holds(record)

        tenant.rpc.wait_stats(look)

    def idle(self, tenant, service):
        """Until its server is stopped, too."""
        self.pass_until(tenant, service, lambda record: record["state"] == "idle" and "operation" not in record)
        return tenant.get(service)
