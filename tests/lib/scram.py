"""Verifiers of passwords for SCRAM-SHA-256, made by Python's own means."""

import base64
import hashlib
import hmac


def verifies(verifier, password):
    """Is this the verifier of that password, in the form of PostgreSQL?"""
    form, salted, keys = verifier.split("$")
    iterations, salt = salted.split(":")
    secret = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(iterations))
    client_key, server_key = (hmac.digest(secret, name, "sha256") for name in (b"Client Key", b"Server Key"))
    wanted = [hashlib.sha256(client_key).digest(), server_key]
    return form == "SCRAM-SHA-256" and int(iterations) >= 4096 and [base64.b64decode(key) for key in keys.split(":")] == wanted
