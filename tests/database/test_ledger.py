"""The difference of two ledgers on real tables: what is carried, what is said to differ, and what is red."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atlas_ops import catalog, database, ledger
from atlas_ops.ledger import Kept, Ledgers, Place
from atlas_ops.report import Severity
from atlas_ops.spec import TableSpec

RICH = (Path(__file__).parents[1] / "data" / "rich.sql").read_text()


@pytest.fixture
def diary(ops: Any, empty: Any) -> TableSpec:
    """A table with something of everything, its copy in step."""
    ops.run(empty, RICH)
    spec: TableSpec = ops.online(table="diary")
    ops.follow(empty, spec)
    return spec


def read(ops: Any, db: Any, spec: TableSpec, place: Place, before: Ledgers | None = None) -> Ledgers:
    """Both ledgers as they are now; the original's are those of `before`, where an exchange lies between."""
    with database.connect(ops.session(db)) as conn:
        spec = catalog.placed(conn, spec)
        original = before.original if before else catalog.relation(conn, *spec.original_at)
        assert original is not None
        facts = before.before if before else catalog.ledger(conn, *spec.original_at)
        return Ledgers(spec, original, facts, catalog.ledger(conn, *spec.partitioned_at), spec.partitioned_at, place)


def told(found: Ledgers, kept: Kept) -> dict[str, str]:
    """Label and both values of the lines that were kept so."""
    return {line.label: f"{line.before} -> {line.after}" for line in ledger.difference(found) if line.kept is kept}


def test_everything_of_a_rich_table_is_carried_or_explained(ops: Any, empty: Any, diary: TableSpec) -> None:
    following = read(ops, empty, diary, Place.FOLLOWS)
    assert told(following, Kept.RED) == {}
    assert {
        "foreign key diary_person_fkey: definition",
        "trigger notices: enabled",
        "publication news: row filter",
        "view public.diaries: privileges",
        "sequence id: name",
        "primary key diary_pkey: definition",
        "table: kind",
    } <= told(following, Kept.CHANGED).keys()
    ops.cut_over(empty, diary)
    in_place = read(ops, empty, diary, Place.IN_PLACE, following)
    assert told(in_place, Kept.RED) == {}
    assert told(in_place, Kept.CHANGED).keys() == {
        "table: kind",
        "primary key diary_pkey: definition",
        "index diary_pkey: definition",
        "trigger atlas_ops_guard: definition",
        "trigger atlas_ops_guard: enabled",
    }
    ops.roll_back(empty, diary)
    back = read(ops, empty, diary, Place.FOLLOWS)
    own = {line for line in {*following.before} ^ {*back.before} if not ledger.OWN_TRIGGER.match(line.name)}
    assert own == set()


ALTERATIONS = {
    "policy mine: USING": "DROP POLICY mine ON {}",
    "privilege anon: SELECT": "GRANT SELECT ON {} TO anon",
    "privilege authenticated: SELECT": "REVOKE GRANT OPTION FOR SELECT ON {} FROM authenticated",
    "table: row security": "ALTER TABLE {} DISABLE ROW LEVEL SECURITY",
    "column mood: default": "ALTER TABLE {} ALTER mood DROP DEFAULT",
    "column body: statistics target": "ALTER TABLE {} ALTER body SET STATISTICS 10",
    "check body_is_short: definition": "ALTER TABLE {} DROP CONSTRAINT body_is_short",
    "trigger sums: definition": "DROP TRIGGER sums ON {}",
    "table: comment": "COMMENT ON TABLE {} IS NULL",
    "table: storage parameters": "ALTER TABLE partitions.diary_2024_01 SET (fillfactor = 70)",
    "table: replica identity": "ALTER TABLE partitions.diary_2024_01 REPLICA IDENTITY DEFAULT",
}


@pytest.mark.parametrize("label", ALTERATIONS)
def test_what_was_lost_or_won_is_red_until_it_is_waived(ops: Any, empty: Any, diary: TableSpec, label: str) -> None:
    ops.run(empty, ALTERATIONS[label].format("diary_partitioned"))
    found = read(ops, empty, diary, Place.FOLLOWS)
    assert label in told(found, Kept.RED)
    [check] = [check for check in ledger.checks(diary, ledger.difference(found)) if check.what.startswith(label)]
    assert check.severity is Severity.STOP and label in check.cure
    waived = replace(found, spec=replace(diary, waive=(label.rpartition(": ")[0], "index nothing")))
    assert told(waived, Kept.RED) == {} and label in told(waived, Kept.WAIVED)
    [note] = ledger.checks(waived.spec, ledger.difference(waived))
    assert note.severity is Severity.NOTE and "index nothing" in note.what


def test_every_fact_of_the_original_is_in_the_difference(ops: Any, empty: Any, diary: TableSpec) -> None:
    found = read(ops, empty, diary, Place.FOLLOWS)
    assert len(found.before) > 100
    assert sum(ledger.counted(ledger.difference(found)).values()) >= len(found.before)
