"""Makes good requests of what the OpenAPI document cannot say; wrong ones stay wrong."""

import ipaddress
import itertools

import schemathesis
from schemathesis import GenerationMode

numbers = itertools.count(1)


def mend_sources(entries):
    """A pattern of networks that holds for all of them also holds for some that are none."""
    for entry in entries:
        try:
            ipaddress.ip_network(entry["source"], strict=False)
        except ValueError:
            entry["source"] = "2001:db8::/32"


def mend(body):
    """What depends on other fields, on the time or on the catalogue."""
    if "provider" in body:
        body.update(provider="aws", region="us-east-1")
        body.pop("backupId", None)
    if body.get("tier") == "development":
        body["tier"] = "production"
    if isinstance(body.get("expireAt"), str):
        body["expireAt"] = "2099-12-31T00:00:00Z"
    if body.get("backupStartTime"):
        body["backupPeriodInHours"] = 24
    for unit in ("Total", "Replica"):
        low, high = f"min{unit}MemoryGb", f"max{unit}MemoryGb"
        if low in body or high in body:
            body[low], body[high] = sorted((body.get(low, 24), body.get(high, 24)))
    if "minTotalMemoryGb" in body:  # or per replica
        body.pop("minReplicaMemoryGb", None), body.pop("maxReplicaMemoryGb", None)
    entries = body.get("ipAccessList") or []
    mend_sources(entries if isinstance(entries, list) else entries.get("add", []) + entries.get("remove", []))


@schemathesis.hook
def before_call(context, case, kwargs):
    headers = case.headers or {}
    if headers.get("Idempotency-Key"):
        headers["Idempotency-Key"] = f"contract-{next(numbers)}"  # belongs to one request
    if headers.get("If-Match") == "0":  # what the tool takes where a pattern is too much for it
        headers["If-Match"] = "*"
    if not case.meta or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    for name in {"from_date", "to_date"} & set(case.query or {}):
        case.query[name] = "2026-01-31"
    if "filtered_metrics" in (case.query or {}):
        case.query["filtered_metrics"] = "true"
    if isinstance(case.body, dict):
        mend(case.body)
