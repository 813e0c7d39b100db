"""Backups: a directory each, which is there whole or not at all, and tells by itself whether it still is what was written.

    BACKUPS/ID/manifest.json   what it is: format, ids, plugin, server version, counts, each file with size and sha256
    BACKUPS/ID/SHA256SUMS      of all files and of the manifest; `sha256sum -c SHA256SUMS` checks it without us
    BACKUPS/ID/...             the files
    BACKUPS/SERVICE.part       one that is being made or removed; means nothing. A service does one thing at a time"""

import contextlib
import hashlib
import json
import os
import time

from base import never, progress, remove_tree, sync_directory

FORMAT = 1
CHUNK = 1 << 20


def path_of(identity):
    return os.path.join(os.environ["REEVE_BACKUP_DIR"], identity)


def exists(identity):
    return os.path.isdir(path_of(identity))


def part_of(service):
    return os.path.join(os.environ["REEVE_BACKUP_DIR"], service + ".part")


def clean(service):
    """What was begun and not ended."""
    remove_tree(part_of(service))


def remove(identity, service):
    """Gone as a whole first, then piece by piece."""
    clean(service)
    if exists(identity):
        os.rename(path_of(identity), part_of(service))
        clean(service)


class File:
    """One file that is being written, and what there is to know of it."""

    def __init__(self, path):
        self.file = open(path, "xb")
        self.size, self.sum = 0, hashlib.sha256()

    def write(self, data):
        self.file.write(data)
        self.sum.update(data)
        self.size += len(data)

    def close(self):
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return {"size": self.size, "sha256": self.sum.hexdigest()}


class New:
    """A backup that is being made: files are added, then it is published."""

    def __init__(self, identity, service):
        self.identity, self.service, self.files = identity, service, {}
        clean(service)
        os.mkdir(part_of(service), 0o700)

    @contextlib.contextmanager
    def create(self, name):
        """A file to write to."""
        file = File(self.path(name))
        yield file
        self.files[name] = file.close()

    def add(self, name, chunks):
        """A file of the given pieces of bytes."""
        with self.create(name) as file:
            for chunk in chunks:
                file.write(chunk)

    def path(self, name):
        return os.path.join(part_of(self.service), name)

    def publish(self, plugin, server_version, counts):
        manifest = {"format": FORMAT, "backup": self.identity, "service": self.service, "plugin": plugin, "serverVersion": server_version,
                    "madeAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "counts": counts, "files": dict(self.files)}
        files = dict(self.files)
        self.add("manifest.json", [(json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()])
        files["manifest.json"] = self.files.pop("manifest.json")
        self.add("SHA256SUMS", ["".join(f"{file['sha256']}  {name}\n" for name, file in sorted(files.items())).encode()])
        sync_directory(part_of(self.service))
        os.rename(part_of(self.service), path_of(self.identity))
        sync_directory(os.environ["REEVE_BACKUP_DIR"])
        return answer_of(manifest, files["manifest.json"]["sha256"])


def answer_of(manifest, sha256):
    return {"sizeBytes": sum(file["size"] for file in manifest["files"].values()), "handle": {"format": FORMAT, "sha256": sha256}}


def chunks_of(file, total=None, text=""):
    """The bytes of a file that is open, piece by piece; tells how far it is."""
    done = 0
    while chunk := file.read(CHUNK):
        done += len(chunk)
        yield chunk
        if total:
            progress(done, total, text)


# ---- Reading ----


def damaged(identity, what):
    return never("backup_damaged", f"the backup {identity} is damaged: {what}")


def sum_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_sums(identity):
    try:
        with open(os.path.join(path_of(identity), "SHA256SUMS")) as file:
            return {line[66:]: line[:64] for line in file.read().splitlines()}
    except (FileNotFoundError, UnicodeDecodeError):
        raise damaged(identity, "SHA256SUMS is missing or unreadable") from None


def read_manifest(identity):
    """(manifest, its sha256): the words of who made it, unchanged."""
    if not exists(identity):
        raise never("no_such_backup", f"there is no backup {identity} here")
    path, sums = os.path.join(path_of(identity), "manifest.json"), read_sums(identity)
    try:
        sha256 = sum_of(path)
    except FileNotFoundError:
        raise damaged(identity, "manifest.json is missing") from None
    if sums.get("manifest.json") != sha256:
        raise damaged(identity, "manifest.json is not what was written")
    with open(path) as file:
        manifest = json.load(file)
    if manifest["format"] != FORMAT:
        raise never("backup_foreign", f"the backup {identity} has format {manifest['format']}, this plugin reads format {FORMAT}")
    return manifest, sha256


def version_numbers(version):
    """What comes before the last number counts: 7.0 of 7.0.15."""
    return [int(word) for word in version.split(".")[:2] if word.isdigit()]


class Old:
    """A backup to restore from: opened, it is whole, unchanged and one that this plugin and this server can read."""

    def __init__(self, identity, service, plugin, server_version, handle):
        self.identity = identity
        self.manifest, sha256 = read_manifest(identity)
        if self.manifest["plugin"] != plugin:
            raise never("backup_foreign", f"the backup {identity} is one of {self.manifest['plugin']}, not of {plugin}")
        if (self.manifest["backup"], self.manifest["service"]) != (identity, service):
            raise never("backup_foreign", f"what lies in the place of the backup {identity} is {self.manifest['backup']}, of service "
                                          f"{self.manifest['service']}")
        if handle and handle.get("sha256") not in (None, sha256):
            raise damaged(identity, "it is not the one that was made then: its manifest is another")
        if version_numbers(self.manifest["serverVersion"]) > version_numbers(server_version):
            raise never("backup_too_new", f"the backup {identity} is of {plugin} {self.manifest['serverVersion']}; installed is {server_version}")
        self.verify()

    def path(self, name):
        return os.path.join(path_of(self.identity), name)

    def verify(self):
        total, done = sum(file["size"] for file in self.manifest["files"].values()), 0
        for name, file in self.manifest["files"].items():
            try:
                size = os.stat(self.path(name)).st_size
            except FileNotFoundError:
                raise damaged(self.identity, f"{name} is missing") from None
            if size != file["size"]:
                raise damaged(self.identity, f"{name} has {size} bytes, {file['size']} were written")
            if sum_of(self.path(name)) != file["sha256"]:
                raise damaged(self.identity, f"{name} has other bytes than were written")
            done += size
            progress(done, total, "verifying the backup")
