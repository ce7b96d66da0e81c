"""What a capture costs the application, and whether it misses a key: one table for the choice of the trigger.

    make bench-capture                                          # every variant, eight runs in turn, under ten minutes
    python benchmarks/capture_cost.py --variants shipped --runs 30
    python benchmarks/capture_cost.py --bin-dir /usr/lib/postgresql/15/bin --seconds 1 --runs 1

Single-row INSERTs and UPDATEs by pgbench (four clients, prepared statements) into a table like Atlas' messages, durability on.
The clients go on while the captures are exchanged under them. Every run with a capture stands between two without and is compared with
those two, because a shared machine becomes slower and faster within seconds. Nothing but WAL is written meanwhile: the table fits
into memory, no checkpoint comes, and every page was written before. So the statements are as cheap as they can be, and the share
that a capture leaves is the worst case. The server is a temporary one, removed afterwards.

No key may be missed and no statement of the application may fail: that is tried first, and printed beside the cost.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from atlas_ops import embedded, sqlfile
from atlas_ops.embedded import Cluster

SETTINGS = {
    "shared_buffers": "1GB",
    "checkpoint_timeout": "1d",
    "max_wal_size": "32GB",
    "bgwriter_lru_maxpages": "0",
    "autovacuum_naptime": "1s",
}
"""Nothing but WAL is written. Autovacuum comes often and looks only at logs that ask for it: everything else has it off."""

BUILD = """
CREATE ROLE app LOGIN;
CREATE ROLE stranger LOGIN;
SET LOCAL ROLE postgres;
CREATE TABLE public.messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid,
    conversation_id uuid,
    role text NOT NULL,
    content text NOT NULL,
    created_at timestamptz DEFAULT now(),
    metadata jsonb,
    edited_at timestamptz,
    deleted_at timestamptz
) WITH (fillfactor = 90, autovacuum_enabled = off);
INSERT INTO public.messages (id, user_id, conversation_id, role, content, created_at, metadata)
SELECT md5(n::text)::uuid, md5((n / 500)::text)::uuid, md5((n / 20)::text)::uuid, 'assistant', repeat('Ten bytes. ', 18),
       timestamptz '2024-01-01 00:00:00+00' + n * interval '5 minutes', '{"model": "atlas-1", "tokens": 512}'
FROM generate_series(1, 100000) AS n;
CREATE INDEX ON public.messages (conversation_id);
CREATE INDEX ON public.messages (created_at);
CREATE INDEX ON public.messages (user_id);
CREATE INDEX ON public.messages (deleted_at) WHERE deleted_at IS NULL;
CREATE INDEX ON public.messages (conversation_id, created_at DESC) WHERE deleted_at IS NULL;

CREATE TABLE public.bulk (LIKE public.messages INCLUDING ALL);
CREATE TABLE public.small (LIKE public.messages INCLUDING ALL);
CREATE TABLE public.parted (LIKE public.messages INCLUDING DEFAULTS, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at);
CREATE TABLE public.parted_1 PARTITION OF public.parted FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2024-02-01 00:00:00+00');
CREATE TABLE public.parted_rest PARTITION OF public.parted DEFAULT;

-- A type whose operators are not in pg_catalog, as those of an extension.
RESET ROLE;
CREATE TYPE public.code;
CREATE FUNCTION public.code_in(cstring) RETURNS public.code LANGUAGE internal IMMUTABLE STRICT AS 'uuid_in';
CREATE FUNCTION public.code_out(public.code) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'uuid_out';
CREATE TYPE public.code (INPUT = public.code_in, OUTPUT = public.code_out, LIKE = uuid);
CREATE FUNCTION public.code_eq(public.code, public.code) RETURNS boolean LANGUAGE internal IMMUTABLE STRICT AS 'uuid_eq';
CREATE FUNCTION public.code_hash(public.code) RETURNS integer LANGUAGE internal IMMUTABLE STRICT AS 'uuid_hash';
CREATE OPERATOR public.= (FUNCTION = public.code_eq, LEFTARG = public.code, RIGHTARG = public.code, HASHES);
CREATE OPERATOR CLASS public.code_hash DEFAULT FOR TYPE public.code USING hash
    AS OPERATOR 1 public.=, FUNCTION 1 public.code_hash(public.code);
SET LOCAL ROLE postgres;
CREATE TABLE public.typed (id public.code NOT NULL, role text, content text, created_at timestamptz);

-- What a hostile search_path finds first.
CREATE SCHEMA hostile;
CREATE TYPE hostile.record AS (a integer);
CREATE FUNCTION hostile.same(uuid, uuid) RETURNS boolean LANGUAGE sql RETURN true;
CREATE FUNCTION hostile.same(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql RETURN true;
CREATE OPERATOR hostile.= (FUNCTION = hostile.same, LEFTARG = uuid, RIGHTARG = uuid);
CREATE OPERATOR hostile.= (FUNCTION = hostile.same, LEFTARG = timestamptz, RIGHTARG = timestamptz);
GRANT USAGE ON SCHEMA hostile TO stranger;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app, stranger;
"""

SCRIPTS = {
    "INSERT": r"""
\set c random(1, 5000)
INSERT INTO public.messages (user_id, conversation_id, role, content, created_at, metadata)
VALUES (md5((:c / 25)::text)::uuid, md5(:c::text)::uuid, 'user', repeat('Ten bytes. ', 18), now(), '{"tokens": 512}');
""",
    "UPDATE": r"""
\set n random(1, 100000)
UPDATE public.messages SET content = repeat('Another 10.', 18), edited_at = now() WHERE id = md5(:n::text)::uuid;
""",
}

BULK = """
INSERT INTO public.bulk (user_id, conversation_id, role, content, created_at, metadata)
SELECT user_id, conversation_id, role, content, created_at, metadata FROM public.messages LIMIT 100000
"""
BULK_ROWS = 100_000
BULK_RUNS = 3

FIRST = 10.0
WARM = 1.0
SETTLE = 0.1
"""Seconds: once, at the start of the clients, and after a capture was exchanged under them."""

TIDY = ("DELETE FROM public.messages WHERE role = 'user'", "VACUUM public.messages")
"""What a run added goes again, so that every run meets the same 100,000 rows."""

DEFINER = "SECURITY DEFINER SET search_path = ''"
STORAGE = (
    "vacuum_truncate = off, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, "
    "autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0"
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One capture: DDL with {schema} (closed, made for it) and {table}; `drained`: the log is emptied meanwhile."""

    says: str
    ddl: str = ""
    drained: bool = False
    wrong: str = ""


def log(column: str = "", storage: str = "autovacuum_enabled = off") -> str:
    """The key log; `column` beside the key's."""
    table = f"CREATE TABLE {{schema}}.key_log WITH ({storage}) AS SELECT id, created_at FROM {{table}} WITH NO DATA;"
    return table + f"ALTER TABLE {{schema}}.key_log ADD COLUMN {column};" * bool(column)


def function(name: str, body: str, manner: str = DEFINER) -> str:
    """A trigger function."""
    return (
        f"CREATE FUNCTION {{schema}}.{name}() RETURNS trigger LANGUAGE plpgsql {manner} "
        f"AS $body$ BEGIN {body} RETURN NULL; END $body$;"
    )


def trigger(name: str, event: str, called: str, how: str = "FOR EACH ROW") -> str:
    """An AFTER trigger that fires under session_replication_role = replica as well."""
    return (
        f"CREATE TRIGGER {name} AFTER {event} ON {{table}} {how} EXECUTE FUNCTION {{schema}}.{called}();"
        f"ALTER TABLE {{table}} ENABLE ALWAYS TRIGGER {name};"
    )


def append(*rows: str) -> str:
    """The statement that appends the keys of `rows` (OLD, NEW) to the log."""
    keys = ", ".join(f"({row}.id, {row}.created_at)" for row in rows)
    return f"INSERT INTO {{schema}}.key_log (id, created_at) VALUES {keys};"


OTHER_KEY = "(OLD.id IS DISTINCT FROM NEW.id OR OLD.created_at IS DISTINCT FROM NEW.created_at)"
TWO_ROWS = f"""
IF TG_OP = 'INSERT' THEN {append("NEW")}
ELSIF TG_OP = 'DELETE' THEN {append("OLD")}
ELSE {append("OLD", "NEW")}
END IF;"""
ONE_ROW = f"""
IF TG_OP <> 'INSERT' THEN {append("OLD")} END IF;
IF TG_OP = 'INSERT' OR TG_OP = 'UPDATE' AND {OTHER_KEY} THEN {append("NEW")} END IF;"""
ONE_TRIGGER = trigger("capture", "INSERT OR UPDATE OR DELETE", "capture")

SAME_IMAGE = (
    "ROW(OLD.id, OLD.created_at)::pg_catalog.record OPERATOR(pg_catalog.*=) "
    "ROW(NEW.id, NEW.created_at)::pg_catalog.record"
)
"""Byte by byte: needs no operator of the key's types, and finds NULL the same as NULL. What is equal and looks different is two rows."""

BY_IMAGE = f"IF {SAME_IMAGE} THEN {append('NEW')} ELSE {append('OLD', 'NEW')} END IF;"


def per_operation(on_update: str = BY_IMAGE, manner: str = DEFINER) -> str:
    """A function for each operation; that of UPDATE looks whether the key changed."""
    return (
        function("on_insert", append("NEW"), manner)
        + function("on_update", on_update, manner)
        + function("on_delete", append("OLD"), manner)
        + trigger("on_insert", "INSERT", "on_insert")
        + trigger("on_update", "UPDATE", "on_update")
        + trigger("on_delete", "DELETE", "on_delete")
    )


SHIPPED = (
    sqlfile.text("template", "capture_function").format(
        function="{schema}.capture",
        log="{schema}.key_log",
        old="OLD.id, OLD.created_at",
        new="NEW.id, NEW.created_at",
        same=SAME_IMAGE,
    )
    + ";"
    + ONE_TRIGGER
)

SPLIT_BY_WHEN = (
    function("new_key", append("NEW"))
    + function("old_key", append("OLD"))
    + trigger("capture_new", "INSERT OR UPDATE", "new_key")
    + trigger("capture_old", "DELETE", "old_key")
    + trigger("capture_moved", "UPDATE", "old_key", f"FOR EACH ROW WHEN {OTHER_KEY}")
)

TRANSITION = (
    function("on_insert", "INSERT INTO {schema}.key_log SELECT id, created_at FROM now_rows;")
    + function(
        "on_update",
        "INSERT INTO {schema}.key_log SELECT id, created_at FROM now_rows UNION SELECT id, created_at FROM was_rows;",
    )
    + function("on_delete", "INSERT INTO {schema}.key_log SELECT id, created_at FROM was_rows;")
    + trigger("on_insert", "INSERT", "on_insert", "REFERENCING NEW TABLE AS now_rows")
    + trigger("on_update", "UPDATE", "on_update", "REFERENCING OLD TABLE AS was_rows NEW TABLE AS now_rows")
    + trigger("on_delete", "DELETE", "on_delete", "REFERENCING OLD TABLE AS was_rows")
)

MIRROR = (
    "CREATE TABLE {schema}.mirror (LIKE {table} INCLUDING ALL);"
    + function(
        "capture",
        """
IF TG_OP = 'DELETE' THEN
    DELETE FROM {schema}.mirror AS m WHERE m.id = OLD.id;
ELSE
    INSERT INTO {schema}.mirror SELECT NEW.*
    ON CONFLICT (id) DO UPDATE
    SET user_id = excluded.user_id, conversation_id = excluded.conversation_id, role = excluded.role,
        content = excluded.content, created_at = excluded.created_at, metadata = excluded.metadata,
        edited_at = excluded.edited_at, deleted_at = excluded.deleted_at;
END IF;""",
    )
    + ONE_TRIGGER
)

OPEN_LOG = "GRANT USAGE ON SCHEMA {schema} TO app; GRANT INSERT ON {schema}.key_log TO app;"
IDENTITY = "seq bigint GENERATED ALWAYS AS IDENTITY"

VARIANTS: Mapping[str, Variant] = {
    "identity_key": Variant(
        "one function; two rows an UPDATE; identity and primary key on the log",
        log(f"{IDENTITY} PRIMARY KEY") + function("capture", TWO_ROWS) + ONE_TRIGGER,
    ),
    "identity": Variant(
        "one function; two rows; identity, no index", log(IDENTITY) + function("capture", TWO_ROWS) + ONE_TRIGGER
    ),
    "no_sequence": Variant(
        "one function; two rows; nothing but the key", log() + function("capture", TWO_ROWS) + ONE_TRIGGER
    ),
    "one_row": Variant(
        "one function; one row if the key is the same (IS DISTINCT FROM)",
        log() + function("capture", ONE_ROW) + ONE_TRIGGER,
    ),
    "split_by_when": Variant("two functions without a branch, UPDATE split by WHEN", log() + SPLIT_BY_WHEN),
    "is_distinct": Variant(
        "a function an operation; one row if the key is the same (IS DISTINCT FROM)",
        log() + per_operation(f"IF {OTHER_KEY} THEN {append('OLD', 'NEW')} ELSE {append('NEW')} END IF;"),
    ),
    "both_rows": Variant("a function an operation; two rows an UPDATE", log() + per_operation(append("OLD", "NEW"))),
    "per_operation": Variant(
        "a function an operation; one row if the key is the same (image)", log() + per_operation()
    ),
    "shipped": Variant("one function; one row if the key is the same (image): what 02 installs", log() + SHIPPED),
    "without_set": Variant("per_operation without SET search_path", log() + per_operation(manner="SECURITY DEFINER")),
    "invoker": Variant(
        "per_operation with neither SET nor SECURITY DEFINER",
        log() + OPEN_LOG + per_operation(manner="SECURITY INVOKER"),
    ),
    "drained": Variant(
        "per_operation, its log drained meanwhile", log(storage=STORAGE) + per_operation(), drained=True
    ),
    "transition": Variant("statement triggers, transition tables", log() + TRANSITION),
    "mirror": Variant("dual write: upsert of the row", MIRROR, wrong="loses under REPEATABLE READ"),
}
NONE = Variant("no capture")


@dataclass(frozen=True, slots=True)
class Try:
    """A statement that must log the key of every row it changes; {t} is the table, {k} its primary key."""

    says: str
    statement: str
    tables: tuple[str, ...] = ("small", "parted")
    settings: str = ""
    user: str = "stranger"


TRIES = (
    Try(
        "INSERT",
        "INSERT INTO {t} (id, role, content, created_at) SELECT lpad(n::text, 32, '0')::uuid, 'user', 'x', "
        "timestamptz '2024-01-30 00:00:00+00' + n * interval '1 hour' FROM generate_series(1, 90) AS n",
    ),
    Try("INSERT of a NULL key", "INSERT INTO {t} (role, content, created_at) VALUES ('user', 'y', NULL)", ("small",)),
    Try("UPDATE", "UPDATE {t} SET content = 'z' WHERE id < lpad('20', 32, '0')::uuid"),
    Try("UPDATE of id", "UPDATE {t} SET id = gen_random_uuid() WHERE id < lpad('10', 32, '0')::uuid"),
    Try(
        "UPDATE to another month",
        "UPDATE {t} SET created_at = created_at + interval '1 month' WHERE id < lpad('20', 32, '0')::uuid",
    ),
    Try("UPDATE of a NULL key", "UPDATE {t} SET created_at = now() WHERE created_at IS NULL", ("small",)),
    Try(
        "UPDATE to a NULL key",
        "UPDATE {t} SET created_at = NULL WHERE id = lpad('20', 32, '0')::uuid",
        ("small",),
    ),
    Try(
        "ON CONFLICT DO UPDATE",
        "INSERT INTO {t} AS o (id, role, content, created_at) SELECT id, role, 'again', created_at FROM {t} "
        "WHERE created_at IS NOT NULL LIMIT 5 ON CONFLICT ({k}) DO UPDATE SET id = gen_random_uuid(), content = 'c'",
    ),
    Try(
        "MERGE",
        "MERGE INTO {t} AS o USING (SELECT lpad(n::text, 32, '0')::uuid AS id FROM generate_series(80, 99) AS n) AS s "
        "ON o.id = s.id WHEN MATCHED AND s.id < lpad('85', 32, '0')::uuid THEN DELETE "
        "WHEN MATCHED THEN UPDATE SET content = 'm' "
        "WHEN NOT MATCHED THEN INSERT (id, role, content) VALUES (s.id, 'user', 'n')",
    ),
    Try("COPY", "COPY {t} (id, role, content, created_at) FROM STDIN"),
    Try("DELETE", "DELETE FROM {t} WHERE id < lpad('30', 32, '0')::uuid"),
    Try(
        "UPDATE of id under a hostile search_path",
        "UPDATE {t} SET id = gen_random_uuid() WHERE id OPERATOR(pg_catalog.<) lpad('40', 32, '0')::uuid",
        settings="SET search_path = hostile, pg_catalog",
    ),
    Try(
        "UPDATE under session_replication_role = replica",
        "UPDATE {t} SET id = gen_random_uuid() WHERE id < lpad('50', 32, '0')::uuid",
        settings="SET session_replication_role = replica",
        user=embedded.SUPERUSER,
    ),
    Try(
        "UPDATE of a key of an extension's type",
        "INSERT INTO {t} (id, role) VALUES ('aaaaaaaa-0000-0000-0000-000000000001', 'user'); UPDATE {t} SET content = 'x'",
        ("typed",),
    ),
    Try(
        "a write to the partition itself",
        "INSERT INTO public.parted_1 (role, content, created_at) VALUES ('user', 'p', '2024-01-01 00:00:00+00')",
        ("parted",),
    ),
)


@contextlib.contextmanager
def installed(owner: psycopg.Connection[Any], variant: Variant, table: str) -> Iterator[None]:
    """The variant is on `public.<table>`, with its log in the schema `closed`."""
    owner.execute("CREATE SCHEMA closed")
    try:
        if variant.ddl:
            owner.execute(variant.ddl.format(schema="closed", table=f"public.{table}"))
        yield
    finally:
        # The table before the log, in the order of the clients' statements: the other way round is a deadlock.
        owner.execute(f"BEGIN; LOCK TABLE public.{table}; DROP SCHEMA closed CASCADE; COMMIT")


def faults(cluster: Cluster, variant: Variant) -> list[str]:
    """The first thing that the variant misses or breaks on each table, by the statements of TRIES in their order."""
    if variant.wrong:
        return [variant.wrong]
    found = []
    with psycopg.connect(cluster.conninfo("postgres", embedded.SUPERUSER), autocommit=True) as server:
        server.execute("CREATE DATABASE clone TEMPLATE base OWNER postgres")
        with psycopg.connect(cluster.conninfo("clone"), autocommit=True) as owner:
            for table in ("small", "parted", "typed"):
                with installed(owner, variant, table):
                    said = (attempt(cluster, owner, tried, table) for tried in TRIES if table in tried.tables)
                    found.append(next(filter(None, said), ""))
        server.execute("DROP DATABASE clone")
    return list(dict.fromkeys(filter(None, found)))


def attempt(cluster: Cluster, owner: psycopg.Connection[Any], tried: Try, table: str) -> str:
    """Run the statement as its user and say what is wrong: an error, or a changed row whose key is not in the log."""
    statement = tried.statement.format(t=f"public.{table}", k="id" if table == "small" else "id, created_at")
    before = rows(owner, table)
    owner.execute("TRUNCATE closed.key_log")
    try:
        with psycopg.connect(cluster.conninfo("clone", tried.user), autocommit=True) as connection:
            if tried.settings:
                connection.execute(tried.settings)
            if statement.startswith("COPY"):
                with connection.cursor().copy(statement) as copied:
                    copied.write("aaaaaaaa-0000-0000-0000-000000000001\tuser\tx\t2024-01-31 12:00:00+00\n")
            else:
                connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return "a role without rights on the log cannot write"
    except psycopg.Error as error:
        return f"{tried.says} fails with {error.sqlstate}"
    changed = {key for key, _ in before ^ rows(owner, table)}
    assert changed, f"{tried.says} changed nothing on {table}, so it proves nothing"
    logged = {key for (key,) in owner.execute("SELECT (id, created_at)::text FROM closed.key_log")}
    return f"{tried.says} misses a key" if changed - logged else ""


def rows(owner: psycopg.Connection[Any], table: str) -> set[tuple[str, str]]:
    """Key and whole row of every row, as text."""
    return set(owner.execute(f"SELECT (id, created_at)::text, t::text FROM public.{table} AS t").fetchall())


@contextlib.contextmanager
def writing(cluster: Cluster, script: str) -> Iterator[subprocess.Popen[str]]:
    """Meanwhile four clients repeat `script`, each as fast as it can."""
    command = [
        str(cluster.bin_dir / "pgbench"),
        "--no-vacuum",
        "--client=4",
        "--jobs=2",
        "--protocol=prepared",
        "--time=86400",
    ]
    pgbench = subprocess.Popen(
        [*command, "--file=/dev/stdin", cluster.conninfo("base", "app")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert pgbench.stdin is not None
    pgbench.stdin.write(script)
    pgbench.stdin.close()
    try:
        yield pgbench
    finally:
        pgbench.terminate()
        pgbench.wait()


@contextlib.contextmanager
def drained(conninfo: str) -> Iterator[None]:
    """Meanwhile everything is taken out of the log five times a second, as a drain does."""
    over = threading.Event()

    def drain() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            while not over.wait(0.2):
                connection.execute("WITH gone AS (DELETE FROM closed.key_log RETURNING *) SELECT count(*) FROM gone")

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def rates(
    cluster: Cluster, owner: psycopg.Connection[Any], variants: Sequence[Variant], script: str, seconds: float
) -> list[float]:
    """Transactions a second with each of `variants` installed in turn, while the same four clients go on."""
    found = []
    with writing(cluster, script) as pgbench:
        time.sleep(WARM)
        for variant in variants:
            with (
                installed(owner, variant, "messages"),
                drained(cluster.conninfo("base")) if variant.drained else contextlib.nullcontext(),
            ):
                time.sleep(SETTLE)
                started, first = time.perf_counter(), transactions(owner)
                time.sleep(seconds)
                found.append((transactions(owner) - first) / (time.perf_counter() - started))
            if pgbench.poll() is not None:
                assert pgbench.stderr is not None
                raise SystemExit(f"pgbench ended:\n{pgbench.stderr.read()}")
    for statement in TIDY:
        owner.execute(statement)
    return found


def transactions(owner: psycopg.Connection[Any]) -> int:
    """How many transactions have written so far: each takes one transaction number."""
    row = owner.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetchone()
    assert row is not None
    return int(row[0])


def bulk(owner: psycopg.Connection[Any], variant: Variant) -> float:
    """Microseconds a row of one INSERT of many rows."""
    with installed(owner, variant, "bulk"):
        started = time.perf_counter()
        owner.execute(BULK)
        taken = time.perf_counter() - started
    owner.execute("TRUNCATE public.bulk")
    return taken / BULK_ROWS * 1e6


def build(cluster: Cluster) -> str:
    """Make the database; what is measured, in a few words."""
    with psycopg.connect(cluster.conninfo("postgres", embedded.SUPERUSER), autocommit=True) as server:
        server.execute("CREATE DATABASE base OWNER postgres")
        with psycopg.connect(cluster.conninfo("base", embedded.SUPERUSER), autocommit=True) as connection:
            connection.execute(f"BEGIN; {BUILD} COMMIT")
            connection.execute("VACUUM (FREEZE, ANALYZE)")
        version, *durable = (
            connection_value
            for name in ("server_version", "fsync", "synchronous_commit")
            for (connection_value,) in server.execute(f"SHOW {name}")
        )
    assert durable == ["on", "on"], "without durability, the share says nothing"
    return f"PostgreSQL {version.split()[0]}, fsync and synchronous_commit on"


def spread(shares: Sequence[float]) -> str:
    """The median, and between what the middle half lies."""
    low, middle, high = statistics.quantiles(shares, n=4) if len(shares) > 1 else 3 * [shares[0]]
    return f"**{middle:.2f}** ({low:.2f} to {high:.2f})"


def main() -> None:
    """Try every variant, measure them in turn, print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=0.5, help="of a run")
    options.add_argument("--runs", type=int, default=8, help="of every variant, for INSERT and for UPDATE")
    options.add_argument("--variants", nargs="+", choices=[*VARIANTS], default=[*VARIANTS], metavar="NAME")
    options.add_argument("--bin-dir", type=Path, help="of another PostgreSQL, such as /usr/lib/postgresql/15/bin")
    asked = options.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="capture_cost-", dir="/var/tmp"))
    folder.chmod(0o711)  # the server of root runs as nobody
    cluster = Cluster(folder / "data", asked.bin_dir or embedded.bin_dir(), settings=SETTINGS)
    variants = {name: VARIANTS[name] for name in asked.variants}
    base: dict[str, list[float]] = defaultdict(list)
    shares: dict[tuple[str, str], list[float]] = defaultdict(list)
    a_row: dict[str, list[float]] = defaultdict(list)
    try:
        measured = build(cluster)
        wrong = {name: faults(cluster, variant) for name, variant in variants.items()}
        with psycopg.connect(cluster.conninfo("base"), autocommit=True) as owner:
            for script in SCRIPTS.values():  # every page is written once, and with it into the WAL as a whole
                rates(cluster, owner, [NONE], script, FIRST)
            for number, (what, script) in itertools.product(range(asked.runs), SCRIPTS.items()):
                order = [*variants] if number % 2 else [*reversed(variants)]
                turns = [NONE, *(turn for name in order for turn in (variants[name], NONE))]
                found = rates(cluster, owner, turns, script, asked.seconds)
                base[what] += found[::2]
                for name, before, captured, after in zip(order, found[::2], found[1::2], found[2::2], strict=False):
                    shares[name, what].append(2 * captured / (before + after))
            for _ in range(min(asked.runs, BULK_RUNS)):
                for name, variant in {"none": NONE, **variants}.items():
                    a_row[name].append(bulk(owner, variant))
    finally:
        cluster.stop()
        while folder.exists():  # the server's watcher looks into the folder once more, and ends when it is gone
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.1)
    print(f"{measured}; {asked.runs} runs of {asked.seconds:g} s, each between two without a capture.")
    for what, found in base.items():
        low, middle, high = statistics.quantiles(found, n=4)
        print(f"Without a capture, {what}s a second: {middle:,.0f}; the middle half {low:,.0f} to {high:,.0f}.")
    print(
        "\n| variant | | INSERT, share (middle half) | UPDATE | bulk INSERT, µs a row | correct |\n|---|---|---|---|---|---|"
    )
    print(f"| none | | 1 | 1 | {statistics.median(a_row['none']):.1f} | |")
    for name, variant in variants.items():
        said = "no: " + "; ".join(wrong[name]) if wrong[name] else "yes"
        cells = [name, variant.says, *(spread(shares[name, what]) for what in SCRIPTS)]
        print(f"| {' | '.join(cells)} | {statistics.median(a_row[name]):.1f} | {said} |")


if __name__ == "__main__":
    main()
