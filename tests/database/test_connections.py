"""What is refused at the door: a missing service, a secret, a standby, a pooler, a role without rights; and what is pinned."""

from __future__ import annotations

import os
import pwd
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from atlas_ops import database, settings
from atlas_ops.errors import AtlasError
from atlas_ops.report import Check, Severity


def refused(where: database.Session, *, write: bool = False) -> AtlasError:
    with pytest.raises(AtlasError) as stop:
        database.connect(where, write=write)
    assert [line.split(":")[0].strip() for line in stop.value.lines()] == ["STOPPED", "because", "next"]
    return stop.value


# Names and places


def test_a_service_connects_and_its_database_is_the_one_named(service: str, atlas: Any) -> None:
    with database.connect(database.session(service, "preflight")) as conn:
        assert conn.info.dbname == conninfo_to_dict(atlas.conninfo)["dbname"]
        assert conn.info.user == "postgres"


def test_a_missing_service_says_what_to_write_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pg_service.conf"
    file.write_text("[other]\nhost=localhost\npassword=hunter2\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    stop = refused(database.session("production", "preflight"))
    assert stop.what == "There is no libpq service named production." and "[production]" in stop.next
    assert "hunter2" not in str(stop)


@pytest.mark.parametrize(
    "written",
    [
        "postgresql://postgres:hunter2@db.example.com:5432/postgres",
        "host=db.example.com user=postgres password=hunter2",
        "host=db.example.com password = 'hunter2'",
        "production;password=hunter2",
        "production\n",
        "../production",
        "service=production password=hunter2",
        "",
    ],
)
def test_a_connection_string_is_refused_without_echo(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICEFILE", "/nonexistent")
    for door in (lambda: database.session(written, "preflight"), lambda: settings.find_specs(written, [])):
        with pytest.raises(AtlasError) as stop:
            door()
        assert "hunter2" not in str(stop.value) and "db.example.com" not in str(stop.value)
        assert stop.value.__cause__ is None


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("host=/nonexistent", "cannot be reached"),
        ("host=127.0.0.1\nport=1", "cannot be reached"),
        ("host=no-such-host.invalid", "cannot be reached"),
    ],
)
def test_an_unreachable_server_is_told_without_the_password(
    place: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pg_service.conf"
    file.write_text(f"[away]\n{place}\nuser=postgres\npassword=hunter2@x\n")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    stop = refused(database.session("away", "preflight"))
    assert said in stop.what and "psql service=away" in stop.next
    assert "hunter2" not in str(stop)


def test_an_unknown_role_and_an_unknown_database_are_told(empty: Any) -> None:
    for change in ({"user": "nobody_at_all", "password": "hunter2"}, {"dbname": "nothing_at_all"}):
        where = database.Session("test", make_conninfo(empty.conninfo, **change), "test")
        stop = refused(where)
        assert "does not exist" in stop.why and "hunter2" not in str(stop)


# Servers that must not be changed


def test_a_read_only_database_is_refused(empty: Any, ops: Any) -> None:
    ops.run(
        empty, f"ALTER DATABASE {conninfo_to_dict(empty.conninfo)['dbname']} SET default_transaction_read_only = on"
    )
    for write in (False, True):
        assert "read-only" in refused(ops.session(empty), write=write).what


def test_reading_connections_cannot_write(empty: Any, ops: Any) -> None:
    with database.connect(ops.session(empty)) as conn, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        conn.execute("CREATE TABLE public.made (id int)")
    with database.connect(ops.session(empty), write=True) as conn:
        conn.execute("CREATE TABLE public.made (id int)")


@pytest.fixture(scope="session")
def standby(server: Any, clusters: Path, programs: Path) -> Iterator[str]:
    """A hot standby of the session's server, by pg_basebackup; returns a connection string."""
    if server.version != 18:
        pytest.skip("one standby is enough")
    nobody = pwd.getpwnam("nobody")
    account: dict[str, Any] = (
        {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    folder = clusters / f"standby-{os.getpid()}"
    folder.mkdir(mode=0o700)
    if account:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)

    def program(name: str, *arguments: str) -> None:
        subprocess.run(
            [str(programs / name), *arguments], check=True, cwd="/", env={"PATH": os.defpath, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **account,
        )  # fmt: skip

    data = str(folder / "data")
    program("pg_basebackup", "-D", data, "-R", "-X", "stream", "-c", "fast", "-d", server.conninfo())
    settings = {
        "unix_socket_directories": folder,
        "listen_addresses": "",
        "max_connections": 200,
        "shared_buffers": "16MB",
        "fsync": "off",
    }
    started = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    program("pg_ctl", "-D", data, "-l", str(folder / "log"), "-o", started, "-w", "start")
    yield make_conninfo(host=str(folder), port=5432, user="supabase_admin", dbname="postgres")
    program("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def test_a_standby_is_refused(standby: str) -> None:
    for write in (False, True):
        stop = refused(database.Session("test", standby, "test"), write=write)
        assert stop.what == "This server is a standby." and "primary" in stop.next


@dataclass
class Pooler:
    """A proxy on a unix socket that passes everything on, but answers the log-in with a process id of its own, as poolers do."""

    folder: Path
    server: str

    def __post_init__(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.folder / ".s.PGSQL.5432"))
        self.listener.listen()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(self.server)
                threading.Thread(target=self.forward, args=(client, upstream), daemon=True).start()
                threading.Thread(target=self.answer, args=(upstream, client), daemon=True).start()

    @staticmethod
    def forward(client: socket.socket, upstream: socket.socket) -> None:
        with suppress(OSError), client, upstream:
            while data := client.recv(65536):
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def answer(upstream: socket.socket, client: socket.socket) -> None:
        with suppress(OSError, struct.error), upstream.makefile("rb") as messages:
            while kind := messages.read(1):
                (length,) = struct.unpack("!i", messages.read(4))
                body = messages.read(length - 4)
                if kind == b"K":  # BackendKeyData: process id and secret
                    body = struct.pack("!i", 1_234_567) + body[4:]
                client.sendall(kind + struct.pack("!i", length) + body)


@pytest.fixture
def pooler(empty: Any, clusters: Path) -> Iterator[str]:
    """A connection string through a pooler."""
    place = conninfo_to_dict(empty.conninfo)
    folder = clusters / f"pooler-{os.getpid()}-{empty.version}"
    folder.mkdir()
    proxy = Pooler(folder, f"{place['host']}/.s.PGSQL.{place['port']}")
    yield make_conninfo(empty.conninfo, host=str(folder))
    proxy.listener.close()


def test_a_transaction_pooler_is_refused(pooler: str) -> None:
    with psycopg.connect(pooler) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,), (
            "it is a working connection: only its process id is not the server's"
        )
    stop = refused(database.Session("test", pooler, "test"))
    assert "through a pooler" in stop.what and "the server itself" in stop.next


# What is pinned


def test_every_setting_is_pinned_whatever_role_database_and_environment_say(
    empty: Any, ops: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = conninfo_to_dict(empty.conninfo)["dbname"]
    others = {
        "TimeZone": "Asia/Kathmandu",
        "DateStyle": "German",
        "IntervalStyle": "sql_standard",
        "extra_float_digits": "-3",
        "bytea_output": "escape",
        "xmlbinary": "hex",
        "search_path": "pg_catalog, public",
        "row_security": "on",
        "default_transaction_isolation": "serializable",
        "client_min_messages": "debug1",
        "lock_timeout": "1h",
        "statement_timeout": "1h",
        "idle_in_transaction_session_timeout": "0",
        "application_name": "stranger",
    }
    for setting, value in others.items():
        quoted = value if setting == "search_path" else f"'{value}'"
        ops.run(empty, f"ALTER ROLE postgres IN DATABASE {name} SET {setting} = {quoted}")
    for variable, value in {
        "PGTZ": "America/New_York",
        "PGDATESTYLE": "SQL",
        "PGAPPNAME": "x",
        "PGCLIENTENCODING": "LATIN1",
    }.items():
        monkeypatch.setenv(variable, value)
    where = replace(
        ops.session(empty, "apply_migration"), lock_timeout_ms=123, statement_timeout_ms=4_000, digest="a0cd57f4"
    )
    wanted = {
        **database.PINNED,
        "lock_timeout": "123ms",
        "statement_timeout": "4s",
        "idle_in_transaction_session_timeout": "1min",
        "application_name": "atlas_ops apply_migration a0cd57f4",
    }
    assert wanted.keys() >= others.keys()
    with database.connect(where) as conn:
        assert {setting: conn.execute(f"SHOW {setting}").fetchone()[0] for setting in wanted} == wanted  # type: ignore[index]
        conn.execute("RESET ALL")
        assert conn.execute("SHOW application_name").fetchone() == ("atlas_ops apply_migration a0cd57f4",)


def test_the_name_of_the_application_fits() -> None:
    where = database.Session("test", "", "s" * 80, digest="a0cd57f4")
    assert len(where.application_name.encode()) == 63
    assert database.Session("test", "", "preflight").application_name == "atlas_ops preflight"


# Rights


@pytest.fixture
def visitor(empty: Any, ops: Any) -> Iterator[Any]:
    """A database with `note`, as seen by a role that owns nothing and may nothing."""
    role = f"visitor_{conninfo_to_dict(empty.conninfo)['dbname']}"
    ops.run(
        empty,
        f"CREATE ROLE {role} LOGIN",
        "CREATE TABLE author (id int PRIMARY KEY)",
        "CREATE TABLE note (id int PRIMARY KEY, author int REFERENCES author, at timestamptz NOT NULL)",
    )
    yield replace(empty, conninfo=make_conninfo(empty.conninfo, user=role))
    with psycopg.connect(empty.superuser_conninfo, autocommit=True) as conn:
        conn.execute(f"DROP OWNED BY {role} CASCADE")
        conn.execute(f"DROP ROLE {role}")


def reds(ops: Any, db: Any) -> list[Check]:
    return [check for check in ops.checks(db, ops.spec(), whole=False) if check.severity is Severity.STOP]


def test_every_right_that_is_missing_is_a_red_check_and_its_sql_cures_it(visitor: Any, empty: Any, ops: Any) -> None:
    ops.run(empty, "ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    found = reds(ops, visitor)
    assert {check.name for check in found} == {"rights", "row security"}
    said = " | ".join(check.what for check in found)
    for words in (
        "does not own note (postgres does)",
        "may not read note",
        "may not make foreign keys to public.author",
        "may not create the schema partitions",
        "may not create tables in schema public",
        "lacks CREATE on database",
        "lacks CREATE on schema public",
    ):
        assert words in said
    with psycopg.connect(empty.superuser_conninfo, autocommit=True) as conn:
        conn.execute(f"ALTER TABLE note OWNER TO {conninfo_to_dict(visitor.conninfo)['user']}")
        for check in reds(ops, visitor):
            conn.execute(check.sql)
    assert reds(ops, visitor) == []
    ops.migrate(visitor, ops.spec())
    assert ops.prove(visitor, ops.spec()) == 0


def test_forced_row_security_needs_a_role_that_bypasses_it(visitor: Any, empty: Any, ops: Any) -> None:
    role = conninfo_to_dict(visitor.conninfo)["user"]
    with psycopg.connect(empty.superuser_conninfo, autocommit=True) as conn:
        for statement in (
            f"ALTER TABLE note OWNER TO {role}",
            f"GRANT CREATE ON SCHEMA public TO {role}",
            f"GRANT CREATE ON DATABASE {conninfo_to_dict(empty.conninfo)['dbname']} TO {role}",
            f"GRANT REFERENCES ON author TO {role}",
            "INSERT INTO note (id, at) VALUES (1, '2024-01-05')",
            "ALTER TABLE note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        ):
            conn.execute(statement)
        [red] = reds(ops, visitor)
        assert red.name == "row security" and "hide rows" in red.why
        # past the preflight the server refuses: the pinned row_security = off turns silence into an error
        with database.connect(ops.session(visitor)) as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT count(*) FROM public.note")
        conn.execute(red.sql)
    ops.migrate(visitor, ops.spec())
    assert ops.prove(visitor, ops.spec()) == 1
