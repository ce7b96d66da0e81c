"""What a stage came to: its verdict, the error of a red one, and JSON that a machine reads."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from atlas_ops.errors import AtlasError
from atlas_ops.report import Check, Line, Report, Severity, Verdict, stopped, worst

START = datetime(2026, 11, 23, 18, tzinfo=UTC)
LINE = Line("copy messages_2024_01", START, START + timedelta(milliseconds=1500), 3, 117, ("55P03", "40P01"))


def check(severity: Severity, what: str = "something", cure: str = "") -> Check:
    return Check(severity, "messages", "range", what, "Because.", cure, "SELECT 1;")


def report(verdict: Verdict, *checks: Check, next: str = "") -> Report:
    return Report("apply_migration", "demo", verdict, "All done.", "a0cd57f4", (LINE,), checks, {"rows": 117}, next)


@pytest.mark.parametrize(
    ("severities", "most"),
    [
        ([], Severity.OK),
        ([Severity.OK, Severity.NOTE], Severity.NOTE),
        ([Severity.NOTE, Severity.WARN, Severity.OK], Severity.WARN),
        ([Severity.WARN, Severity.STOP, Severity.OK], Severity.STOP),
    ],
)
def test_the_worst_check_decides_and_only_stop_stops(severities: list[Severity], most: Severity) -> None:
    checks = [check(severity) for severity in severities]
    assert worst(checks) is most
    assert stopped(checks) is (most is Severity.STOP)


@pytest.mark.parametrize("verdict", [Verdict.OK, Verdict.NOTHING_TO_DO, Verdict.PLANNED])
def test_a_verdict_that_is_not_red_raises_nothing(verdict: Verdict) -> None:
    report(verdict, check(Severity.WARN)).require_ok()


def test_a_red_verdict_raises_its_red_checks_and_each_cure_once() -> None:
    reds = [check(Severity.STOP, "no key", "Add one."), check(Severity.STOP, "no right", "Add one.")]
    with pytest.raises(AtlasError) as stop:
        report(Verdict.STOPPED, check(Severity.WARN, "slow", "Wait."), *reds).require_ok()
    assert (stop.value.what, stop.value.why) == ("All done.", "messages: no key\nmessages: no right")
    assert stop.value.next == "Add one."


def test_a_red_verdict_without_checks_still_says_three_things() -> None:
    with pytest.raises(AtlasError) as stop:
        report(Verdict.STOPPED).require_ok()
    assert (stop.value.why, stop.value.next) == ("All done.", "Read the table of checks above.")
    with pytest.raises(AtlasError) as stop:
        report(Verdict.STOPPED, next="02 Apply migration.").require_ok()
    assert stop.value.next == "02 Apply migration."


def test_the_result_is_json_and_holds_every_attempt() -> None:
    result = json.loads(json.dumps(report(Verdict.OK, check(Severity.NOTE)).result()))
    assert result == {
        "stage": "apply_migration",
        "database": "demo",
        "verdict": "ok",
        "digest": "a0cd57f4",
        "headline": "All done.",
        "tables": [],
        "steps": [
            {
                "step": "copy messages_2024_01",
                "started": "2026-11-23T18:00:00+00:00",
                "ended": "2026-11-23T18:00:01.500000+00:00",
                "attempts": 3,
                "rows": 117,
                "sqlstates": ["55P03", "40P01"],
            }
        ],
        "checks": [
            {
                "severity": "note",
                "table": "messages",
                "name": "range",
                "what": "something",
                "why": "Because.",
                "cure": "",
                "sql": "SELECT 1;",
            }
        ],
        "figures": {"rows": 117},
    }


def test_the_seconds_of_a_line_count_its_failed_attempts() -> None:
    assert LINE.seconds == 1.5
