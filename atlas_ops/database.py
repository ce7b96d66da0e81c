"""Connections: to the embedded demo or to a libpq service, pinned and checked. No password passes through here.

libpq itself finds host, user and password in its own places (PGSERVICEFILE, PGPASSFILE, PG*): a notebook, a parameter or a log
holds the name of a service at most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from atlas_ops import embedded
from atlas_ops.errors import AtlasError

DEMO = "demo"
CONNECT_TIMEOUT_S = 10
IDLE_TIMEOUT = "60s"  # in a transaction: a client of ours that hangs must not keep its locks
POOLER_PROBES = 3

# What every connection of ours is pinned to, so that bounds, digests and printed expressions are the same from any client.
PINNED: Mapping[str, str] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "search_path": "",  # so that every printed expression is qualified, and nothing of ours resolves by accident
    "row_security": "off",  # an error instead of rows silently left out by a policy (manual: row_security)
    "default_transaction_isolation": "read committed",  # a drain must see what was committed since it took its keys
    "idle_session_timeout": "0",  # the connection that holds the lock of a run idles for as long as the run lasts
    "client_encoding": "UTF8",
    "client_min_messages": "warning",
}


@dataclass(frozen=True, slots=True)
class Session:
    """How to reach a database, and what to pin there."""

    name: str  # the `database` parameter
    conninfo: str
    stage: str
    lock_timeout_ms: int = 2_000
    statement_timeout_ms: int = 0
    digest: str = ""

    @property
    def is_demo(self) -> bool:
        """The embedded demo database, which alone may be confirmed with `demo`."""
        return self.name == DEMO

    @property
    def application_name(self) -> str:
        """As pg_stat_activity shows it: the product, the stage and the plan's digest."""
        return " ".join(filter(None, ("atlas_ops", self.stage, self.digest)))[:63]


def session(database: str, stage: str) -> Session:
    """Where `database` is: the embedded demo (started on demand) or a libpq service.

    Raises AtlasError for a connection string, which may hold a password and would be kept in the record.
    """
    if database == DEMO:
        return Session(DEMO, embedded.conninfo(), stage)
    if not re.fullmatch(r"[\w.-]+", database):
        raise AtlasError(
            what="database is no name of a libpq service.",
            why='It takes "demo" or the name of a service: letters, digits, _ . and -. A connection string could hold a password, '
            "and parameters are kept in the record.",
            next="Write the connection into the file PGSERVICEFILE names (or ~/.pg_service.conf), the password into ~/.pgpass, "
            "and give the service's name.",
        )
    return Session(database, f"service={database}", stage)


def connect(where: Session, *, write: bool = False, autocommit: bool = True) -> psycopg.Connection:
    """A pinned connection; read-only unless `write`.

    Raises AtlasError where the server cannot be reached, is a standby or read-only, or a pooler answers.
    """
    try:
        connection = psycopg.connect(
            where.conninfo,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=where.application_name,
            prepare_threshold=None,
        )
    except psycopg.OperationalError as error:
        raise _unreachable(where, error) from None
    try:
        _refuse_pooler(connection)
        _refuse_standby(connection)
        for name, value in {**PINNED, **_timeouts(where)}.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        if not write:
            connection.execute("SET default_transaction_read_only = on")
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def _timeouts(where: Session) -> dict[str, str]:
    return {
        "lock_timeout": f"{where.lock_timeout_ms}ms",
        "statement_timeout": f"{where.statement_timeout_ms}ms",
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT,
    }


def _refuse_pooler(connection: psycopg.Connection) -> None:
    """A pooler tells a process id of its own at the log-in; the one that answers is another.

    Session mode would do, but from here it cannot be told apart from transaction mode, where each statement goes to any backend.
    """
    told = connection.info.backend_pid
    for _ in range(POOLER_PROBES):
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        if row is None or row[0] != told:
            raise AtlasError(
                what="This connection goes through a pooler.",
                why="In transaction mode SET would be lost between statements, advisory locks be shared with strangers, and a copy be "
                "cut in pieces; session mode cannot be told apart from it.",
                next="Name the server itself in the service (on Supabase: the direct connection, port 5432 of the database's own host).",
            )


def _refuse_standby(connection: psycopg.Connection) -> None:
    row = connection.execute(
        "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool"
    ).fetchone()
    assert row is not None
    standby, read_only = row
    if standby:
        raise AtlasError(
            what="This server is a standby.",
            why="It cannot be changed, and its figures lag behind the primary's: a plan made here would be a plan for yesterday.",
            next="Name the primary in the service (target_session_attrs=read-write finds it among several hosts).",
        )
    if read_only:
        raise AtlasError(
            what="This database or role is read-only (default_transaction_read_only is on).",
            why="Somebody switched writing off, for instance the host because the disk is full.",
            next="Find out who and why: SELECT * FROM pg_db_role_setting; SHOW default_transaction_read_only;",
        )


def _unreachable(where: Session, error: psycopg.OperationalError) -> AtlasError:
    """Our words for a refused connection. libpq's own text follows: it names host, port and user, never the password of a service."""
    text = " ".join(str(error).split())
    if "definition of service" in text:
        return AtlasError(
            what=f"There is no libpq service named {where.name}.",
            why="Neither the file that PGSERVICEFILE names nor ~/.pg_service.conf has a section of that name.",
            next=f"Add a section [{where.name}] with host, port, dbname and user; the password belongs into ~/.pgpass.",
        )
    if "password" in text or "authentication" in text:
        return AtlasError(
            what=f"The server of service {where.name} refused the log-in.",
            why="The password is missing or wrong, or pg_hba.conf does not let this user in from here.",
            next="Check ~/.pgpass (or the file PGPASSFILE names; mode 0600) and the service's user, then: "
            f"psql service={where.name}",
        )
    return AtlasError(
        what=f"The database {where.name} cannot be reached.",
        why=text,
        next=f"Try the same from a shell: psql service={where.name}"
        if not where.is_demo
        else "Run again; the demo server starts on demand.",
    )


# What to do next, by SQLSTATE, where the server gives no HINT of its own.
_NEXT = {
    "42501": ("The role lacks a right.", "Connect as the table's owner, or GRANT what is missing."),
    "55P03": ("Somebody else held the lock for longer than lock_timeout.", "See who: 01 Preflight lists open transactions. Then run again."),
    "55000": ("The tables are not in the state that it needs.", "Run the stage again: the plan is read anew."),
    "57014": ("statement_timeout ended it, or somebody cancelled it.", "Nothing half done is left. Run again, or raise statement_timeout."),
    "53100": ("The disk is full.", "Free space, then run again: what is done stays done."),
    "40P01": ("A deadlock: somebody else asked for the same locks in another order.", "Run again."),
    "42P07": ("The name is taken.", "01 Preflight names the relation and tells how to see whether it can go."),
    "23505": ("Two rows have the same key.", "03 Verify counts names keys on both sides; 01 Preflight lists uniqueness that will be lost."),
    "23503": ("A referenced row is gone: it was deleted while the rows were being copied.",
              "Run again: rows that are gone from the original go from the copy before they are checked."),
    "23502": ("A row has NULL where the copy allows none.", "01 Preflight counts rows without a partition key; null_keys says what becomes of them."),
    "23514": ("A row does not fit its partition or a CHECK.", "01 Preflight counts rows out of range; those in the default partition move first."),
    "25006": ("The transaction is read-only.", "A stage that reads never writes: this is a fault of ours, please report it."),
    "57P01": ("The server ended the connection.", "Run again: what is done stays done, the next plan is read from the catalogs."),
    "25P03": ("The connection idled in a transaction for over a minute and was ended.", "Run again."),
}  # fmt: skip


# a DO block can only be ours, since a user's trigger is a function; and nobody else may make one in our own schema
_OURS = re.compile(r"PL/pgSQL function (atlas_ops\.|public\.create_future_partitions\(|inline_code_block)")


def translate(error: psycopg.Error, doing: str) -> AtlasError:
    """One psycopg error, in three lines. Never its DETAIL, which carries row values; the server's HINT wins over our table."""
    state = error.sqlstate or ""
    if not state:
        return AtlasError(
            what=f"{doing}: the connection was lost.",
            why="The server, the network or this client ended it; if it was at COMMIT, the state is the one before or the one after.",
            next="Run again: the state is read anew from the catalogs, never assumed.",
        )
    because, cure = _NEXT.get(state, (type(error).__name__, "Read the server's message, cure it and run again."))
    primary = (error.diag.message_primary or "").splitlines()[:1]
    where = _object(error)
    if _raised_by_a_function(error):
        because, primary = "A function of the database stopped it.", ["(its message is not shown: it may quote a row)"]
    return AtlasError(
        what=f"{doing}: {because}",
        why=f"{state} {_without_values(state, primary[0] if primary else '')}{where}",
        next=(not _raised_by_a_function(error) and error.diag.message_hint) or cure,
    )


def written(cursor: psycopg.Cursor[Any]) -> int:
    """The rows that a statement inserted, updated or deleted."""
    wrote = (cursor.statusmessage or "").startswith(("INSERT", "UPDATE", "DELETE", "MERGE", "COPY"))
    return cursor.rowcount if wrote else 0


def _raised_by_a_function(error: psycopg.Error) -> bool:
    """Whether RAISE in a PL/pgSQL function wrote the message, ours aside."""
    raised_in = (error.diag.context or "").partition("\n")[0]
    ours = bool(_OURS.match(raised_in))
    return error.diag.source_function == "exec_stmt_raise" and not ours


def _without_values(state: str, message: str) -> str:
    """The server's primary message names objects; a data exception (class 22) quotes the value itself, and that is cut."""
    return re.sub(r'".*', '"…"', message) if state.startswith("22") else message


def _object(error: psycopg.Error) -> str:
    parts = [
        error.diag.schema_name,
        error.diag.table_name,
        error.diag.column_name,
        error.diag.constraint_name,
    ]
    named = ".".join(part for part in parts if part)
    return f" ({named})" if named else ""


def identifier(*parts: str) -> str:
    """A qualified name, quoted as psycopg quotes it."""
    return sql.Identifier(*parts).as_string(None)
