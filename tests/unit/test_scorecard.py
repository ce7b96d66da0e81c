"""The success criteria of the guide, line by line: ticked, open or refuted by what records say."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from atlas_ops.scorecard import State, scorecard
from atlas_ops.told import Told

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
COPY = Path(__file__).parents[1] / "data" / "guide_criteria.md"
NAME = Path("shared") / "seed" / "database-partitioning-guide.md"


def told(stage: str, verdict: str = "ok", *, days: float = 1, **fields: Any) -> Told:
    return Told(
        "db",
        stage,
        NOW - timedelta(days=days),
        verdict,
        fields.pop("headline", f"{stage} said so."),
        tables=("public.event",),
        **fields,
    )


def check(name: str, severity: str = "ok") -> dict[str, str]:
    return {"table": "public.event", "name": name, "severity": severity}


def look(days: float = 1, *, state: str = "in use", levels: dict[str, str] | None = None, **more: Any) -> Told:
    names = ("missing", "gaps", "overlaps", "misaligned", "not_attached", "detach_pending", "row_security", "grants",
             "indexes_missing", "indexes_invalid", "runway")  # fmt: skip
    figures = {name: {"value": 0, "level": (levels or {}).get(name, "ok"), "told": f"{name} told."} for name in names}
    table = {"table": "public.event", "state": state, "partitions": 27, "figures": figures, **more}
    return told("monitor_health", days=days, figures={"level": "ok", "tables": [table]})


def query(name: str = "q", ratio: float | None = 0.5, **more: Any) -> dict[str, Any]:
    side = {"planning_ms": 1.0, "execution_ms": 9.0, "touched": 1, "partitions": 30, "bounds_key": True}
    verdict = "faster" if ratio is not None and ratio < 0.9 else "slower"
    return {
        "query": name,
        "ratio": ratio,
        "verdict": verdict,
        "same_rows": True,
        "original": side,
        "partitioned": dict(side),
        **more,
    }


def explained(*queries: dict[str, Any], days: float = 1) -> Told:
    return told("explain_analysis", days=days, figures={"queries": list(queries)})


LEDGER = {"public.event": {"same": 40, "changed of necessity": 3, "waived": 0, "red": 0}}
PARTS = [
    {"table": "event", "part": f"2026-{month:02}", "rows": [10, 10], "keys": ["1", "1"], "content": ["2", "2"]}
    for month in range(1, 4)
]
Found = tuple[Told, ...]
RULES: list[tuple[str, Found, State, str]] = [
    ("Migration runs without errors", (told("apply_migration", seconds=63.0),), State.TICKED, "apply_migration said so. It took 1 min 03 s."),
    ("Migration runs without errors", (told("apply_migration", "nothing_to_do"),), State.TICKED, "said so"),
    ("Migration runs without errors", (told("apply_migration", "planned"), told("apply_migration", days=5)), State.OPEN, "said so"),
    ("Migration runs without errors", (told("apply_migration", "stopped", headline="It broke."),), State.REFUTED, "It broke."),
    ("Migration runs without errors", (told("apply_migration", "unfinished"),), State.OPEN, "has not run"),
    ("Migration runs without errors", (), State.OPEN, "has not run"),
    ("All partitions created successfully", (look(),), State.TICKED, "27 partitions"),
    ("All partitions created successfully", (look(levels={"gaps": "warning"}),), State.REFUTED, "gaps (warning)"),
    ("All partitions created successfully", (look(state="not migrated"),), State.OPEN, "looked at a partitioned table"),
    (
        "All partitions created successfully",
        (told("inspect_partitions", checks=(check("gaps"), check("not attached")), figures={"partitions": 40}), look(5, levels={"gaps": "warning"})),
        State.TICKED,
        "40 partitions",
    ),
    (
        "All partitions created successfully",
        (told("inspect_partitions", checks=(check("gaps", "warn"),), figures={"partitions": 40}),),
        State.REFUTED,
        "gaps (warn)",
    ),
    ("Data migrated correctly (counts match)", (told("verify_counts", figures={"parts": PARTS}),), State.TICKED, "30 rows on both sides in 3 parts"),
    (
        "Data migrated correctly (counts match)",
        (told("verify_counts", "stopped", figures={"parts": [*PARTS, {"table": "event", "part": "2026-04", "rows": [9, 8]}]}),),
        State.REFUTED,
        "1 of 4 parts differ: event 2026-04.",
    ),
    (
        "Data migrated correctly (counts match)",
        (told("verify_counts", figures={"parts": [*PARTS, {"table": "event", "part": "2026-04", "rows": [9, 8], "waiting": 1, "lost": 0}]}),),
        State.TICKED,
        "39 rows",
    ),
    ("Data migrated correctly (counts match)", (told("verify_counts", "stopped"),), State.OPEN, "nothing yet"),
    ("RLS policies working", (told("apply_migration", figures={"ledger": LEDGER}), look()), State.TICKED, "no red line"),
    ("RLS policies working", (told("apply_migration", figures={"ledger": LEDGER}),), State.OPEN, "Neither 04"),
    ("RLS policies working", (look(),), State.OPEN, "No record compares"),
    (
        "RLS policies working",
        (told("cut_over", "stopped", figures={"ledger": {"public.event": {"red": 2}}}), look()),
        State.REFUTED,
        "public.event: 2.",
    ),
    (
        "RLS policies working",
        (told("apply_migration", figures={"ledger": LEDGER}), look(levels={"row_security": "critical"})),
        State.REFUTED,
        "row security",
    ),
    ("Indexes created and optimized", (look(),), State.TICKED, "all are valid"),
    ("Indexes created and optimized", (look(levels={"indexes_invalid": "warning"}),), State.REFUTED, "indexes invalid"),
    ("Indexes created and optimized", (told("inspect_partitions", checks=(check("indexes", "warn"),)),), State.REFUTED, "indexes"),
    ("Query performance improved by 40%+", (explained(query(ratio=0.5)),), State.TICKED, "0.50 times as long"),
    ("Query performance improved by 40%+", (explained(query(ratio=0.6)),), State.TICKED, "0.60 times as long"),
    ("Query performance improved by 40%+", (explained(query(ratio=0.61)),), State.REFUTED, "0.61 times as long"),
    (
        "Query performance improved by 40%+",
        (explained(query(ratio=0.1, weight=1), query(ratio=1.5, weight=99)),),
        State.REFUTED,
        "1.49 times as long over all, where at most 0.60 was promised; 1 of 2 queries take at least 40 % less, 1 are slower.",
    ),
    ("Query performance improved by 40%+", (explained(query(ratio=0.1), query(ratio=1.5)),), State.REFUTED, "0.80 times"),
    ("Query performance improved by 40%+", (explained(query(ratio=None)),), State.OPEN, "No query was measured"),
    ("Query performance improved by 40%+", (told("explain_analysis"), explained(query(ratio=0.5), days=9)), State.TICKED, "0.50 times"),
    ("Query performance improved by 40%+", (), State.OPEN, "measured nothing"),
    (
        "Partition pruning working (EXPLAIN shows partition elimination)",
        (explained(query()),), State.TICKED, "1 of 1 queries with a bound",
    ),
    (
        "Partition pruning working (EXPLAIN shows partition elimination)",
        (explained(query(), query(partitioned={"touched": 30, "partitions": 30, "bounds_key": True})),), State.REFUTED, "1 of 2",
    ),
    (
        "Partition pruning working (EXPLAIN shows partition elimination)",
        (explained(query(partitioned={"touched": 30, "partitions": 30, "bounds_key": False})),), State.OPEN, "No query of the workload",
    ),
    ("No regression in application functionality", (explained(query()),), State.TICKED, "same rows on both tables"),
    ("No regression in application functionality", (explained(query(), query("bad", same_rows=False)),), State.REFUTED, "bad answers otherwise"),
    (
        "No regression in application functionality",
        (explained(query("upsert", None, partitioned={"what": "42P10", "sqlstate": "42P10"})),), State.REFUTED, "upsert fails",
    ),
    ("No regression in application functionality", (explained(query(same_rows=None)),), State.OPEN, "could not be compared"),
    ("Monitoring functions working", (told("inspect_partitions", checks=(check("gaps"),)),), State.TICKED, "answered"),
    ("Monitoring functions working", (told("inspect_partitions", "stopped", headline="It broke."),), State.REFUTED, "It broke."),
    ("Application updated to use partitioned tables", (look(),), State.TICKED, "In use: public.event."),
    ("Application updated to use partitioned tables", (look(state="follows the original"),), State.OPEN, "Not in use yet: public.event."),
    ("Application updated to use partitioned tables", (told("cut_over"),), State.TICKED, "cut_over said so"),
    (
        "Application updated to use partitioned tables",
        (told("roll_back", steps=({"step": "exchange"},), days=1), told("cut_over", days=2), look(3)), State.REFUTED, "Rolled back",
    ),
    ("Application updated to use partitioned tables", (told("cut_over", "planned"),), State.OPEN, "has not run"),
    ("Monitoring dashboard shows partition health", (look(7),), State.TICKED, "monitor_health said so"),
    ("Monitoring dashboard shows partition health", (look(9),), State.OPEN, "The last look is 9 days old."),
    ("Automatic partition creation working", (look(),), State.OPEN, "public.event"),
    ("Automatic partition creation working", (look(levels={"runway": "warning"}),), State.REFUTED, "runway told."),
    (
        "Automatic partition creation working",
        (look(1, covered_until="2027-03-01"), look(30, covered_until="2027-02-01")), State.TICKED, "reaches 2027-03-01, before 2027-02-01",
    ),
    (
        "Automatic partition creation working",
        (look(1, whole_at="2026-11-22T03:17:00+00:00"), look(2, whole_at="2026-11-21T03:17:00+00:00")), State.TICKED, "whole at 2026-11-22 03:17",
    ),
    ("Backup/restore procedures updated", (), State.OPEN, "08 Plan archive proves"),
    ("Backup/restore procedures updated", (told("plan_archive", "planned"),), State.OPEN, "08 Plan archive proves"),
    (
        "Backup/restore procedures updated",
        (told("plan_archive", steps=({"step": "prove event_2024_01 by its dump"}, {"step": "prove event_2024_01 by its parquet"})),),
        State.TICKED,
        "2 files were restored and compared",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "records", "state", "words"), RULES, ids=[f"{number}-{rule[0][:20]}" for number, rule in enumerate(RULES)]
)
def test_each_line_is_judged_by_the_records(text: str, records: Found, state: State, words: str) -> None:
    [line] = [line for line in scorecard(records, NOW) if line.text == text]
    assert line.state is state, line.told
    assert words in line.told
    assert (line.record in records) if state is not State.OPEN else True


def test_every_line_has_each_answer_that_it_can_have() -> None:
    lines = {line.text for line in scorecard((), NOW)}
    assert {rule[0] for rule in RULES} == lines
    for text in lines:
        states = {rule[2] for rule in RULES if rule[0] == text}
        assert {State.TICKED, State.OPEN} <= states or text in (
            "Indexes created and optimized",
            "Monitoring functions working",
        )


def test_nothing_is_ticked_by_an_empty_shelf_or_by_a_record_without_sense() -> None:
    assert {line.state for line in scorecard((), NOW)} == {State.OPEN}
    odd = [told(stage, figures={"queries": [3, None], "parts": "x", "tables": [7], "ledger": "y"}) for stage in
           ("explain_analysis", "verify_counts", "monitor_health", "apply_migration", "cut_over")]  # fmt: skip
    assert len(scorecard(odd, NOW)) == 13


def criteria(text: str) -> list[tuple[str, str]]:
    """(part, line) of a list of criteria as the guide writes it."""
    found, part = [], ""
    for line in text.splitlines():
        part = heading[1] if (heading := re.fullmatch(r"### \*\*(\w+) Success:\*\*", line)) else part
        if told_line := re.fullmatch(r"- \[ \] (.+)", line):
            found.append((part, told_line[1]))
    return found


def test_the_lines_are_the_guides_own() -> None:
    kept = COPY.read_text(encoding="utf-8")
    assert [(line.part, line.text) for line in scorecard((), NOW)] == criteria(kept)
    guide = next((parent / NAME for parent in Path(__file__).resolve().parents if (parent / NAME).is_file()), None)
    guide = Path(os.environ["ATLAS_OPS_GUIDE"]) if "ATLAS_OPS_GUIDE" in os.environ else guide
    if guide is not None:
        assert criteria(guide.read_text(encoding="utf-8")) == criteria(kept), "the copy is the guide's list"
