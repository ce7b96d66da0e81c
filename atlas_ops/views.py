"""How plans, checks and reports read in a notebook: tables of what, why and next, with the SQL folded away below. Pure."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from itertools import groupby

from atlas_ops.forecast import Forecast
from atlas_ops.model import Server
from atlas_ops.plan import Effect, Plan, Step
from atlas_ops.report import Check, Line, Report, Severity
from atlas_ops.tables import GREEN, GREY, RED, Column, Table, count, duration, size

LONG_PLAN = 12  # steps: above it, steps alike are told in one row
SQL_STYLE = "font-size:12px;max-height:420px;overflow:auto;background:transparent;color:inherit"


class Words:
    """A sentence or two, as HTML in a notebook and as text elsewhere. `tone` colours the first words only."""

    def __init__(self, strong: str, rest: str = "", tone: str = "inherit") -> None:
        self.strong, self.rest, self.tone = strong, rest, tone

    def __repr__(self) -> str:
        return f"{self.strong} {self.rest}".strip()

    def _repr_html_(self) -> str:
        rest = html.escape(self.rest).replace("\n", "<br>")
        return f'<div style="font-size:14px"><b style="color:{self.tone}">{html.escape(self.strong)}</b> {rest}</div>'


def identity(server: Server, name: str, version: str, tables: Sequence[str]) -> Words:
    """Who and where, in one line: what a record must answer years later."""
    facts = [
        f"PostgreSQL {server.version_text}",
        f"database {server.database}",
        f"role {server.role}",
        f"system {server.system_identifier}",
        server.time_zone,
        version,
        f"{len(tables)} table{'s' if len(tables) != 1 else ''}: {', '.join(tables)}",
    ]
    return Words(name, "· " + " · ".join(facts))


class PlanView:
    """A plan as a DBA reads it: its digest, its steps with locks and reasons, its exact SQL folded below."""

    def __init__(self, plan: Plan, confirm: str) -> None:
        self.plan, self.confirm = plan, confirm

    def __repr__(self) -> str:
        return f"{self._sentence()}\n{self._table()!r}\n\n{self.plan.script()}"

    def _repr_html_(self) -> str:
        sentence = html.escape(self._sentence())
        if not self.plan.steps:
            return f'<div style="font-size:14px">{sentence}</div>'
        script = html.escape(self.plan.script())
        title = f"The exact SQL, {count(script.count(chr(10)))} lines"
        return f'<div style="font-size:14px">{sentence}</div>{self._table()._repr_html_()}' + _details(
            title, f'<pre style="{SQL_STYLE}">{script}</pre>'
        )

    def _sentence(self) -> str:
        plan = self.plan
        if not plan.steps:
            return "Nothing to do: what the specification asks for is there."
        kinds = {
            Effect.REMOVES: "It removes something: read those steps twice.",
            Effect.CHANGES: "It changes what is there, and removes nothing.",
        }
        effects = {step.effect for step in plan.steps}
        effect = next(
            (words for kind, words in kinds.items() if kind in effects),
            "It only adds: nothing that is there is changed.",
        )
        ask = "" if self.confirm else f' Nothing has been done yet. To run exactly this: confirm = "{plan.digest}"'
        return f"Plan {plan.digest}: {count(len(plan.steps))} steps, each lock waited for at most {plan.lock_timeout_ms} ms. {effect}{ask}"

    def _table(self) -> Table:
        columns: list[Column | str] = ["steps", "what", Column("strongest lock", "text"), Column("on", "text"), "why"]
        return Table(columns, [_group_row(group) for group in _alike(self.plan.steps)])


def _alike(steps: Sequence[Step]) -> list[list[Step]]:
    """Neighbours of a long plan that differ by their partition only, told in one row; lanes run mixed, so they are sorted by reason."""
    if len(steps) <= LONG_PLAN:
        return [[step] for step in steps]
    order = list(
        dict.fromkeys((step.why, step.lock, step.on if step.lock != "SHARE UPDATE EXCLUSIVE" else "") for step in steps)
    )

    def kind(step: Step) -> int:
        return order.index((step.why, step.lock, step.on if step.lock != "SHARE UPDATE EXCLUSIVE" else ""))

    return [list(group) for _, group in groupby(sorted(steps, key=kind), key=kind)]


def _group_row(group: Sequence[Step]) -> tuple[object, ...]:
    first, last = group[0], group[-1]
    what = first.name if len(group) == 1 else f"{first.name} … {last.name.split()[-1]}"
    on = first.on if len({step.on for step in group}) == 1 else "each partition"
    return (len(group), what, first.lock, on, first.why)


class Folded:
    """A short table with a long one folded away below it."""

    def __init__(self, short: Table, long: Table, title: str) -> None:
        self.short, self.long, self.title = short, long, title

    def __repr__(self) -> str:
        return f"{self.short!r}\n\n{self.title}\n{self.long!r}"

    def _repr_html_(self) -> str:
        return self.short._repr_html_() + _details(self.title, self.long._repr_html_())


def _details(title: str, content: str) -> str:
    summary = f'<summary style="cursor:pointer;color:{GREY}">{html.escape(title)}</summary>'
    return f"<details>{summary}{content}</details>"


def checks_table(checks: Iterable[Check]) -> Folded:
    """Checks, the severe first; the SQL to look closer or to cure folded below."""
    order = list(Severity)
    shown = sorted(checks, key=lambda check: order.index(check.severity))
    return Folded(
        Table(
            ["severity", "table", "check", "what", "why it matters", "how to cure it"],
            [(str(c.severity), c.table, c.name, c.what, c.why or None, c.cure or None) for c in shown],
        ),
        Table(["table", "check", "SQL"], [(c.table, c.name, c.sql) for c in shown if c.sql]),
        "SQL to look closer or to cure, ready to paste",
    )


def lines_table(lines: Sequence[Line]) -> Folded:
    """What ran: kinds of steps in short; each with start, seconds, attempts, rows and SQLSTATEs tried again below."""
    kinds: dict[str, list[Line]] = {}
    for line in lines:
        kinds.setdefault(line.step.split()[0], []).append(line)
    seconds = (
        (max(line.ended for line in lines) - min(line.started for line in lines)).total_seconds() if lines else 0.0
    )
    short = Table(
        ["steps", "kind", "rows", "seconds in all", "longest seconds", "tried again"],
        [
            (
                len(own),
                kind,
                sum(line.rows for line in own),
                sum(line.seconds for line in own),
                max(line.seconds for line in own),
                sum(line.attempts - 1 for line in own),
            )
            for kind, own in kinds.items()
        ],
        caption=f"{count(len(lines))} steps in {duration(seconds)}, {count(sum(line.rows for line in lines))} rows written",
    )
    long = Table(
        ["step", Column("started UTC", "text"), "seconds", "attempts", "rows", "tried again after"],
        [
            (
                line.step,
                f"{line.started:%H:%M:%S.%f}"[:-3],
                line.seconds,
                line.attempts,
                line.rows,
                ", ".join(line.sqlstates) or None,
            )
            for line in lines
        ],
        limit=len(lines),
    )
    return Folded(short, long, "Every step")


def forecast_table(forecasts: Sequence[Forecast]) -> Table:
    """What the migration will take."""
    return Table(
        [
            "table",
            "rows",
            "rows timed",
            "seconds",
            Column("disk needed", "size"),
            Column("WAL written", "size"),
        ],
        [(f.table, f.rows, f.sampled, f.seconds, f.disk_bytes, f.wal_bytes) for f in forecasts],
        caption="Forecast from a timed sample",
    )


def forecast_sentence(forecasts: Sequence[Forecast]) -> str:
    """The forecast in a sentence."""
    return (
        f"About {duration(sum(f.seconds for f in forecasts))}, {size(sum(f.disk_bytes for f in forecasts))} of disk "
        f"and {size(sum(f.wal_bytes for f in forecasts))} of WAL."
    )


def ending(report: Report) -> Words:
    """The last cell: the verdict, what it rests on, what next."""
    words = {
        "ok": "OK.",
        "nothing_to_do": "Nothing to do.",
        "planned": "Planned, nothing done.",
        "stopped": "STOPPED.",
    }
    rest = report.headline + (f"\nNext: {report.next}" if report.next else "")
    return Words(words[str(report.verdict)], rest, RED if report.verdict == "stopped" else GREEN)
