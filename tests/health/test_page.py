"""09 as a DBA runs it: the notebook, executed by papermill, on a set that is well, one that is not, and one that is locked."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import papermill
import pytest
from health.conftest import AS_OF, KEYS, Watched
from psycopg.conninfo import conninfo_to_dict
from traitlets.config import Config

from atlas_ops import record

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "09_monitor_health.ipynb"
QUIET = Config(KernelManager={"transport_encryption": "auto"})
WORD = "a word that a user wrote"


@pytest.fixture
def page(watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the notebook; returns its JSON, and whether it stopped."""
    settings = {key: value for key, value in conninfo_to_dict(watched.database.conninfo).items() if value}
    (tmp_path / "pg_service.conf").write_text(
        "[watched]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))

    def run(**keys: Any) -> dict[str, Any]:
        out = tmp_path / "out.ipynb"
        given = {"database": "watched", "tables": [{**KEYS, **keys}], "as_of": AS_OF.isoformat()}
        with suppress(papermill.PapermillExecutionError):  # its last cell says why
            papermill.execute_notebook(NOTEBOOK, out, given, kernel_name="python3", progress_bar=False, config=QUIET)
        content: dict[str, Any] = json.loads(out.read_text())
        return content

    return run


def test_a_set_that_is_well_is_green_and_its_figures_are_in_the_record(page: Any) -> None:
    content = page()
    said = record.result(content)
    assert record.stop(content) == [] and said is not None
    assert (said["verdict"], said["headline"]) == ("ok", "1 table: nothing to report. The shortest runway is 98 days.")
    [table] = said["figures"]["tables"]
    assert (table["table"], table["covered_until"], table["level"]) == ("event", "2027-03-01", "ok")
    assert said["figures"]["level"] == "ok" and {check["severity"] for check in said["checks"]} == {"ok"}
    pictures = [output for output in record.outputs(content) if "image/png" in output.get("data", {})]
    assert len(pictures) == 4


def test_what_is_critical_makes_the_record_red_and_a_warning_does_not(page: Any, watched: Watched) -> None:
    watched.run(f"INSERT INTO event VALUES (70000000, '2031-05-05', '{WORD}')")
    warned = page()
    said = record.result(warned)
    assert said is not None and (said["verdict"], record.stop(warned)) == ("ok", [])
    assert said["headline"].startswith("1 table: 1 to look at.")
    watched.run("ALTER TABLE partitions.event_2025_05 DISABLE ROW LEVEL SECURITY")
    red = page()
    assert record.stop(red)[0].startswith("STOPPED: 1 table: 1 critical, 1 to look at.")
    assert "Off: event_2025_05." in record.stop(red)[1]
    assert WORD not in json.dumps([warned, red])


def test_the_page_is_made_while_the_table_is_locked(page: Any, watched: Watched) -> None:
    with watched.database.connect() as holder:
        holder.execute("LOCK TABLE event, partitions.event_key_log IN ACCESS EXCLUSIVE MODE")
        content = page()
    said = record.result(content)
    assert record.stop(content) == [] and said is not None
    assert said["headline"].startswith("1 table: 3 not read.")


def test_two_tables_of_sixty_partitions_are_a_page_in_time(
    empty: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`benchmarks/health_page.py` measures it; this machine may be busy."""
    for table in ("first", "second"):
        with empty.connect(autocommit=True) as connection:
            connection.execute(
                f"""CREATE TABLE {table} (id bigint, at timestamptz NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
                DO $$ BEGIN SET LOCAL TimeZone = 'UTC'; FOR n IN 0 .. 59 LOOP
                    EXECUTE format('CREATE TABLE {table}_%s PARTITION OF {table} FOR VALUES FROM (%L) TO (%L)',
                    n, '2022-04-01'::date + n * interval '1 month', '2022-05-01'::date + n * interval '1 month'); END LOOP; END $$"""
            )
    settings = {key: value for key, value in conninfo_to_dict(empty.conninfo).items() if value}
    (tmp_path / "pg_service.conf").write_text(
        "[sixty]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))
    tables = [{**KEYS, "table": table, "from": "2022-04-01"} for table in ("first", "second")]
    given = {"database": "sixty", "tables": tables, "as_of": AS_OF.isoformat()}
    started = time.monotonic()
    papermill.execute_notebook(
        NOTEBOOK, tmp_path / "out.ipynb", given, kernel_name="python3", progress_bar=False, config=QUIET
    )
    assert time.monotonic() - started < 60
    said = record.result(json.loads((tmp_path / "out.ipynb").read_text()))
    assert said is not None and [table["partitions"] for table in said["figures"]["tables"]] == [60, 60]
