"""A month comes back as it was: from either file, attached or aside; or it is said why not, and nothing was changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from archives.road import Road

from atlas_ops import restore, restoring
from atlas_ops.errors import AtlasError
from atlas_ops.report import Severity

RICH = {"table": "diary", "partition_key": "at"}


def reds(road: Road, *names: str, **keys: Any) -> list[str]:
    return [check.what for check in road.returning(*names, **keys).checks if check.severity is Severity.STOP]


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_archive_drop_restore_attach_leaves_ledger_and_digest_as_they_were(diary: Road, form: str) -> None:
    before = diary.ledger(), diary.digest(), diary.bounds()
    names = diary.away()
    assert names == ["diary_2024_01", "diary_2024_02"] and diary.digest()[0] == 0
    lines = diary.restore(*names, form=form)
    assert {line.step.split()[0] for line in lines} >= {"restore", "attach", "vacuum"}
    assert (diary.ledger(), diary.digest(), diary.bounds()) == before
    assert [line.event for line in diary.lines()][-2:] == ["restored", "restored"]
    assert diary.restore(view="") == (), "nothing is asked for"


def test_a_table_with_something_of_everything_comes_back_as_it_was(empty: Any, road: Callable[..., Road]) -> None:
    found = road(empty, **RICH)
    found.ops.psql(empty, "-f", str(Path(__file__).parents[1] / "data" / "rich.sql"))
    found.migrate()
    before = found.ledger(), found.digest()
    found.restore(*found.away(), form="parquet")
    assert (found.ledger(), found.digest()) == before


def test_attach_reads_no_row(diary: Road) -> None:
    """PostgreSQL says so, of the month and of the default partition."""
    names = diary.away()
    plan = diary.returning(*names[:1]).plan
    [attach] = [step for step in plan.steps if step.name.startswith("attach")]
    work = diary.returning(*names[:1], place="aside")
    restoring.run(work, work.plan.digest)
    said: list[str] = []
    with psycopg.connect(diary.db.conninfo) as conn:
        conn.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        conn.execute("SET TimeZone = 'UTC'")
        conn.execute("SET client_min_messages = debug1")
        conn.execute(
            "ALTER TABLE partitions.diary_default ADD CONSTRAINT out CHECK "
            "(NOT (at IS NOT NULL AND at >= '2024-01-01 00:00:00+00' AND at < '2024-02-01 00:00:00+00'))"
        )
        for statement in attach.statements:
            conn.execute(statement)
        conn.rollback()
    implied = [message for message in said if "implied by existing constraints" in message]
    assert any("diary_2024_01" in message for message in implied), said
    assert any("diary_default" in message for message in implied), said


def test_a_month_in_quarantine_is_attached_as_it_stands(diary: Road) -> None:
    before = diary.ledger(), diary.digest()
    names = diary.detach()
    lines = diary.restore(*names)
    assert not [line for line in lines if line.step.startswith("restore")], "no file is read: none was ever written"
    assert (diary.ledger(), diary.digest()) == before


def test_a_month_that_was_left_aside_is_attached_later(diary: Road) -> None:
    before = diary.ledger(), diary.digest()
    names = diary.away()
    diary.restore(*names, place="aside")
    assert diary.digest()[0] == 0
    assert diary.value("SELECT count(*) FROM partitions.diary_2024_01") == 31
    diary.restore(*names)
    assert (diary.ledger(), diary.digest()) == before


def test_live_and_archived_rows_in_one_view_that_goes_when_they_are_one_again(diary: Road) -> None:
    rows = diary.digest()[0]
    january, february = diary.away()
    diary.run("INSERT INTO diary_partitioned (id, at) VALUES (1000, '2030-01-01')")
    diary.restore(january, place="aside", view="diary_all")
    assert diary.value("SELECT count(*) FROM public.diary_all") == 31 + 1
    assert diary.value("SELECT has_table_privilege('anon', 'public.diary_all', 'SELECT')") is False
    diary.restore(february, place="aside", view="diary_all")
    assert diary.value("SELECT count(*) FROM public.diary_all") == rows + 1
    assert diary.value("SELECT count(DISTINCT id) FROM public.diary_all") == rows + 1
    diary.restore(january)
    assert diary.value("SELECT to_regclass('public.diary_all')") is None
    assert diary.digest()[0] == 31 + 1


def test_a_view_of_somebody_elses_is_left_alone(diary: Road) -> None:
    [name, _] = diary.away()
    diary.run("CREATE VIEW diary_all AS SELECT 1 AS theirs")
    with pytest.raises(AtlasError, match="none of ours"):
        diary.returning(name, place="aside", view="diary_all")
    for wrong in ("a.b.c", "", " ; drop"):
        if wrong:
            with pytest.raises(AtlasError, match="unite is"):
                diary.returning(name, place="aside", view=wrong)


def test_a_column_that_is_gone_or_new_keeps_a_month_aside(diary: Road) -> None:
    name, other = diary.away()
    diary.run("ALTER TABLE diary_partitioned DROP COLUMN doc", "ALTER TABLE diary_partitioned ADD COLUMN late int")
    assert "doc" in reds(diary, name)[0]
    diary.restore(name, place="aside")
    assert diary.value("SELECT count(doc) FROM partitions.diary_2024_01") == 31
    assert diary.value("SELECT relrowsecurity FROM pg_class WHERE oid = 'partitions.diary_2024_01'::regclass") is True
    assert "doc, late" in reds(diary, name)[0]
    diary.run("DROP TABLE partitions.diary_2024_01", "ALTER TABLE diary_partitioned ADD COLUMN doc jsonb")
    diary.restore(other)
    assert diary.value("SELECT count(doc) FROM diary_partitioned WHERE late IS NULL") == 27
    diary.run("DELETE FROM diary_partitioned", "ALTER TABLE diary_partitioned ALTER late SET NOT NULL")
    assert "late" in reds(diary, name)[0]


def test_late_rows_keep_a_month_aside_until_they_are_moved(diary: Road) -> None:
    name, _ = diary.away()
    diary.run("INSERT INTO diary_partitioned (id, at) VALUES (1000, '2024-01-05')")
    assert "1 rows of the range of diary_2024_01 lie in the default partition." in reds(diary, name)
    diary.restore(name, place="aside")
    diary.run(
        "WITH late AS (DELETE FROM diary_partitioned WHERE id = 1000 RETURNING *) INSERT INTO partitions.diary_2024_01 SELECT * FROM late"
    )
    diary.restore(name)
    assert diary.digest()[0] == 32


def test_a_row_whose_referenced_row_is_gone_stops_the_attach_and_nothing_is_lost(diary: Road) -> None:
    name, _ = diary.away()
    diary.run("DELETE FROM person WHERE id = 3")
    with pytest.raises(AtlasError, match="23503"):
        diary.restore(name)
    assert diary.value("SELECT count(*) FROM partitions.diary_2024_01") == 31, "it stands aside, whole"
    diary.run("DELETE FROM partitions.diary_2024_01 WHERE person = 3")
    diary.restore(name)
    assert 0 < diary.digest()[0] < 31


def test_a_large_default_partition_is_looked_through_without_blocking_anybody(
    diary: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "SMALL_BYTES", 0)
    diary.run("INSERT INTO diary_partitioned (id, at) VALUES (1000, '2030-01-01')")
    before = diary.ledger(), diary.digest()
    names = diary.away()
    assert {"keep diary_2024_01 out of diary_default", "look through diary_default"} <= {
        step.name for step in diary.returning(*names).plan.steps
    }
    diary.restore(*names)
    assert (diary.ledger(), diary.digest()) == before


@pytest.mark.parametrize("names", [("nowhere",), ("diary_default",), ("",)])
def test_a_month_that_is_nowhere_is_told_with_those_there_are(diary: Road, names: tuple[str, ...]) -> None:
    diary.away()
    with pytest.raises(AtlasError, match="There is no month") as stop:
        diary.returning(*names)
    assert "diary_2024_01, diary_2024_02" in stop.value.next


def test_a_month_that_is_attached_or_whose_name_is_taken_is_not_made_again(diary: Road) -> None:
    name, _ = diary.away()
    diary.restore(name)
    with pytest.raises(AtlasError, match="already"):
        diary.returning(name)
    diary.restore(name, place="aside")
    assert diary.value("SELECT count(*) FROM partitions.diary_2024_01_restored") == 31
    with pytest.raises(AtlasError, match="already"):
        diary.returning(name, place="aside")


@pytest.mark.parametrize("form", ["dump", "parquet"])
def test_another_digest_restores_nothing(diary: Road, form: str) -> None:
    names = diary.away()
    work = diary.returning(*names, form=form)
    for confirm in ("additive", "deadbeef", "demo"):
        with pytest.raises(AtlasError):
            restoring.run(work, confirm)
    assert restoring.run(work, "") == ()
    assert diary.value("SELECT to_regclass('partitions.diary_2024_01')") is None
