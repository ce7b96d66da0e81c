"""Clients that write and read without rest, each with an oracle of its own, and the verdict on what became of their rows.

    with Load(place, seed=7) as load:           # place = prepare(superuser_conninfo)
        load.start()
        with load.window() as window: ...       # window.longest_ms: the longest stall of any statement meanwhile
        with load.disturbance(): ...            # lost connections are our own doing
        verdict = load.verdict()                # with all clients at rest; also pause(), resume(), stop()
        assert verdict.clean, verdict

A client can also be led by hand: `client = Load(place, kinds=[...]).clients[0]`, then `begin`, `update`, `commit` and the other verbs.
Everything random comes from `random.Random` of the seed and the client's number; when statements meet is up to the machine.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from proof.oracle import SHOWN, Content, Differences, Oracle, Row, compare
from psycopg import sql
from psycopg.conninfo import make_conninfo

APP = "proof_app"
TABLE = "item"
COLUMNS = ("id", *Row._fields)
OWN = 1_000_000  # ids from one client to the next
POOL = 300  # ids of a client: few, so that deleted ones come back and a row that should be gone is run into
SLOW_MS = 20.0  # statements from here on are kept with their times, for windows
RECONNECT_S = 90.0
STUCK_S = 90.0

READ = "SELECT id, at::text, body, amount::text, data::text, ratio::text FROM item"
VALUES = "(%s::bigint, %s::timestamptz, %s::text, %s::numeric, %s::jsonb, %s::float8)"
INSERT = "INSERT INTO item (id, at, body, amount, data, ratio) VALUES "
SET = "at = %s::timestamptz, body = %s::text, amount = %s::numeric, data = %s::jsonb, ratio = %s::float8"
UPSERT = (
    f"{INSERT}{VALUES} ON CONFLICT (id, at) DO UPDATE "
    "SET body = excluded.body, amount = excluded.amount, data = excluded.data, ratio = excluded.ratio"
)
MERGE = (
    f"MERGE INTO item AS t USING (VALUES {VALUES}) AS s (id, at, body, amount, data, ratio) ON t.id = s.id "
    "WHEN MATCHED THEN UPDATE SET at = s.at, body = s.body, amount = s.amount, data = s.data, ratio = s.ratio "
    "WHEN NOT MATCHED THEN INSERT (id, at, body, amount, data, ratio) VALUES (s.id, s.at, s.body, s.amount, s.data, s.ratio)"
)
REPLACE = (
    "WITH gone AS (DELETE FROM item WHERE id = %s::bigint RETURNING *) INSERT INTO item (id, at, body, amount, data, ratio) "
    "SELECT %s::bigint, at, body, amount, data, ratio FROM gone"
)
PREPARED = (
    "PREPARE item_insert (bigint, timestamptz, text, numeric, jsonb, float8) AS "
    "INSERT INTO item (id, at, body, amount, data, ratio) VALUES ($1, $2, $3, $4, $5, $6)",
    "PREPARE item_update (bigint, timestamptz, text, numeric, jsonb, float8) AS "
    "UPDATE item SET at = $2, body = $3, amount = $4, data = $5, ratio = $6 WHERE id = $1",
    "PREPARE item_delete (bigint) AS DELETE FROM item WHERE id = $1",
    "PREPARE item_read (bigint) AS SELECT id, at::text, body, amount::text, data::text, ratio::text FROM item WHERE id = $1",
)
MARK = "INSERT INTO outcome (tx) VALUES (%s)"
EXTREMES = (
    "-infinity",
    "0001-01-01 00:00:00+00",
    "1969-12-31 23:59:59.999999+00",
    "2199-01-01 00:00:00+00",
    "294276-12-31 23:59:59.999999+00",
    "infinity",
)


@dataclass(frozen=True)
class Place:
    """A database with the proof's table in it, and the months that its rows lie in."""

    superuser: str
    months: tuple[datetime, ...]  # the first moment of each, and of the one after the last
    rows: Mapping[int, Row]  # written before any client started, and touched by none

    @property
    def application(self) -> str:
        return make_conninfo(self.superuser, user=APP)

    def connect(self) -> psycopg.Connection[Any]:
        """As superuser, in UTC, each statement a transaction."""
        return psycopg.connect(self.superuser, autocommit=True, options="-c TimeZone=UTC -c extra_float_digits=1")


@dataclass(frozen=True)
class Kind:
    """How a client behaves. `replica`: as superuser under session_replication_role = replica. `hung`: it dawdles in transactions."""

    isolation: str = "READ COMMITTED"
    replica: bool = False
    hung: bool = False

    @property
    def name(self) -> str:
        short = {"READ COMMITTED": "RC", "REPEATABLE READ": "RR", "SERIALIZABLE": "SER"}[self.isolation]
        return short + (" replica" if self.replica else "") + (" hung" if self.hung else "")


RC, RR, SER = Kind("READ COMMITTED"), Kind("REPEATABLE READ"), Kind("SERIALIZABLE")
KINDS = (RC, RC, RR, RR, SER, SER, Kind(replica=True), Kind("REPEATABLE READ", replica=True))
HUNG = (Kind(hung=True), Kind("REPEATABLE READ", hung=True))


def prepare(superuser: str, *, owner: str = "postgres", months: int = 3, rows: int = 600, seed: int = 0) -> Place:
    """Make role, tables and functions in an empty database, and rows that no client touches."""
    bounds = tuple(datetime(2024 + n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in range(months + 1))
    dice = Dice(random.Random(f"{seed} rows"), bounds)
    still = {key: dice.row() for key in range(1, rows + 1)}
    with psycopg.connect(superuser, autocommit=True) as conn:
        with suppress(psycopg.errors.DuplicateObject):
            conn.execute(f"CREATE ROLE {APP} LOGIN")
        conn.execute(Path(__file__).with_name("schema.sql").read_text())
        for table in (TABLE, "outcome"):
            conn.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(table), sql.Identifier(owner)))
        with conn.cursor().copy("COPY item (id, at, body, amount, data, ratio) FROM STDIN") as copy:
            for key, row in still.items():
                copy.write_row((key, *row))
    return Place(superuser, bounds, still)


class Dice:
    """Random content, in the very words in which PostgreSQL prints it under TimeZone UTC."""

    def __init__(self, rng: random.Random, bounds: Sequence[datetime]) -> None:
        self.rng, self.bounds = rng, bounds

    def at(self) -> str:
        if self.rng.random() < 0.06:
            return self.rng.choice(EXTREMES)
        number = self.rng.randrange(len(self.bounds) - 1)
        first, end = self.bounds[number], self.bounds[number + 1]
        microsecond = timedelta(microseconds=1)
        moment = self.rng.choices(
            (first, end - microsecond, first + self.rng.randrange((end - first) // microsecond) * microsecond),
            (1, 1, 18),
        )[0]
        return f"{moment:%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".") + "+00"

    def number(self) -> str:
        return self.rng.choice(("0", "1.1", "1.10", "-3.00", "NaN", "Infinity", str(self.rng.randrange(10**12))))

    def row(self) -> Row:
        rng = self.rng
        finite = self.rng.choice(("1.5", "1.50", "0", str(rng.randrange(10**6))))
        text = rng.choice(("", "plain", "O'Brien \\ \t tab\nline", "häßlich 🐘", f"{rng.getrandbits(64):x}"))
        if rng.random() < 0.02:
            text = f"{rng.getrandbits(4 * 9_000):x}"  # lies in the TOAST table
        return Row(
            at=self.at(),
            body=None if rng.random() < 0.1 else text,
            amount=None if rng.random() < 0.1 else self.number(),
            data=None if rng.random() < 0.1 else f'{{"n": {finite}, "s": "{rng.getrandbits(32):x}"}}',
            ratio=rng.choice((None, "0", "-0", "NaN", "Infinity", "0.1", "1.5")),
        )

    def twin(self, row: Row) -> Row:
        """A row that = calls equal and that is none the less another: 1.1 and 1.10, 0 and -0."""
        other = row._replace(
            amount="1.10" if row.amount == "1.1" else "1.1",
            data='{"n": 1.5}' if row.data != '{"n": 1.5}' else '{"n": 1.50}',
            ratio="-0" if row.ratio == "0" else "0",
        )
        return other if other != row else row._replace(body="other")


@dataclass
class Tally:
    """What a client counted."""

    committed: int = 0
    rolled_back: int = 0
    settled: int = 0  # replies to COMMIT that were lost, and asked for
    statements: Counter[str] = field(default_factory=Counter)
    allowed: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)  # errors that an application must not get
    misread: Counter[str] = field(default_factory=Counter)
    miswritten: Counter[str] = field(
        default_factory=Counter
    )  # statements that wrote another number of rows than they had to
    examples: list[str] = field(default_factory=list)
    histogram: Counter[int] = field(default_factory=Counter)  # upper end in ms, a power of two -> statements
    longest_ms: float = 0.0
    slow: deque[tuple[float, float, str]] = field(default_factory=lambda: deque(maxlen=2_000))  # began, ended, what

    def example(self, text: str) -> None:
        if len(self.examples) < SHOWN:
            self.examples.append(text)

    def add(self, other: Tally) -> None:
        self.committed += other.committed
        self.rolled_back += other.rolled_back
        self.settled += other.settled
        for name in ("statements", "allowed", "refused", "misread", "miswritten", "histogram"):
            getattr(self, name).update(getattr(other, name))
        self.examples += other.examples
        self.longest_ms = max(self.longest_ms, other.longest_ms)


@dataclass
class Window:
    """A stretch of time, and the statements that were under way in it; figures are there once it has ended."""

    began: float
    ended: float = 0.0
    longest_ms: float = 0.0
    what: str = ""


class Disturbances:
    """The times in which we end connections ourselves: whoever was connected then may lose his."""

    def __init__(self) -> None:
        self._times: list[list[float]] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        times = [time.perf_counter(), float("inf")]
        self._times.append(times)
        try:
            yield
        finally:
            times[1] = time.perf_counter()

    def since(self, connected: float) -> bool:
        return any(ended >= connected for _, ended in self._times)


class Client:
    """One connection of the application; the only writer of the ids from `first` on."""

    def __init__(
        self,
        number: int,
        kind: Kind,
        place: Place,
        seed: int,
        disturbances: Disturbances,
        tolerated: Collection[str] = (),
    ) -> None:
        self.number, self.kind, self.place = number, kind, place
        self.rng = random.Random(f"{seed} client {number}")
        self.dice = Dice(self.rng, place.months)
        self.first = (number + 1) * OWN
        self.oracle = Oracle()
        self.tally = Tally()
        self.disturbances, self.tolerated = disturbances, frozenset(tolerated)
        # psycopg answers a ROLLBACK with DEALLOCATE ALL where it prepares; these keep theirs for as long as they are connected
        self.by_psycopg = number % 2 == 0
        self.under_way: tuple[float, str] | None = None
        self._conn: psycopg.Connection[Any] | None = None
        self._connected = 0.0
        self._backend: tuple[Any, ...] = ()
        self._tx: uuid.UUID | None = None
        self._marked = self._implicit = False

    # the connection

    @property
    def conn(self) -> psycopg.Connection[Any]:
        """The open connection, made anew where it was lost."""
        if self._conn is None or self._conn.closed:
            self._conn = self._connect()
        return self._conn

    def _connect(self) -> psycopg.Connection[Any]:
        deadline = time.monotonic() + RECONNECT_S
        while True:
            try:
                return self._open()
            except psycopg.OperationalError as error:
                self._count_error("connect", error)
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _open(self) -> psycopg.Connection[Any]:
        settings = {
            "TimeZone": "UTC",
            "extra_float_digits": "1",
            "default_transaction_isolation": self.kind.isolation.lower().replace(" ", "\\ "),
        }
        opened = psycopg.connect(
            self.place.superuser if self.kind.replica else self.place.application,
            autocommit=True,
            connect_timeout=10,
            application_name=f"proof client {self.number}",
            prepare_threshold=5 if self.by_psycopg else None,
            options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
        )
        try:
            if self.kind.replica:
                opened.execute("SET session_replication_role = replica")
            for statement in () if self.by_psycopg else PREPARED:
                opened.execute(statement)
            self._backend = (
                opened.execute(
                    "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
                ).fetchone()
                or ()
            )
        except BaseException:
            opened.close()
            raise
        self._connected = time.perf_counter()
        return opened

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()

    # transactions

    def begin(self, isolation: str = "") -> None:
        self._start()
        self._run("begin", f"BEGIN ISOLATION LEVEL {isolation or self.kind.isolation}")

    def mark(self) -> None:
        """Leave the transaction's marker, by which its outcome is known; COMMIT sees to it otherwise."""
        self._marked = True
        self._run("mark", MARK, (self._tx,))

    def look_elsewhere(self) -> None:
        """Take a snapshot without a touch of the table."""
        self._run("look elsewhere", "SELECT count(*) FROM outcome WHERE tx = %s", (self._tx,))

    def commit(self) -> None:
        if not self._marked:
            self.mark()
        done = self._run("commit", "COMMIT")
        assert done.statusmessage == "COMMIT"
        self.oracle.commit()
        self._tx = None
        self.tally.committed += 1

    def rollback(self) -> None:
        self._run("rollback", "ROLLBACK")
        self.oracle.rollback()
        self._tx = None
        self.tally.rolled_back += 1

    @contextmanager
    def transaction(self, *, undo: bool = False) -> Iterator[None]:
        self.begin()
        yield
        if undo:
            self.rollback()
        else:
            self.commit()

    @contextmanager
    def single(self) -> Iterator[None]:
        """One statement that is its own transaction; the marker travels in its WITH."""
        self._start()
        self._implicit = True
        yield
        self.oracle.commit()
        self._tx, self._implicit = None, False
        self.tally.committed += 1

    @contextmanager
    def savepoint(self, *, undo: bool) -> Iterator[None]:
        self._run("savepoint", "SAVEPOINT here")
        self.oracle.savepoint()
        yield
        if undo:
            self._run("rollback to", "ROLLBACK TO SAVEPOINT here")
            self.oracle.rollback_to()
        self._run("release", "RELEASE SAVEPOINT here")
        self.oracle.release()

    def _start(self) -> None:
        self.oracle.begin()
        self._tx, self._marked, self._implicit = uuid.UUID(int=self.rng.getrandbits(128), version=4), False, False

    # statements

    def _run(
        self, verb: str, query: Any, parameters: Sequence[Any] = (), *, call: Callable[[], Any] | None = None
    ) -> psycopg.Cursor[Any]:
        """One statement, timed. An error ends the transaction, on both sides, and goes on to the caller."""
        conn = self.conn
        began = time.perf_counter()
        self.under_way = began, f"{self.kind.name} {verb}"
        try:
            done: psycopg.Cursor[Any] = call() if call else conn.execute(query, parameters or None)
        except psycopg.Error as error:
            if error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
                conn.close()  # the server has; libpq may not have noticed yet
            if not conn.closed:
                self._timed(verb, began)
            self.under_way = None
            self._failed(verb, error, conn)
            raise
        self._timed(verb, began)
        self.under_way = None
        return done

    def _timed(self, verb: str, began: float) -> None:
        ended = time.perf_counter()
        took = (ended - began) * 1000
        self.tally.statements[verb] += 1
        self.tally.histogram[1 << int(took).bit_length()] += 1
        self.tally.longest_ms = max(self.tally.longest_ms, took)
        if took >= SLOW_MS:
            self.tally.slow.append((began, ended, f"{self.kind.name} {verb}"))

    def _failed(self, verb: str, error: psycopg.Error, conn: psycopg.Connection[Any]) -> None:
        """Count the error and bring oracle and server back to one state: nothing open, and known what was committed."""
        lost = conn.closed
        self._count_error(verb, error, lost=lost)
        committed = False
        if lost and self._tx is not None and (verb == "commit" or self._implicit):
            committed = self._settle(self._tx)
        elif not lost and conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            with suppress(psycopg.OperationalError):  # lost meanwhile: rolled back all the same
                conn.execute("ROLLBACK")
        if committed:
            self.oracle.commit()
            self.tally.committed += 1
        else:
            self.oracle.rollback()
            self.tally.rolled_back += 1
        self._tx, self._implicit = None, False

    def _count_error(self, verb: str, error: psycopg.Error, *, lost: bool = False) -> None:
        what = f"{self.kind.name}: {verb}: {error.sqlstate or type(error).__name__}"
        if lost or verb == "connect":
            allowed = self.disturbances.since(self._connected)
        else:
            allowed = error.sqlstate in self.tolerated or (
                error.sqlstate == "40001" and self.kind.isolation != "READ COMMITTED"
            )
        (self.tally.allowed if allowed else self.tally.refused)[what] += 1
        if not allowed:
            self.tally.example(f"refused: {what}: {' '.join(str(error).split())[:300]}")

    def _settle(self, tx: uuid.UUID) -> bool:
        """Whether the transaction whose reply was lost is committed, asked once its backend has ended."""
        backend = self._backend
        self.tally.settled += 1
        while True:
            try:
                conn = self.conn
                while conn.execute(
                    "SELECT FROM pg_stat_activity WHERE pid = %s AND backend_start = %s", backend
                ).fetchone():
                    time.sleep(0.02)
                return conn.execute("SELECT FROM outcome WHERE tx = %s", (tx,)).fetchone() is not None
            except psycopg.OperationalError as error:
                self._count_error("connect", error)

    def _write(self, verb: str, query: str, parameters: Sequence[Any], rows: int) -> None:
        """A statement that must write `rows` rows."""
        self._counted(verb, self._run(verb, *self._with_marker(query, parameters)).rowcount, rows)

    def _with_marker(self, query: str, parameters: Sequence[Any]) -> tuple[str, Sequence[Any]]:
        if not self._implicit:
            return query, parameters
        others = query.removeprefix("WITH ")
        return f"WITH mark AS ({MARK}){',' if others != query else ''} {others}", (self._tx, *parameters)

    def _counted(self, verb: str, found: int, rows: int) -> None:
        if found != rows:
            self.tally.miswritten[f"{self.kind.name}: {verb}"] += 1
            self.tally.example(f"miswritten: {self.kind.name}: {verb} wrote {found} rows and not {rows}")

    def _execute_prepared(self, name: str, *values: Any) -> psycopg.Cursor[Any]:
        query = sql.SQL("EXECUTE {} ({})").format(sql.Identifier(name), sql.SQL(", ").join(map(sql.Literal, values)))
        return self._run(f"EXECUTE {name}", query)

    # What an application does to rows. The oracle is told first: where the reply is lost, it must know what was tried.

    def insert(self, rows: Content) -> None:
        self._put(rows)
        parameters = [value for key, row in rows.items() for value in (key, *row)]
        self._write("INSERT", INSERT + ", ".join([VALUES] * len(rows)), parameters, len(rows))

    def update(self, key: int, row: Row) -> None:
        """Content, and the partition key with it where `row` has another."""
        self._put({key: row})
        self._write("UPDATE", f"UPDATE item SET {SET} WHERE id = %s::bigint", (*row, key), 1)

    def update_body(self, keys: Sequence[int], body: str) -> None:
        self._put({key: self._seen(key)._replace(body=body) for key in keys})
        self._write("UPDATE many", "UPDATE item SET body = %s WHERE id = ANY (%s)", (body, list(keys)), len(keys))

    def move(self, key: int, at: str) -> None:
        self._put({key: self._seen(key)._replace(at=at)})
        self._write("UPDATE at", "UPDATE item SET at = %s::timestamptz WHERE id = %s::bigint", (at, key), 1)

    def rename(self, key: int, new: int) -> None:
        self._put({new: self._seen(key)})
        self._drop([key])
        self._write("UPDATE id", "UPDATE item SET id = %s::bigint WHERE id = %s::bigint", (new, key), 1)

    def delete(self, keys: Sequence[int]) -> None:
        self._drop(keys)
        self._write("DELETE", "DELETE FROM item WHERE id = ANY (%s)", (list(keys),), len(keys))

    def upsert(self, key: int, row: Row) -> None:
        self._put({key: row})
        self._write("ON CONFLICT", UPSERT, (key, *row), 1)

    def merge(self, key: int, row: Row) -> None:
        self._put({key: row})
        self._write("MERGE", MERGE, (key, *row), 1)

    def replace(self, key: int, new: int) -> None:
        """DELETE and INSERT in one statement."""
        self._put({new: self._seen(key)})
        self._drop([key])
        self._write("DELETE, INSERT", REPLACE, (key, new), 1)

    def copy(self, rows: Content) -> None:
        self._put(rows)
        cursor = self.conn.cursor()

        def call() -> psycopg.Cursor[Any]:
            with cursor.copy("COPY item (id, at, body, amount, data, ratio) FROM STDIN") as copy:
                for key, row in rows.items():
                    copy.write_row((key, *row))
            return cursor

        self._counted("COPY", self._run("COPY", None, call=call).rowcount, len(rows))

    def put_by_function(self, key: int, row: Row) -> None:
        self._put({key: row})
        self._function(
            "item_put", "%s::bigint, %s::timestamptz, %s::text, %s::numeric, %s::jsonb, %s::float8", (key, *row)
        )

    def drop_by_function(self, key: int) -> None:
        self._drop([key])
        self._function("item_drop", "%s::bigint", (key,))

    def undo_by_function(self, key: int, at: str) -> None:
        self._function("item_undo", "%s::bigint, %s::timestamptz", (key, at))

    def _function(self, name: str, arguments: str, parameters: Sequence[Any]) -> None:
        query, parameters = self._with_marker(f"SELECT {name}({arguments})", parameters)
        [written] = self._run(name, query, parameters).fetchone() or (0,)
        self._counted(name, written, 1)

    def insert_prepared(self, key: int, row: Row) -> None:
        self._put({key: row})
        self._counted("EXECUTE insert", self._execute_prepared("item_insert", key, *row).rowcount, 1)

    def update_prepared(self, key: int, row: Row) -> None:
        self._put({key: row})
        self._counted("EXECUTE update", self._execute_prepared("item_update", key, *row).rowcount, 1)

    def delete_prepared(self, key: int) -> None:
        self._drop([key])
        self._counted("EXECUTE delete", self._execute_prepared("item_delete", key).rowcount, 1)

    def read_prepared(self, key: int) -> None:
        self._check("EXECUTE read", self._execute_prepared("item_read", key).fetchall(), [key])

    def read(self, keys: Sequence[int], *, lock: bool = False) -> None:
        """Each of the rows is there as it was written, or is not there if it was not."""
        verb, ending = ("SELECT FOR UPDATE", " FOR UPDATE") if lock else ("SELECT", "")
        found = self._run(verb, f"{READ} WHERE id = ANY (%s){ending}", (list(keys),)).fetchall()
        self._check(verb, found, keys)

    def read_all(self) -> None:
        """All rows of this client, and none that it has not."""
        found = self._run("SELECT all", f"{READ} WHERE id >= %s AND id < %s", (self.first, self.first + OWN)).fetchall()
        self._check("SELECT all", found, None)

    def _check(self, verb: str, found: Iterable[tuple[Any, ...]], keys: Sequence[int] | None) -> None:
        wanted = self.oracle.rows()
        if keys is not None:
            wanted = {key: wanted[key] for key in keys if key in wanted}
        differences = compare(((key, Row(*rest)) for key, *rest in found), wanted)
        for what in ("missing", "stale", "resurrected"):
            if number := getattr(differences, what):
                self.tally.misread[f"{self.kind.name}: {what}"] += number
        for example in differences.examples:
            self.tally.example(f"misread: {self.kind.name}: {verb}: {example}")

    def _put(self, rows: Content) -> None:
        for key, row in rows.items():
            self.oracle.put(key, row)

    def _drop(self, keys: Iterable[int]) -> None:
        for key in keys:
            self.oracle.drop(key)

    def _seen(self, key: int) -> Row:
        row = self.oracle.get(key)
        assert row is not None
        return row

    # at random

    def fill(self, rows: int) -> None:
        """The first rows of this client."""
        with self.transaction():
            self.copy({self.first + number: self.dice.row() for number in range(min(rows, POOL))})

    def one(self) -> None:
        """A transaction; what fails is counted."""
        rng = self.rng
        self._nap()
        with suppress(psycopg.Error):
            if self.kind.hung:
                self._dawdle()
            elif rng.random() < 0.25:
                with self.single():
                    self._act(alone=True)
            else:
                with self.transaction(undo=rng.random() < 0.12):
                    if rng.random() < 0.5:
                        self.mark()
                    for _ in range(rng.randint(1, 5)):
                        self._act()
                        self._nap()

    def _nap(self) -> None:
        time.sleep(self.rng.choice((0, 0, 0.001, 0.005, 0.02)))

    def _dawdle(self) -> None:
        """A transaction that keeps a snapshot, or the lock of a row, for a while."""
        with self.transaction(undo=self.rng.random() < 0.3):
            if self.rng.random() < 0.5:
                self.look_elsewhere()
            else:
                self._act()
            time.sleep(self.rng.uniform(0.1, 0.4))
            self.read_all()
            self._act()
        time.sleep(self.rng.uniform(0.3, 1.0))

    def _act(self, *, alone: bool = False, depth: int = 0) -> None:
        """A random verb; `alone`: one that can carry the marker."""
        rng = self.rng
        here = self.oracle.rows()
        mine = sorted(here)
        free = [key for key in range(self.first, self.first + POOL) if key not in here]
        some = rng.sample(mine, min(len(mine), rng.randint(1, 4)))
        none = rng.sample(free, min(len(free), rng.randint(1, 4)))
        anywhere = rng.randrange(self.first, self.first + POOL)
        acts: list[tuple[int, Callable[[], None]]] = [
            (2, lambda: self._upsert(anywhere)),
            (2, lambda: self.merge(anywhere, self.dice.row())),
        ]
        acts.append((2, lambda: self.put_by_function(anywhere, self.dice.row())))
        if none:
            acts += [
                (4, lambda: self.insert({none[0]: self.dice.row()})),
                (2, lambda: self.insert({key: self.dice.row() for key in none})),
            ]
        if some:
            key = some[0]
            acts += [
                (4, lambda: self.update(key, self.dice.row()._replace(at=here[key].at))),
                (2, lambda: self.update(key, self.dice.twin(here[key]))),
                (2, lambda: self.update_body(some, f"{rng.getrandbits(32):x}")),
                (3, lambda: self.move(key, self.dice.at())),
                (2, lambda: self.delete([key])),
                (1, lambda: self.delete(some)),
                (1, lambda: self.drop_by_function(key)),
                (1, lambda: self.undo_by_function(key, self.dice.at())),
            ]
        if some and none:
            acts += [(2, lambda: self.rename(some[0], none[0])), (1, lambda: self.replace(some[0], none[0]))]
        if not alone:
            acts += [
                (3, lambda: self.read([*some, *none])),
                (1, lambda: self.read(some, lock=True)),
                (1, self.read_all),
            ]
            if none:
                acts.append((1, lambda: self.copy({key: self.dice.row() for key in none})))
            if not self.by_psycopg:
                if none:
                    acts.append((4, lambda: self.insert_prepared(none[0], self.dice.row())))
                if some:
                    acts += [
                        (4, lambda: self.update_prepared(some[0], self.dice.row())),
                        (4, lambda: self.delete_prepared(some[0])),
                        (4, lambda: self.read_prepared(some[0])),
                    ]
            if depth < 2:
                acts.append((2, lambda: self._nested(depth + 1)))
        rng.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()

    def _upsert(self, key: int) -> None:
        """Of an id that is there, with its own partition key: under another the id would be there twice, or be refused."""
        old, row = self.oracle.get(key), self.dice.row()
        self.upsert(key, row if old is None else row._replace(at=old.at))

    def _nested(self, depth: int) -> None:
        with self.savepoint(undo=self.rng.random() < 0.6):
            for _ in range(self.rng.randint(1, 3)):
                self._act(depth=depth)


@dataclass(frozen=True)
class Verdict:
    """What became of the rows, and what the clients went through meanwhile."""

    seed: int
    seconds: float
    rows: int  # that must be there
    lost: Differences
    tally: Tally

    @property
    def losses(self) -> int:
        return self.lost.total

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing misread, every statement wrote its rows, and no error that an application must not get."""
        return not (self.losses or self.tally.misread or self.tally.miswritten or self.tally.refused)

    def figures(self) -> dict[str, str]:
        """For a table: what, how many."""
        tally = self.tally
        return {
            "seed": str(self.seed),
            "seconds": f"{self.seconds:.1f}",
            "transactions committed": f"{tally.committed:,}",
            "transactions rolled back": f"{tally.rolled_back:,}",
            "lost replies settled": f"{tally.settled:,}",
            "statements": f"{sum(tally.statements.values()):,}",
            "rows": f"{self.rows:,}",
            "rows missing": str(self.lost.missing),
            "rows stale": str(self.lost.stale),
            "rows resurrected": str(self.lost.resurrected),
            "rows misread": str(sum(tally.misread.values())),
            "statements miswritten": str(sum(tally.miswritten.values())),
            "errors allowed": _counts(_without_verbs(tally.allowed)),
            "errors refused": _counts(tally.refused),
            "longest stall": f"{tally.longest_ms:.0f} ms",
            "statements by duration": ", ".join(
                f"<{upper} ms {number:,}" for upper, number in sorted(tally.histogram.items())
            ),
        }

    def __str__(self) -> str:
        return "\n".join([table(self.figures()), *self.lost.examples, *self.tally.examples[:SHOWN]])


def table(figures: Mapping[str, str]) -> str:
    """Figures as lines of two columns."""
    width = max(map(len, figures), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in figures.items())


def _without_verbs(counter: Counter[str]) -> Counter[str]:
    short: Counter[str] = Counter()
    for what, number in counter.items():
        kind, _, state = what.split(": ")
        short[f"{kind}: {state}"] += number
    return short


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{number} x {what}" for what, number in sorted(counter.items())) or "0"


class Load:
    """All clients of a run; at the end of its `with` they have ended. `tolerated`: SQLSTATEs that any client may get.

    `rate`: transactions a second that all together begin at most; 0: each begins the next as soon as it has ended one,
    which leaves whatever is proven a share of the machine only.
    """

    def __init__(
        self,
        place: Place,
        seed: int,
        kinds: Sequence[Kind] = KINDS + HUNG,
        tolerated: Collection[str] = (),
        rate: float = 0,
    ) -> None:
        self.place, self.seed = place, seed
        self._pause_s = len(kinds) / rate if rate else 0.0
        self.disturbances = Disturbances()
        self.clients = [
            Client(number, kind, place, seed, self.disturbances, tolerated) for number, kind in enumerate(kinds)
        ]
        self._threads: list[threading.Thread] = []
        self._go, self._end = threading.Event(), threading.Event()
        self._resting = [threading.Event() for _ in self.clients]
        self._errors: list[BaseException] = []
        self._began = time.perf_counter()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._go.set()
        for thread in self._threads:
            thread.join(STUCK_S)
        for client in self.clients:
            client.close()

    def start(self, rows: int = POOL // 2) -> None:
        """Write each client's first rows, then let all run."""
        for client in self.clients:
            client.fill(rows)
        self._go.set()
        for client, resting in zip(self.clients, self._resting, strict=True):
            thread = threading.Thread(target=self._live, args=(client, resting), name=f"proof client {client.number}")
            self._threads.append(thread)
            thread.start()

    def _live(self, client: Client, resting: threading.Event) -> None:
        due = time.monotonic()
        try:
            while not self._end.is_set():
                if not self._go.is_set():
                    resting.set()
                    self._go.wait()
                    resting.clear()
                elif (early := due - time.monotonic()) > 0:
                    self._end.wait(min(early, 0.05))  # short, so that a pause is answered soon
                else:
                    due = max(due, time.monotonic() - self._pause_s) + self._pause_s
                    client.one()
        except (
            BaseException
        ) as error:  # a fault of this harness, or a server that did not come back: told by whoever waits
            self._errors.append(error)
        finally:
            resting.set()

    def pause(self) -> None:
        """Wait until no client has a transaction open."""
        self._go.clear()
        deadline = time.monotonic() + STUCK_S
        for resting in self._resting if self._threads else ():
            if not resting.wait(max(0.0, deadline - time.monotonic())):
                doing = [(client.number, client.kind.name, client.under_way) for client in self.clients]
                raise TimeoutError(f"clients do not come to the end of their transactions: {doing}")
        if self._errors:
            raise self._errors[0]

    def resume(self) -> None:
        self._go.set()

    def stop(self) -> Verdict:
        """End the clients; the verdict is the last."""
        self.pause()
        self._end.set()
        return self._verdict()

    def disturbance(self) -> Any:
        """`with load.disturbance():` around the killing of a server or its backends, until it takes connections again."""
        return self.disturbances.one()

    @contextmanager
    def window(self) -> Iterator[Window]:
        """The longest stall of a statement that was under way in a stretch of time."""
        window = Window(time.perf_counter())
        yield window
        window.ended = time.perf_counter()
        time.sleep(0.05)  # those that were under way at the end come to theirs
        now = time.perf_counter()
        for client in self.clients:
            still = [(began, now, what) for began, what in filter(None, [client.under_way])]
            for began, ended, what in [*client.tally.slow.copy(), *still]:
                if began <= window.ended and ended >= window.began and (ended - began) * 1000 > window.longest_ms:
                    window.longest_ms, window.what = (ended - began) * 1000, what

    def wanted(self) -> dict[int, Row]:
        """Every row that was committed."""
        rows = dict(self.place.rows)
        for client in self.clients:
            rows.update(client.oracle.committed)
        return rows

    def verdict(self) -> Verdict:
        """Of the table in use, with the clients paused meanwhile; of led clients none may have a transaction open."""
        running = self._go.is_set()
        if running:
            self.pause()
        try:
            return self._verdict()
        finally:
            if running:
                self.resume()

    def _verdict(self) -> Verdict:
        tally = Tally()
        for client in self.clients:
            tally.add(client.tally)
        with self.place.connect() as conn:
            found = conn.execute(READ).fetchall()
        wanted = self.wanted()
        lost = compare(((key, Row(*rest)) for key, *rest in found), wanted)
        return Verdict(self.seed, time.perf_counter() - self._began, len(wanted), lost, tally)


def apart(place: Place, one: str, other: str) -> list[str]:
    """What two tables do not have in common, in both directions and at full precision; empty: they hold the same rows."""
    columns = "id::text, at::text, body, amount::text, data::text, ratio::text"
    found = []
    with place.connect() as conn:
        for here, there in ((one, other), (other, one)):
            query = f"SELECT {columns} FROM {here} EXCEPT ALL SELECT {columns} FROM {there}"
            found += [f"only in {here}: {row}" for row in conn.execute(query).fetchall()]  # type: ignore[call-overload]
    return found


def try_truncate(place: Place) -> str:
    """TRUNCATE as the application: the SQLSTATE it is refused with, empty where it went through (it is taken back)."""
    with psycopg.connect(place.application) as conn:
        try:
            conn.execute("TRUNCATE item")
        except psycopg.Error as error:
            return error.sqlstate or "?"
        finally:
            conn.rollback()
    return ""
