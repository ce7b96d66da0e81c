"""Who leaves, who stays, and the exact SQL: from snapshots written by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from atlas_ops import archive, charts
from atlas_ops.bounds import Every, Period, covered, literal, period_of
from atlas_ops.model import Column, Constraint, Partition, Reference, Relation, Server, Snapshot, Table
from atlas_ops.plan import Effect, Plan
from atlas_ops.report import Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

AS_OF = date(2026, 11, 23)
MARK = 'atlas_ops: rows of "public"."messages" '
MB = 1024 * 1024
SERVER = Server(
    version=180004, version_text="18.4", system_identifier="1", database="atlas", role="postgres",
    superuser=False, bypasses_row_security=True, may_create_schema=True, may_create_in_public=True,
    time_zone="UTC", in_recovery=False, read_only=False, wal_level="replica", max_locks=6400,
    has_pg_stat_statements=False, now=datetime(2026, 11, 23, 18, tzinfo=UTC),
)  # fmt: skip


def spec(**keys: Any) -> TableSpec:
    table = {"table": "messages", "partition_key": "created_at", "from": "2024-01-01", "keep": 24}
    [found] = tables_from([{**table, **keys}])
    return found


def relation(name: str = "messages_partitioned", kind: str = "p", **hanging: Any) -> Relation:
    table = Table(
        oid=1, schema="public", name=name, kind=kind, persistence="p", is_partition=False, owner="postgres",
        may_own=True, may_select=True, row_security=True, force_row_security=False, replica_identity="f",
        storage_parameters=(), tablespace=None, comment=None, estimated_rows=1000, heap_bytes=0,
        index_bytes=0, toast_bytes=0, partition_key="RANGE (created_at)", has_children=True,
    )  # fmt: skip
    key = Column("created_at", "timestamptz", "timestamptz", "b", True, None, "", "", None, None, None)
    return replace(Relation(table, (key,)), **hanging)


def partition(name: str, bound: str | None, **fields: Any) -> Partition:
    """100 rows in 3 MB."""
    found = Partition(
        oid=2, schema="partitions", name=name, bound=bound, detach_pending=False, kind="r",
        comment=MARK + (bound or ""), owner="postgres", row_security=True, open_to=(), estimated_rows=100,
        live_rows=100, dead_rows=0, heap_bytes=MB, index_bytes=MB, toast_bytes=MB, indexes=5,
        invalid_indexes=0, foreign_keys=(), unvalidated=(), checks=(), bloat_bytes=0, seq_scans=0,
        index_scans=0, last_vacuum=None, last_analyze=None,
    )  # fmt: skip
    return replace(found, **fields)


def month(period: Period, **fields: Any) -> Partition:
    lower, upper = (literal(edge, "timestamptz") for edge in (period.lower, period.upper))
    bound = f"FOR VALUES FROM ('{lower}') TO ('{upper}')"
    return partition(f"messages_{period.suffix}", bound, **fields)


MONTHS = tuple(month(period) for period in covered(Every.month, date(2024, 1, 1), None, 3, AS_OF))
DEFAULT = partition("messages_default", "DEFAULT")
DETACH = 'ALTER TABLE "public"."messages_partitioned" DETACH PARTITION "partitions"."messages_2024_01"'
OLD = [f"messages_2024_{number:02}" for number in range(1, 11)]


def snapshot(*found: Partition, **fields: Any) -> Snapshot:
    whole = Snapshot(SERVER, relation("messages", "r"), relation(), found, closed_to=("anon", "authenticated"))
    return replace(whole, **fields)


def leaving(given: Snapshot, as_of: date = AS_OF, **keys: Any) -> list[str]:
    return [each.partition for each in archive.candidates(spec(**keys), given, as_of) if each.goes]


def statements(plan: Plan) -> list[str]:
    return [statement for step in plan.steps for statement in step.statements]


# who leaves


def test_24_whole_past_months_are_kept_besides_the_current_one() -> None:
    given = snapshot(*MONTHS, DEFAULT)
    assert leaving(given) == OLD
    found = {each.partition: each for each in archive.candidates(spec(), given, AS_OF)}
    assert len(found) == 39
    assert [found[f"messages_2024_{number}"].age for number in (10, 11)] == [24, 23]
    assert found["messages_2024_10"].why == "Ended 24 whole months ago; 24 are kept."
    assert found["messages_2024_11"].why == "Ended 23 whole months ago; 24 are kept."
    assert found["messages_2026_10"].age == 0
    assert (found["messages_2026_11"].age, found["messages_2026_11"].why) == (None, "It has not ended.")
    assert found["messages_default"].why == "The default partition has no end."
    assert found["messages_2024_01"].bytes == 3 * MB and found["messages_2024_01"].rows == 100


@pytest.mark.parametrize(
    ("keep", "as_of", "last"),
    [
        (24, date(2026, 11, 1), "messages_2024_10"),
        (24, date(2026, 10, 31), "messages_2024_09"),
        (24, date(2026, 12, 1), "messages_2024_11"),
        (1, AS_OF, "messages_2026_09"),
        (34, AS_OF, None),
        (33, AS_OF, "messages_2024_01"),
        (10_000, AS_OF, None),
        (None, AS_OF, None),
        # whatever is asked for, what the server's clock says is not over stays
        (1, date(2062, 1, 1), "messages_2026_10"),
        (1, date(1, 1, 1), None),
    ],
)
def test_where_the_line_is_drawn(keep: int | None, as_of: date, last: str | None) -> None:
    found = leaving(snapshot(*MONTHS, DEFAULT), as_of, keep=keep)
    assert found == ([each.name for each in MONTHS if each.name <= last] if last else [])


def ranged(lower: str, upper: str) -> str:
    return f"FOR VALUES FROM ({lower}) TO ({upper})"


@pytest.mark.parametrize(
    ("fields", "goes"),
    [
        ({"bound": ranged("MINVALUE", "'2024-11-01'")}, True),
        ({"bound": ranged("'2024-01-01'", "MAXVALUE")}, False),
        ({"bound": ranged("MINVALUE", "MAXVALUE")}, False),
        ({"bound": ranged("'2024-10-25'", "'2024-11-01 00:00:00+00'")}, True),
        ({"bound": ranged("'2024-10-25'", "'2024-11-01 00:00:00.000001+00'")}, False),
        ({"bound": ranged("'0044-03-15 BC'", "'0043-03-15 BC'")}, True),
        ({"bound": "FOR VALUES IN ('2020-01-01')"}, False),
        ({"bound": "FOR VALUES WITH (modulus 4, remainder 0)"}, False),
        ({"bound": "FOR VALUES FROM (1) TO (10)"}, False),
        ({"bound": ranged("'2020-01-01'", "'2020-02-01'"), "kind": "f"}, False),
        ({"bound": ranged("'2026-01-01'", "'2026-02-01'"), "detach_pending": True}, True),
    ],
)
def test_sets_of_others(fields: dict[str, Any], goes: bool) -> None:
    assert leaving(snapshot(partition("p", **fields))) == (["p"] if goes else [])


def test_what_is_not_attached_is_no_candidate() -> None:
    given = snapshot(replace(MONTHS[0], bound=None), partition("messages_null_keys", None))
    assert archive.candidates(spec(), given, AS_OF) == ()


def test_weeks_are_counted_in_weeks() -> None:
    week, weeks = period_of(Every.week, AS_OF), []
    for _ in range(6):
        weeks.append(month(week))
        week = week.previous()
    assert leaving(snapshot(*weeks), every="week", keep=4) == ["messages_2026w43"]


# what is said


def test_the_headline_counts_rows_and_bytes() -> None:
    given = snapshot(*MONTHS, DEFAULT)
    assert archive.headline(spec(), given, AS_OF) == (
        "messages: 10 of 39 partitions leave, ended 24 months ago or before: 1,000 rows; "
        "dropping them later frees 30 MB."
    )
    assert archive.freed_bytes(archive.candidates(spec(), given, AS_OF)) == 30 * MB
    unknown = replace(MONTHS[0], live_rows=0, estimated_rows=-1)
    assert "an unknown number of rows" in archive.headline(spec(), snapshot(unknown), AS_OF)


@pytest.mark.parametrize(
    ("keys", "fields", "told"),
    [
        ({"keep": None}, {}, "messages: keep is null, so nothing is archived."),
        ({"keep": 100}, {}, "messages: nothing is older than the 100 months to keep."),
        ({}, {"partitioned": None}, "messages: there is no partitioned table to archive from."),
    ],
)
def test_nothing_leaves_and_the_plan_is_empty(keys: dict[str, Any], fields: dict[str, Any], told: str) -> None:
    plan = archive.plan_archive(spec(**keys), snapshot(*MONTHS, **fields), AS_OF)
    assert (plan.steps, plan.headline) == ((), told)


def test_the_chart_and_the_table_show_every_partition() -> None:
    found = archive.candidates(spec(), snapshot(*MONTHS, DEFAULT), AS_OF)
    rows = archive.chart_rows(found)
    assert rows[0] == ("messages", "messages_2024_01", 3 * MB, "archive")
    assert rows[-1] == ("messages", "messages_default", 3 * MB, "keep")
    assert "archive 10 of 39 partitions, 30 MB of" in charts.archive_timeline(rows).summary
    table = archive.as_table([*found, *found])
    assert len(table) == 78 and "more" not in repr(table).splitlines()[-1]


# the plan


def test_beside_a_default_partition_the_detach_is_one_plain_transaction() -> None:
    plan = archive.plan_archive(spec(), snapshot(*MONTHS, DEFAULT), AS_OF)
    assert [step.name for step in plan.steps] == [f"detach {name}" for name in OLD]
    assert plan.steps[0].statements == (
        DETACH,
        (
            'COMMENT ON TABLE "partitions"."messages_2024_01" IS '
            '\'atlas_ops: archived rows of "public"."messages" '
            "FOR VALUES FROM (''2024-01-01 00:00:00+00'') TO (''2024-02-01 00:00:00+00''), "
            'detached from "public"."messages_partitioned", planned 2026-11-23; '
            'before: atlas_ops: rows of "public"."messages" '
            "FOR VALUES FROM (''2024-01-01 00:00:00+00'') TO (''2024-02-01 00:00:00+00'')'"
        ),
        'REVOKE ALL ON TABLE "partitions"."messages_2024_01" FROM PUBLIC, "anon", "authenticated"',
    )
    assert {(step.effect, step.autocommit, step.lock) for step in plan.steps} == {
        (Effect.REMOVES, False, "ACCESS EXCLUSIVE")
    }
    assert plan.steps[0].on == (
        '"public"."messages_partitioned", "partitions"."messages_default", "partitions"."messages_2024_01"'
    )
    assert (plan.stage, plan.target.database, plan.lock_timeout_ms) == ("plan_archive", "atlas", 100)
    assert not plan.additive


def test_without_a_default_partition_it_is_closed_first_then_detached_concurrently() -> None:
    plan = archive.plan_archive(spec(), snapshot(*MONTHS[:1], *MONTHS[-1:]), AS_OF)
    close, detach = plan.steps
    assert [statement.split()[0] for statement in close.statements] == ["COMMENT", "REVOKE"]
    assert (close.effect, close.autocommit, close.lock) == (Effect.CHANGES, False, "SHARE UPDATE EXCLUSIVE")
    assert detach.statements == (
        "SET lock_timeout = '10min'",
        f"{DETACH} CONCURRENTLY",
        "RESET lock_timeout",
    )
    assert (detach.effect, detach.autocommit, detach.lock) == (Effect.REMOVES, True, "SHARE UPDATE EXCLUSIVE")


@pytest.mark.parametrize("others", [MONTHS, (*MONTHS, DEFAULT)])
def test_a_pending_detach_is_finalized_and_nothing_else(others: tuple[Partition, ...]) -> None:
    ours = replace(others[0], detach_pending=True, comment=archive.quarantine_mark(spec()) + "...")
    plan = archive.plan_archive(spec(keep=None), snapshot(ours, *others[1:]), AS_OF)
    assert statements(plan) == [f"{DETACH} FINALIZE"]
    assert plan.headline == "messages: the detach of messages_2024_01 was interrupted and must be completed first."


def test_a_pending_detach_that_somebody_else_began_is_closed_too() -> None:
    given = snapshot(replace(MONTHS[0], detach_pending=True, comment=None), *MONTHS[1:])
    finalize, comment, revoke = statements(archive.plan_archive(spec(), given, AS_OF))
    assert finalize.endswith("FINALIZE") and comment.startswith("COMMENT") and revoke.startswith("REVOKE")


def test_an_open_partition_is_closed_to_whoever_gets_at_it() -> None:
    given = replace(MONTHS[0], open_to=("PUBLIC", "Übel"), row_security=False, comment="ask Ana; 'soon'")
    _, comment, revoke, security = statements(archive.plan_archive(spec(), snapshot(given, DEFAULT), AS_OF))
    assert comment.endswith("planned 2026-11-23; before: ask Ana; ''soon'''")
    assert revoke.endswith('FROM PUBLIC, "anon", "authenticated", "Übel"')
    assert security == 'ALTER TABLE "partitions"."messages_2024_01" ENABLE ROW LEVEL SECURITY'


def test_names_are_quoted() -> None:
    nasty = replace(MONTHS[0], name='x"; DROP TABLE y; --', schema="My Schema")
    plan = archive.plan_archive(spec(), snapshot(nasty, DEFAULT), AS_OF)
    assert plan.steps[0].statements[0].endswith('DETACH PARTITION "My Schema"."x""; DROP TABLE y; --"')


def test_the_same_name_in_another_schema_stays() -> None:
    young = replace(MONTHS[-1], name="messages_2024_01", schema="public")
    plan = archive.plan_archive(spec(), snapshot(MONTHS[0], young, DEFAULT), AS_OF)
    assert len(plan.steps) == 1 and '"public"."messages_2024_01"' not in plan.script()


def test_referenced_tables_are_locked_too() -> None:
    key = Constraint("fk", "f", "FOREIGN KEY ...", ("user_id",), True, False, "public.profiles", True)
    plan = archive.plan_archive(spec(), snapshot(MONTHS[0], partitioned=relation(constraints=(key,))), AS_OF)
    assert plan.steps[-1].on.endswith("SHARE ROW EXCLUSIVE on public.profiles")


def test_the_digest_is_that_of_what_was_read() -> None:
    given = snapshot(*MONTHS, DEFAULT)
    digest = archive.plan_archive(spec(), given, AS_OF).digest
    assert archive.plan_archive(spec(), given, AS_OF).digest == digest
    assert archive.plan_archive(spec(keep=23), given, AS_OF).digest != digest


# checks


def test_what_stands_in_the_way() -> None:
    reference = Reference(
        table="public.message_reactions", constraint="reactions_fk", definition="FOREIGN KEY ...", on_delete="c",
        schema="public", name="message_reactions", columns=("message_id", "at"), referenced_columns=("id", "created_at"),
        column_comments=(None, None), referenced_schema="public", referenced_table="messages_partitioned", delete_columns=(),
        on_update="a", match="s", deferrable=False, deferred=False, validated=True, enforced=True, not_null=True, indexed=True,
        self=False, partitioned=False, owner="postgres", may_own=True, comment=None, all_columns=("message_id", "at"),
        marked_columns=(), update_triggers=(), estimated_rows=0, bytes=0,
    )  # fmt: skip
    incoming = (reference,)
    given = snapshot(replace(MONTHS[0], detach_pending=True), partitioned=relation(references=incoming))
    found = {check.name: check for check in archive.checks(spec(keep=None), given, AS_OF)}
    assert {name: check.severity for name, check in found.items()} == {
        "detach pending": Severity.WARN,
        "keep": Severity.NOTE,
        "incoming foreign keys": Severity.WARN,
        "cut over": Severity.WARN,
    }
    assert "reactions_fk of public.message_reactions" in found["incoming foreign keys"].what
    assert found["incoming foreign keys"].sql == (
        'ALTER TABLE public.message_reactions DROP CONSTRAINT "reactions_fk";'
    )


def test_nothing_stands_in_the_way() -> None:
    after = snapshot(*MONTHS, original=relation("messages"), partitioned=None)
    assert [check.severity for check in archive.checks(spec(), after, AS_OF)] == [Severity.OK]
    assert archive.checks(spec(), snapshot(partitioned=None), AS_OF) == ()
