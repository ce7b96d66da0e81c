"""The gate: each rule at its edge, and what others read of it, whole. No database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from atlas_ops import cli, record, regression
from atlas_ops.errors import AtlasError
from atlas_ops.regression import (
    FEW_BLOCKS,
    Finding,
    Measured,
    Rule,
    cases,
    checks,
    digest,
    findings,
    github,
    junit,
    measured,
    told,
)
from atlas_ops.report import RESULT_TYPE, Severity, stopped
from atlas_ops.workload import Query


def side(**more: Any) -> dict[str, Any]:
    return {
        "planning_ms": 1.0, "execution_ms": 2.0, "hit_blocks": 90, "read_blocks": 10, "temp_blocks": 0, "wal_bytes": 0,
        "rows": 5.0, "touched": 1, "planned": 1, "never_executed": 0, "removed": 0, "partitions": 36, **more,
    }  # fmt: skip


def entry(query: str = "page", **more: Any) -> dict[str, Any]:
    return {
        "query": query, "verdict": "same", "ratio": 1.0, "low": 0.9, "high": 1.1, "pairs": 20, "why": "Reads 1 of 36.",
        "max_slowdown": None, "prunes_to": None, "plan": "0a1b2c3d", "same_rows": True,
        "original": side(), "partitioned": side(), **more,
    }  # fmt: skip


FAILED = {"verdict": "failed", "ratio": None, "low": None, "high": None, "plan": None, "same_rows": None}


def failed(query: str = "page", **more: Any) -> dict[str, Any]:
    return entry(query, **FAILED, partitioned={"what": "no unique constraint fits.", "sqlstate": "42P10"}, **more)


def read(*entries: dict[str, Any], **figures: Any) -> tuple[Measured, ...]:
    return measured({"queries": list(entries), **figures}, "now.ipynb")


def judge(now: dict[str, Any], was: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    return [(str(f.rule), str(f.severity)) for f in findings(read(now), None if was is None else read(was))]


# The rules


def test_nothing_worse_is_no_finding() -> None:
    assert judge(entry()) == judge(entry(), entry()) == []
    assert findings(()) == findings((), ()) == ()


@pytest.mark.parametrize(
    ("low", "allowed", "found"),
    [
        (1.2, 1.2, []),
        (1.2001, 1.2, [("time", "stop")]),
        (0.5, 0.4, [("time", "stop")]),
        (9.0, None, []),
        (0.0, 0.0, []),
    ],
)
def test_the_lower_end_of_the_interval_passes_max_slowdown(
    low: float, allowed: float | None, found: list[tuple[str, str]]
) -> None:
    assert judge(entry(low=low, high=low + 1, max_slowdown=allowed)) == found


def test_an_interval_that_reaches_below_is_noise() -> None:
    assert judge(entry(low=1.1, ratio=3.0, high=9.0, verdict="slower", max_slowdown=1.2)) == []


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [
        (100, 120, False),  # a fifth, and no more
        (100, 121, True),
        (3, 4, False),
        (10, 10 + FEW_BLOCKS, False),  # 80 %, and eight blocks only
        (10, 10 + FEW_BLOCKS + 1, True),
        (0, FEW_BLOCKS, False),
        (0, FEW_BLOCKS + 1, True),
        (1_000, 1_009, False),
        (100, 10, False),
    ],
)
def test_more_blocks_than_in_the_baseline(was: int, now: int, found: bool) -> None:
    of = [entry(partitioned=side(hit_blocks=blocks // 2, read_blocks=blocks - blocks // 2)) for blocks in (now, was)]
    assert judge(*of) == ([("blocks", "stop")] if found else [])


def test_blocks_of_the_original_are_not_judged() -> None:
    assert judge(entry(original=side(hit_blocks=10_000)), entry()) == []


@pytest.mark.parametrize(("touched", "most", "found"), [(1, 1, False), (2, 1, True), (36, None, False), (0, 0, False)])
def test_more_partitions_than_promised(touched: int, most: int | None, found: bool) -> None:
    now = entry(prunes_to=most, partitioned=side(touched=touched))
    assert judge(now) == ([("partitions", "stop")] if found else [])


@pytest.mark.parametrize(("same", "found"), [(True, False), (None, False), (False, True)])
def test_other_rows(same: bool | None, found: bool) -> None:
    assert judge(entry(same_rows=same)) == ([("rows", "stop")] if found else [])


@pytest.mark.parametrize(
    ("was", "now", "found"), [("aa", "aa", False), ("aa", "bb", True), (None, "bb", False), ("aa", None, False)]
)
def test_another_plan_is_a_notice(was: str | None, now: str | None, found: bool) -> None:
    assert judge(entry(plan=now), entry(plan=was)) == ([("plan", "note")] if found else [])


def test_a_query_that_fails_now() -> None:
    assert judge(failed(), entry()) == [("runs", "stop")]
    assert judge(failed(), failed()) == [], "as it was"
    assert judge(failed()) == [("runs", "note")], "nothing tells that it ever ran"
    assert judge(failed(max_slowdown=2.0)) == judge(failed(prunes_to=1), failed()) == [("runs", "stop")], (
        "it was promised to"
    )
    assert judge(entry(), failed()) == [], "cured"
    [found] = findings(read(failed()), read(entry()))
    assert found.what == "page fails, and ran in the baseline."
    assert found.why == "On the partitioned table: no unique constraint fits. (42P10)"


def test_a_query_that_is_missing_and_one_that_is_new() -> None:
    found = findings(read(entry("a"), entry("c")), read(entry("a"), entry("b")))
    assert [(f.query, str(f.rule), f.severity) for f in found] == [
        ("c", "runs", Severity.NOTE),
        ("b", "runs", Severity.STOP),
    ]
    assert findings(read(entry("c"))) == (), "without a baseline nothing is new"
    assert [f.query for f in findings(read(), read(entry("a"), failed("b")))] == ["a", "b"]


def test_everything_at_once_in_the_order_of_the_queries() -> None:
    now = entry(
        "a",
        low=3.0,
        high=4.0,
        max_slowdown=1.5,
        prunes_to=1,
        partitioned=side(touched=9, hit_blocks=900),
        same_rows=False,
        plan="x",
    )
    found = findings(read(now, entry("b", same_rows=False)), read(entry("a"), entry("b")))
    assert [(f.query, str(f.rule)) for f in found] == [
        ("a", "time"), ("a", "blocks"), ("a", "partitions"), ("a", "rows"), ("a", "plan"), ("b", "rows"),
    ]  # fmt: skip
    assert all(f.what.startswith(f"{f.query} ") and f.why and f.next for f in found)
    assert found[0].what == "a takes 3.00 to 4.00 times as long on the partitioned table; allowed is 1.5."
    assert found[1].what == "a reads 910 blocks on the partitioned table; in the baseline it read 100, 810% more."
    assert found[2].what == "a reads 9 partitions; expected is at most 1."


# What cannot be judged


def test_a_baseline_that_asked_something_else() -> None:
    with pytest.raises(AtlasError) as stop:
        findings(
            read(entry("a", text="11111111"), entry("b", text="22222222")),
            read(entry("a", text="11111112"), entry("b", text="22222222")),
        )
    assert stop.value.what == "The baseline asked something else as a."
    assert findings(read(entry(text="1")), read(entry())) == (), "a record that does not say what was asked"


def test_the_digest_of_a_query() -> None:
    query = Query(
        name="a",
        description="b",
        table="t",
        sql="SELECT 1 FROM {table} WHERE x = %(p)s",
        bindings="SELECT 1 AS p",
        weight=1.0,
    )
    again = Query(
        name="c", description="d", table="t", sql="SELECT 1\n  FROM {table} WHERE x = %(p)s", bindings="SELECT 1 AS p"
    )
    other = Query(
        name="a", description="b", table="t", sql="SELECT 1 FROM {table} WHERE x = %(p)s", bindings="SELECT 2 AS p"
    )
    assert digest(query) == digest(again) != digest(other)
    assert len(digest(query)) == 8 and int(digest(query), 16)


@pytest.mark.parametrize(
    ("figures", "what", "why"),
    [
        ({"queries": [], "format": 2}, "The figures of x have the format 2.", "knows format 1 only"),
        ({"queries": [], "format": True}, "The figures of x have the format true.", "knows format 1 only"),
        ({"queries": [], "format": "1"}, 'The figures of x have the format "1".', "knows format 1 only"),
        ({}, "x compares no query.", "after a cut-over"),
        ({"queries": {}}, "cannot be judged", "queries.: Input should be a valid list"),
        ({"queries": [1]}, "cannot be judged", "queries.0: "),
        (
            {"queries": [{"query": "a", "verdict": "faster", "ratio": 1.0}]},
            "cannot be judged",
            "queries.0.low: Field required",
        ),
        ({"queries": [entry(low=float("nan"))]}, "cannot be judged", "queries.0.low: Input should be a finite number"),
        ({"queries": [entry(low="1")]}, "cannot be judged", "queries.0.low: Input should be a valid number"),
        ({"queries": [entry(low=-1)]}, "cannot be judged", "queries.0.low: "),
        ({"queries": [entry(verdict="great")]}, "cannot be judged", "queries.0.verdict: "),
        ({"queries": [entry(same_rows=1)]}, "cannot be judged", "queries.0.same_rows: "),
        ({"queries": [entry(partitioned=side(touched=1.5))]}, "cannot be judged", "queries.0.partitioned.touched: "),
        ({"queries": [entry("a"), entry("b"), entry("a")]}, "x has more than one query called a.", "compared by name"),
    ],
)
def test_figures_that_cannot_be_judged(figures: dict[str, Any], what: str, why: str) -> None:
    with pytest.raises(AtlasError) as stop:
        measured(figures, "x")
    assert what in stop.value.what and why in stop.value.why
    assert stop.value.next


# How it is told

STOP = Finding("page", Rule.TIME, Severity.STOP, "page is slow.", "It reads.", "Cure it.")
NOTE = Finding("page", Rule.PLAN, Severity.NOTE, "page has another plan.", "Statistics.", "Look.")


def test_checks_stop_a_stage_where_a_finding_is_a_failure() -> None:
    made = checks([STOP, NOTE], {"page": "public.messages"})
    assert [(c.severity, c.table, c.name, c.what, c.why, c.cure) for c in made] == [
        (Severity.STOP, "public.messages", "regression: time", "page is slow.", "It reads.", "Cure it."),
        (Severity.NOTE, "public.messages", "regression: plan", "page has another plan.", "Statistics.", "Look."),
    ]
    assert stopped(made) and not stopped(made[1:])
    assert checks([STOP])[0].table == "page"


def test_lines_for_a_terminal() -> None:
    assert told([STOP, NOTE], 2) == [
        "FAILURE: page is slow.", "because: It reads.", "   next: Cure it.",
        " notice: page has another plan.", "because: Statistics.", "   next: Look.",
        "2 queries: 1 failure, 1 notice.",
    ]  # fmt: skip
    assert told([], 1) == ["1 query: 0 failures, 0 notices."]


def test_github() -> None:
    assert github([STOP, NOTE], "records/a,b:c%.ipynb") == [
        "::error title=page%3A time,file=records/a%2Cb%3Ac%25.ipynb::page is slow.%0AIt reads.%0ACure it.",
        "::notice title=page%3A plan,file=records/a%2Cb%3Ac%25.ipynb::page has another plan.%0AStatistics.%0ALook.",
    ]
    [line] = github(
        [Finding("a:b,c\r\n::error::x%", Rule.ROWS, Severity.STOP, "100 %,\r\n::set-output name=x::y", "b:c", "d")]
    )
    assert (
        line
        == "::error title=a%3Ab%2Cc%0D%0A%3A%3Aerror%3A%3Ax%25%3A rows::100 %25,%0D%0A::set-output name=x::y%0Ab:c%0Ad"
    )


def test_the_whole_xml() -> None:
    now = read(entry("slow", low=1.5, high=1.75, max_slowdown=1.2), entry("new", plan="bb", prunes_to=1))
    assert (
        junit(cases(now, read(entry("slow", plan="aa"))))
        == """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="05 Explain analysis" tests="12" failures="1" errors="0" skipped="4" time="0.006000">
  <testsuite name="05 Explain analysis" tests="12" failures="1" errors="0" skipped="4" time="0.006000">
    <testcase classname="explain_analysis.slow" name="runs" time="0.000000" />
    <testcase classname="explain_analysis.slow" name="time" time="0.003000">
      <failure message="slow takes 1.50 to 1.75 times as long on the partitioned table; allowed is 1.2." type="time">\
slow takes 1.50 to 1.75 times as long on the partitioned table; allowed is 1.2.
Even the lower end of the interval is above max_slowdown: it is no noise.
Bound the partition key in the query, or raise max_slowdown knowingly.</failure>
    </testcase>
    <testcase classname="explain_analysis.slow" name="blocks" time="0.000000" />
    <testcase classname="explain_analysis.slow" name="partitions" time="0.000000">
      <skipped message="the workload expects nothing (expects: prunes_to)" />
    </testcase>
    <testcase classname="explain_analysis.slow" name="rows" time="0.000000" />
    <testcase classname="explain_analysis.slow" name="plan" time="0.000000">
      <system-out>slow has another plan than in the baseline (aa, now 0a1b2c3d).
Statistics, data, settings or the server changed. By itself that is neither good nor bad.
Compare the plans in both records where a figure is worse too.</system-out>
    </testcase>
    <testcase classname="explain_analysis.new" name="runs" time="0.000000">
      <system-out>new is not in the baseline.
It is new: nothing tells what it was like.
Make a new baseline once its figures are as they should be.</system-out>
    </testcase>
    <testcase classname="explain_analysis.new" name="time" time="0.003000">
      <skipped message="the workload sets no max_slowdown" />
    </testcase>
    <testcase classname="explain_analysis.new" name="blocks" time="0.000000">
      <skipped message="the baseline has no blocks of it" />
    </testcase>
    <testcase classname="explain_analysis.new" name="partitions" time="0.000000" />
    <testcase classname="explain_analysis.new" name="rows" time="0.000000" />
    <testcase classname="explain_analysis.new" name="plan" time="0.000000">
      <skipped message="there are no two plans to compare" />
    </testcase>
  </testsuite>
</testsuites>
"""
    )


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
# What Jenkins' schema (junit-10.xsd of its xUnit plugin) allows of what is used here.
ALLOWED = {
    "testsuites": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testcase"}),
    "testcase": ({"classname", "name", "time"}, {"skipped", "failure", "system-out"}),
    "skipped": ({"message"}, set()),
    "failure": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}


@given(st.lists(HOSTILE, min_size=1, max_size=3, unique=True), HOSTILE)
def test_hostile_names_stay_inside_of_what_is_written(names: list[str], why: str) -> None:
    now = read(*(failed(name, max_slowdown=1.0) | {"partitioned": {"what": why}} for name in names))
    judged = cases(now, read(*(entry(name) for name in names)))
    found = [case.finding for case in judged if case.finding]
    root = ElementTree.fromstring(junit(judged))
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes and {child.tag for child in element} <= children
    suite = root[0]
    assert len(suite) == int(suite.attrib["tests"]) == 6 * len(names)
    assert len(suite.findall("testcase/failure")) == int(suite.attrib["failures"]) == len(names)
    assert len(suite.findall("testcase/skipped")) == int(suite.attrib["skipped"])
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in suite}) == len(suite)
    for line in github(found, names[0]):
        assert len(line.splitlines()) == 1 and line.startswith("::error title=")
    for line in told(found, len(now)):
        assert len(line.splitlines()) == 1 and not line.lstrip().startswith("::") and "##[" not in line


# From a file


def notebook(result: dict[str, Any] | None, error: list[str] | None = None) -> dict[str, Any]:
    outputs: list[dict[str, Any]] = []
    if result is not None:
        outputs.append({"output_type": "display_data", "data": {RESULT_TYPE: result}, "metadata": {}})
    if error:
        outputs.append({"output_type": "error", "ename": "AtlasError", "evalue": error[0], "traceback": error})
    return {
        "cells": [{"cell_type": "code", "outputs": outputs, "source": "", "metadata": {}}],
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
    }


def result(*entries: dict[str, Any], stage: str = "explain_analysis", verdict: str = "ok") -> dict[str, Any]:
    return {"stage": stage, "database": "demo", "verdict": verdict, "figures": {"queries": list(entries)}}


def kept(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_a_record_or_its_bare_result(tmp_path: Path) -> None:
    of_notebook = record.baseline_from(kept(tmp_path / "a.ipynb", notebook(result(entry("a")))))
    of_result = record.baseline_from(kept(tmp_path / "a.json", result(entry("a"))))
    assert of_notebook == of_result == read(entry("a"))


def test_a_red_record_has_a_result_too(tmp_path: Path) -> None:
    red = notebook(result(entry("a"), verdict="stopped"), ["STOPPED: page is slow."])
    assert record.baseline_from(kept(tmp_path / "a.ipynb", red)) == read(entry("a"))


@pytest.mark.parametrize(
    ("name", "content", "what", "why"),
    [
        ("a.ipynb", notebook(None), "The run that wrote {} came to no result.", "It is going on, was killed, or was never executed."),
        ("a.ipynb", notebook(None, ["STOPPED: There is no query to explain."]), "The run that wrote {} came to no result.",
         "STOPPED: There is no query to explain."),
        ("a.part.ipynb", notebook(result(entry())), "The run that wrote {} came to no result.", "It is going on, was killed"),
        ("a.ipynb", notebook(result(stage="verify_counts")), "{} is no record of explain_analysis.", "It is one of verify_counts."),
        ("a.json", result(stage="a; b\n::error::"), "{} is no record of explain_analysis.", "It holds no result of a stage."),
        ("a.json", {"stage": "explain_analysis", "figures": []}, "{} is no record of explain_analysis.", "It holds no result"),
        ("a.json", [], "{} is no record of explain_analysis.", "It holds no result of a stage."),
        ("a.json", {"stage": "explain_analysis", "figures": {}}, "{} compares no query.", "after a cut-over"),
    ],
)  # fmt: skip
def test_what_is_no_record_of_05(tmp_path: Path, name: str, content: object, what: str, why: str) -> None:
    path = kept(tmp_path / name, content)
    with pytest.raises(AtlasError) as stop:
        record.baseline_from(path)
    assert stop.value.what == what.format(path)
    assert why in stop.value.why
    assert len(str(stop.value).splitlines()) == 3


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(AtlasError, match="is no record"):
        record.baseline_from(tmp_path / "a.ipynb")


@pytest.mark.parametrize("name", ["none.ipynb", "."])
def test_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(AtlasError, match="cannot be read"):
        record.baseline_from(tmp_path / name)


# The command


def run(*arguments: object, github: bool = False) -> Any:
    return CliRunner().invoke(cli.app, ["gate", *map(str, arguments)], env={"GITHUB_ACTIONS": "true" if github else ""})


def test_the_command(tmp_path: Path) -> None:
    was = kept(tmp_path / "was.ipynb", notebook(result(entry("page"), entry("gone"))))
    now = kept(
        tmp_path / "now.ipynb", notebook(result(entry("page", partitioned=side(hit_blocks=400), plan="ffffffff")))
    )
    alone = run(now)
    assert (alone.exit_code, alone.output) == (0, "1 query: 0 failures, 0 notices.\n")
    report = tmp_path / "gate.xml"
    report.write_text("of an older run")
    done = run(now, "--baseline", was, "--junit", report)
    assert done.exit_code == 1
    assert [
        line.partition(": ")[2] for line in done.output.splitlines() if line.startswith(("FAILURE", " notice"))
    ] == [
        "page reads 410 blocks on the partitioned table; in the baseline it read 100, 310% more.",
        "page has another plan than in the baseline (0a1b2c3d, now ffffffff).",
        "gone is in the baseline, and was not measured now.",
    ]
    assert done.output.endswith("1 query: 2 failures, 1 notice.\n")
    assert "::" not in done.output
    root = ElementTree.parse(report).getroot()
    assert (root.attrib["failures"], len(root.findall(".//failure"))) == ("2", 2)
    assert [path.name for path in tmp_path.glob("gate*")] == ["gate.xml"]
    told_twice = run(now, "--baseline", was, github=True)
    commands = [line for line in told_twice.output.splitlines() if line.startswith("::")]
    assert [line.partition(" ")[0] for line in commands] == ["::error", "::notice", "::error"]
    assert run(was, "--baseline", was).exit_code == 0


def test_the_command_writes_its_xml_also_where_nothing_is_wrong_and_says_where_it_cannot(tmp_path: Path) -> None:
    now = kept(tmp_path / "now.json", result(entry()))
    assert run(now, "--junit", tmp_path / "ok.xml").exit_code == 0
    assert 'failures="0"' in (tmp_path / "ok.xml").read_text()
    nowhere = run(now, "--junit", tmp_path / "no" / "gate.xml")
    assert isinstance(nowhere.exception, AtlasError) and "cannot be written" in nowhere.exception.what
    missing = run(now, "--baseline", tmp_path / "none.ipynb")
    assert isinstance(missing.exception, AtlasError) and "cannot be read" in missing.exception.what


def test_the_constants_are_those_that_are_told() -> None:
    assert (regression.MORE_BLOCKS, regression.FEW_BLOCKS, regression.FORMAT) == (0.20, 8, 1)
