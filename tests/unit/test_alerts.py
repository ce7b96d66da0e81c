"""Thresholds, and what they make of a figure. No database."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ops import alerts
from atlas_ops.alerts import Alert, Level
from atlas_ops.bounds import Every, period_of
from atlas_ops.errors import AtlasError
from atlas_ops.health import Figure, Health, State
from atlas_ops.report import Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec
from atlas_ops.thresholds import FIGURES
from atlas_ops.vitals import Unread

AS_OF = date(2026, 11, 23)


def spec(**keys: Any) -> TableSpec:
    [found] = tables_from([{"table": "event", "partition_key": "at", "from": "2024-01-01", **keys}])
    return found


def refused(**keys: Any) -> AtlasError:
    with pytest.raises(AtlasError) as stop:
        spec(**keys)
    return stop.value


def judged(name: str, value: float | None, **keys: Any) -> Level:
    health = Health("event", "public.event", State.IN_USE, (Figure(name, value, "so it is."),))
    [one] = alerts.judge(spec(**keys), health, AS_OF).judged
    return one.level


# the specification


def test_what_is_left_out_has_its_default() -> None:
    assert spec().alerts is None and spec(alerts={}).alerts == () and spec(alerts=None).alerts is None
    table = spec(alerts={"dead_rows": {"warning": 10}, "gaps": {"critical": 5}, "late_rows": {"warning": "never"}})
    health = Health("event", "event", State.IN_USE, tuple(Figure(name, 0.0, "") for name in FIGURES))
    found = {one.figure.name: (one.warning, one.critical) for one in alerts.judge(table, health, AS_OF).judged}
    assert (found["dead_rows"], found["gaps"], found["late_rows"]) == ((10, 60), (1, 5), (None, None))
    assert found["overlaps"] == (FIGURES["overlaps"].warning, FIGURES["overlaps"].critical)


@pytest.mark.parametrize(
    ("given", "why", "cure"),
    [
        (3, "alerts takes a map of figures", "Write alerts:"),
        ([{"figure": "gaps"}], "It is no map", "Write alerts:"),
        ("gaps", "It is no map", "Write alerts:"),
        ({"gap": {"warning": 1}}, 'There is no figure "gap"', "Did you mean gaps?"),
        ({7: {"warning": 1}}, "There is no figure 7", "Remove it."),
        ({"gaps": 3}, "gaps takes a map of warning, critical or both", "Write alerts: {gaps:"),
        ({"gaps": {}}, "gaps takes a map", "Write alerts: {gaps:"),
        ({"gaps": {"warn": 3}}, "gaps takes a map", "Write alerts: {gaps:"),
        ({"gaps": {"warning": "3"}}, "A threshold of gaps is a number of stretches", "Write alerts: {gaps:"),
        ({"gaps": {"warning": True}}, "A threshold of gaps", "Write alerts: {gaps:"),
        ({"gaps": {"warning": -1}}, "A threshold of gaps", "Write alerts: {gaps:"),
        ({"gaps": {"warning": float("nan")}}, "A threshold of gaps", "Write alerts: {gaps:"),
        ({"gaps": {"warning": float("inf")}}, "A threshold of gaps", "Write alerts: {gaps:"),
        ({"gaps": {"warning": 5, "critical": 2}}, "critical at 2, before it warns at 5", "Write both of gaps"),
        ({"dead_rows": {"warning": 80}}, "critical at 60, before it warns at 80", "Write both of dead_rows"),
        ({"runway": {"warning": 10, "critical": 20}}, "critical at 20, before it warns at 10", "Write both of runway"),
    ],
)  # fmt: skip
def test_what_is_no_threshold_is_refused_in_words(given: Any, why: str, cure: str) -> None:
    stop = refused(alerts=given)
    assert why in stop.why and cure in stop.next


# judging


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_fires_at_its_default_and_not_before(name: str) -> None:
    watch = FIGURES[name]
    for bound, level in ((watch.warning, Level.WARNING), (watch.critical, Level.CRITICAL)):
        if bound is not None:
            assert judged(name, bound) is level
            assert judged(name, bound * 0.999) < level
    assert judged(name, None) is Level.OK


def test_never_switches_a_figure_off_and_zero_never_fires() -> None:
    assert judged("gaps", 9, alerts={"gaps": {"warning": "never"}}) is Level.OK
    assert judged("gaps", 0, alerts={"gaps": {"warning": 0}}) is Level.OK
    assert judged("gaps", 0.01, alerts={"gaps": {"warning": 0}}) is Level.WARNING
    assert judged("runway", 29, alerts={"runway": {"warning": 30, "critical": "never"}}) is Level.WARNING
    assert judged("runway", 30, alerts={"runway": {"warning": 30, "critical": "never"}}) is Level.OK


EVERY = st.sampled_from(list(Every))
DAYS = st.dates(date(1990, 1, 1), date(2100, 1, 1))


@settings(deadline=None)
@given(EVERY, st.integers(1, 24), DAYS)
def test_a_schedule_that_runs_never_warns_and_one_that_stopped_does_in_time(
    every: Every, ahead: int, last_run: date
) -> None:
    """Partitions as of the last run; from then on nobody makes one. The first row falls at the end of the last of them."""
    last = period_of(every, last_run)
    for _ in range(ahead):
        last = last.next()
    end = last.upper.date()

    def level(as_of: date) -> Level:
        warning, critical = alerts.runway_thresholds(every, ahead, as_of)
        days = (end - as_of).days
        return Level.CRITICAL if days < critical else Level.WARNING if days < warning else Level.OK

    assert level(last_run) is Level.OK, "it has just run"
    assert (
        level(min(last_run + timedelta(days=1), period_of(every, last_run).upper.date() - timedelta(days=1)))
        is Level.OK
    )
    warned_by = last
    for _ in range(ahead - 2):
        warned_by = warned_by.previous()
    # `ahead` - 1 whole periods before the first row falls
    due = warned_by.lower.date() if ahead > 1 else end
    assert level(due) is not Level.OK
    assert level(end) is not Level.OK
    assert level(end - timedelta(days=1)) is not Level.OK or (every is Every.day and ahead == 1)


def test_what_could_not_be_read_is_not_known_and_counts_less_than_what_is() -> None:
    unread = (Unread("sizes on disk", "locked"),)
    health = Health("event", "event", State.IN_USE, (Figure("gaps", 1, "one."),), unread=unread)
    found = alerts.judge(spec(), health, AS_OF).alerts
    assert [(alert.figure, alert.level) for alert in found] == [("gaps", Level.WARNING), ("not_read", Level.UNKNOWN)]
    assert alerts.worst(found) is Level.WARNING
    assert alerts.worst(found[1:]) is Level.UNKNOWN and alerts.worst(()) is Level.OK
    assert [alert.level for alert in alerts.sorted_by_level(reversed(found))] == [Level.WARNING, Level.UNKNOWN]


def test_every_alert_says_why_and_what_to_do() -> None:
    assert set(alerts.WORDS) == {*FIGURES, "not_read"}
    for name in alerts.WORDS:
        alert = Alert("event", name, Level.CRITICAL, 1, 1, "told.")
        [check] = alerts.checks([alert])
        assert check.severity is Severity.STOP and check.why and check.cure
