"""The synthetic writer: its statements by the shape of the table, whose turn it is, and the figures of what it saw."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from atlas_ops import division, traffic
from atlas_ops.model import Column, Constraint, Index, Relation, Table
from atlas_ops.report import Line
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec
from atlas_ops.traffic import DELETE, INSERT, MOVE, UPDATE, Client, Rehearsal, Stage, Statement, Statements, percentile

AS_OF = dt.date(2024, 1, 15)
BEGAN = dt.datetime(2024, 1, 15, 12, tzinfo=dt.UTC)


def column(name: str, kind: str = "int4", **more: Any) -> Column:
    types = {"int4": "integer", "int8": "bigint", "timestamptz": "timestamp with time zone"}
    fields = {"not_null": False, "default": None, "identity": "", "generated": "", "comment": None, "sequence": None}
    return Column(
        name, more.pop("type", types.get(kind, kind)), kind, "b", **{**fields, "default_sequence": None, **more}
    )


def index(*columns: str, primary: bool = False) -> Index:
    return Index("_".join(columns), "USING btree", columns, True, primary, True, False, False, None, None, (), 0, 0)


def table(*columns: Column, key: tuple[str, ...] = ("id",), unique: tuple[tuple[str, ...], ...] = ()) -> Relation:
    primary = Constraint("pkey", "p", f"PRIMARY KEY ({', '.join(key)})", key, True, False, None, True)
    facts = Table(1, "public", "note", "r", "p", False, "me", True, True, False, False, "d", (), None, None, 10, 0, 0, 0, None, False)  # fmt: skip
    return Relation(facts, columns, (primary,), (index(*key, primary=True), *(index(*one) for one in unique)))


def spec(**keys: Any) -> TableSpec:
    (found,) = tables_from(
        [{**{"table": "note", "partition_key": "at", "from": "2024-01-01", "until": "2024-03-01", "ahead": 1}, **keys}]
    )
    return found


def made(original: Relation, **keys: Any) -> Statements:
    wanted = spec(**keys)
    return traffic.statements(wanted, original, division.periods(wanted, AS_OF), 12.5)


AT = column("at", "timestamptz")
NOTE = table(column("id", not_null=True), AT, column("body", "text"))


def test_the_statements_of_a_plain_table() -> None:
    found = made(NOTE)
    key = '"id"::text, "at"::text'
    assert found == Statements(
        key=("id", "at"),
        primary=1,
        sample=f'SELECT {key} FROM "public"."note" TABLESAMPLE SYSTEM (12.5) WHERE "at" IS NOT NULL LIMIT 2000',
        whole=f'SELECT {key} FROM "public"."note" TABLESAMPLE SYSTEM (100.0) WHERE "at" IS NOT NULL LIMIT 2000',
        highest='SELECT coalesce(greatest(ceil(max("id"))), 0)::bigint FROM "public"."note"',
        inserts=tuple(
            f'INSERT INTO "public"."note" ("id", "at", "body") SELECT $3::integer, {at}, "r"."body" FROM "public"."note" AS r '
            f'WHERE "r"."id" = $1 AND "r"."at" = $2 AND $3::bigint IS NOT NULL RETURNING {key}'
            for at in ("clock_timestamp()::timestamp with time zone", '"r"."at"')
        ),
        update=f'UPDATE "public"."note" SET "body" = "body" WHERE "id" = $1 RETURNING {key}',
        moves=(
            'UPDATE "public"."note" SET "at" = ("at" - interval \'1 month\')::timestamp with time zone '
            f'WHERE "id" = $1 AND $2::bigint IS NOT NULL RETURNING {key}',
        ),
        delete=f'DELETE FROM "public"."note" WHERE "id" = $1 RETURNING {key}',
    )


@pytest.mark.parametrize(
    ("original", "new"),
    [
        (table(column("id", identity="a"), AT), '("at") SELECT clock_timestamp()'),
        (table(column("id", default_sequence="public.s"), AT), '("at") SELECT clock_timestamp()'),
        (table(column("id", "uuid"), AT), '("id", "at") SELECT gen_random_uuid(), clock'),
        (table(column("id", "text"), AT), "SELECT (\"r\".\"id\" || '~' || $3::bigint)::text, clock"),
        (table(column("id", "varchar", type="character varying(20)"), AT), "SELECT (left(\"r\".\"id\", 8) || '~' || $3::bigint)::"),
        (table(column("device"), AT, key=("device", "at")), 'SELECT "r"."device", clock_timestamp()'),
        (table(column("id"), AT, column("slug", "text"), unique=(("slug",),)), '"r"."slug" || \'~\' || $3'),
        (table(column("id"), AT, column("state", "enum"), unique=(("state",),)), "NULL FROM"),
        (table(column("id"), AT, column("state", "enum"), unique=(("id", "state"),)), '"r"."state" FROM'),
        (table(column("id"), AT, column("twice", generated="s")), '("id", "at") SELECT'),
    ],
    ids=["identity", "serial", "uuid", "text", "varchar", "composite", "unique text", "unique null", "covered", "generated"],
)  # fmt: skip
def test_a_new_key_by_the_shape(original: Relation, new: str) -> None:
    assert new in made(original).inserts[0]


def test_a_key_that_cannot_be_made_up_is_not_inserted() -> None:
    day = column("at", "date", not_null=True)
    found = made(table(column("kind", "enum", not_null=True), day, key=("kind", "at")))
    assert found.inserts == () and found.moves == ()
    assert 'SET "at" = "at"' in found.update


def test_without_a_default_partition_no_row_leaves_the_partitions() -> None:
    found = made(NOTE, default_partition=False)
    first, last = (
        "'2024-01-01 00:00:00+00'::timestamp with time zone",
        "'2024-03-01 00:00:00+00'::timestamp with time zone",
    )
    assert f'< {last} THEN clock_timestamp()::timestamp with time zone ELSE "r"."at" END' in found.inserts[0]
    assert f">= {first} THEN" in found.moves[0] and found.moves[0].count('ELSE "at" END') == 1


def test_a_move_within_the_primary_key_meets_no_other_row() -> None:
    found = made(table(column("device"), AT, key=("device", "at")))
    assert "- ($3::bigint % 1000000) * interval '1 microsecond'" in found.moves[0]


# Whose turn it is

KINDS = {INSERT: "insert", UPDATE: "update", MOVE: "move", DELETE: "delete"}


def client(number: int, of: int, keys: int = 40, kinds: Any = KINDS) -> Client:
    known = [(str(one), "2024-01-01") for one in range(keys)]
    return Client(made(NOTE), kinds, known, number, of, 100)


def played(hand: Client, turns: int) -> list[traffic.Asked]:
    seen = []
    for _ in range(turns):
        asked = hand.next()
        assert asked is not None
        seen.append(asked)
        new = (str(asked.parameters[-1]), "2024-01-02") if asked.kind == INSERT else asked.key
        hand.done(asked, new)
    return seen


def test_two_clients_never_change_the_same_row_and_never_use_a_number_twice() -> None:
    changed, numbers, templates = [], [], []
    for one in (0, 1, 2):
        asked = played(client(one, 3), 300)
        changed.append({each.key for each in asked if each.kind in (UPDATE, MOVE, DELETE)})
        numbers += [each.parameters[-1] for each in asked if each.kind in (INSERT, MOVE)]
        templates += [each.key for each in asked if each.kind == INSERT]
    assert not changed[0] & changed[1] and not changed[0] & changed[2] and not changed[1] & changed[2]
    assert len(numbers) == len(set(numbers)) and min(numbers) > 100
    assert not set(templates) & set().union(*changed)


def test_a_client_does_everything_and_deletes_only_what_it_inserted() -> None:
    asked = played(client(0, 1), 500)
    kinds = [one.kind for one in asked]
    assert kinds.count(INSERT) == 200 and kinds.count(DELETE) == 100
    assert kinds.count(UPDATE) == 180 and kinds.count(MOVE) == 20
    made_by_it: set[Any] = set()
    for one in asked:
        if one.kind == INSERT:
            made_by_it.add((str(one.parameters[-1]), "2024-01-02"))
        if one.kind == DELETE:
            made_by_it.remove(one.key)
        assert len(one.parameters) == {INSERT: 3, UPDATE: 1, MOVE: 2, DELETE: 1}[one.kind]


def test_a_moved_row_is_known_by_its_new_key() -> None:
    hand = client(0, 1, keys=2)
    for _ in range(200):
        asked = hand.next()
        assert asked is not None
        if asked.kind == MOVE:
            hand.done(asked, ("moved", "2023-12-01"))
            assert ("moved", "2023-12-01") in [*hand.known, *hand.made]
            return
        hand.done(asked, asked.key)
    raise AssertionError("it never moved one")


@pytest.mark.parametrize("kinds", [{UPDATE: "update"}, {INSERT: "insert", DELETE: "delete"}])
def test_what_the_table_does_not_take_is_passed_over(kinds: dict[str, str]) -> None:
    assert {one.kind for one in played(client(0, 1, kinds=kinds), 50)} == set(kinds)


def test_a_client_without_anything_to_do_says_so() -> None:
    assert client(0, 1, keys=1, kinds={UPDATE: "update"}).next() is None


# The figures


def line(step: str, second: float, held_ms: float | None = None) -> Line:
    at = BEGAN + dt.timedelta(seconds=second)
    waits = (("LOCK a", 1.5), ("LOCK b", 2.5)) if held_ms is not None else ()
    return Line(step, at, at, 2, 10, ("55P03",), waits, held_ms)


def rehearsal(*statements: Statement, held_ms: float = 50.0, **more: Any) -> Rehearsal:
    stages = (
        Stage("copy", 0.0, 1.0, (line("copy", 0.9),)),
        Stage("cut over", 1.0, 2.0, (line("cut over note", 1.9, held_ms),)),
        Stage("after", 2.0, 4.0),
    )
    return Rehearsal("note", 1_000, 2, 1, BEGAN, 100, stages, statements, **more)


def test_a_statement_belongs_to_the_stage_in_which_it_was_sent() -> None:
    found = rehearsal(
        Statement(0.5, 1.0, INSERT), Statement(0.6, 3.0, UPDATE), Statement(1.9, 120.0, UPDATE), Statement(2.0, 2.0, DELETE)
    )  # fmt: skip
    copy, turn, after = found.figures()
    assert (copy.statements, copy.median_ms, copy.longest_ms, copy.held_ms, copy.rows) == (2, 3.0, 3.0, None, 10)
    assert (turn.longest_ms, turn.waits_ms, turn.held_ms, turn.attempts) == (120.0, (1.5, 2.5), 50.0, 2)
    assert (after.statements, after.longest_ms) == (1, 2.0)
    assert found.done_rate == 1.0 and found.seconds == 4.0
    assert found.holds() == (("cut over", pytest.approx(1.85), 1.9),)


@pytest.mark.parametrize(
    ("longest", "held", "within"),
    [(149.0, 50.0, True), (151.0, 50.0, False), (10.0, 100.0, False), (199.0, 99.9, True)],
)
def test_the_limits_are_those_of_an_exchange(longest: float, held: float, within: bool) -> None:
    found = rehearsal(Statement(0.1, 900.0, INSERT), Statement(1.5, longest, UPDATE), held_ms=held)
    assert found.within_limits is within


def test_failures_rows_that_are_gone_and_rows_that_were_lost_are_told_apart() -> None:
    good = Statement(0.1, 1.0, INSERT)
    assert rehearsal(good).whole
    failed = rehearsal(good, Statement(0.2, 1.0, UPDATE, "40001", False), Statement(0.3, 1.0, UPDATE, "40001", False))
    assert (failed.errors, failed.missed, failed.whole) == ({"40001": 2}, 0, False)
    gone = rehearsal(good, Statement(0.2, 1.0, UPDATE, "", False))
    assert (gone.errors, gone.missed, gone.whole) == ({}, 1, False)
    assert not rehearsal(good, lost=1).whole


def test_the_result_is_json_without_a_value_of_a_row() -> None:
    result = rehearsal(Statement(1.5, 60.1234, UPDATE), left_out={INSERT: "23502"}).result()
    assert result["stages"][1] == {
        "stage": "cut over", "seconds": 1.0, "rows": 10, "statements": 1, "median_ms": 60.123, "p99_ms": 60.123,
        "longest_stall_ms": 60.123, "lock_waits_ms": [1.5, 2.5], "held_ms": 50.0, "attempts": 2,
    }  # fmt: skip
    assert result["within_limits"] is True and result["left_out"] == {INSERT: "23502"}


def test_percentiles_are_of_values_that_were_seen() -> None:
    assert percentile([], 0.5) is None
    assert [percentile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 3.0, 4.0, 4.0]
