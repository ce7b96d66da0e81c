"""The Atlas database in small: production's tables with every trap in them, made from a seed.

`build` fills an empty database on any server from PostgreSQL 15 on; `ensure` keeps one on the embedded
server. The SQL lies in `sql/demo`, one file a chapter; rows come from hashes of row numbers, so a seed is a
digest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Literal, get_args

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from atlas_ops import embedded
from atlas_ops.database import Session, connect, translate
from atlas_ops.errors import AtlasError

Variant = Literal["default", "stale_partition", "abandoned"]
"""`stale_partition`: leftovers hold the next month's name. `abandoned`: the earlier attempt is there."""

DBNAME = "atlas"
"""The demo database on the embedded server."""

SMALLEST = 1_000
"""Rows of messages, and of usage_logs, below which not every trap has room."""

_MARK = "atlas_ops demo "
_CHAPTERS = (
    "roles",
    "schema",
    "scratch",
    "people",
    "messages",
    "usage_logs",
    "neighbours",
    "constraints",
    "security",
    "behaviour",
    "finish",
)
_SESSION = """
SET LOCAL TimeZone = 'UTC';
SET LOCAL search_path = public;
SET LOCAL synchronous_commit = off;
SET LOCAL maintenance_work_mem = '256MB'
"""
_HAS_TABLES = """
SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relkind IN ('r', 'p'))
"""


@dataclass(frozen=True)
class Recipe:
    """What a demo database was built from; the same recipe gives the same rows."""

    messages: int = 200_000
    usage_logs: int = 300_000
    seed: int = 1
    variant: Variant = "default"

    def __post_init__(self) -> None:
        if min(self.messages, self.usage_logs) < SMALLEST:
            raise AtlasError(
                what="The demo database would be too small.",
                why=f"Every trap needs room: messages and usage_logs take {SMALLEST:,} rows or more each.",
                next="Ask for 2,000 messages and 3,000 usage logs.",
            )
        if self.variant not in get_args(Variant):
            raise AtlasError(
                what="There is no such variant of the demo database.",
                why="A variant is one of " + ", ".join(get_args(Variant)) + ".",
                next="Ask for 'default'.",
            )


def build(
    conn: psycopg.Connection[Any],
    *,
    messages: int = 200_000,
    usage_logs: int = 300_000,
    seed: int = 1,
    variant: Variant = "default",
) -> None:
    """Fill the empty database of `conn` with exactly so many messages and usage logs, in one transaction.

    The role must own the database and be a superuser or Supabase's `postgres`. Ends with VACUUM and ANALYZE,
    so that plans and timings do not wait for autovacuum. Raises AtlasError if the database holds tables
    already, if a transaction is open, or if the recipe is impossible.
    """
    recipe = Recipe(messages, usage_logs, seed, variant)
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise AtlasError(
            what="The demo database was not built.",
            why="The connection is inside a transaction.",
            next="Commit it, or use a fresh connection.",
        )
    with conn.transaction():
        if conn.execute(_HAS_TABLES).fetchone() != (False,):
            raise AtlasError(
                what=f"The database {conn.info.dbname} is not empty.",
                why="The demo is built into an empty database only, so it never touches anybody's tables.",
                next="Name an empty database.",
            )
        conn.execute(_SESSION)
        for name in ("messages", "usage_logs", "seed"):
            conn.execute("SELECT set_config(%s, %s, true)", (f"atlas_demo.{name}", str(getattr(recipe, name))))
        variants = () if variant == "default" else (f"variant_{variant}",)
        for chapter in (*_CHAPTERS, *variants):
            conn.execute((files("atlas_ops") / "sql" / "demo" / f"{chapter}.sql").read_bytes())
        conn.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                sql.Identifier(conn.info.dbname), sql.Literal(_MARK + json.dumps(asdict(recipe)))
            )
        )
    _vacuum(conn)


def build_in(where: Session, *, messages: int, usage_logs: int, seed: int) -> None:
    """Build it in the empty database of a libpq service, for a rehearsal on another server; AtlasError as `build`."""
    try:
        with connect(where, write=True) as connection:
            build(connection, messages=messages, usage_logs=usage_logs, seed=seed)
    except psycopg.Error as error:
        raise translate(error, "Building the demo database") from None


def recipe_of(conn: psycopg.Connection[Any]) -> Recipe | None:
    """The recipe the database of `conn` was built from; None if it is not a complete demo database.

    A comment anybody can write: it tells what the database is, not that it may be changed. For that compare
    `embedded.system_identifier()`.
    """
    row = conn.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    return _parsed(row[0] if row else None)


def ensure(
    name: str = "demo",
    *,
    messages: int = 200_000,
    usage_logs: int = 300_000,
    seed: int = 1,
    variant: Variant = "default",
    rebuild: bool = False,
) -> str:
    """See that the embedded server `name` holds the demo database; return a connection string to it.

    A complete one is kept whatever its recipe and whatever was done to it since: only `rebuild` drops it. It
    is built under a temporary name and renamed, so a killed build is never taken for the demo. Raises
    AtlasError.
    """
    recipe = Recipe(messages, usage_logs, seed, variant)
    cluster = embedded.cluster(name)
    administration = cluster.conninfo("postgres", embedded.SUPERUSER)
    with cluster.lock("build"), psycopg.connect(administration, autocommit=True) as admin:
        if rebuild or not _is_complete(admin):
            unfinished = DBNAME + "_unfinished"
            _drop(admin, unfinished)
            admin.execute(sql.SQL("CREATE DATABASE {} OWNER postgres").format(sql.Identifier(unfinished)))
            with psycopg.connect(cluster.conninfo(unfinished)) as conn:
                build(conn, **asdict(recipe))
            _drop(admin, DBNAME)
            admin.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(DBNAME))
            )
    return cluster.conninfo(DBNAME)


def _is_complete(admin: psycopg.Connection[Any]) -> bool:
    row = admin.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", (DBNAME,)
    ).fetchone()
    return row is not None and _parsed(row[0]) is not None


def _parsed(comment: str | None) -> Recipe | None:
    if not (comment or "").startswith(_MARK):
        return None
    try:
        return Recipe(**json.loads(str(comment).removeprefix(_MARK)))
    except (ValueError, TypeError, AtlasError):
        return None


def _drop(admin: psycopg.Connection[Any], dbname: str) -> None:
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(dbname)))


def _vacuum(conn: psycopg.Connection[Any]) -> None:
    """VACUUM runs outside a transaction only."""
    before = conn.autocommit
    conn.autocommit = True
    try:
        conn.execute(
            "VACUUM (ANALYZE) auth.users, public.profiles, public.conversations, public.messages, "
            "public.usage_logs, public.message_reactions, public.content_reports"
        )
    finally:
        conn.autocommit = before
