"""Verify sees every difference, whatever it looks like, names it without telling it, and makes it good again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from atlas_ops import compare, database, execute, verify
from atlas_ops.errors import AtlasError
from atlas_ops.report import Severity

# name: (type, what the original holds, what the copy holds instead)
FLIPS = {
    "numeric": ("numeric", "1.0", "1.00"),
    "numeric_zero": ("numeric", "0", "0.0"),
    "numeric_nan": ("numeric", "'NaN'", "'Infinity'"),
    "float8_zero": ("float8", "'-0'", "0"),
    "float8_nan": ("float8", "'NaN'", "'Infinity'"),
    "float8_last_bit": ("float8", "0.3", "0.1::float8 + 0.2::float8"),
    "float4_last_bit": ("float4", "'16777216'", "'16777218'"),
    "text_null": ("text", "NULL", "''"),
    "text_blank": ("text", "'a'", "'a '"),
    "text_accent": ("text", "U&'\\00e9'", "U&'e\\0301'"),
    "text_insensitive": ("text COLLATE insensitive", "'a'", "'A'"),
    "varchar_insensitive": ("varchar(9) COLLATE insensitive", "'a'", "'A'"),
    "name_insensitive": ("name COLLATE insensitive", "'a'", "'A'"),
    "domain_insensitive": ("label", "'a'", "'A'"),
    "array_insensitive": ("text[] COLLATE insensitive", "'{a}'", "'{A}'"),
    "varchar": ("varchar", "'a'", "'a '"),
    "char_n": ("char(4)", "'a'", "'A'"),
    "char_blanks": ("bpchar", "'a'", "'a  '"),
    "char_blanks_domain": ("blank", "'a'", "'a  '"),
    "char_array": ("bpchar[]", "ARRAY['a']::bpchar[]", "ARRAY['a ']::bpchar[]"),
    "quoted_char": ('"char"', "'a'", "'b'"),
    "jsonb": ("jsonb", """'{"a": 1.0}'""", """'{"a": 1.00}'"""),
    "jsonb_null": ("jsonb", "NULL", "'null'"),
    "json": ("json", """'{"a":1}'""", """'{"a": 1}'"""),
    "jsonpath": ("jsonpath", "'$.a'", "'$.b'"),
    "array": ("numeric[]", "'{1.0}'", "'{1.00}'"),
    "array_bounds": ("int[]", "'{1,2}'", "'[0:1]={1,2}'"),
    "array_null": ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
    "enum": ("mood", "'sad'", "'ok'"),
    "domain": ("amount", "1.0", "1.00"),
    "composite": ("pair", "'(1.0,a)'", "'(1.00,a)'"),
    "composite_null": ("pair", "NULL", "'(,)'"),
    "range": ("numrange", "'[1.0,2.0)'", "'[1.00,2.0)'"),
    "range_empty": ("int4range", "NULL", "'empty'"),
    "multirange": ("nummultirange", "'{[1.0,2.0)}'", "'{[1.00,2.0)}'"),
    "interval": ("interval", "'1 month'", "'30 days'"),
    "interval_day": ("interval", "'1 day'", "'24 hours'"),
    "timestamptz": ("timestamptz", "'2026-10-01 00:00:00+00'", "'2026-10-01 00:00:00.000001+00'"),
    "timestamptz_infinity": ("timestamptz", "'infinity'", "'-infinity'"),
    "timestamptz_bc": ("timestamptz", "'0044-03-15 12:00:00+00 BC'", "'0044-03-15 12:00:00+00'"),
    "timestamp": ("timestamp", "'infinity'", "'2026-10-01'"),
    "timetz": ("timetz", "'12:00:00+00'", "'13:00:00+01'"),
    "time": ("time", "'00:00'", "'24:00'"),
    "date": ("date", "'0044-03-15 BC'", "'0044-03-15'"),
    "inet": ("inet", "'10.0.0.1/8'", "'10.0.0.1/9'"),
    "cidr": ("cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
    "macaddr": ("macaddr", "'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
    "bytea": ("bytea", "'\\x00'", "'\\x0000'"),
    "tsvector": ("tsvector", "'a:1'", "'a:2'"),
    "money": ("money", "'1.00'", "'1.01'"),
    "uuid": ("uuid", "'00000000-0000-0000-0000-000000000000'", "'00000000-0000-0000-0000-000000000001'"),
    "bit": ("bit(3)", "B'001'", "B'010'"),
    "varbit": ("varbit", "B'0'", "B'00'"),
    "bool": ("bool", "NULL", "false"),
    "int2": ("int2", "0", "-1"),
    "int4": ("int4", "0", "NULL"),
    "int8": ("int8", "0", "4294967296"),
    "oid": ("oid", "0", "1"),
    "pg_lsn": ("pg_lsn", "'0/0'", "'0/1'"),
    "point": ("point", "'(0,0)'", "'(-0,0)'"),
    "xml": ("xml", "'<a/>'", "'<a></a>'"),
}
INSENSITIVE = "CREATE COLLATION insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
TRIGGERS = """
CREATE TABLE fired (name text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO public.fired VALUES (TG_NAME); RETURN NULL; END $$;
CREATE TRIGGER of_row AFTER INSERT OR UPDATE OR DELETE ON many FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER of_statement AFTER INSERT OR UPDATE OR DELETE ON many FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER always AFTER INSERT OR DELETE ON many FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER never AFTER INSERT OR DELETE ON many FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER replicated AFTER INSERT OR DELETE ON many FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE many ENABLE ALWAYS TRIGGER always, DISABLE TRIGGER never, ENABLE REPLICA TRIGGER replicated
"""


def many(subject: Any, columns: str, *statements: str, **keys: Any) -> None:
    """A small table `many` with the columns given beside its key, four months of partitions."""
    subject.run(f"CREATE TABLE many ({columns})", *statements)
    spec = {"table": "many", "partition_key": "at", "from": "2026-09-01", "ahead": 1, "copy": "by_partition", **keys}
    subject.specify(spec)


def has(subject: Any, statement: str) -> bool:
    """Whether the server was built with what a statement needs; the statement stays done."""
    try:
        subject.run(statement)
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


def found(subject: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What verify names: primary key → kind and columns."""
    _, differences = subject.prove()
    return {difference.key[0]: (difference.kind, difference.columns) for difference in differences}


# -- one flip, one column


@pytest.fixture(scope="module")
def flipping(shared: Any) -> Iterator[Callable[..., tuple[bool, list[tuple[Any, ...]]]]]:
    """A migrated table with a column a flip. Calls it with a statement, compares both sides, and rolls it back."""
    kinds = dict(FLIPS)
    if not has(shared, "SELECT '<a/>'::xml"):
        del kinds["xml"]
    if not has(shared, INSENSITIVE):
        kinds = {name: flip for name, flip in kinds.items() if not name.endswith("insensitive")}
        shared.run('CREATE COLLATION insensitive FROM "C"')
    shared.run(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE DOMAIN amount AS numeric CHECK (VALUE > 0)",
        "CREATE DOMAIN label AS text COLLATE insensitive",
        "CREATE DOMAIN blank AS bpchar",
        "CREATE TYPE pair AS (number numeric, word text)",
    )
    columns = ", ".join(f'"{name}" {kind}' for name, (kind, _, _) in kinds.items())
    values = ", ".join(value for _, value, _ in kinds.values())
    many(
        shared,
        "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, "
        f"twice bigint GENERATED ALWAYS AS (id * 2) STORED, {columns}",
        f"INSERT INTO many (at, {', '.join(map(quoted, kinds))}) "
        f"SELECT '2026-10-05 05:05:05.000005+00', {values} FROM generate_series(1, 3)",
    )
    shared.migrate()
    ((spec, original, parts),) = shared.compared()
    (part,) = (part for part in parts if part.label == "2026-10")
    with database.connect(shared.where, write=True) as conn:

        def flip(change: str) -> tuple[bool, list[tuple[Any, ...]]]:
            with conn.transaction(force_rollback=True):
                conn.execute(change)
                sides = [
                    conn.execute(verify.figures_query(spec, original, part, partitioned=side)).fetchone()
                    for side in (False, True)
                ]
                return sides[0] == sides[1], conn.execute(verify.differences_query(spec, original, part)).fetchall()

        yield flip


def quoted(name: str) -> str:
    return f'"{name}"'


def test_nothing_differs_after_the_copy(flipping: Any) -> None:
    assert flipping("SELECT") == (True, [])


@pytest.mark.parametrize("column", FLIPS)
def test_a_flip_is_seen_and_its_column_named(flipping: Any, column: str) -> None:
    _, before, after = FLIPS[column]
    try:
        same, differences = flipping(f'UPDATE partitions.many_2026_10 SET "{column}" = {after} WHERE id = 2')
    except psycopg.errors.UndefinedColumn:
        pytest.skip("this server was built without libxml or ICU")
    assert not same
    assert differences == [(["2", "2026-10-05 05:05:05.000005+00"], "differs", [column])]
    same, differences = flipping(f'UPDATE partitions.many_2026_10 SET "{column}" = {before}')
    assert (same, differences) == (True, [])


@pytest.mark.parametrize(
    ("one", "other"), [("text_blank", "varchar"), ("int4", "oid"), ("numeric", "domain"), ("jsonb", "jsonb_null")]
)
def test_columns_exchanged_within_a_row_are_seen(flipping: Any, one: str, other: str) -> None:
    set_apart = f"UPDATE public.many SET {one} = {FLIPS[one][1]}, {other} = {FLIPS[other][2]}"
    follow = f"UPDATE partitions.many_2026_10 p SET {one} = o.{one}, {other} = o.{other} FROM public.many o WHERE o.id = p.id"
    assert flipping(f"{set_apart}; {follow}")[0]
    kind = FLIPS[one][0]
    same, differences = flipping(
        f"{set_apart}; {follow}; UPDATE partitions.many_2026_10 SET {one} = {other}::{kind}, {other} = {one} WHERE id = 2"
    )
    assert not same
    assert [(key[0], set(columns)) for key, _, columns in differences] == [("2", {one, other})]


# -- the weakness of the record's own hash


def test_a_column_exchanged_between_two_rows_is_seen_where_a_plain_sum_is_blind(bare: Any) -> None:
    pairs = 60
    many(
        bare,
        "id int PRIMARY KEY, at timestamptz NOT NULL, a int, b int, c text",
        f"INSERT INTO many SELECT n, '2026-10-05', n * 7, n * n, md5(n::text) FROM generate_series(1, {2 * pairs}) n",
    )
    bare.migrate()
    ((spec, original, parts),) = bare.compared()
    (part,) = (part for part in parts if part.label == "2026-10")
    ours = verify.figures_query(spec, original, part, partitioned=True)
    plain = "SELECT sum(hash_record_extended(r, 0)) FROM partitions.many_2026_10 r"
    with database.connect(bare.where, write=True) as conn:

        def digests() -> tuple[Any, Any]:
            return conn.execute(ours).fetchall(), conn.execute(plain).fetchall()

        before, unseen, seen = digests(), 0, 0
        for first in range(1, 2 * pairs, 2):
            with conn.transaction(force_rollback=True):
                conn.execute(
                    "UPDATE partitions.many_2026_10 r SET a = s.a FROM partitions.many_2026_10 s "
                    "WHERE r.id IN (%(first)s, %(second)s) AND s.id = %(first)s + %(second)s - r.id",
                    {"first": first, "second": first + 1},
                )
                after = digests()
            seen += after[0] != before[0]
            unseen += after[1] == before[1]
    assert seen == pairs
    assert unseen > pairs * 0.3, "the plain sum would do: then the second hash can go"


# -- keys that are equal and not the same


@pytest.mark.parametrize(
    ("kind", "value", "other"), [("numeric", "1.0", "1.00"), ("text COLLATE insensitive", "'a'", "'A'")]
)
def test_a_key_that_is_equal_but_not_the_same_is_named_and_repaired(
    bare: Any, kind: str, value: str, other: str
) -> None:
    if not has(bare, INSENSITIVE) and "insensitive" in kind:
        pytest.skip("this server was built without ICU")
    many(
        bare,
        f"id {kind} PRIMARY KEY, at timestamptz NOT NULL, word text",
        f"INSERT INTO many VALUES ({value}, '2026-10-05', 'x')",
    )
    bare.migrate()
    bare.run(f"UPDATE partitions.many_2026_10 SET id = {other}")
    proofs, differences = bare.prove()
    assert [(found.kind, found.columns) for found in differences] == [("differs", ("id",))]
    assert [proof.part for proof in proofs if not proof.same_keys] == ["2026-10"]
    repair(bare, proofs)
    assert bare.value("SELECT id::text FROM many_partitioned") == value.strip("'")


def test_a_table_whose_primary_key_is_the_time_alone(bare: Any) -> None:
    many(bare, "at timestamptz PRIMARY KEY, n int", "INSERT INTO many VALUES ('2026-10-05', 1), ('2019-01-01', 2)")
    bare.migrate()
    assert all(proof.same for proof in bare.prove()[0])
    bare.run("UPDATE many_partitioned SET n = 3 WHERE n = 1")
    assert found(bare) == {"2026-10-05 00:00:00+00": ("differs", ("n",))}


# -- rows


def repair(subject: Any, proofs: Any) -> None:
    plan = subject.repair(proofs)
    execute.execute(subject.where, plan, plan.digest)
    after, differences = subject.prove()
    assert (differences, [proof.part for proof in after if not proof.same]) == ((), [])


def test_the_copy_is_proven(migrated: Any) -> None:
    proofs, differences = migrated.prove()
    assert differences == () and all(proof.same for proof in proofs)
    for spec, rows in zip(migrated.specs, (4_000, 5_000), strict=True):
        own = [proof for proof in proofs if proof.table == spec.name]
        assert (len(own), sum(proof.original.rows for proof in own)) == (40, rows)
        (check,) = verify.checks(spec, own)
        assert (check.severity, check.name) == (Severity.OK, "same rows")
        assert check.what == f"{rows:,} rows in 40 parts, equal in count, keys and content."
    assert verify.headline(proofs).count("equal in count, keys and content.") == 2


def test_every_way_a_row_can_go_wrong_is_told_by_key_and_repaired(migrated: Any) -> None:
    migrated.run(
        "UPDATE messages SET content = 'a SENTINEL of ' || id",
        "UPDATE messages_partitioned SET content = 'a SENTINEL of ' || id",
        "UPDATE partitions.messages_null_keys SET content = 'a SENTINEL of ' || id",
    )
    assert found(migrated) == {}

    def row(month: str, number: int = 0) -> str:
        return str(migrated.value(f"SELECT id FROM partitions.{month} ORDER BY id OFFSET {number} LIMIT 1"))

    stale, gone, moved, wrong = (row(f"messages_2025_0{month}") for month in (1, 2, 3, 4))
    keyless, altered = row("messages_null_keys"), row("messages_null_keys", 1)
    first, second = (
        migrated.rows("SELECT id, event FROM partitions.usage_logs_2025_06 ORDER BY event = 'login', id")[0],
        migrated.rows("SELECT id, event FROM partitions.usage_logs_2025_06 WHERE event = 'login' ORDER BY id")[0],
    )
    migrated.run(
        f"UPDATE partitions.messages_2025_01 SET deleted_at = '2026-01-01', content = 'SENTINEL' WHERE id = '{stale}'",
        f"DELETE FROM partitions.messages_2025_02 WHERE id = '{gone}'",
        f"UPDATE messages_partitioned SET created_at = created_at + interval '2 months' WHERE id = '{moved}'",
        f"DELETE FROM messages WHERE id = '{wrong}'",
        "INSERT INTO messages_partitioned (id, role, content, created_at)"
        " VALUES ('00000000-0000-0000-0000-00000000000d', 'user', 'SENTINEL', '2031-12-31')",
        f"DELETE FROM partitions.messages_null_keys WHERE id = '{keyless}'",
        f"UPDATE partitions.messages_null_keys SET content = 'SENTINEL' WHERE id = '{altered}'",
        f"UPDATE partitions.usage_logs_2025_06 SET event = '{second[1]}' WHERE id = {first[0]}",
        f"UPDATE partitions.usage_logs_2025_06 SET event = '{first[1]}' WHERE id = {second[0]}",
    )
    proofs, differences = migrated.prove()
    here, there = "only in the original", "only in the partitioned table"
    assert {(each.part, each.key[0], each.kind, each.columns) for each in differences} == {
        ("2025-01", stale, "differs", ("content", "deleted_at")),
        ("2025-02", gone, here, ()),
        ("2025-03", moved, here, ()),
        ("2025-05", moved, there, ()),
        ("2025-04", wrong, there, ()),
        ("out of range", "00000000-0000-0000-0000-00000000000d", there, ()),
        ("no key", keyless, here, ()),
        ("no key", altered, "differs", ("content",)),
        ("2025-06", str(first[0]), "differs", ("event",)),
        ("2025-06", str(second[0]), "differs", ("event",)),
    }
    assert len(differences) == 10
    wrong_parts = [(proof.table, proof.part) for proof in proofs if not proof.same]
    assert wrong_parts == [
        *(("messages", f"2025-0{month}") for month in (1, 2, 3, 4, 5)),
        ("messages", "out of range"),
        ("messages", "no key"),
        ("usage_logs", "2025-06"),
    ]
    checks = [
        check for spec in migrated.specs for check in verify.checks(spec, [p for p in proofs if p.table == spec.name])
    ]
    assert [(check.severity, check.name) for check in checks] == [
        (Severity.STOP, f"part {part}") for _, part in wrong_parts
    ]
    assert checks[0].what == "2025-01: the same keys, but different content."
    assert checks[1].what == "2025-02: 1 only in the original."
    assert "as many rows on both sides" not in checks[1].what
    plan = migrated.repair(proofs)
    told = repr((proofs, differences, checks, plan)) + plan.script() + verify.headline(proofs)
    assert "SENTINEL" not in told and "login" not in told
    assert "Difference(part='2025-02'" in told  # or the line above would prove nothing
    before = migrated.rows("SELECT id, updated_at FROM conversations ORDER BY id")
    triggers = "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
    states = migrated.rows(triggers)
    assert plan.steps[6].statements[0].startswith('DELETE FROM "partitions"."messages_null_keys" AS p WHERE true AND')
    repair(migrated, proofs)
    assert migrated.rows("SELECT id, updated_at FROM conversations ORDER BY id") == before
    assert migrated.rows(triggers) == states


def test_rows_that_no_table_takes_are_counted(bare: Any) -> None:
    many(bare, "id int PRIMARY KEY, at timestamptz, n int", default_partition=False)
    bare.migrate()
    bare.run("INSERT INTO many VALUES (1, '2019-01-01'), (2, 'infinity'), (3, '2026-10-05')")
    bare.run("INSERT INTO many VALUES (4, NULL), (5, NULL), (6, NULL)")
    proofs, _ = bare.prove()
    assert {proof.part: proof.original.rows for proof in proofs if not proof.same} == {
        "2026-10": 1,
        "out of range": 2,
        "no key": 3,
    }
    assert found(bare) == {str(number): ("only in the original", ()) for number in range(1, 7)}
    assert [step.name for step in bare.repair(proofs).steps] == ["repair many 2026-10"]


def test_a_value_in_place_of_a_missing_key_is_no_difference(bare: Any) -> None:
    many(
        bare,
        "id int PRIMARY KEY, at timestamptz, made date",
        "INSERT INTO many VALUES (1, NULL, '2026-10-05'), (2, NULL, '2019-01-01'), (3, '2026-09-09', NULL)",
        null_keys={"value": "made::timestamp AT TIME ZONE 'UTC'"},
    )
    bare.migrate()
    assert found(bare) == {}
    assert [proof.original.rows for proof in bare.prove()[0]] == [1, 1, 0, 0, 1, 0]
    bare.run("UPDATE many SET made = '2026-10-06' WHERE id = 1", "INSERT INTO many VALUES (4, NULL, NULL)")
    _, differences = bare.prove()
    assert {(each.part, each.key[0], each.kind) for each in differences} == {
        ("2026-10", "1", "only in the original"),
        ("2026-10", "1", "only in the partitioned table"),
        ("no key", "4", "only in the original"),
    }


def test_twenty_differences_a_part_are_named(bare: Any) -> None:
    many(
        bare,
        "id int PRIMARY KEY, at timestamptz NOT NULL",
        "INSERT INTO many SELECT n, '2026-10-05' FROM generate_series(1, 50) n",
    )
    bare.migrate()
    bare.run("DELETE FROM many_partitioned")
    proofs, differences = bare.prove()
    assert len(differences) == verify.NAMED_DIFFERENCES == 20
    assert [check.what for check in verify.checks(bare.spec, proofs)] == ["2026-10: 50 only in the original."]


# -- one instant


def test_writes_of_others_while_it_reads_do_not_blur_it(migrated: Any) -> None:
    """A lock holds both readers up after the snapshot is taken; then both sides change, differently, in every part."""
    patient = replace(migrated.where, lock_timeout_ms=30_000)
    tables = migrated.compared()
    result: list[Any] = []
    with migrated.database.connect() as held:
        held.execute("LOCK TABLE public.messages IN ACCESS EXCLUSIVE MODE")
        reader = threading.Thread(target=lambda: result.append(compare.prove(patient, tables)))
        reader.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'public.messages'::regclass"
        deadline = time.monotonic() + 20
        while migrated.value(waiting) < compare.WORKERS:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        held.execute("UPDATE messages SET content = 'changed'")
        held.execute("DELETE FROM partitions.messages_2025_01")
    reader.join()
    assert [proof.part for proof in result[0][0] if not proof.same] == [] == list(result[0][1])
    assert len([proof for proof in migrated.prove()[0] if not proof.same]) > 30


def test_all_readers_share_the_first_one_s_instant(migrated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write is committed before each connection but the first, whose snapshot it comes too late for."""
    tables = migrated.compared()
    months = iter(("", "2025_01", "2025_02"))

    def late(where: database.Session, **options: Any) -> psycopg.Connection[Any]:
        if month := next(months):
            migrated.run(f"DELETE FROM partitions.messages_{month}")
        return database.connect(where, **options)

    monkeypatch.setattr(compare, "connect", late)
    proofs, _ = compare.prove(migrated.where, tables)
    assert all(proof.same for proof in proofs)
    assert next(months, None) is None
    monkeypatch.undo()
    assert [proof.part for proof in migrated.prove()[0] if not proof.same] == ["2025-01", "2025-02"]


def test_the_rows_are_named_from_the_same_instant_as_the_digests(migrated: Any) -> None:
    migrated.run("DELETE FROM partitions.messages_2025_01")
    told: list[tuple[int, int, str]] = []

    def meanwhile(done: int, total: int, label: str) -> None:
        told.append((done, total, label))
        migrated.run("DELETE FROM messages WHERE created_at >= '2025-01-01' AND created_at < '2025-02-01'")

    proofs, differences = migrated.prove(progress=meanwhile)
    assert told[-1][:2] == (80, 80)
    assert [proof.part for proof in proofs if not proof.same] == ["2025-01"]
    assert {each.kind for each in differences} == {"only in the original"}
    assert len(differences) == min(verify.NAMED_DIFFERENCES, next(p for p in proofs if not p.same).original.rows)


def test_the_snapshot_is_kept_however_long_the_readers_take(migrated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "IDLE_TIMEOUT", "200ms")
    proofs, _ = migrated.prove(progress=lambda done, total, label: time.sleep(0.5))
    assert len(proofs) == 80


# -- the repair


REPAIR = """\
-- 1. repair many 2026-10
--    Rows that are not in the original with the same content go, rows that are missing come. Not to be confirmed once the \
application writes to the partitioned table: its new rows would go. Lock: SHARE ROW EXCLUSIVE on public.many_partitioned.
ALTER TABLE "public"."many_partitioned" DISABLE TRIGGER "always";
ALTER TABLE "public"."many_partitioned" DISABLE TRIGGER "of_row";
ALTER TABLE "public"."many_partitioned" DISABLE TRIGGER "of_statement";
ALTER TABLE "public"."many_partitioned" DISABLE TRIGGER "replicated";
DELETE FROM "public"."many_partitioned" AS p WHERE "at" >= '2026-10-01 00:00:00+00' AND "at" < '2026-11-01 00:00:00+00' \
AND NOT EXISTS (SELECT FROM (SELECT "id" AS "id", "at" AS "at", "n" AS "n", "twice" AS "twice", true AS atlas_ops_here \
FROM "public"."many" WHERE "at" >= '2026-10-01 00:00:00+00' AND "at" < '2026-11-01 00:00:00+00') AS o \
WHERE "o"."id" = "p"."id" AND "o"."at" = "p"."at" \
AND ROW("o"."id", "o"."at", "o"."n")::record *= ROW("p"."id", "p"."at", "p"."n")::record);
INSERT INTO "public"."many_partitioned" ("id", "at", "n") OVERRIDING SYSTEM VALUE SELECT "o"."id", "o"."at", "o"."n" \
FROM (SELECT "id" AS "id", "at" AS "at", "n" AS "n", "twice" AS "twice", true AS atlas_ops_here \
FROM "public"."many" WHERE "at" >= '2026-10-01 00:00:00+00' AND "at" < '2026-11-01 00:00:00+00') AS o \
WHERE NOT EXISTS (SELECT FROM (SELECT "id", "at", "n", "twice", true AS atlas_ops_here \
FROM "public"."many_partitioned" WHERE "at" >= '2026-10-01 00:00:00+00' AND "at" < '2026-11-01 00:00:00+00') AS p \
WHERE "o"."id" = "p"."id" AND "o"."at" = "p"."at");
ALTER TABLE "public"."many_partitioned" ENABLE ALWAYS TRIGGER "always";
ALTER TABLE "public"."many_partitioned" ENABLE TRIGGER "of_row";
ALTER TABLE "public"."many_partitioned" ENABLE TRIGGER "of_statement";
ALTER TABLE "public"."many_partitioned" ENABLE REPLICA TRIGGER "replicated";
"""


def test_the_repair_of_a_part_is_told_literally_and_fires_nothing(bare: Any) -> None:
    many(
        bare,
        "id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL, n numeric, "
        "twice bigint GENERATED ALWAYS AS (id * 2) STORED",
        "INSERT INTO many (at, n) SELECT '2026-10-05', g FROM generate_series(1, 9) g",
        TRIGGERS,
    )
    bare.migrate()
    bare.run("ALTER TABLE many_partitioned DISABLE TRIGGER USER")
    bare.run(
        "UPDATE partitions.many_2026_10 SET n = 1.00 WHERE n = 1", "DELETE FROM partitions.many_2026_10 WHERE n = 2"
    )
    bare.run(
        "ALTER TABLE many_partitioned ENABLE TRIGGER of_row, ENABLE TRIGGER of_statement,"
        " ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replicated, ENABLE ALWAYS TRIGGER atlas_ops_closed",
        "TRUNCATE fired",
    )
    states = "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger ORDER BY 1, 2"
    before = bare.rows(states)
    proofs, _ = bare.prove()
    plan = bare.repair(proofs)
    assert [(step.lock, step.on) for step in plan.steps] == [("SHARE ROW EXCLUSIVE", "public.many_partitioned")]
    assert plan.script() == REPAIR
    execute.execute(bare.where, plan, plan.digest)
    assert bare.rows("SELECT * FROM fired") == []
    assert bare.rows(states) == before
    assert all(proof.same for proof in bare.prove()[0])


def test_a_deferred_foreign_key_does_not_stop_the_repair(bare: Any) -> None:
    bare.run("CREATE TABLE owner (id int PRIMARY KEY)", "INSERT INTO owner VALUES (1)")
    many(
        bare,
        "id int PRIMARY KEY, at timestamptz NOT NULL, owner int REFERENCES owner DEFERRABLE INITIALLY DEFERRED",
    )
    bare.run("INSERT INTO many SELECT n, '2026-10-05', 1 FROM generate_series(1, 3) n")
    bare.run(TRIGGERS)
    bare.migrate()
    bare.run("ALTER TABLE many_partitioned DISABLE TRIGGER USER", "DELETE FROM many_partitioned WHERE id = 2")
    bare.run("ALTER TABLE many_partitioned ENABLE TRIGGER of_row, ENABLE ALWAYS TRIGGER atlas_ops_closed")
    repair(bare, bare.prove()[0])


def test_only_its_digest_arms_a_repair(bare: Any) -> None:
    many(bare, "id int PRIMARY KEY, at timestamptz NOT NULL", "INSERT INTO many VALUES (1, '2026-10-05')")
    bare.migrate()
    bare.run("DELETE FROM many_partitioned")
    plan = bare.repair(bare.prove()[0])
    with pytest.raises(AtlasError, match='Step "repair many 2026-10" removes'):
        execute.execute(bare.where, plan, "additive")
    assert execute.execute(bare.where, plan, "") == ()
    assert found(bare) == {"1": ("only in the original", ())}
