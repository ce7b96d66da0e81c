"""The gate: what has become worse in a record of 05 Explain analysis, by its own promises and against an earlier record. Pure.

Input are the figures that `explain` keeps of each query (`figures["queries"]`), as JSON has them. Times are judged by the lower end of their interval
only, and only where the workload says how slow is too slow; blocks, rows and partitions do not waver.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from atlas_ops.errors import AtlasError
from atlas_ops.report import Check, Severity
from atlas_ops.workload import Query

STAGE = "explain_analysis"
FORMAT = 1
"""Of the figures, in `figures["format"]`; a record without it has this one."""
MORE_BLOCKS = 0.20
"""The guide promises a stable plan; a fifth more blocks is what vacuum and a month of new rows do not explain."""
FEW_BLOCKS = 8
"""64 kB. Below it one more level of an index, or a page that vacuum has not marked yet, is a large share: 3 blocks become 4."""


class Rule(StrEnum):
    """What a query is judged by."""

    RUNS = "runs"
    TIME = "time"
    BLOCKS = "blocks"
    PARTITIONS = "partitions"
    ROWS = "rows"
    PLAN = "plan"


# What is read


_Count = Annotated[int, Field(ge=0)]
_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Side(BaseModel):
    """One table's figures, or `what` went wrong there."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    planning_ms: _Number = 0
    execution_ms: _Number = 0
    hit_blocks: _Count | None = None
    read_blocks: _Count | None = None
    touched: _Count | None = None
    what: str | None = None
    sqlstate: str = ""

    @property
    def blocks(self) -> int | None:
        """Blocks of 8 kB, from the cache or not; None where it failed."""
        if self.hit_blocks is None or self.read_blocks is None:
            return None
        return self.hit_blocks + self.read_blocks


class Measured(BaseModel):
    """A query as 05 measured it. `low` and `high`: the interval of the partitioned table's time over the original's."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    query: Annotated[str, Field(min_length=1, max_length=200)]
    verdict: Literal["faster", "same", "slower", "failed"]
    low: _Number | None
    high: _Number | None
    max_slowdown: _Number | None
    prunes_to: _Count | None
    plan: str | None
    same_rows: bool | None
    original: Side
    partitioned: Side
    text: str | None = None  # `digest` of the query; records that have none cannot be told apart by it

    @property
    def failed(self) -> bool:
        """Whether it could not be measured on either table."""
        return self.verdict == "failed"


_LIST = TypeAdapter(list[Measured])


def measured(figures: Mapping[str, Any], source: str) -> tuple[Measured, ...]:
    """The queries of a stage's figures. `source` names the record in errors.

    Raises AtlasError for another format, for figures that hold no queries, or the same query twice.
    """
    found = figures.get("format", FORMAT)
    if found != FORMAT or isinstance(found, bool):
        raise AtlasError(
            what=f"The figures of {source} have the format {json.dumps(found)[:40]}.",
            why=f"This version of atlas_ops knows format {FORMAT} only.",
            next="Judge it with the version that made it, or run 05 Explain analysis again with this one.",
        )
    if "queries" not in figures:
        raise AtlasError(
            what=f"{source} compares no query.",
            why="Its tables were not compared: after a cut-over there is nothing to compare with.",
            next="Give a record of 05 Explain analysis from before the cut-over.",
        )
    try:
        queries = _LIST.validate_python(figures["queries"])
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise AtlasError(
            what=f"The figures of {source} cannot be judged.",
            why=f"queries.{'.'.join(map(str, fault['loc']))}: {fault['msg']}.",
            next="It may be of an earlier version of atlas_ops: run 05 Explain analysis again.",
        ) from None
    names = [each.query for each in queries]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise AtlasError(
            what=f"{source} has more than one query called {one_line(twice[0])}.",
            why="Queries are compared by name.",
            next="Give the queries of all workload files names of their own.",
        )
    return tuple(queries)


def digest(query: Query) -> str:
    """Eight hexadecimal digits of what is asked: texts, role, and where the values come from. White space, name and expectations aside."""
    asked = (query.sql, query.sql_partitioned, query.bindings, query.role, query.claims)
    flat = json.dumps([each and " ".join(each.split()) for each in asked])
    return hashlib.sha256(flat.encode()).hexdigest()[:8]


# What is found


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one query; STOP is a failure, NOTE a notice."""

    query: str
    rule: Rule
    severity: Severity
    what: str
    why: str
    next: str

    @property
    def failure(self) -> bool:
        """Whether the gate is shut by it."""
        return self.severity is Severity.STOP


@dataclass(frozen=True, slots=True)
class Case:
    """A query judged by one rule: with a finding, or without one, or `skipped` and why."""

    query: str
    rule: Rule
    finding: Finding | None = None
    skipped: str = ""
    seconds: float = 0.0


def findings(now: Sequence[Measured], baseline: Sequence[Measured] | None = None) -> tuple[Finding, ...]:
    """What is worse than promised, and with a baseline what is worse than it was; in the order of the queries.

    Raises AtlasError where a query of the same name asked something else in the baseline.
    """
    return tuple(case.finding for case in cases(now, baseline) if case.finding)


def cases(now: Sequence[Measured], baseline: Sequence[Measured] | None = None) -> tuple[Case, ...]:
    """Every query by every rule; those that only the baseline has come last. Raises AtlasError as `findings` does."""
    before = {each.query: each for each in baseline or ()}
    _refuse_other_texts(now, before)
    there = {each.query for each in now}
    judged = [case for each in now for case in _Judge(each, before.get(each.query), baseline is not None).cases()]
    return (*judged, *(_missing(each) for each in before.values() if each.query not in there))


def _refuse_other_texts(now: Sequence[Measured], before: Mapping[str, Measured]) -> None:
    others = [
        each.query
        for each in now
        if each.text and each.query in before and before[each.query].text not in (None, each.text)
    ]
    if others:
        raise AtlasError(
            what=f"The baseline asked something else as {', '.join(map(one_line, others))}.",
            why="The text, the role or the values of these queries have changed since: figures of two questions cannot be compared.",
            next="Make a new baseline, or give a query that was rewritten a name of its own.",
        )


def _missing(was: Measured) -> Case:
    return Case(
        was.query,
        Rule.RUNS,
        Finding(
            was.query,
            Rule.RUNS,
            Severity.STOP,
            f"{was.query} is in the baseline, and was not measured now.",
            "The workload does not ask it any more, or its table is not compared: nobody watches it.",
            "Put it back into the workload; if it went on purpose, make a new baseline.",
        ),
    )


class _Judge:
    """One query, and what it was in the baseline."""

    def __init__(self, now: Measured, was: Measured | None, compared: bool) -> None:
        self.now, self.was, self.compared = now, was, compared

    def cases(self) -> Iterator[Case]:
        for rule, judge in (
            (Rule.RUNS, self._runs),
            (Rule.TIME, self._time),
            (Rule.BLOCKS, self._blocks),
            (Rule.PARTITIONS, self._partitions),
            (Rule.ROWS, self._rows),
            (Rule.PLAN, self._plan),
        ):
            found = judge()
            side = self.now.partitioned
            seconds = (side.planning_ms + side.execution_ms) / 1000 if rule is Rule.TIME else 0.0
            if isinstance(found, str):
                yield Case(self.now.query, rule, skipped=found, seconds=seconds)
            else:
                yield Case(self.now.query, rule, found, seconds=seconds)

    def _finding(self, rule: Rule, what: str, why: str, next: str, severity: Severity = Severity.STOP) -> Finding:
        return Finding(self.now.query, rule, severity, f"{self.now.query} {what}", why, next)

    def _runs(self) -> Finding | None:
        if self.now.failed:
            return self._fails()
        if self.compared and self.was is None:
            return self._finding(
                Rule.RUNS,
                "is not in the baseline.",
                "It is new: nothing tells what it was like.",
                "Make a new baseline once its figures are as they should be.",
                Severity.NOTE,
            )
        return None

    def _fails(self) -> Finding | None:
        """A failure shuts the gate where the query ran before, or where the workload promises something of it."""
        promised = self.now.max_slowdown is not None or self.now.prunes_to is not None
        ran = self.was is not None and not self.was.failed
        if self.was is not None and not ran and not promised:
            return None  # as it was
        sides = (("the original", self.now.original), ("the partitioned table", self.now.partitioned))
        told = [
            f"On {where}: {side.what}{f' ({side.sqlstate})' if side.sqlstate else ''}"
            for where, side in sides
            if side.what
        ]
        return self._finding(
            Rule.RUNS,
            "fails, and ran in the baseline." if ran else "fails.",
            " ".join(told) or "The record does not say why.",
            "Cure the query, or write sql_partitioned in the workload; 05 Explain analysis tells more.",
            Severity.STOP if ran or promised else Severity.NOTE,
        )

    def _time(self) -> Finding | str | None:
        now = self.now
        if now.max_slowdown is None:
            return "the workload sets no max_slowdown"
        if now.failed or now.low is None or now.high is None:
            return "it was not measured"
        if now.low <= now.max_slowdown:
            return None
        return self._finding(
            Rule.TIME,
            f"takes {now.low:.2f} to {now.high:.2f} times as long on the partitioned table; allowed is {now.max_slowdown:g}.",
            "Even the lower end of the interval is above max_slowdown: it is no noise.",
            "Bound the partition key in the query, or raise max_slowdown knowingly.",
        )

    def _blocks(self) -> Finding | str | None:
        blocks, before = self.now.partitioned.blocks, self.was.partitioned.blocks if self.was else None
        if blocks is None or before is None:
            return "the baseline has no blocks of it" if blocks is not None else "it was not measured"
        more = blocks - before
        if more <= FEW_BLOCKS or more <= MORE_BLOCKS * before:
            return None
        share = f", {more / before:.0%} more" if before else ""
        return self._finding(
            Rule.BLOCKS,
            f"reads {blocks:,} blocks on the partitioned table; in the baseline it read {before:,}{share}.",
            f"That is over {MORE_BLOCKS:.0%} and over {FEW_BLOCKS} blocks. Blocks do not waver with the machine: plan, size or bloat changed.",
            "Compare the plans in both records, ANALYZE the table; if the data grew as it should, make a new baseline.",
        )

    def _partitions(self) -> Finding | str | None:
        touched, most = self.now.partitioned.touched, self.now.prunes_to
        if most is None:
            return "the workload expects nothing (expects: prunes_to)"
        if touched is None:
            return "it was not measured"
        if touched <= most:
            return None
        return self._finding(
            Rule.PARTITIONS,
            f"reads {touched} partitions; expected is at most {most}.",
            "It is not pruned as the workload promises (prunes_to).",
            "Look whether its condition still compares the partition key itself, with no cast or function around it.",
        )

    def _rows(self) -> Finding | str | None:
        if self.now.same_rows is None:
            return "rows were not compared"
        if self.now.same_rows:
            return None
        return self._finding(
            Rule.ROWS,
            "does not return the same rows from both tables.",
            "A wrong answer is worse than a slow one.",
            "Run 03 Verify counts; if the tables are the same, the query has no order that is unique.",
        )

    def _plan(self) -> Finding | str | None:
        was = self.was.plan if self.was else None
        if self.now.plan is None or was is None:
            return "there are no two plans to compare"
        if self.now.plan == was:
            return None
        return self._finding(
            Rule.PLAN,
            f"has another plan than in the baseline ({was}, now {self.now.plan}).",
            "Statistics, data, settings or the server changed. By itself that is neither good nor bad.",
            "Compare the plans in both records where a figure is worse too.",
            Severity.NOTE,
        )


# How it is told


def checks(found: Iterable[Finding], tables: Mapping[str, str] | None = None) -> list[Check]:
    """The findings as a stage's checks: failures are red. `tables` names the table of a query where that is known."""
    return [
        Check(
            finding.severity,
            (tables or {}).get(finding.query, finding.query),
            f"regression: {finding.rule}",
            finding.what,
            finding.why,
            finding.next,
        )
        for finding in found
    ]


def told(found: Sequence[Finding], queries: int) -> list[str]:
    """Lines for a terminal: three a finding, and one that sums up. No text of a record can begin a line, or hold a command of a CI system."""
    lines = []
    for finding in found:
        kind = "FAILURE" if finding.failure else " notice"
        lines += [f"{kind}: {finding.what}", f"because: {finding.why}", f"   next: {finding.next}"]
    failures = sum(finding.failure for finding in found)
    lines.append(f"{_counted(queries, 'query', 'queries')}: {_counted(failures, 'failure', 'failures')}, "
                 f"{_counted(len(found) - failures, 'notice', 'notices')}.")  # fmt: skip
    return [one_line(line) for line in lines]


def _counted(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def github(found: Iterable[Finding], file: str = "") -> list[str]:
    """The findings as GitHub's workflow commands; `file` is where they are shown."""
    made = []
    for finding in found:
        properties = {"title": f"{finding.query}: {finding.rule}", **({"file": file} if file else {})}
        listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
        message = "\n".join((finding.what, finding.why, finding.next))
        made.append(f"::{'error' if finding.failure else 'notice'} {listed}::{_data(message)}")
    return made


def _data(text: str) -> str:
    return visible(text, kept="\n\t\r").replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def junit(judged: Sequence[Case], name: str = "05 Explain analysis") -> str:
    """The cases as JUnit XML, as Jenkins, GitLab and GitHub's test reporters read it: a testcase a query and rule."""
    counts = {
        "tests": len(judged),
        "failures": sum(bool(case.finding and case.finding.failure) for case in judged),
        "errors": 0,
        "skipped": sum(bool(case.skipped) for case in judged),
        "time": f"{sum(case.seconds for case in judged):.6f}",
    }
    listed = {"name": name, **{key: str(value) for key, value in counts.items()}}
    root = ElementTree.Element("testsuites", listed)
    suite = ElementTree.SubElement(root, "testsuite", listed)
    for case in judged:
        _testcase(suite, case)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _testcase(suite: ElementTree.Element, case: Case) -> None:
    of = {"classname": f"{STAGE}.{visible(case.query)}", "name": str(case.rule), "time": f"{case.seconds:.6f}"}
    element = ElementTree.SubElement(suite, "testcase", of)
    if case.skipped:
        ElementTree.SubElement(element, "skipped", {"message": visible(case.skipped)})
    if case.finding is None:
        return
    text = visible("\n".join((case.finding.what, case.finding.why, case.finding.next)))
    if case.finding.failure:
        failure = {"message": visible(case.finding.what), "type": str(case.rule)}
        ElementTree.SubElement(element, "failure", failure).text = text
    else:
        ElementTree.SubElement(element, "system-out").text = text


def visible(text: str, kept: str = "\n\t") -> str:
    """Characters that XML does not take, or that make a text read as another, as their number."""
    return "".join(c if c.isprintable() or c in kept else f"\\u{ord(c):04x}" for c in text)


def one_line(text: str) -> str:
    """The same in one line; ##[ would be a command of a CI system wherever it stands."""
    return visible(text.replace("\n", "\\n").replace("\t", "\\t")).replace("##[", "## [")
