"""Server processes: started so that they stay, found again for certain, ended for certain."""

import os
import select
import signal

from base import read, write

FILES_MAX = 65536


def stat_of(pid):
    """(state, session, start time) of a process, or None. See proc(5); the name before may hold anything."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[3]), int(fields[19])


def boot():
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


class Process:
    """A server by its number, start time and boot: the number alone may be another's by now. What has ended is gone,
    even where nobody has taken notice of its end (a zombie)."""

    def __init__(self, pid, started, booted):
        self.pid, self.started, self.booted = pid, started, booted

    @classmethod
    def written(cls, path):
        """What a file says, or None. It may have ended since."""
        words = (read(path) or "").split()
        return cls(int(words[0]), int(words[1]), words[2]) if len(words) == 3 else None

    def alive(self):
        stat = stat_of(self.pid)
        return bool(stat) and stat[0] not in "ZX" and stat[2] == self.started and boot() == self.booted

    def wait(self, milliseconds):
        """True: it has ended. Returns as soon as it has."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive():
                return True
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(max(milliseconds, 0)))
        finally:
            os.close(descriptor)

    def signal(self, number):
        """To this process and no other that has its number."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    def end(self, grace_ms):
        """Ask, wait, insist. True: it went by itself."""
        self.signal(signal.SIGTERM)
        if grace_ms > 0 and self.wait(grace_ms):
            return True
        self.signal(signal.SIGKILL)
        while not self.wait(1000):
            pass
        return False

    def rss_bytes(self):
        with open(f"/proc/{self.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def uids_of(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            line = next(line for line in file if line.startswith("Uid:"))
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return set()
    return {int(word) for word in line.split()[1:]}


def is_at(name, home):
    """Its working directory is there, or below."""
    try:
        directory = os.readlink(f"/proc/{name}/cwd")
    except OSError:
        return False
    return directory == home or directory.startswith(home + "/")


def family(process, uid, home=None):
    """What a server has left behind: processes of its uid, where it has one of its own, else those of its session, or
    that are at work in its home (PostgreSQL gives each a session)."""
    found = []
    leader = stat_of(process.pid) if process else None
    gone = not process or process.booted != boot() or (leader and leader[2] != process.started)
    for name in filter(str.isdigit, os.listdir("/proc")):
        stat = stat_of(name)
        if not stat or stat[0] in "ZX" or int(name) == os.getpid():
            continue
        if uid in uids_of(name) if uid is not None else not gone and stat[1] == process.pid or home and is_at(name, home):
            found.append(Process(int(name), stat[2], boot()))
    return found


def end_family(process, uid, home=None):
    while members := family(process, uid, home):
        for member in members:
            member.signal(signal.SIGKILL)
        for member in members:
            member.wait(1000)


def launch(arguments, pid_file, home, uid, log_name):
    """Start a server in `home`, with a session of its own, rights of nobody but `uid` and nothing of ours. It has
    written down who it is before it can be anything else; until then it has our locks."""
    pid = os.fork()
    if pid:
        return Process(pid, stat_of(pid)[2], boot())
    try:
        os.setsid()
        write(pid_file, f"{os.getpid()} {stat_of(os.getpid())[2]} {boot()}\n", durable=False)
        os.chdir(home)
        become(arguments, uid, log_name)
    except BaseException as error:
        os.write(2, f"cannot start {arguments[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def become(arguments, uid, log_name):
    import resource

    if uid is not None:
        os.setegid(uid)
        os.seteuid(uid)
    log = os.open(log_name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    if uid is not None:
        os.seteuid(0)
        os.setegid(0)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and what is ignored stays so
        signal.signal(number, signal.SIG_DFL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FILES_MAX) if hard != resource.RLIM_INFINITY else FILES_MAX, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    drop = ["setpriv", "--no-new-privs"]
    if uid is not None:
        drop += [f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all"]
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # the locks, too: they are ours up to here
    os.execve("/usr/bin/setpriv", drop + ["--"] + arguments,
              {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/proc/self/cwd", "LANG": "C.UTF-8", "TZ": "UTC"})


def wait_until(ready, process):
    """Ask until ready() holds. False: the process has ended before."""
    while not ready():
        if process.wait(5):
            return False
    return True
