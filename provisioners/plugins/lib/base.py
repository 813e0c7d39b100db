"""What everything here stands on: how an operation fails, settings, files that are whole, the log and progress."""

import os
import sys

DONE, PERMANENT, UNSUPPORTED, RETRY = 0, 65, 69, 75


class Refused(Exception):
    """An operation ends without success; `exit_code` says whether it is worth another attempt."""

    def __init__(self, exit_code, code, message):
        super().__init__(message)
        self.exit_code, self.code = exit_code, code


def never(code, message):
    return Refused(PERMANENT, code, message)


def not_now(code, message):
    return Refused(RETRY, code, message)


class ServerError(Refused):
    """A server has answered, and has refused what we wanted of it."""

    def __init__(self, message):
        super().__init__(RETRY, "server", message)


def log(*words):
    print(*words, file=sys.stderr, flush=True)


def progress(done, total, text):
    import json

    try:
        os.write(3, (json.dumps({"done": done, "total": total, "text": text}) + "\n").encode())
    except OSError:  # nobody wants to know
        pass


# ---- Settings: variables of the environment, env.NAME=VALUE for reeve ----


def refuse_setting(name, value, allowed):
    raise never("bad_setting", f"env.{name}={value}: must be {allowed}")


def number(name, default, low, high):
    text = os.environ.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        refuse_setting(name, text, f"a whole number from {low} to {high}")
    return int(text)


def number_range(name, default, low, high):
    text = os.environ.get(name, default)
    first, _, last = text.partition("-")
    if not (text.isascii() and first.isdigit() and last.isdigit() and low <= int(first) <= int(last) <= high):
        refuse_setting(name, text, f"FIRST-LAST, from {low} to {high}")
    return range(int(first), int(last) + 1)


def address(name, default):
    text = os.environ.get(name, default)
    if text == default:
        return text
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        refuse_setting(name, text, "a numeric address of this machine")
    return text


# ---- Files ----


def read(path):
    """The text of a file, or None."""
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path, text, durable=True):
    """Whole or not at all, whenever we are killed; for its owner alone. What is as it should be is left alone."""
    if read(path) == text:
        return
    part = path + ".part"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.rename(part, path)
    if durable:
        sync_directory(os.path.dirname(path) or ".")


def remove_tree(path):
    """All of a directory, and nothing where there is none. Links in it are not followed."""
    import shutil

    if os.path.isdir(path):
        shutil.rmtree(path)


def locked(path):
    """Wait for the lock of that name. Who has the lock may remove its file: then the name stands for another one."""
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
