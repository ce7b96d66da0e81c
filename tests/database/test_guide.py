"""Every SQL block of the guide runs as it is written against what the migration made, and its figures are true.

The guide has three blocks: what was made (step 2), how it does (monitoring), and whether the data match (rollback). None of them makes anything:
the guide leaves that to a migration file. Here each is run beside the original with the guide's own names, and after the cut-over with the names
that the two tables have by then.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

COPY = Path(__file__).parents[1] / "data" / "guide.sql"
NAME = Path("shared") / "seed" / "database-partitioning-guide.md"
VARIABLE = "ATLAS_OPS_GUIDE"
MADE, WATCHED, MATCHED = 1, 2, 3

LEAVES = (
    "SELECT p.inhparent::regclass::text, c.relname::text, pg_total_relation_size(c.oid), format('%I.%I', n.nspname, c.relname) "
    "FROM pg_inherits p JOIN pg_class c ON c.oid = p.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind = 'r' AND n.nspname = 'partitions' ORDER BY 1, 2"
)


def guide() -> Path | None:
    """The guide itself, where it is: named by a variable, or beside the repository."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE])
    return next((parent / NAME for parent in Path(__file__).resolve().parents if (parent / NAME).is_file()), None)


def kept() -> list[str]:
    """The blocks of the copy."""
    return re.split(r"^-- block \d+\n", COPY.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def statements(block: int) -> list[str]:
    return [one for one in kept()[block - 1].split(";") if re.sub(r"--.*", "", one).strip()]


def test_the_copy_holds_the_blocks_of_the_guide() -> None:
    assert len(kept()) == 3
    found = guide()
    if found is not None:
        assert re.findall(r"```sql\n(.*?)```", found.read_text(encoding="utf-8"), re.DOTALL) == kept()


def answers(db: Any, block: int, **renamed: str) -> list[list[tuple[Any, ...]]]:
    """What each statement of a block gives, in order; `renamed`: other tables for the guide's names."""

    def named(statement: str) -> str:
        return re.sub(
            r"\b(messages_partitioned|messages)\b(?!_)(?!%)", lambda found: renamed.get(found[1], found[1]), statement
        )

    with psycopg.connect(db.conninfo, autocommit=True, options="-c TimeZone=UTC") as conn:
        return [conn.execute(named(statement)).fetchall() for statement in statements(block)]


def counted(db: Any, query: str) -> Any:
    with psycopg.connect(db.conninfo, options="-c TimeZone=UTC") as conn:
        row = conn.execute(query).fetchone()
    return row[0] if row else None


def leaves(db: Any) -> list[tuple[str, str, int, int]]:
    """(table, partition, bytes, rows), each counted by itself."""
    with psycopg.connect(db.conninfo) as conn:
        found = conn.execute(LEAVES).fetchall()
        return [
            (table, name, size, conn.execute(f"SELECT count(*) FROM {at}").fetchone()[0])
            for table, name, size, at in found
        ]


def plainly(table: str) -> str:
    return table.removeprefix("public.")


def made_is_true(db: Any) -> None:
    """Block 1: every partition is listed, with its schema, and the sizes hold real counts."""
    tables, sizes = answers(db, MADE)
    expected = leaves(db)
    assert {("partitions", name) for _, name, _, _ in expected} <= set(tables)
    assert len(tables) == counted(
        db, "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND (starts_with(relname, 'messages') AND length(relname) > 8 "
        "OR starts_with(relname, 'usage_logs') AND length(relname) > 10)"
    )  # fmt: skip
    sizes_are_true(sizes, expected)


def sizes_are_true(sizes: list[tuple[Any, ...]], expected: list[tuple[str, str, int, int]]) -> None:
    assert sorted((plainly(table), name, size, rows) for table, name, rows, size, _ in sizes) == sorted(expected)
    assert sum(rows for *_, rows in expected) > 8_000


def watched_is_true(db: Any, table: str) -> None:
    """Block 2: sizes and rows of the view, the same sizes again, and a plan that reads one partition and as many rows as it has."""
    counted(db, "SELECT pg_stat_force_next_flush()")
    for _ in range(20):
        watched, sizes, plan = answers(db, WATCHED, messages_partitioned=table)
        expected = leaves(db)
        found = sorted((plainly(row[0]), row[1], row[2], row[4]) for row in watched)
        if found == sorted(expected):
            break
        time.sleep(0.5)  # the statistics of a session that has just ended
    assert found == sorted(expected)
    sizes_are_true(sizes, expected)
    text = "\n".join(line for (line,) in plan)
    assert set(re.findall(r"\bon (\w+_\d{4}_\d\d)", text)) == {"messages_2024_01"}
    [rows] = re.findall(r"actual time=\S+ rows=(\d+)", text.splitlines()[0])
    assert int(rows) == counted(db, "SELECT count(*) FROM partitions.messages_2024_01") > 0


def matched_is_true(db: Any, aside: int, **renamed: str) -> None:
    """Block 3: the counts are those of the tables, and what is not in the partitioned one is what was set aside, and nothing else."""
    [[(original,)], [(partitioned,)], [(missing,)]] = answers(db, MATCHED, **renamed)
    assert original == counted(db, f"SELECT sum(1) FROM {renamed.get('messages', 'messages')}") == 4_000
    assert partitioned == sum(rows for table, *_, rows in leaves(db) if table.startswith("messages"))
    assert (original - partitioned, missing) == (aside, aside)


@pytest.mark.parametrize(
    "null_keys", ["set_aside", {"value": "coalesce(edited_at, '2024-01-01 00:00+00')"}], ids=["aside", "valued"]
)
def test_every_block_as_written_and_after_the_cut_over(atlas: Any, now: Any, atlas_specs: Any, null_keys: Any) -> None:
    messages, usage_logs = atlas_specs(copy="online")
    specs = (replace(messages, null_keys=null_keys, incoming_foreign_keys="registry"), usage_logs)
    for spec in specs:
        now.follow(atlas, spec)
    aside = counted(atlas, "SELECT count(*) FROM messages WHERE created_at IS NULL") if null_keys == "set_aside" else 0
    made_is_true(atlas)
    watched_is_true(atlas, "messages_partitioned")
    matched_is_true(atlas, aside)
    for spec in specs:
        now.cut_over(atlas, spec)
    made_is_true(atlas)
    watched_is_true(atlas, "messages")
    matched_is_true(atlas, aside, messages="partitions.messages_retired", messages_partitioned="messages")
    for spec in specs:
        now.roll_back(atlas, spec)
    made_is_true(atlas)
    watched_is_true(atlas, "messages_partitioned")
    matched_is_true(atlas, aside)
