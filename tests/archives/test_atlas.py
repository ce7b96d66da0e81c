"""The months of Atlas leave and come back by the plans of 08 and 11: all that the catalogs say and every row is afterwards as it was before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from atlas_ops import catalog, contents, database, partitions
from atlas_ops.errors import AtlasError
from atlas_ops.report import Verdict
from atlas_ops.stages import start
from tests.database.conftest import MESSAGES, USAGE_LOGS, Operations, Subject

TABLES = ("messages_partitioned", "usage_logs_partitioned")
LEAVE = ["messages_2024_01", "messages_2024_02", "usage_logs_2024_01", "usage_logs_2024_02"]


class Atlas:
    """The migrated Atlas, and its stages as the notebooks enter them."""

    def __init__(self, subject: Subject, ops: Operations, folder: Path) -> None:
        self.subject, self.ops = subject, ops
        self.keys: dict[str, Any] = {"keep": 32, "archive_to": str(folder / "archive")}

    def stage(self, name: str) -> Any:
        tables = [{**table, **self.keys} for table in (MESSAGES, USAGE_LOGS)]
        return start(name, "atlas_migrated", tables, "", self.subject.as_of.isoformat())

    def carry_out(self, stage: str, **asked: Any) -> tuple[Any, ...]:
        """The plan of a stage shown, which does nothing, and confirmed by its digest; the lines of the report."""
        run = self.stage(stage)
        plan = run.plan_archive if stage == "plan_archive" else run.plan_restore
        plan(**asked)
        assert run.verdict() is Verdict.PLANNED, run.checks
        run.confirm = run.plan.digest
        run.execute(run.plan)
        assert run.verdict() is Verdict.OK, run.checks
        return tuple(run.lines)

    def away(self) -> None:
        for how in ("detach", "export", "prove", "drop"):
            self.carry_out("plan_archive", how=how)

    # -- what is there

    def ledgers(self) -> dict[str, Any]:
        """Every property of both partitioned tables and of each partition."""
        found: dict[str, Any] = {}
        with database.connect(self.subject.where) as connection:
            for spec in self.subject.specs:
                snapshot = self.subject.snapshot(spec)
                relation = partitions.partitioned_table(snapshot)
                assert relation is not None
                found[relation.table.name] = catalog.ledger(connection, relation.table.schema, relation.table.name)
                for each, bound in partitions.attached(snapshot):
                    found[each.name] = (bound.text, catalog.ledger(connection, each.schema, each.name))
        return found

    def digests(self) -> dict[str, tuple[Any, ...]]:
        """Rows, content and ends of both tables and each partition, as the server computes them."""
        found: dict[str, tuple[Any, ...]] = {}
        with database.connect(self.subject.where) as connection:
            for spec in self.subject.specs:
                snapshot = self.subject.snapshot(spec)
                relation = partitions.partitioned_table(snapshot)
                assert relation is not None
                tables = [(relation.table.schema, relation.table.name)]
                tables += [(each.schema, each.name) for each, _ in partitions.attached(snapshot)]
                for schema, name in tables:
                    query = contents.figures_query(schema, name, relation.columns, spec.partition_key, "")
                    row = connection.execute(query).fetchone()
                    assert row is not None
                    found[name] = tuple(row)
        return found

    def dump(self) -> str:
        """All that pg_dump says of the database, rows included, in its own order."""
        return self.ops.dump(self.subject.database, "--inserts", "--rows-per-insert=1")

    def there(self, name: str) -> bool:
        return self.subject.value(f"SELECT to_regclass('partitions.{name}') IS NOT NULL") is True

    def attached(self) -> set[str]:
        return set(self.ops.bounds(self.subject.database))


@pytest.fixture
def away_and_back(migrated: Subject, ops: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Atlas:
    settings = {key: value for key, value in conninfo_to_dict(migrated.database.conninfo).items() if value}
    file = tmp_path / "pg_service.conf"
    file.write_text("[atlas_migrated]\n" + "".join(f"{key}={value}\n" for key, value in settings.items()))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    return Atlas(migrated, ops, tmp_path)


def lines_of(dump: str) -> list[str]:
    """The lines of a dump in an order of their own: rows lie elsewhere on the disk, and objects of one kind are told by their OIDs."""
    return sorted(dump.splitlines())


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_archive_drop_restore_attach_leaves_every_property_and_every_row_as_it_was(
    away_and_back: Atlas, form: str
) -> None:
    atlas = away_and_back
    before = atlas.ledgers(), atlas.digests(), lines_of(atlas.dump())
    assert set(LEAVE) < atlas.attached() and all(atlas.digests()[name][0] > 0 for name in LEAVE)
    atlas.away()
    assert not atlas.attached() & set(LEAVE) and not any(atlas.there(name) for name in LEAVE)
    gone = sum(before[1][name][0] for name in LEAVE)
    assert sum(before[1][table][0] - atlas.digests()[table][0] for table in TABLES) == gone
    lines = atlas.carry_out("restore_archive", names=LEAVE, form=form, place="attach")
    assert sum(line.rows for line in lines if line.step.startswith("restore")) == gone
    ledgers, digests, dump = atlas.ledgers(), atlas.digests(), lines_of(atlas.dump())
    assert ledgers == before[0]
    assert digests == before[1]
    assert dump == before[2]
    run = atlas.stage("plan_archive")
    assert {row[4] for row in run.standing().rows} == {"attached again"}


def held(atlas: Atlas) -> set[str]:
    """What a detach would leave, of what would go."""
    return set(LEAVE) - {found.partition for found in atlas.stage("plan_archive")._candidates if found.goes}


@pytest.mark.parametrize(
    ("hold", "kept"),
    [
        ("all", LEAVE),
        (["2024"], LEAVE),
        (["2024-01"], LEAVE[::2]),
        (["2024-02-29"], LEAVE[1::2]),
        (["2023", "2024-03-01"], []),
    ],
)
def test_a_legal_hold_refuses_the_detach_whoever_asks_for_it(away_and_back: Atlas, hold: Any, kept: list[str]) -> None:
    atlas = away_and_back
    atlas.keys["hold"] = hold
    assert held(atlas) == set(kept)
    for name in kept:
        with pytest.raises(AtlasError, match=f"{name} does not leave") as stop:
            atlas.stage("plan_archive").plan_archive("detach", [name])
        assert "held" in stop.value.why
    run = atlas.stage("plan_archive")
    run.plan_archive("detach")
    assert not [name for name in kept if any(name in step.name for step in run.plan.steps)]
    assert len(run.plan.steps) == len(LEAVE) - len(kept)


def test_a_plan_that_was_read_before_the_hold_is_not_run_after_it(away_and_back: Atlas) -> None:
    atlas = away_and_back
    run = atlas.stage("plan_archive")
    run.plan_archive("detach")
    approved = run.plan.digest
    atlas.keys["hold"] = ["2024-01"]
    late = atlas.stage("plan_archive")
    late.plan_archive("detach")
    late.confirm = approved
    with pytest.raises(AtlasError, match=approved):
        late.execute(late.plan)
    assert set(LEAVE) < atlas.attached()


@pytest.mark.parametrize("hold", ["all", ["2024-01"]])
def test_a_legal_hold_refuses_the_drop_of_what_left_before(away_and_back: Atlas, hold: Any) -> None:
    atlas = away_and_back
    for how in ("detach", "export", "prove"):
        atlas.carry_out("plan_archive", how=how)
    run = atlas.stage("plan_archive")
    run.plan_archive("drop")
    approved = run.plan.digest
    atlas.keys["hold"] = hold
    kept = set(LEAVE if hold == "all" else LEAVE[::2])
    late = atlas.stage("plan_archive")
    late.plan_archive("drop")
    assert not [name for name in kept if any(name in step.name for step in late.plan.steps)]
    late.confirm = approved
    if late.plan.steps:
        with pytest.raises(AtlasError, match=approved):
            late.execute(late.plan)
    else:
        late.execute(late.plan)
    assert all(atlas.there(name) for name in LEAVE)
    for name in kept:
        with pytest.raises(AtlasError, match=f"{name} is not dropped") as stop:
            atlas.stage("plan_archive").plan_archive("drop", [name])
        assert "legal hold" in stop.value.why
    told = atlas.stage("plan_archive")
    told.findings()
    assert {
        name for name in kept if any(name in check.what for check in told.checks if check.name == "legal hold")
    } == kept
    if hold != "all":
        atlas.carry_out("plan_archive", how="drop")
        assert {name for name in LEAVE if atlas.there(name)} == kept


def test_one_table_is_held_and_the_other_is_not(away_and_back: Atlas) -> None:
    atlas = away_and_back
    tables = [{**MESSAGES, **atlas.keys, "hold": "all"}, {**USAGE_LOGS, **atlas.keys}]
    run = start("plan_archive", "atlas_migrated", tables, "", atlas.subject.as_of.isoformat())
    run.plan_archive("detach")
    assert [step.name for step in run.plan.steps] == ["detach usage_logs_2024_01", "detach usage_logs_2024_02"]


@pytest.mark.parametrize(
    "wrong", [{"archive_to": "gs://bucket/x"}, {"hold": ["January"]}, {"prove_on": "host=x password=hunter2"}]
)
def test_wrong_words_in_the_cell_of_a_notebook_are_refused(away_and_back: Atlas, wrong: dict[str, Any]) -> None:
    away_and_back.keys |= wrong
    with pytest.raises(AtlasError, match=next(iter(wrong))) as stop:
        away_and_back.stage("plan_archive")
    assert "hunter2" not in str(stop.value) and stop.value.next
