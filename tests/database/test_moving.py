"""Rows leave the default partition for their month while the application writes: none lost, none seen twice, nothing fired."""

from __future__ import annotations

import random
import threading
import time
from datetime import date
from typing import Any

import psycopg
import pytest
from database.clients import MOMENT, Clients, read_for_five_seconds
from psycopg import sql

from atlas_ops import adopt, archive, database, maintain, moving, plan
from atlas_ops import care as reads
from atlas_ops.errors import AtlasError
from atlas_ops.model import Snapshot
from atlas_ops.moving import Answer
from atlas_ops.plan import Plan
from atlas_ops.report import Severity
from atlas_ops.spec import TableSpec
from atlas_ops.upkeep import Upkeep

MAY = date(2024, 5, 10)
NOTE = (
    "CREATE TABLE author (id int PRIMARY KEY)",
    "INSERT INTO author SELECT generate_series(1, 9)",
    "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY, author int REFERENCES author ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED, "
    "at timestamptz, body text, twice bigint GENERATED ALWAYS AS (author * 2) STORED, PRIMARY KEY (id))",
    "CREATE INDEX ON note (at)",
    # to the 28th of May: two months and most of a third lie in the default partition, and rows before and far behind all of them
    "INSERT INTO note (author, at, body) SELECT 1 + n % 9, '2024-01-02'::timestamptz + n * interval '1 hour', repeat('row ' || n, n % 50) "
    "FROM generate_series(1, 3500) n",
    "INSERT INTO note (author, at, body) VALUES (1, '2021-06-01', 'old'), (2, '2031-06-01', 'far'), (3, 'infinity', 'never')",
)
WHOLE = "SELECT count(*), md5(string_agg(n::text, ',' ORDER BY n::text)) FROM note_partitioned n"
PLACES = (
    "SELECT array_agg(place || ' ' || rows ORDER BY place) "
    "FROM (SELECT tableoid::regclass::text AS place, count(*) AS rows FROM note_partitioned GROUP BY 1) p"
)


@pytest.fixture
def note(empty: Any, ops: Any) -> Any:
    """`note` with January and February 2024 and three more months in the default partition."""
    ops.run(empty, *NOTE)
    ops.migrate(empty, ops.spec())
    return empty


def read(db: Any, ops: Any, spec: TableSpec, as_of: date = MAY) -> tuple[TableSpec, Snapshot, Upkeep]:
    spec, snapshot = ops.placed(db, spec)
    with database.connect(ops.session(db)) as conn:
        return spec, snapshot, reads.upkeep(conn, spec, snapshot, as_of)


def planned(db: Any, ops: Any, spec: TableSpec, most: int = 250, as_of: date = MAY) -> Plan:
    return moving.plan_move(*read(db, ops, spec, as_of), as_of, most)


def move(db: Any, ops: Any, spec: TableSpec, most: int = 250, as_of: date = MAY) -> Any:
    return ops.carry_out(db, planned(db, ops, spec, most, as_of))


def whole(db: Any, table: str = "note_partitioned") -> Any:
    with psycopg.connect(db.conninfo, options="-c TimeZone=UTC") as conn:
        return conn.execute(WHOLE.replace("note_partitioned", table)).fetchone()


def test_every_row_comes_into_its_month_and_what_belongs_to_none_stays(note: Any, ops: Any) -> None:
    ops.run(note, "INSERT INTO note_partitioned (author, at) VALUES (4, '-infinity')")
    before = whole(note)
    found = moving.rows(*read(note, ops, ops.spec()), MAY)
    told = [(one.period.label if one.period else None, one.answer) for one in found]
    assert told == [
        ("2021-06", Answer.OUTSIDE),
        *((f"2024-0{month}", Answer.MOVED) for month in (3, 4, 5)),
        ("2031-06", Answer.OUTSIDE),
        (None, Answer.BEYOND),
    ]
    made = planned(note, ops, ops.spec())
    assert not made.additive and [step.name.split(" out of ")[0] for step in made.steps] == [
        *(f"move rows of 2024-0{month}" for month in (5, 4, 3)),
        "vacuum partitions.note_default",
    ]
    with pytest.raises(AtlasError, match="does more than add"):
        plan.confirmed(made, "additive", demo=False)
    lines = ops.carry_out(note, made)
    assert [line.attempts for line in lines] == [3, 3, 3, 1], "some hundred rows a transaction"
    assert whole(note) == before
    assert ops.value(note, PLACES) == [
        "partitions.note_2024_01 719", "partitions.note_2024_02 696", "partitions.note_2024_03 744", "partitions.note_2024_04 720",
        "partitions.note_2024_05 621",
        "partitions.note_default 4",
    ]  # fmt: skip
    assert planned(note, ops, ops.spec()).steps == ()
    _alike(note, ops, "note_2024_02", "note_2024_04")
    checks = {check.name: check for check in moving.checks(*read(note, ops, ops.spec()), MAY)}
    assert checks["default partition"].severity is Severity.NOTE and "4 rows" in checks["default partition"].what
    assert ops.value(note, "SELECT count(*) FROM create_future_partitions('2024-05-10')") == 1, (
        "June; nothing is in the way"
    )


def _alike(db: Any, ops: Any, *names: str) -> None:
    old, new = (ops.relation(db, "partitions", name) for name in names)
    assert [c.definition for c in new.constraints if c.kind in "fp"] == [
        c.definition for c in old.constraints if c.kind in "fp"
    ]
    assert [index.tail for index in new.indexes] == [index.tail for index in old.indexes]
    assert (new.triggers, new.grants, new.table.row_security) == (old.triggers, old.grants, True)


def test_rows_without_a_key_stay_and_are_said_to(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        "CREATE TABLE message (id int, at date) PARTITION BY RANGE (at)",
        "CREATE TABLE message_2024_01 PARTITION OF message FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
        "CREATE TABLE message_default PARTITION OF message DEFAULT",
        "INSERT INTO message VALUES (1, NULL), (2, NULL), (3, '2024-02-02'), (4, '2024-01-31')",
    )
    spec = ops.spec(table="message", partition_key="at", until=None)
    ops.carry_out(empty, adopt.plan_register(*read(empty, ops, spec)))
    february = date(2024, 2, 3)
    found = moving.rows(*read(empty, ops, spec, february), february)
    assert [(one.period.label if one.period else None, one.rows, one.answer) for one in found] == [
        ("2024-02", 1, Answer.MOVED),
        (None, 2, Answer.KEYLESS),
    ]
    move(empty, ops, spec, as_of=february)
    assert ops.value(empty, "SELECT array_agg(tableoid::regclass::text ORDER BY id) FROM message") == [
        "message_default", "message_default", "message_2024_02", "message_2024_01",
    ]  # fmt: skip


class Writer:
    """Writes rows of its own all over the months, and knows what became of each."""

    def __init__(self, conninfo: str, number: int, wrong: list[Any]) -> None:
        self.conninfo, self.number, self.wrong = conninfo, number, wrong
        self.dice, self.own = random.Random(number), dict[int, tuple[str, str]]()

    def run(self, stop: threading.Event) -> None:
        with psycopg.connect(self.conninfo, autocommit=True, options="-c TimeZone=UTC") as conn:
            while not stop.is_set():
                try:
                    self._write(conn)
                except psycopg.Error as error:
                    self.wrong.append((error.sqlstate, str(error)))

    def _write(self, conn: psycopg.Connection) -> None:
        dice, own = self.dice, self.own
        row = (
            f"2024-0{dice.randint(3, 5)}-{dice.randint(1, 28):02} {dice.randint(0, 23):02}:00:00",
            f"own {self.number} {dice.random()}",
        )
        key = dice.choice(list(own)) if own and dice.random() < 0.5 else None
        if key is None:
            insert = "INSERT INTO note_partitioned (author, at, body) VALUES (1, %s, %s) RETURNING id"
            ((made,),) = conn.execute(insert, row).fetchall()
            own[made] = row
            return
        if dice.random() < 0.3:
            done = conn.execute("DELETE FROM note_partitioned WHERE id = %s", (key,))
            del own[key]
        else:
            done = conn.execute("UPDATE note_partitioned SET at = %s, body = %s WHERE id = %s", (*row, key))
            own[key] = row
        if done.rowcount != 1:
            self.wrong.append(("rows written", done.rowcount))


def counts_on(conninfo: str, level: str, held: float, expected: int, wrong: list[Any], stop: threading.Event) -> None:
    """A reader who counts the same rows again and again, twice a transaction."""
    with psycopg.connect(conninfo) as conn:
        conn.isolation_level = psycopg.IsolationLevel[level]
        query = "SELECT count(*), count(DISTINCT id) FROM note_partitioned WHERE body NOT LIKE 'own%' OR body IS NULL"
        while not stop.is_set():
            with conn.transaction():
                for _ in range(2):
                    counted = conn.execute(query).fetchone()
                    if counted != (expected, expected):
                        wrong.append((level, counted))
                    time.sleep(held)
            time.sleep(0.2)


def test_the_application_writes_all_the_while_and_no_reader_misses_a_row(note: Any, ops: Any) -> None:
    """Readers of either isolation count a fixed set of rows at every moment; writers insert, update, move and delete rows of their own."""
    fixed = ops.value(note, "SELECT count(*) FROM note_partitioned")
    stop, wrong = threading.Event(), list[Any]()
    writers = [Writer(note.conninfo, number, wrong) for number in range(2)]
    levels = (("READ_COMMITTED", 0.01), ("REPEATABLE_READ", 0.03))
    threads = [threading.Thread(target=counts_on, args=(note.conninfo, *level, fixed, wrong, stop)) for level in levels]
    threads += [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        move(note, ops, ops.spec())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    told = {key: row for writer in writers for key, row in writer.own.items()}
    with note.connect(options="-c TimeZone=UTC") as conn:
        written = conn.execute(
            "SELECT id, to_char(at, 'YYYY-MM-DD HH24:MI:SS'), body FROM note_partitioned WHERE body LIKE 'own%'"
        )
        there = {key: (at, body) for key, at, body in written}
    assert there == told and len(told) > 5
    assert (
        ops.value(
            note, "SELECT count(*) FROM ONLY partitions.note_default WHERE at >= '2024-03-01' AND at < '2024-06-01'"
        )
        == 0
    )


def test_nobody_waits_longer_than_lock_timeout_and_a_moment(note: Any, ops: Any) -> None:
    """500 writes a second, into the months that move too, and a reader of five seconds; as many rows a transaction as by default."""
    many = "SELECT 1 + n % 9, '2024-04-01'::timestamptz + n * interval '3 minutes', 'many' FROM generate_series(1, 15000) n"
    ops.run(note, f"INSERT INTO note_partitioned (author, at, body) {many}")
    before = ops.value(note, "SELECT count(*) FROM note_partitioned WHERE body = 'many'")
    also = "INSERT INTO {table} (at, author, body) VALUES ('2024-04-05', 1 + {n} % 9, 'x')"
    with Clients(note.conninfo, "note_partitioned", also) as clients, clients.watched() as seen:
        reader = threading.Thread(target=read_for_five_seconds, args=(note.conninfo, "note_partitioned"))
        reader.start()
        time.sleep(0.3)
        lines = move(note, ops, ops.spec(), 2_000)
        reader.join()
    assert max(line.attempts for line in lines) > 4, "some thousand rows a transaction"
    assert ops.value(note, "SELECT count(*) FROM note_partitioned WHERE body = 'many'") == before
    assert not [
        place
        for place in ops.value(note, PLACES)
        if place.startswith("partitions.note_default") and int(place.split()[1]) > 3
    ]
    assert clients.errors == [] and seen.done > 100 * seen.seconds, seen
    lock_timeout = ops.spec().lock_timeout_ms / 1000
    assert seen.stalled <= lock_timeout + MOMENT + seen.machine, seen


class Killer(threading.Thread):
    """Ends the backend that moves rows, some moment after it has begun."""

    def __init__(self, conninfo: str, wait: float) -> None:
        super().__init__()
        self.conninfo, self.wait_s, self.done = conninfo, wait, threading.Event()

    def run(self) -> None:
        seen = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
            "AND starts_with(query, 'SELECT atlas_ops.move_rows')"
        )
        with psycopg.connect(self.conninfo, autocommit=True) as admin:
            while not self.done.is_set():
                if found := admin.execute(seen).fetchone():
                    time.sleep(self.wait_s)
                    admin.execute(f"SELECT pg_terminate_backend(pid) FROM ({seen}) s WHERE pid = %s", found)
                    return


def test_a_move_that_is_killed_goes_on_where_it_was_and_nothing_is_half_done(note: Any, ops: Any) -> None:
    before, dice, failed = whole(note), random.Random(7), 0
    for number in range(60):
        made = planned(note, ops, ops.spec(), 150)
        if not made.steps:
            break
        killer = Killer(note.superuser_conninfo, dice.uniform(0, 0.03))
        if number < 12:
            killer.start()
        try:
            ops.carry_out(note, made)
        except AtlasError:
            failed += 1
        if number < 12:
            killer.done.set()
            killer.join()
        assert whole(note) == before
    assert failed > 0 and planned(note, ops, ops.spec()).steps == ()
    assert [place for place in ops.value(note, PLACES) if "2024" in place] == [
        f"partitions.note_2024_0{month} {rows}" for month, rows in enumerate((719, 696, 744, 720, 621), 1)
    ]
    bounds = ops.value(
        note,
        "SELECT count(*) FROM atlas_ops.ranges('note_partitioned') WHERE date_trunc('month', lower_bound, 'UTC') = lower_bound",
    )
    assert bounds == 5, "each is its whole month"


HEARD = (
    "CREATE TABLE heard (listener text, verb text)",
    "CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.heard VALUES (TG_NAME, TG_OP); "
    "IF TG_WHEN = 'BEFORE' THEN NEW.body := 'changed'; RETURN NEW; END IF; RETURN NULL; END $$",
    *(
        f"CREATE TRIGGER hears_{state} AFTER INSERT OR UPDATE OR DELETE ON note_partitioned FOR EACH ROW EXECUTE FUNCTION hear()"
        for state in ("always", "never", "origin", "replica")
    ),
    "CREATE TRIGGER before BEFORE INSERT ON note_partitioned FOR EACH ROW EXECUTE FUNCTION hear()",
    "ALTER TABLE note_partitioned ENABLE ALWAYS TRIGGER hears_always",
    "ALTER TABLE note_partitioned DISABLE TRIGGER hears_never",
    "ALTER TABLE note_partitioned ENABLE REPLICA TRIGGER hears_replica",
)
STATES = (
    "SELECT array_agg(DISTINCT tgname::text || tgenabled::text ORDER BY tgname::text || tgenabled::text) "
    "FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid "
    "WHERE tgname ~ '^(hears|before)' AND NOT tgisinternal"
)


def test_no_trigger_fires_and_each_is_as_it_was(note: Any, ops: Any) -> None:
    ops.run(note, *HEARD)
    before, states = whole(note), ops.value(note, STATES)
    assert states == ["beforeO", "hears_alwaysA", "hears_neverD", "hears_originO", "hears_replicaR"]
    move(note, ops, ops.spec())
    assert ops.value(note, "SELECT count(*) FROM heard") == 0
    assert (whole(note), ops.value(note, STATES)) == (before, states)
    ops.run(note, "DELETE FROM note_partitioned WHERE at >= '2024-04-05' AND at < '2024-04-06'")
    assert ops.value(note, "SELECT count(*) FROM heard WHERE listener = 'hears_origin'") == 24, (
        "and they fire again for the application"
    )


REACTION = (
    "CREATE TABLE reaction (id int PRIMARY KEY, note bigint, at timestamptz, FOREIGN KEY (note, at) REFERENCES note_partitioned ON DELETE {})",
    "CREATE INDEX ON reaction (note, at)",
)


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "NO ACTION", "RESTRICT"])
def test_rows_that_others_refer_to_are_refused_before_anything_cascades(note: Any, ops: Any, action: str) -> None:
    ops.run(
        note,
        *(statement.format(action) for statement in REACTION),
        "INSERT INTO reaction SELECT 1, id, at FROM note_partitioned WHERE at = '2024-04-10 12:00+00'",
        "INSERT INTO reaction SELECT 2, id, at FROM note_partitioned WHERE at = '2024-01-10 12:00+00'",
    )
    before, referring = whole(note), whole(note, "reaction")
    made = planned(note, ops, ops.spec())
    assert all("In one transaction" in step.why for step in made.steps[:3])
    with pytest.raises(AtlasError, match="move rows of 2024-04") as stop:
        ops.carry_out(note, made)
    assert "23503" in stop.value.why and "refers to them" in stop.value.why and "add it again" in stop.value.next
    assert (whole(note), whole(note, "reaction")) == (before, referring)
    assert [place for place in ops.value(note, PLACES) if "_05" in place or "_04" in place] == [
        "partitions.note_2024_05 621"
    ], "May, to which nobody refers, has moved; nothing of April"
    warned = [
        check for check in moving.checks(*read(note, ops, ops.spec()), MAY) if check.name == "incoming foreign keys"
    ]
    assert len(warned) == 1 and "reaction_note_at_fkey of public.reaction" in warned[0].what


def test_a_referring_row_that_is_on_its_way_is_waited_for_and_seen(note: Any, ops: Any) -> None:
    ops.run(note, *(statement.format("CASCADE") for statement in REACTION))
    ready = threading.Event()

    def refer() -> None:
        with psycopg.connect(note.conninfo) as conn:
            conn.execute("INSERT INTO reaction SELECT 1, id, at FROM note_partitioned WHERE at = '2024-05-10 12:00+00'")
            ready.set()
            time.sleep(1.0)

    thread = threading.Thread(target=refer)
    thread.start()
    ready.wait()
    with pytest.raises(AtlasError) as stop:
        move(note, ops, ops.spec())
    thread.join()
    assert "23503" in stop.value.why
    assert ops.value(note, "SELECT count(*) FROM reaction") == 1


def test_after_a_cut_over_with_a_registry_keys_reactions_and_the_way_back_are_kept(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        *NOTE,
        "CREATE TABLE reaction (id int PRIMARY KEY, note bigint NOT NULL REFERENCES note ON DELETE CASCADE)",
        "INSERT INTO reaction SELECT id, id FROM note",
        "CREATE INDEX ON reaction (note)",
    )
    spec = ops.online(incoming_foreign_keys="registry")
    ops.follow(empty, spec)
    ops.cut_over(empty, spec)
    tables = ("note", "reaction", "partitions.note_keys")
    before = [whole(empty, table) for table in tables]
    move(empty, ops, spec)
    assert [whole(empty, table) for table in tables] == before
    assert ops.log_rows(empty, spec) == 0, "nothing has changed for the original, which follows"
    ops.run(empty, "DELETE FROM note WHERE at >= '2024-04-05' AND at < '2024-04-06'")
    assert ops.value(empty, "SELECT count(*) FROM reaction r LEFT JOIN note n ON n.id = r.note WHERE n.id IS NULL") == 0
    with pytest.raises(psycopg.errors.UniqueViolation):
        ops.run(
            empty,
            "INSERT INTO note (id, at) OVERRIDING SYSTEM VALUE SELECT id, '2024-01-05' FROM note WHERE at = '2024-04-10 12:00+00'",
        )
    ops.drain(empty, spec)
    ops.roll_back(empty, spec)
    assert ops.in_step(empty, spec) == before[0][0] - 24


def test_a_subscriber_sees_each_row_go_and_come(note: Any, ops: Any) -> None:
    """Attached before the rows go in: a publication by name carries what comes as it carried what went."""
    with psycopg.connect(note.superuser_conninfo, autocommit=True) as admin:
        admin.execute(
            "CREATE PUBLICATION everybody FOR TABLE public.note_partitioned WITH (publish_via_partition_root = true)"
        )
        admin.execute(f"SELECT pg_create_logical_replication_slot('s{note.conninfo.split('t_')[-1]}', 'pgoutput')")
        move(note, ops, ops.spec())
        changes = admin.execute(
            f"SELECT chr(get_byte(data, 0)), count(*) FROM pg_logical_slot_get_binary_changes('s{note.conninfo.split('t_')[-1]}', NULL, NULL, "
            "'proto_version', '1', 'publication_names', 'everybody') GROUP BY 1"
        ).fetchall()
    kinds = dict(changes)
    assert kinds["D"] == kinds["I"] == 744 + 720 + 621


def test_rows_of_an_archived_month_get_a_partition_again_that_the_next_archive_takes(empty: Any, ops: Any) -> None:
    ops.run(empty, *NOTE)
    spec = ops.spec(keep=1)
    ops.migrate(empty, spec)
    ops.carry_out(empty, archive.plan_archive(*ops.placed(empty, spec), MAY))
    assert "note_2024_01" not in ops.bounds(empty)
    ops.run(
        empty,
        "INSERT INTO note_partitioned (author, at, body) SELECT 1, '2024-01-20', 'late' FROM generate_series(1, 5)",
    )
    before = whole(empty)
    found = {one.period.label: one.answer for one in moving.rows(*read(empty, ops, spec), MAY) if one.period}
    assert found["2024-01"] is Answer.CAME_BACK and found["2024-04"] is Answer.MOVED
    move(empty, ops, spec)
    assert whole(empty) == before
    assert ops.bounds(empty)["note_2024_01_late"].startswith("FOR VALUES FROM ('2024-01-01")
    goes = [one.partition for one in archive.candidates(*ops.placed(empty, spec), MAY) if one.goes]
    assert "note_2024_01_late" in goes
    assert ops.value(empty, "SELECT count(*) FROM create_future_partitions('2024-05-10')") == 1, (
        "no archived month between is made anew"
    )
    assert set(ops.bounds(empty)) == {
        "note_2024_01_late",
        "note_2024_03",
        "note_2024_04",
        "note_2024_05",
        "note_2024_06",
        "note_default",
    }


def test_a_reader_of_the_default_partition_is_given_way_to(note: Any, ops: Any) -> None:
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%move_rows%'"

    def leave(holder: psycopg.Connection) -> None:
        while not ops.value(note, waits):
            time.sleep(0.01)
        time.sleep(0.5)
        holder.rollback()

    with psycopg.connect(note.conninfo) as holder:
        holder.execute("SELECT count(*) FROM note_partitioned")
        gone = threading.Thread(target=leave, args=(holder,))
        gone.start()
        lines = move(note, ops, ops.spec(), 1000)
        gone.join()
    assert "55P03" in lines[0].sqlstates, "it gave way and tried again"


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("CREATE TABLE partitions.note_2024_04 (id int)", "is taken"),
        ("UPDATE atlas_ops.partitioned_table SET ready = false", "under care"),
    ],
)
def test_what_hinders_a_move_stops_it_whole(note: Any, ops: Any, prepare: str, words: str) -> None:
    before = whole(note)
    made = planned(note, ops, ops.spec())
    ops.run(note, prepare)
    with pytest.raises(AtlasError) as stop:
        ops.carry_out(note, made)
    assert words in str(stop.value)
    assert whole(note) == before


def test_a_partition_of_others_in_the_midst_of_the_month_is_left_alone(note: Any, ops: Any) -> None:
    ops.run(
        note,
        "DELETE FROM partitions.note_default WHERE at >= '2024-04-10' AND at < '2024-04-12'",
        "CREATE TABLE partitions.odd (LIKE note_partitioned INCLUDING GENERATED)",
        "ALTER TABLE note_partitioned ATTACH PARTITION partitions.odd FOR VALUES FROM ('2024-04-10 00:00+00') TO ('2024-04-12 00:00+00')",
    )
    found = {one.period.label: one.answer for one in moving.rows(*read(note, ops, ops.spec()), MAY) if one.period}
    assert found["2024-04"] is Answer.COVERED and found["2024-05"] is Answer.MOVED
    move(note, ops, ops.spec())
    assert "note_2024_04" not in ops.bounds(note) and "note_2024_05" in ops.bounds(note)


HOSTILE = [
    ("MixedCase", "At"),
    ('a"b', 'c"d'),
    ("select", "order"),
    ("'; DROP TABLE author; --", "$do$"),
    ("100% {braces} \\n", "%s"),
    ("Größe\n東京", "wörn"),
]


@pytest.mark.parametrize(("table", "key"), HOSTILE)
def test_hostile_names_are_names(empty: Any, ops: Any, table: str, key: str) -> None:
    name, column = (sql.Identifier(one).as_string(None) for one in (table, key))
    ops.run(
        empty,
        f"CREATE TABLE {name} (id int PRIMARY KEY, {column} timestamptz NOT NULL)",
        f"INSERT INTO {name} SELECT n, '2024-01-01'::timestamptz + n * interval '1 day' FROM generate_series(1, 120) n",
    )
    spec = ops.spec(table=name, partition_key=column)
    ops.migrate(empty, spec)
    partitioned = sql.Identifier(f"{table}_partitioned").as_string(None)
    before = whole(empty, partitioned)
    move(empty, ops, spec, 10)
    after = read(empty, ops, spec)
    ops.carry_out(empty, maintain.plan_ahead(*after, MAY))
    assert whole(empty, partitioned) == before
    assert {one.split("_2024")[0] for one in ops.bounds(empty) if "default" not in one} == {table} and len(
        ops.bounds(empty)
    ) == 7
    assert maintain.plan_ahead(*read(empty, ops, spec), MAY).steps == ()
