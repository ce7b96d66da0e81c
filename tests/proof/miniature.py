"""The protocol of the online copy in small, written by hand, with every step that can be left out.

It shows that the proof sees what is lost when a step is missing, whatever the product does. It is no model for the product: one table,
fixed columns, no resuming within a step. `copy`, `swap` and `drain` may each be killed at any statement and called again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any

import psycopg

SWAP_ATTEMPTS = 400
LOCK_TIMEOUT_MS = 80
UPGRADE_S = 0.05  # for the second lock of a swap, before the first is given back
NOWAIT_SINCE = 170000
PATIENCE_S = 1.0  # with older snapshots, before the locks of a swap are asked for


class Without(StrEnum):
    """A step of the protocol that is left out or done wrong."""

    PURGE_OF_WHAT_WAS_READ = "the log is purged by seq <= max(seq)"
    ALWAYS = "the capture trigger does not fire for session_replication_role = replica"
    LOGGED = "the log is UNLOGGED"
    GUARD = "no guard at the cut-over"
    GUARD_ALWAYS = "the guard does not fire for session_replication_role = replica"
    KEY_LOG = "a trigger writes the rows into the copy"
    OLD_KEY = "the log gets the new key only"
    LAST_DRAIN = "the cut-over does not drain"
    REVERSE_CAPTURE = "nothing is captured after the cut-over"
    FENCE = "copier and drainer run side by side"
    IDENTITY = "rows that = calls equal are taken for the same"
    SNAPSHOT = "a drain reads in several snapshots"
    OLD_READERS = "the cut-over does not wait for readers with an older snapshot"
    WAITING_READERS = "readers with an older snapshot are overlooked while they wait for a lock"
    NO_QUEUE = "the cut-over queues for its second lock while it holds the first"
    TRUNCATE = "TRUNCATE is not refused"


BUILD = """
CREATE SCHEMA mini;
CREATE TABLE mini.parked (
    id bigint NOT NULL, at timestamptz NOT NULL, body text, amount numeric, data jsonb, ratio double precision,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE mini.item_default PARTITION OF mini.parked DEFAULT;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON mini.parked TO proof_app;
CREATE {unlogged} TABLE mini.key_log (seq bigint GENERATED ALWAYS AS IDENTITY, id bigint, at timestamptz);
CREATE TABLE mini.online_copy (captured boolean, months_copied integer, in_use text);
INSERT INTO mini.online_copy VALUES (false, 0, 'src');

CREATE FUNCTION mini.capture() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND {old_key} THEN
        INSERT INTO mini.key_log (id, at) VALUES (OLD.id, OLD.at);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO mini.key_log (id, at) VALUES (NEW.id, NEW.at);
    END IF;
    RETURN NULL;
END
$$;
CREATE FUNCTION mini.no_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    RAISE EXCEPTION 'no TRUNCATE while the table is being copied' USING ERRCODE = '55006';
END
$$;
-- The transaction of the last drain is an argument: a row of a table would be read with the old snapshot as well.
CREATE FUNCTION mini.guard() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF NOT pg_catalog.pg_visible_in_snapshot(TG_ARGV[0]::pg_catalog.xid8, pg_catalog.pg_current_snapshot()) THEN
        RAISE EXCEPTION 'the table was exchanged after this transaction began' USING ERRCODE = '40001';
    END IF;
    RETURN NULL;
END
$$;
"""

DUAL_WRITE = """
CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    PERFORM set_config('atlas_ops.writes', 'allowed', true);  -- the product's guard of a table that follows
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM {copy} WHERE id = OLD.id AND at = OLD.at;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO {copy} SELECT NEW.* ON CONFLICT (id, at) DO UPDATE
        SET body = excluded.body, amount = excluded.amount, data = excluded.data, ratio = excluded.ratio;
    END IF;
    RETURN NULL;
END
$$
"""
CAPTURE = """
CREATE TRIGGER capture AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION mini.{function}();
ALTER TABLE {table} {always} TRIGGER capture;
"""
NO_TRUNCATE = """
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION mini.no_truncate();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER no_truncate;
"""
GUARD = """
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION mini.guard('{last}');
ALTER TABLE {table} {always} TRIGGER guard;
"""
NO_TRIGGERS = """
DROP TRIGGER IF EXISTS capture ON {table};
DROP TRIGGER IF EXISTS no_truncate ON {table};
DROP TRIGGER IF EXISTS guard ON {table};
"""
EXCHANGE = """
ALTER TABLE public.item RENAME TO leaving;
ALTER TABLE public.leaving SET SCHEMA mini;
ALTER TABLE mini.parked RENAME TO item;
ALTER TABLE mini.item SET SCHEMA public;
ALTER TABLE mini.leaving RENAME TO parked;
"""
TAKE = "WITH taken AS (DELETE FROM mini.key_log RETURNING id, at) INSERT INTO keys SELECT DISTINCT id, at FROM taken"
TAKE_UP_TO = "INSERT INTO keys SELECT DISTINCT id, at FROM mini.key_log WHERE seq <= {last}"
REMOVE = """
DELETE FROM mini.parked AS p USING keys AS k WHERE p.id = k.id AND p.at = k.at AND NOT EXISTS (
    SELECT FROM public.item AS i WHERE i.id = k.id AND i.at = k.at
    AND ROW (i.body, i.amount, i.data, i.ratio)::record {same} ROW (p.body, p.amount, p.data, p.ratio)::record)
"""
ADD = """
INSERT INTO mini.parked (id, at, body, amount, data, ratio)
SELECT i.id, i.at, i.body, i.amount, i.data, i.ratio FROM keys AS k JOIN public.item AS i ON i.id = k.id AND i.at = k.at
WHERE NOT EXISTS (SELECT FROM mini.parked AS p WHERE p.id = k.id AND p.at = k.at)
"""
# Who holds a snapshot that does not see the last drain, and could still read with it after the exchange. Writers that wait for our lock
# are left to the guard. age() of a 32-bit transaction id: older is more; a snapshot taken later counts as old while a transaction
# from before the drain is open, unless its own transaction began later.
OLD_SNAPSHOTS = """
SELECT count(*) FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
AND age(a.backend_xmin) >= age(%(last)s::xid8::xid) AND a.xact_start < %(at)s
AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND NOT l.granted
    AND l.relation = 'public.item'::regclass AND l.mode = ANY (%(let_be)s))
"""


# Who else has the table or one of its partitions, if only to read.
OTHERS = """
SELECT FROM pg_locks AS l WHERE l.granted AND l.mode <> 'SIReadLock' AND l.pid <> pg_backend_pid() AND l.locktype = 'relation'
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (l.relation = 'public.item'::regclass OR l.relation IN (SELECT relid FROM pg_partition_tree('public.item'))) LIMIT 1
"""


class Again(Exception):
    """This attempt at a swap has to be given up; nothing was changed."""


class Miniature:
    """A run. `at` is called at named points, for races that are to be forced."""

    def __init__(
        self, conninfo: str, without: Collection[Without] = (), at: Callable[[str], None] = lambda point: None
    ) -> None:
        self.conninfo, self.without, self.at = conninfo, frozenset(without), at
        self.attempts = 0

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self.conninfo,
            autocommit=True,
            application_name="atlas_ops miniature",
            options=f"-c TimeZone=UTC -c lock_timeout={LOCK_TIMEOUT_MS}ms",
        )

    # the copy

    def copy(self, months: Collection[datetime]) -> None:
        """Build, capture, backfill month by month and drain; goes on where an earlier run was ended."""
        with self.connect() as conn:
            self.patiently(lambda: self.build(conn, months))
            self.patiently(lambda: self.capture(conn))
            # the rows before the first month and after the last are a range of their own, the first
            bounds = sorted(months)
            for number in range(len(bounds)):
                self.patiently(lambda number=number: self.backfill(conn, bounds, number))  # type: ignore[misc]
        self.drain()

    def build(self, conn: psycopg.Connection[Any], months: Collection[datetime]) -> None:
        if _exists(conn, "mini.online_copy"):
            return
        with conn.transaction():
            conn.execute(
                BUILD.format(
                    unlogged="UNLOGGED" if Without.LOGGED in self.without else "",
                    old_key="false" if Without.OLD_KEY in self.without else "true",
                )
            )
            conn.execute(DUAL_WRITE.format(function="mini.dual_write", copy="mini.parked"))
            bounds = sorted(months)
            for number, (first, end) in enumerate(pairwise(bounds)):
                conn.execute(
                    f"CREATE TABLE mini.item_{number} PARTITION OF mini.parked FOR VALUES FROM ('{first}') TO ('{end}')"
                )

    def capture(self, conn: psycopg.Connection[Any]) -> None:
        if _state(conn)[0]:
            return
        with conn.transaction():
            # waits for every open writer: whatever is not in the log is visible to the snapshots that follow
            self._capture(conn, "public.item")
            conn.execute("UPDATE mini.online_copy SET captured = true")

    def _capture(self, conn: psycopg.Connection[Any], table: str) -> None:
        conn.execute(
            CAPTURE.format(
                table=table,
                function="dual_write" if Without.KEY_LOG in self.without else "capture",
                always="ENABLE" if Without.ALWAYS in self.without else "ENABLE ALWAYS",
            )
        )
        if Without.TRUNCATE not in self.without:
            conn.execute(NO_TRUNCATE.format(table=table))

    def backfill(self, conn: psycopg.Connection[Any], bounds: list[datetime], number: int) -> None:
        """Month `number`, or with 0 what lies out of all months."""
        with conn.transaction():
            self._fence(conn)
            if _state(conn)[1] > number:
                return
            lies = "at >= %s AND at < %s" if number else "at < %s OR at >= %s"
            ends = (bounds[number - 1], bounds[number]) if number else (bounds[0], bounds[-1])
            conn.execute(f"INSERT INTO mini.parked SELECT * FROM public.item WHERE {lies} ON CONFLICT DO NOTHING", ends)
            conn.execute("UPDATE mini.online_copy SET months_copied = %s", (number + 1,))
            if number == 1:
                self.at("backfill: January")

    # the drain

    def drain(self) -> None:
        with self.connect() as conn:
            self.patiently(lambda: self.drain_once(conn))

    def drain_beside(self) -> None:
        with self.connect() as other, suppress(psycopg.errors.LockNotAvailable):
            self.drain_once(other)

    def drain_once(self, conn: psycopg.Connection[Any]) -> tuple[str, datetime]:
        """One pass over the whole log; returns its transaction and the moment after it."""
        with conn.transaction():
            several = self.without & {Without.SNAPSHOT, Without.PURGE_OF_WHAT_WAS_READ}
            conn.execute(f"SET TRANSACTION ISOLATION LEVEL {'READ COMMITTED' if several else 'REPEATABLE READ'}")
            self._fence(conn)  # before the first snapshot, which then sees what the one before us did
            [xact] = conn.execute("SELECT pg_current_xact_id()::text").fetchone() or ("",)
            conn.execute("CREATE TEMPORARY TABLE keys (id bigint, at timestamptz) ON COMMIT DROP")
            if Without.PURGE_OF_WHAT_WAS_READ in self.without:
                [last] = conn.execute("SELECT coalesce(max(seq), 0) FROM mini.key_log").fetchone() or (0,)
                conn.execute(TAKE_UP_TO.format(last=last))
            else:
                conn.execute(TAKE)
            self.at("drain: keys read")
            conn.execute(REMOVE.format(same="IS NOT DISTINCT FROM" if Without.IDENTITY in self.without else "*="))
            self.at("drain: rows removed")
            conn.execute(ADD)
            if Without.PURGE_OF_WHAT_WAS_READ in self.without:
                conn.execute("DELETE FROM mini.key_log WHERE seq <= %s", (last,))
        [now] = conn.execute("SELECT clock_timestamp()").fetchone() or (None,)
        return xact, now

    def _fence(self, conn: psycopg.Connection[Any]) -> None:
        """One writer of the copy at a time, be it one whose client was killed and that does not know it yet."""
        if Without.FENCE not in self.without:
            conn.execute("LOCK TABLE mini.online_copy IN EXCLUSIVE MODE")

    # the exchange

    def swap(self, to: str) -> None:
        """Put `src` or `dst` into use; nothing happens where it is."""
        with self.connect() as conn, self.connect() as other:
            for attempt in range(SWAP_ATTEMPTS):
                self.attempts = attempt + 1
                try:
                    if _state(conn)[2] != to:
                        self._wait_for_snapshots(conn, other)
                        self.at("swap: begins")
                        self._swap(conn, other, to)
                    return
                except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, Again):
                    time.sleep(random.uniform(0.01, 0.1))
        raise AssertionError(f"no swap in {SWAP_ATTEMPTS} attempts")

    def _wait_for_snapshots(self, conn: psycopg.Connection[Any], other: psycopg.Connection[Any]) -> None:
        last, at = self.patiently(lambda: self.drain_once(other))
        deadline = time.monotonic() + PATIENCE_S
        while self._old_snapshots(conn, last, at) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _old_snapshots(self, conn: psycopg.Connection[Any], last: str, at: datetime) -> bool:
        if Without.OLD_READERS in self.without:
            return False
        let_be = ["RowExclusiveLock", *(["AccessShareLock"] if Without.WAITING_READERS in self.without else [])]
        [number] = conn.execute(OLD_SNAPSHOTS, {"last": last, "at": at, "let_be": let_be}).fetchone() or (0,)
        return bool(number)

    def _swap(self, conn: psycopg.Connection[Any], other: psycopg.Connection[Any], to: str) -> None:
        with conn.transaction():
            conn.execute("LOCK TABLE public.item IN SHARE ROW EXCLUSIVE MODE")
            if _state(conn)[2] == to:  # by one whose client was killed
                return
            last, at = ("3", datetime.now().astimezone() + timedelta(days=1))
            if Without.LAST_DRAIN not in self.without:
                last, at = self.drain_once(other)
            self.at("swap: drained")
            self._upgrade(conn)
            conn.execute("SELECT FROM mini.online_copy FOR UPDATE")
            if Without.LAST_DRAIN not in self.without:
                [left] = conn.execute("SELECT count(*) FROM mini.key_log").fetchone() or (None,)
                assert left == 0
            if self._old_snapshots(conn, last, at):
                raise Again
            conn.execute(NO_TRIGGERS.format(table="public.item"))
            conn.execute(EXCHANGE)
            if Without.REVERSE_CAPTURE not in self.without:
                self._capture(conn, "public.item")
            if Without.GUARD not in self.without:
                always = "ENABLE" if Without.GUARD_ALWAYS in self.without else "ENABLE ALWAYS"
                conn.execute(GUARD.format(table="public.item", last=last, always=always))
            conn.execute("UPDATE mini.online_copy SET in_use = %s", (to,))

    def _upgrade(self, conn: psycopg.Connection[Any]) -> None:
        """ACCESS EXCLUSIVE on top of SHARE ROW EXCLUSIVE, without standing in the queue.

        While we stand there, whoever has read in his transaction and now writes gets a deadlock (40P01) at once, whatever the timeouts: he
        would wait for our first lock, and we for his. NOWAIT does not stand there. Before 17 it also fails where a writer waits for us,
        which is always; so there the lock is asked for when nobody has the table, and a millisecond remains in which one may come.
        """
        if Without.NO_QUEUE in self.without:
            conn.execute("LOCK TABLE public.item IN ACCESS EXCLUSIVE MODE")
            return
        nowait = conn.info.server_version >= NOWAIT_SINCE
        deadline = time.monotonic() + UPGRADE_S
        while time.monotonic() < deadline:
            if nowait or conn.execute(OTHERS).fetchone() is None:
                with suppress(psycopg.errors.LockNotAvailable), conn.transaction():  # a savepoint: the first lock stays
                    conn.execute("SET LOCAL lock_timeout = '1ms'")
                    conn.execute(f"LOCK TABLE public.item IN ACCESS EXCLUSIVE MODE{' NOWAIT' if nowait else ''}")
                    return
            time.sleep(0.001)
        raise Again

    def patiently(self, act: Callable[[], Any]) -> Any:
        for _ in range(SWAP_ATTEMPTS):
            with suppress(psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                return act()
            time.sleep(random.uniform(0.01, 0.1))
        raise AssertionError("no lock")


def _exists(conn: psycopg.Connection[Any], name: str) -> bool:
    return conn.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,)


def _state(conn: psycopg.Connection[Any]) -> tuple[bool, int, str]:
    row = conn.execute("SELECT captured, months_copied, in_use FROM mini.online_copy").fetchone()
    assert row is not None
    return row[0], row[1], row[2]


# What the driver calls: JSON in.


def copy(conninfo: str, months: list[str], without: Collection[str] = ()) -> None:
    Miniature(conninfo, [Without(name) for name in without]).copy([datetime.fromisoformat(month) for month in months])


def drain(conninfo: str, without: Collection[str] = ()) -> None:
    Miniature(conninfo, [Without(name) for name in without]).drain()


def swap(conninfo: str, to: str, without: Collection[str] = ()) -> int:
    """Returns how many attempts it took."""
    run = Miniature(conninfo, [Without(name) for name in without])
    run.swap(to)
    return run.attempts
