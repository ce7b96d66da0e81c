"""The one moment that the application waits for: two tables change places.

The second connection drains until few keys are left. The first one takes the lock that keeps writers out and goes on holding it; the second one
drains what is left and *commits*; only then does the first one exchange the tables. Were it one transaction, a REPEATABLE READ reader that waits for
the exchange would have taken its snapshot before the last rows were committed, and would miss them in the table that it then finds. This way every
snapshot taken since the drain sees both tables alike, and older ones are waited for before any lock is asked for.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from atlas_ops import sqlfile
from atlas_ops.database import written
from atlas_ops.errors import AtlasError
from atlas_ops.model import Transaction
from atlas_ops.plan import Step

WAIT_S = 60.0  # for older snapshots to end
FEW_ROWS = 50  # written by a pass before the lock: the one under it will have as few, and take some milliseconds
PASSES = 5  # before the lock, at most
LOOK_S = 0.05
LOOK_AGAIN_S = 0.001
QUIET_S, QUIET_LOOKS = 0.3, 5  # looked for a moment in which nobody holds the table, with a drain before each look
ATTEMPTS = 100  # each keeps writers waiting for its share of lock_timeout at most
GATE_MS = 100  # longer than whoever it stands for: he gives up first
NOWAIT_SINCE = 170000  # LOCK ... NOWAIT succeeds although others wait for a lock that we hold
TRIED_AGAIN = frozenset(
    {"57014", "40001", "25P03"}
)  # beside those of every step: our own timeouts inside of an exchange


@dataclass(frozen=True, slots=True)
class Held:
    """What an exchange took: rows written, each lock's wait in ms, and the ms from the first lock to the commit."""

    rows: int
    waits: tuple[tuple[str, float], ...]
    held_ms: float


def attempt(
    connection: psycopg.Connection, second: psycopg.Connection, step: Step, say: Callable[[str], None] = lambda _: None
) -> Held:
    """One attempt. Raises psycopg's errors, whose transaction is rolled back, and AtlasError when older snapshots do not end."""
    _older_snapshots_end(connection, [connection.info.backend_pid, second.info.backend_pid], step, say)
    rows = 0
    for _ in range(QUIET_LOOKS):
        rows += _drained_before(second, step)
        if _quiet(connection, step):
            break
    say(step.name)
    with ExitStack() as gates:
        with connection.transaction():
            waits, locked = [], 0.0
            for statement in step.first:
                waits.append((statement, _timed(connection, statement)))
                locked = locked or (0.0 if statement.startswith("SET") else time.perf_counter())
            rows += _transaction(second, step.meanwhile)
            held_already = _locked(step.first)
            for statement in _grouped(step.statements):
                stronger = _locked([statement]) == held_already
                if stronger and connection.info.server_version < NOWAIT_SINCE:
                    gates.enter_context(_gate(second, statement, _lock_timeout_ms(connection)))
                took = _timed(connection, statement, behind=second if stronger else None)
                if statement.startswith("LOCK"):
                    waits.append((statement, took))
        held = (time.perf_counter() - locked) * 1000
    return Held(rows, tuple((text, round(ms, 3)) for text, ms in waits if text.startswith("LOCK")), round(held, 3))


def _drained_before(second: psycopg.Connection, step: Step) -> int:
    """Passes before the lock: the first makes its plans, and keys gather meanwhile; what the last one leaves is held time."""
    rows = 0
    for _ in range(PASSES):
        written_now = _transaction(second, step.meanwhile)
        rows += written_now
        if written_now <= FEW_ROWS:
            break
    return rows


def _quiet(connection: psycopg.Connection, step: Step) -> bool:
    """Wait, without any lock, for a moment in which nobody holds the table; False where none comes within QUIET_S.

    Whoever has read it in his transaction and then waits behind our first lock to write would keep the second one from us for as long as
    we hold the first: an attempt that begins in the midst of such transactions is in vain.
    """
    tables = _locked(step.first)
    deadline = time.monotonic() + QUIET_S
    while any(_holders(connection, table) for table in tables):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_AGAIN_S)
    return True


def _grouped(statements: tuple[str, ...]) -> list[str]:
    """What stands between two LOCKs is sent at once: a round trip for each of them would be held time."""
    groups: list[list[str]] = []
    for statement in statements:
        alone = statement.startswith("LOCK")
        if alone or not groups or groups[-1][0].startswith("LOCK"):
            groups.append([])
        groups[-1].append(statement)
    return [";\n".join(group) for group in groups]


def _timed(connection: psycopg.Connection, statement: str, *, behind: psycopg.Connection | None = None) -> float:
    started = time.perf_counter()
    if behind is not None:
        _lock_unqueued(connection, behind, statement)
    else:
        connection.execute(statement)
    return (time.perf_counter() - started) * 1000


def _lock_unqueued(connection: psycopg.Connection, behind: psycopg.Connection, statement: str) -> None:
    """A stronger lock on a table that is locked already, without standing in its queue: asked for until lock_timeout.

    Whoever has read the table in his transaction and now writes to it would get a deadlock (40P01) at once, whatever the timeouts, if we
    stood there: he waits for our first lock, and we for his (ProcSleep in src/backend/storage/lmgr/proc.c). NOWAIT does not stand there.
    Before 17 NOWAIT fails as soon as a writer waits for us. There the connection `behind` us stands in the queue (`_gate`): it holds
    nothing, so nobody waits for it, and whoever comes stands behind it. Those who hold the table can only become fewer, and once there
    are none the lock is granted at once. Raises psycopg's LockNotAvailable.
    """
    wait_ms = _lock_timeout_ms(connection)
    deadline = time.monotonic() + wait_ms / 1000
    if connection.info.server_version >= NOWAIT_SINCE:
        _lock_nowait(connection, statement, deadline)
        return
    _until(lambda: _waits(connection, behind.info.backend_pid), deadline)
    _until(lambda: not _holders(connection, _locked([statement])[0]), deadline)
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '1ms'")  # it is granted at once, or something here is not as told
        connection.execute(statement)
    connection.execute(f"SET LOCAL lock_timeout = '{wait_ms}ms'")


def _lock_timeout_ms(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'").fetchone()
    return row[0] if row else 0


def _lock_nowait(connection: psycopg.Connection, statement: str, deadline: float) -> None:
    while True:
        try:
            with connection.transaction():  # a savepoint: the first lock stays
                connection.execute(f"{statement} NOWAIT")
            return
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOOK_AGAIN_S)


def _until(true: Callable[[], bool], deadline: float) -> None:
    while not true():
        if time.monotonic() > deadline:
            raise psycopg.errors.LockNotAvailable("others hold the table")
        time.sleep(LOOK_AGAIN_S)


@contextmanager
def _gate(second: psycopg.Connection, statement: str, wait_ms: int) -> Iterator[None]:
    """`second` asks for the lock and lets it go in one statement: it stands in the queue until our transaction ends, or for long enough."""
    asked = sqlfile.template("gate", lock=sql.SQL(statement), wait=sql.Literal(f"{wait_ms + GATE_MS}ms"))

    def stand() -> None:
        with suppress(psycopg.Error):  # lock_timeout; a connection that is lost is told by whoever uses it next
            second.execute(asked)

    standing = threading.Thread(target=stand, name="atlas_ops gate")
    standing.start()
    try:
        yield
    except BaseException:
        while (
            standing.is_alive()
        ):  # it must not keep anybody waiting for nothing; a cancellation may come too early, so again
            with suppress(psycopg.Error):
                second.cancel_safe(timeout=1)
            standing.join(0.02)
        raise
    finally:
        standing.join()


def _holders(connection: psycopg.Connection, table: str) -> int:
    row = connection.execute(sqlfile.text("catalog", "holders"), {"table": table}).fetchone()
    return row[0] if row else 0


def _waits(connection: psycopg.Connection, pid: int) -> bool:
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)", (pid,)).fetchone()
    return bool(row and row[0])


def _transaction(connection: psycopg.Connection, statements: tuple[str, ...]) -> int:
    """Prepared: the pass under the lock finds the plans of the one before it, which take longer to make than to run."""
    with connection.transaction():
        return sum(written(connection.execute(statement, prepare=True)) for statement in statements)


def _older_snapshots_end(
    connection: psycopg.Connection, ours: list[int], step: Step, say: Callable[[str], None]
) -> None:
    """Wait for transactions that began before now: a snapshot older than the drain must not meet the exchanged tables."""
    row = connection.execute(
        "SELECT clock_timestamp(), array_remove(array_agg(to_regclass(t)::oid::bigint), NULL) FROM unnest(%s::text[]) AS t",
        (_locked(step.first),),
    ).fetchone()
    assert row is not None
    since, oids = row
    deadline = time.monotonic() + WAIT_S
    while older := _older(connection, since, ours, oids or []):
        who = "; ".join(_who(one) for one in older[:5])
        if time.monotonic() > deadline:
            raise AtlasError(
                what=f"Transactions that began before this step are still open after {WAIT_S:.0f} s.",
                why=f"{who}. They may see the table as it was before the last rows were copied; no lock was asked for.",
                next="Let them end, or end them when you know what they are: SELECT pg_terminate_backend(pid); then run again.",
            )
        say(f"waiting for older transactions: {who}")
        time.sleep(LOOK_S)


def _older(connection: psycopg.Connection, since: datetime, ours: list[int], oids: list[int]) -> list[Transaction]:
    with connection.cursor(row_factory=class_row(Transaction)) as cursor:
        return cursor.execute(
            sqlfile.text("catalog", "older_snapshots"), {"since": since, "ours": ours, "oids": oids}
        ).fetchall()


def _who(one: Transaction) -> str:
    holds = f", holds {one.holds}" if one.holds else ""
    return f"process {one.pid} ({one.role}, {one.application or 'no name'}, {one.state or 'working'}) for {one.seconds:,.1f} s{holds}"


def _locked(statements: Sequence[str]) -> list[str]:
    """The tables that the LOCK statements name, as SQL writes them."""
    # a name may hold a line break
    found = [re.match(r"(?s)LOCK TABLE (?:ONLY )?(.*) IN [A-Z ]+ MODE", statement) for statement in statements]
    return [one[1] for one in found if one]
