"""The SQL of the online copy, word for word: what is captured, how a drain moves rows in either direction, what stands guard."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from atlas_ops import cutover, migration, online, throttle
from atlas_ops.model import Column, Constraint, OnlineCopy, Relation, Server, Snapshot, Table
from atlas_ops.plan import Plan, Step, Target, Throttle, joined
from atlas_ops.settings import tables_from
from atlas_ops.spec import ExchangedSpec, TableSpec, exchanged
from atlas_ops.throttle import Pressure

NOTE = Table(
    oid=1, schema="public", name="note", kind="r", persistence="p", is_partition=False, owner="postgres",
    may_own=True, may_select=True, row_security=False, force_row_security=False, replica_identity="d",
    storage_parameters=(), tablespace=None, comment=None, estimated_rows=0, heap_bytes=0, index_bytes=0, toast_bytes=0,
    partition_key=None, has_children=False,
)  # fmt: skip


def column(name: str, kind: str, generated: str = "") -> Column:
    return Column(name, kind, kind, "b", False, None, "", generated, None, None, None)


def primary(*columns: str, deferrable: bool = False) -> Constraint:
    return Constraint("note_pkey", "p", f"PRIMARY KEY ({', '.join(columns)})", columns, True, deferrable, None, True)


COLUMNS = (column("id", "bigint"), column("at", "timestamptz"), column("body", "text"), column("size", "int", "s"))
ORIGINAL = Relation(NOTE, COLUMNS, (primary("id"),))


def spec(**keys: Any) -> TableSpec:
    [made] = tables_from([{"table": "note", "partition_key": "at", "from": "2024-01-01", **keys}])
    return made


def plainly(statement: str) -> str:
    """On one line, without comments."""
    lines = [line for line in statement.splitlines() if not line.startswith("--")]
    return " ".join(" ".join(lines).split()).replace("( ", "(").replace(" )", ")")


def drained(null_keys: Any, authority: str, limit: int = 5) -> list[str]:
    return [plainly(one) for one in online.Drain(spec(null_keys=null_keys), ORIGINAL, authority).statements(limit)]


# The key log


def test_the_log_and_the_capture_word_for_word() -> None:
    log, at = '"partitions"."note_key_log"', '"public"."note"'
    assert [plainly(statement) for statement in online.log_objects(spec(), ORIGINAL, ["anon"])] == [
        f'CREATE TABLE {log} ("id" bigint, "at" timestamptz) WITH (autovacuum_vacuum_threshold = 5000, '
        "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = -1, vacuum_truncate = off)",
        f'REVOKE ALL ON TABLE {log} FROM PUBLIC, "anon"',
        f"ALTER TABLE {log} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {log} REPLICA IDENTITY FULL",
        f"COMMENT ON TABLE {log} IS 'atlas_ops: keys of changed rows'",
        'CREATE FUNCTION "partitions"."note_capture"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = \'\' AS $capture$ '
        f'BEGIN IF TG_OP = \'INSERT\' THEN INSERT INTO {log} VALUES ("new"."id", "new"."at"); '
        f'ELSIF TG_OP = \'DELETE\' THEN INSERT INTO {log} VALUES ("old"."id", "old"."at"); '
        'ELSIF ROW("old"."id", "old"."at")::record *= ROW("new"."id", "new"."at")::record THEN '
        f'INSERT INTO {log} VALUES ("new"."id", "new"."at"); '
        f'ELSE INSERT INTO {log} VALUES ("old"."id", "old"."at"), ("new"."id", "new"."at"); END IF; RETURN NULL; END $capture$',
        'REVOKE ALL ON FUNCTION "partitions"."note_capture"() FROM PUBLIC, "anon"',
    ]
    assert online.capture(spec(), ("public", "note")) == [
        f'CREATE TRIGGER "atlas_ops_capture" AFTER INSERT OR UPDATE OR DELETE ON {at} FOR EACH ROW '
        'EXECUTE FUNCTION "partitions"."note_capture"()',
        f'ALTER TABLE {at} ENABLE ALWAYS TRIGGER "atlas_ops_capture"',
        f'CREATE TRIGGER "atlas_ops_no_truncate" BEFORE TRUNCATE ON {at} FOR EACH STATEMENT '
        'EXECUTE FUNCTION "atlas_ops"."refuse_truncate"()',
        f'ALTER TABLE {at} ENABLE ALWAYS TRIGGER "atlas_ops_no_truncate"',
    ]
    assert online.release(("public", "note")) == [
        f'DROP TRIGGER IF EXISTS "atlas_ops_capture" ON {at}',
        f'DROP TRIGGER IF EXISTS "atlas_ops_no_truncate" ON {at}',
    ]
    assert online.drop_log(spec()) == [
        f"DROP TABLE IF EXISTS {log}",
        'DROP FUNCTION IF EXISTS "partitions"."note_capture"()',
    ]


def test_a_row_is_named_by_its_primary_key_and_the_partition_key_once() -> None:
    both = replace(ORIGINAL, constraints=(primary("at", "id"),))
    assert online.key_columns(spec(), ORIGINAL) == ("id", "at")
    assert online.key_columns(spec(), both) == ("at", "id")
    assert '("at" timestamptz, "id" bigint)' in online.log_objects(spec(), both, [])[0]


LONG = "Ü" * 24 + '"x"'  # 51 bytes; with _partitioned it is 63 long


def test_names_with_quotes_and_of_63_bytes_are_whole_and_quoted() -> None:
    key = 'q"' + "k" * 61
    named = spec(
        table=f'"My "" Schema"."{LONG.replace(chr(34), chr(34) * 2)}"',
        partition_key=f'"{key.replace(chr(34), chr(34) * 2)}"',
    )
    original = replace(ORIGINAL, columns=(column("Id", "bigint"), column(key, "date")), constraints=(primary("Id"),))
    assert len(named.partitioned_name.encode()) == len(key.encode()) == 63
    quoted, table = key.replace('"', '""'), LONG.replace('"', '""')
    capture = online.capture_name(named).as_string(None)
    assert capture == f'"partitions"."{table}_capture"'
    assert online.log_objects(named, original, [])[0].startswith(
        f'CREATE TABLE "partitions"."{table}_key_log" ("Id" bigint, "{quoted}" date) WITH'
    )
    for statement in online.Drain(named, original, online.ORIGINAL).statements():
        assert key not in statement.replace(quoted, "")
    batch = f'CREATE TEMPORARY TABLE IF NOT EXISTS "{table}_batch" ("Id" bigint, "{quoted}" date) ON COMMIT DELETE ROWS'
    assert online.Drain(named, original, online.ORIGINAL).statements()[2] == batch
    longer = spec(table="n" * 50)
    for derived in (online.capture_name(longer), online.batch_table(longer)):
        assert len(derived.as_string(None).partition(".")[2].strip('"')) <= 63


# A pass


HEAD = [
    "DO $fence$ BEGIN PERFORM FROM atlas_ops.online_copy WHERE schema_name = 'public' AND table_name = 'note' "
    "AND authority = '{authority}' AND exchanged = false AND in_step FOR UPDATE; IF NOT FOUND THEN RAISE EXCEPTION "
    "'the copy of %.% has been turned, switched off or dropped since this plan was made', 'public', 'note' USING ERRCODE = "
    "'object_not_in_prerequisite_state', HINT = 'Run the stage again: the plan is read anew.'; END IF; END $fence$",
    "SELECT set_config('atlas_ops.writes', 'allowed', true), set_config('jit', 'off', true), "
    "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)",
    'CREATE TEMPORARY TABLE IF NOT EXISTS "note_batch" ("id" bigint, "at" timestamptz) ON COMMIT DELETE ROWS',
    'WITH taken AS (DELETE FROM "partitions"."note_key_log" WHERE ctid = ANY (ARRAY(SELECT ctid FROM '
    '"partitions"."note_key_log"{limit})) RETURNING "id", "at") INSERT INTO "pg_temp"."note_batch" ("id", "at") '
    'SELECT DISTINCT "id", "at" FROM taken',
]
TAIL = [
    "UPDATE atlas_ops.online_copy SET drained_xid = pg_current_xact_id(), drained_at = CASE WHEN EXISTS (SELECT FROM "
    "\"partitions\".\"note_key_log\") THEN drained_at ELSE clock_timestamp() END WHERE schema_name = 'public' AND table_name = 'note'",
]
S, T = 'ROW("s"."id", "s"."at", "s"."body")::record', 'ROW("t"."id", "t"."at", "t"."body")::record'
COPY, NOTES, ASIDE, BATCH = (
    '"public"."note_partitioned"',
    '"public"."note"',
    '"partitions"."note_null_keys"',
    '"pg_temp"."note_batch"',
)
PLAIN = f'(SELECT "id" AS "id", "at" AS "at", "body" AS "body", "at" IS NULL AS atlas_ops_keyless FROM {NOTES})'
VALUED = f'(SELECT "id" AS "id", coalesce("at", (edited)) AS "at", "body" AS "body", "at" IS NULL AS atlas_ops_keyless FROM {NOTES})'
LOGGED = f'INSERT INTO "partitions"."note_key_log" ("id", "at") SELECT "b"."id", "b"."at" FROM {BATCH} AS b JOIN '
VALUES = '("id", "at", "body") OVERRIDING SYSTEM VALUE SELECT "s"."id", "s"."at", "s"."body"'


def moved(target: str, here: str, source: str, s_is: str, t_is: str, exact: str = "", stays: str = "") -> list[str]:
    """Remove, insert and put back, for a pass into the partitioned table or the one set aside."""
    exact = exact or t_is
    return [
        f"DELETE FROM {target} AS t USING {BATCH} AS b WHERE {t_is} AND NOT EXISTS (SELECT FROM {source} AS s WHERE {stays or s_is} AND {S} *= {T})",
        f"INSERT INTO {target} {VALUES} FROM {BATCH} AS b JOIN {source} AS s ON {s_is} WHERE NOT EXISTS (SELECT FROM {here} AS t WHERE {exact}) "
        "ON CONFLICT DO NOTHING",
        f"{LOGGED}{source} AS s ON {s_is} WHERE NOT EXISTS (SELECT FROM {here} AS t WHERE {exact} AND {S} *= {T})",
    ]


S_KEY, T_KEY = '"s"."id" = "b"."id" AND "s"."at" = "b"."at"', '"t"."id" = "b"."id" AND "t"."at" = "b"."at"'
S_NULL, T_NULL = (
    '"b"."at" IS NULL AND "s"."id" = "b"."id" AND s.atlas_ops_keyless',
    '"b"."at" IS NULL AND "t"."id" = "b"."id"',
)
REFUSED = (
    f'DO $do$ BEGIN IF EXISTS (SELECT FROM {BATCH} AS b JOIN {NOTES} AS s ON "s"."id" = "b"."id" WHERE "b"."at" IS NULL AND "s"."at" IS NULL) '
    "THEN RAISE EXCEPTION 'rows without a partition key came, and null_keys is refuse' USING ERRCODE = 'not_null_violation', "
    "HINT = 'Say in the specification what becomes of them: null_keys: set_aside, or a value.'; END IF; END $do$"
)
TO_PARTITIONED = {
    "refuse": [*moved(COPY, COPY, NOTES, S_KEY, T_KEY), REFUSED],
    "set_aside": [*moved(COPY, COPY, NOTES, S_KEY, T_KEY), *moved(ASIDE, ASIDE, PLAIN, S_NULL, T_NULL)],
    "value": [
        *moved(COPY, COPY, VALUED, S_KEY, T_KEY),
        *moved(COPY, COPY, VALUED, S_NULL, T_NULL, f'{T_NULL} AND "t"."at" = "s"."at"', stays='"s"."id" = "b"."id"'),
    ],
}
IS_VALUED = (
    f'{S} *= (SELECT ROW("id", coalesce("at", (edited)), "body")::record '
    'FROM (SELECT "t"."id", "t"."at", "t"."body") AS o ("id", "at", "body"))'
)


def moved_back(here: str, removable: str, same: str, source: str = COPY, s_is: str = S_KEY) -> list[str]:
    return [
        f'DELETE FROM {NOTES} AS t USING (SELECT DISTINCT "id" FROM {BATCH}) AS b WHERE {removable} AND NOT EXISTS (SELECT FROM {source} AS s '
        f'WHERE "s"."id" = "t"."id" AND {same})',
        f"INSERT INTO {NOTES} {VALUES} FROM {BATCH} AS b JOIN {source} AS s ON {s_is} WHERE NOT EXISTS (SELECT FROM {here} AS t "
        'WHERE "t"."id" = "b"."id") ON CONFLICT DO NOTHING',
        f'{LOGGED}{source} AS s ON {s_is} WHERE NOT EXISTS (SELECT FROM {here} AS t WHERE "t"."id" = "b"."id" AND {S} *= {T})',
    ]


TO_ORIGINAL = {
    "refuse": moved_back(PLAIN, '"t"."id" = "b"."id"', f'"s"."at" = "t"."at" AND {S} *= {T}'),
    "set_aside": [
        *moved_back(
            PLAIN,
            '"t"."id" = "b"."id" AND "t"."at" IS NULL',
            f"{S} *= {T}",
            ASIDE,
            '"b"."at" IS NULL AND "s"."id" = "b"."id"',
        ),
        *moved_back(PLAIN, '"t"."id" = "b"."id" AND "t"."at" IS NOT NULL', f'"s"."at" = "t"."at" AND {S} *= {T}'),
    ],
    "value": moved_back(VALUED, '"t"."id" = "b"."id"', IS_VALUED),
}


@pytest.mark.parametrize("authority", [online.ORIGINAL, online.PARTITIONED])
@pytest.mark.parametrize("null_keys", ["refuse", "set_aside", "value"])
def test_a_pass_word_for_word(null_keys: str, authority: str) -> None:
    told = {"value": "edited"} if null_keys == "value" else null_keys
    moves = (TO_PARTITIONED if authority == online.ORIGINAL else TO_ORIGINAL)[null_keys]
    head = [part.replace("{authority}", authority) for part in HEAD]
    assert drained(told, authority, 5) == [
        *(part.replace("{limit}", " LIMIT 5") for part in head),
        *moves,
        *TAIL,
        'SELECT count(*) >= 5 FROM (SELECT FROM "partitions"."note_key_log" LIMIT 5) AS waiting',
    ]
    whole = [*(part.replace("{limit}", "") for part in head), *moves, *TAIL, "SELECT false"]
    assert drained(told, authority, 0) == whole


def test_what_is_generated_is_left_to_the_server_and_a_deferrable_key_does_not_arbitrate() -> None:
    assert not [one for one in drained("refuse", online.ORIGINAL) if "size" in one]
    deferrable = replace(ORIGINAL, constraints=(primary("id", deferrable=True),))
    for authority in (online.ORIGINAL, online.PARTITIONED):
        assert not [one for one in online.Drain(spec(), deferrable, authority).statements() if "ON CONFLICT" in one]


def test_statements_of_others_run_on_the_keys_of_a_pass() -> None:
    drain = online.Drain(spec(), ORIGINAL, online.ORIGINAL, more=["SELECT 'theirs'"])
    assert drain.statements()[-3] == "SELECT 'theirs'" and drain.statements(0)[-3] == "SELECT 'theirs'"


# Fence, guard, state


def test_the_fence_tells_direction_names_and_strength() -> None:
    made = plainly(online.fence(spec(), online.ORIGINAL, shared=True))
    assert made == HEAD[0].replace("{authority}", "original").replace(" AND in_step FOR UPDATE", " FOR SHARE")
    turned = plainly(online.fence(exchanged(spec()), online.PARTITIONED, in_step=True))
    assert turned == HEAD[0].replace("{authority}", "partitioned").replace("exchanged = false", "exchanged = true")


def test_guards_and_the_state_word_for_word() -> None:
    assert online.guard(spec(), ("public", "note")) == [
        'DO $do$ BEGIN EXECUTE \'CREATE TRIGGER "atlas_ops_guard" BEFORE INSERT OR UPDATE OR DELETE ON "public"."note" FOR EACH STATEMENT \' '
        "|| format('EXECUTE FUNCTION atlas_ops.refuse_old_snapshot(%L)', (SELECT drained_xid FROM atlas_ops.online_copy "
        "WHERE schema_name = 'public' AND table_name = 'note')); END $do$",
        'ALTER TABLE "public"."note" ENABLE ALWAYS TRIGGER "atlas_ops_guard"',
    ]
    assert online.follows(("public", "note_partitioned")) == [
        'CREATE TRIGGER "atlas_ops_follows" BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON "public"."note_partitioned" '
        "FOR EACH STATEMENT EXECUTE FUNCTION atlas_ops.refuse_write()",
        'ALTER TABLE "public"."note_partitioned" ENABLE ALWAYS TRIGGER "atlas_ops_follows"',
    ]
    row = "WHERE schema_name = 'public' AND table_name = 'it''s'"
    quoted = spec(table='"it\'s"')
    assert (
        online.remember(quoted)
        == "INSERT INTO atlas_ops.online_copy (schema_name, table_name) VALUES ('public', 'it''s')"
    )
    assert online.set_state(quoted, "in_step = true") == f"UPDATE atlas_ops.online_copy SET in_step = true {row}"
    assert online.forget(quoted) == f"DELETE FROM atlas_ops.online_copy {row}"


# The specification after an exchange


def test_an_exchanged_specification_finds_both_tables_under_their_new_names() -> None:
    plain = spec(
        partitioned_table="later.note_parts",
        partition_schema="parts",
        null_keys={"value": "edited"},
        pause="10ms",
        batch_rows=5_000,
    )
    turned = exchanged(plain)
    assert isinstance(turned, ExchangedSpec) and not isinstance(plain, ExchangedSpec)
    assert (plain.original_at, plain.partitioned_at) == (("public", "note"), ("later", "note_parts"))
    assert (turned.original_at, turned.partitioned_at) == (("parts", "note_retired"), ("public", "note"))
    assert {name: getattr(turned, name) for name in TableSpec.__dataclass_fields__} == {
        name: getattr(plain, name) for name in TableSpec.__dataclass_fields__
    }
    assert cutover._plain(turned) == plain and cutover._plain(plain) is plain
    assert exchanged(turned) == turned


# Plans


SERVER = Server(
    180004, "18.4", "7300000000000000001", "atlas", "postgres", False, True, True, True, "UTC", False, False, "logical", 6400, False,
    now=None,  # type: ignore[arg-type]
)  # fmt: skip
STATE = OnlineCopy("original", False, True, 1.0, None, {}, True, 25_000, 8192)


def snapshot(**fields: Any) -> Snapshot:
    return replace(Snapshot(SERVER, ORIGINAL, ORIGINAL, online=STATE), **fields)


def test_a_drain_may_be_repeated_as_often_as_the_log_is_long() -> None:
    [step] = cutover.plan_drain(spec(), snapshot()).steps
    assert (step.again, step.weight) == (migration.ROUNDS + 6, 25_000)
    assert (step.name, step.lock, step.on) == ("drain into public.note_partitioned", "ACCESS SHARE", "public.note")
    assert cutover.plan_drain(spec(), snapshot(online=replace(STATE, log_rows=0))).steps == ()
    assert cutover.plan_drain(spec(), snapshot(online=replace(STATE, in_step=False))).steps == ()
    turned = replace(STATE, authority="partitioned", exchanged=True)
    [back] = cutover.plan_drain(exchanged(spec()), snapshot(online=turned)).steps
    assert (back.name, back.on) == ("drain into partitions.note_retired", "public.note")


def test_the_locks_of_an_exchange_share_what_its_wait_may_be() -> None:
    """lock_timeout counts for each lock; together they stay below deadlock_timeout, so that nobody else is chosen as its victim."""
    author = Constraint(
        "note_author_fkey",
        "f",
        "FOREIGN KEY (author) REFERENCES public.author(id)",
        ("author",),
        True,
        False,
        "public.author",
        True,
    )
    referring = replace(ORIGINAL, constraints=(primary("id"), author, replace(author, name="again")))
    waits = {
        (timeout, relation is referring): next(step for step in plan.steps if step.exchange).first[0]
        for timeout in ("50ms", "60s")
        for relation in (ORIGINAL, referring)
        for plan in [
            cutover.plan_cut_over(
                spec(lock_timeout=timeout), snapshot(original=relation, partitioned=relation), date(2024, 1, 15)
            )
        ]
    }
    told = {key: value.removeprefix("SET LOCAL lock_timeout = ") for key, value in waits.items()}
    assert told == {
        ("50ms", False): "'25ms'",
        ("50ms", True): "'16ms'",
        ("60s", False): "'250ms'",
        ("60s", True): "'166ms'",
    }


EXCHANGE = Step(
    "turn", ("SELECT 'under'", "LOCK TABLE t IN ACCESS EXCLUSIVE MODE", "SELECT 'last'"), "ACCESS EXCLUSIVE", "t", "Because.",
    first=("SET LOCAL lock_timeout = '1ms'", "LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE"), meanwhile=("SELECT 'a';", "SELECT\n  'b'"),
)  # fmt: skip


def plan(*steps: Step) -> Plan:
    return Plan("cut_over", Target("7300000000000000001", "atlas"), steps)


@pytest.mark.parametrize("part", ["first", "meanwhile", "statements"])
def test_the_digest_names_every_part_of_an_exchange(part: str) -> None:
    others = [
        replace(EXCHANGE, **{part: (*getattr(EXCHANGE, part), "SELECT 1")}),
        replace(EXCHANGE, **{part: tuple(reversed(getattr(EXCHANGE, part)))}),
    ]
    assert len({plan(one).digest for one in (EXCHANGE, *others)}) == 3
    # a statement that changes its place is another plan too
    moved_over = replace(EXCHANGE, first=EXCHANGE.first[:1], meanwhile=(EXCHANGE.first[1], *EXCHANGE.meanwhile))
    assert plan(moved_over).digest != plan(EXCHANGE).digest


def test_the_digest_says_nothing_of_passes_and_throttle() -> None:
    whole = replace(plan(replace(EXCHANGE, again=7)), throttle=Throttle(pause_ms=5))
    assert whole.digest == plan(EXCHANGE).digest


def test_the_script_of_an_exchange_is_one_transaction_around_what_a_second_connection_does() -> None:
    assert plan(EXCHANGE).script() == (
        "-- 1. turn\n--    Because. Lock: ACCESS EXCLUSIVE on t.\nBEGIN;\nSET LOCAL lock_timeout = '1ms';\n"
        "LOCK TABLE t IN SHARE ROW EXCLUSIVE MODE;\n"
        "--    Meanwhile on a second connection, repeated while the last statement answers true:\n"
        "--    SELECT 'a';\n--    SELECT\n--      'b';\n"
        "SELECT 'under';\nLOCK TABLE t IN ACCESS EXCLUSIVE MODE;\nSELECT 'last';\nCOMMIT;\n"
    )
    repeated = Step("drain", ("SELECT 1",), "ACCESS SHARE", "t", "Because.", again=3)
    assert plan(repeated).script() == (
        "-- 1. drain\n--    Because. Lock: ACCESS SHARE on t.\n"
        "--    Repeated, a transaction each time, while its last statement answers true.\nSELECT 1;\n"
    )


# The throttle


LIMITS = Throttle(replica_lag_ms=1_000, wal_bytes_per_s=2**20, database_bytes=2**30, snapshot_age_ms=60_000)
QUIET = Pressure(replica_lag_ms=None, wal_bytes=0.0, database_bytes=2.0**20, snapshot_age_ms=None, at=100.0)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (QUIET, ""),
        (replace(QUIET, replica_lag_ms=1_000.0, database_bytes=2.0**30, snapshot_age_ms=60_000.0), ""),
        (replace(QUIET, replica_lag_ms=1_500.0), "a replica is 1.5 s behind (max_replica_lag)"),
        (replace(QUIET, database_bytes=2.0**31), "the database takes 2,048 MB (max_database_size)"),
        (replace(QUIET, snapshot_age_ms=61_000.0), "a transaction is open for 61 s (max_snapshot_age)"),
        (replace(QUIET, wal_bytes=2.0**21, at=102.0), ""),
        (replace(QUIET, wal_bytes=2.0**22, at=102.0), "the server writes 2.0 MB of WAL a second (max_wal_rate)"),
        (replace(QUIET, wal_bytes=2.0**22), ""),  # no time has passed: there is no rate
    ],
)
def test_a_limit_is_passed_only_above_it(now: Pressure, told: str) -> None:
    assert throttle.passed(LIMITS, QUIET, now) == told
    assert throttle.passed(Throttle(), QUIET, now) == ""


def test_the_first_look_knows_no_rate() -> None:
    assert throttle.passed(LIMITS, None, replace(QUIET, wal_bytes=2.0**40)) == ""


def test_joined_plans_have_the_strictest_throttle() -> None:
    one = replace(plan(EXCHANGE), throttle=Throttle(pause_ms=5, replica_lag_ms=0, snapshot_age_ms=70, patience_ms=9))
    two = replace(plan(EXCHANGE), throttle=Throttle(pause_ms=2, replica_lag_ms=30, snapshot_age_ms=60, patience_ms=7))
    assert joined([one, two]).throttle == Throttle(pause_ms=5, replica_lag_ms=30, snapshot_age_ms=60, patience_ms=7)
