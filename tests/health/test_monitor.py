"""`atlas-ops health` as a scheduler calls it, on real servers: exit codes, one line, metrics, JSON, the webhook."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from health.conftest import AS_OF, KEYS, Watched
from health.test_delivery import SECRET, Receiver
from prometheus_client.parser import text_string_to_metric_families
from psycopg.conninfo import conninfo_to_dict
from ruamel.yaml import YAML

from atlas_ops import announcement, metrics, record
from atlas_ops.alerts import Level
from atlas_ops.metrics import Exposition
from atlas_ops.thresholds import FIGURES

ROOT = Path(__file__).parents[2]
WRONG = "INSERT INTO event VALUES (70000000, '2031-05-05', 'a word that a user wrote')"


class Command:
    """The command line in a process of its own, with a service and a parameters file for one database."""

    def __init__(self, watched: Watched, folder: Path) -> None:
        self.folder = folder
        settings = {key: value for key, value in conninfo_to_dict(watched.database.conninfo).items() if value}
        (folder / "pg_service.conf").write_text(
            "[watched]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())
        )
        self.file = folder / "parameters.yml"
        self.write()

    def write(self, database: str = "watched", **keys: Any) -> None:
        with self.file.open("w") as out:
            YAML().dump({"database": database, "tables": [{**KEYS, **keys}]}, out)

    def __call__(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "atlas_ops", "health", "-f", str(self.file), "--as-of", AS_OF.isoformat(), *map(str, words)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PGSERVICEFILE": str(self.folder / "pg_service.conf"), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )  # fmt: skip


@pytest.fixture
def command(watched: Watched, tmp_path: Path) -> Command:
    return Command(watched, tmp_path)


def test_the_exit_code_is_the_level(command: Command, watched: Watched) -> None:
    well = command("--nagios")
    assert (well.returncode, well.stderr) == (0, "")
    assert well.stdout.startswith(
        "ATLAS_OPS OK - 1 tables, nothing to report | 'event missing'=0;;@1: 'event runway'=98;98:;30: "
    )
    watched.run(WRONG)
    warned = command("--nagios")
    assert warned.returncode == 1 and warned.stdout.startswith("ATLAS_OPS WARNING - event default_rows: ")
    watched.run("ALTER TABLE partitions.event_2025_05 DISABLE ROW LEVEL SECURITY")
    critical = command("--nagios")
    assert critical.returncode == 2
    assert critical.stdout.startswith(
        "ATLAS_OPS CRITICAL - event row_security: Off: event_2025_05; event default_rows: event_default holds 1 rows"
    )
    assert all(done.stdout.count("\n") == 1 for done in (well, warned, critical)), "one line"
    with watched.database.connect() as holder:
        watched.run(
            "DELETE FROM event WHERE id = 70000000", "ALTER TABLE partitions.event_2025_05 ENABLE ROW LEVEL SECURITY"
        )
        holder.execute("LOCK TABLE atlas_ops.partitioned_table IN ACCESS EXCLUSIVE MODE")
        unknown = command("--nagios")
    assert unknown.returncode == 3 and "ATLAS_OPS UNKNOWN - event not_read: the registry: " in unknown.stdout
    command.write(database="nowhere")
    gone = command("--nagios")
    assert (gone.returncode, gone.stdout) == (3, "ATLAS_OPS UNKNOWN - There is no libpq service named nowhere.\n")


def test_the_performance_data_is_what_the_guidelines_say(command: Command) -> None:
    data = command("--nagios").stdout.partition(" | ")[2]
    for datum in shlex.split(data):
        label, _, rest = datum.partition("=")
        assert re.fullmatch(r"event \w+", label) and re.fullmatch(r"[\d.]+%?;(@?[\d.]+:)?;(@?[\d.]+:)?", rest), datum


def test_the_page_for_a_terminal_says_what_to_do(command: Command, watched: Watched) -> None:
    watched.run(WRONG)
    done = command()
    assert done.returncode == 1
    assert "event: warning, in use. 98 days, up to 2027-03-01" in done.stdout
    assert "WARNING default rows: event_default holds 1 rows (counted)." in done.stdout
    assert "SQL: SELECT date_trunc('month', \"at\", 'UTC')" in done.stdout
    assert "a word" not in done.stdout + done.stderr


def test_the_document_is_strict_json_and_whole(command: Command) -> None:
    done = command("--json")
    document = json.loads(done.stdout, parse_constant=pytest.fail)
    assert (done.returncode, document["level"], document["database"]) == (0, "ok", "watched")
    [table] = document["tables"]
    assert (table["table"], table["partitioned_table"], table["state"]) == ("event", "public.event", "in use")
    assert list(table["figures"]) == list(FIGURES) and table["figures"]["runway"]["value"] == 98
    assert (
        table["covered_until"] == "2027-03-01"
        and table["bytes"]["heap"] > 0
        and table["rows"] == 24_001
        and len(table["periods"]) == 27
    )
    assert [period["label"] for period in table["expected"]] == ["2026-11", "2026-12", "2027-01", "2027-02"]


def test_the_metrics_are_those_that_are_named(command: Command, watched: Watched) -> None:
    watched.run(WRONG, "SELECT public.create_future_partitions()")
    path = command.folder / "atlas_ops.prom"
    assert command("--nagios", "--textfile", path).returncode == 1
    found = {sample.name for family in text_string_to_metric_families(path.read_text()) for sample in family.samples}
    # nobody has scanned anything yet: there is no such figure
    without_value = {"atlas_ops_unpruned_ratio"}
    assert found == set(metrics.names()) - without_value
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }
    where = (("database", "watched"), ("table", "event"))
    assert samples["atlas_ops_runway_seconds", where] == 98 * 86_400
    assert samples["atlas_ops_default_rows", where] == 1
    assert samples["atlas_ops_alert_level", (where[0], ("figure", "default_rows"), where[1])] == 1
    assert samples["atlas_ops_level", where] == 1 and samples["atlas_ops_up", where[:1]] == 1
    assert samples["atlas_ops_partition_rows", (where[0], ("partition", "event_2025_05"), where[1])] > 900
    assert stat.S_IMODE(path.stat().st_mode) & 0o044 == 0o044, "node_exporter runs as another user"
    command("--textfile", path, "--no-per-partition")
    assert "atlas_ops_partition_rows" not in path.read_text() and "atlas_ops_bytes" in path.read_text()
    command.write(database="nowhere")
    assert command("--textfile", path).returncode == 3
    assert "atlas_ops_up" in path.read_text() and "atlas_ops_rows" not in path.read_text()


def test_a_file_that_cannot_be_written_is_no_good_news(command: Command) -> None:
    done = command("--nagios", "--textfile", command.folder / "no" / "folder.prom")
    assert done.returncode == 3 and done.stdout.startswith("ATLAS_OPS OK") and "cannot be written" in done.stderr


def test_the_webhook_hears_of_changes_and_its_address_stands_nowhere(command: Command, watched: Watched) -> None:
    receiver = Receiver(500)
    try:
        where = receiver.environment
        assert command("--nagios", "--webhook", **where).returncode == 0
        assert receiver.bodies == [], "nothing is wrong, and nothing was told"
        watched.run(WRONG)
        done = [command("--nagios", "--webhook", **where) for _ in range(2)]
        assert len(receiver.bodies) == 2, "one that failed, one that was taken, and none again"
        watched.run("DELETE FROM event WHERE id = 70000000")
        done.append(command("--webhook", **where))
        assert len(receiver.bodies) == 3
    finally:
        receiver.stop()
    assert [one.returncode for one in done] == [1, 1, 0]
    (_, _, first), (_, _, second), (_, _, third) = receiver.bodies
    assert first == second
    assert first["text"] == "🟠 watched: 1 warning" and third["text"] == "🟢 watched: partitions are well"
    assert "event_default holds 1 rows" in first["blocks"][1]["text"]["text"]
    told = json.dumps([first, second, third]) + "".join(one.stdout + one.stderr for one in done)
    kept = "".join(path.read_text(errors="replace") for path in command.folder.rglob("*") if path.is_file())
    assert "a word" not in told + kept and SECRET not in told + kept and "SeCrEt" not in told + kept


def test_a_webhook_that_fails_is_told_and_tried_again_at_the_next_look(command: Command, watched: Watched) -> None:
    watched.run(WRONG)
    unset = command("--nagios", "--webhook", **{record.WEBHOOK: ""})
    assert unset.returncode == 1 and "There is no webhook to tell." in unset.stderr
    receiver = Receiver(404)
    try:
        refused = command("--nagios", "--webhook", **receiver.environment)
        assert refused.returncode == 1 and "It answered HTTP 404." in refused.stderr and "SeCrEt" not in refused.stderr
        assert command("--nagios", "--webhook", **receiver.environment).stderr == ""
        command.write(database="nowhere")
        gone = command("--nagios", "--webhook", **receiver.environment)
    finally:
        receiver.stop()
    assert gone.returncode == 3
    assert receiver.bodies[-1][2]["text"] == "⚪ nowhere: There is no libpq service named nowhere."
    assert len(receiver.bodies) == 3


def test_the_address_of_the_webhook_is_a_secret_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(record.WEBHOOK, f"https://hooks.example.net/{SECRET}")
    assert any(SECRET in form for secret in record.secrets() for form in secret.forms())


def test_hostile_names_end_no_line_and_mention_no_channel(empty: Any, now: Any) -> None:
    name = '"Ev\n|\'=<!channel>&"'
    now.run(empty, f"CREATE TABLE {name} (id int, at timestamptz, body text) PARTITION BY RANGE (at)")
    judged = Watched(empty, now).judged(table=name)
    line = announcement.nagios([judged])
    assert "\n" not in line and line.count("|") == 1
    message = json.dumps(announcement.message("db", [judged]))
    assert "<!channel>" not in message and "&lt;!channel&gt;" in message
    assert announcement.level([judged]) is Level.CRITICAL
    exposition = metrics.registry(Exposition("db", [judged], datetime(2026, 11, 23, tzinfo=UTC)))
    assert (
        exposition.get_sample_value("atlas_ops_runway_seconds", {"database": "db", "table": judged.health.table}) == 0
    )


def test_a_line_is_cut_before_nagios_cuts_it(watched: Watched) -> None:
    judged = watched.judged()
    line = announcement.nagios([judged] * 40)
    assert len(line.encode()) < 8_000 and line.endswith((":", ";", "%"))
