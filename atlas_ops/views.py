"""How plans, checks and reports read in a notebook: tables of what, why and next, with the SQL folded away below. Pure."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Sequence

from atlas_ops import takeover
from atlas_ops.forecast import ArchiveForecast, Forecast
from atlas_ops.ledger import Difference, Kept
from atlas_ops.model import Fact, Server, Snapshot
from atlas_ops.plan import Effect, Plan, Step
from atlas_ops.report import Check, Line, Report, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.tables import AMBER, GREEN, GREY, RED, Column, Table, count, duration, size
from atlas_ops.traffic import Figures, Rehearsal

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
    """Steps of a long plan that differ by their partition only, told in one row, in the order of their first."""
    if len(steps) <= LONG_PLAN:
        return [[step] for step in steps]
    shared = Counter(step.on for step in steps)
    groups: dict[tuple[str, ...], list[Step]] = {}
    for step in steps:
        on = step.on if shared[step.on] > 1 else ""
        groups.setdefault((step.name.split()[0], step.lock, step.why, on), []).append(step)
    return list(groups.values())


def _group_row(group: Sequence[Step]) -> tuple[object, ...]:
    first, last = group[0], group[-1]
    what = first.name if len(group) == 1 else f"{first.name} … {last.name.split()[-1]}"
    on = first.on if len({step.on for step in group}) == 1 else "each partition"
    return (len(group), what, first.lock, on, first.why)


class Stacked:
    """Several things, one below the other."""

    def __init__(self, *parts: Words | PlanView | Table | Folded | Stacked) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        return "\n\n".join(repr(part) for part in self.parts)

    def _repr_html_(self) -> str:
        return "".join(part._repr_html_() for part in self.parts)


class Folded:
    """A short table, with longer ones folded away below it under their titles."""

    def __init__(self, short: Table | Words | Stacked, *folded: tuple[str, Table]) -> None:
        self.short, self.folded = short, folded

    def __repr__(self) -> str:
        return "\n\n".join([repr(self.short), *(f"{title}\n{table!r}" for title, table in self.folded)])

    def _repr_html_(self) -> str:
        return self.short._repr_html_() + "".join(_details(title, table._repr_html_()) for title, table in self.folded)


def _details(title: str, content: str) -> str:
    summary = f'<summary style="cursor:pointer;color:{GREY}">{html.escape(title)}</summary>'
    return f"<details>{summary}{content}</details>"


def checks_table(checks: Iterable[Check]) -> Folded:
    """Checks that found something, the severe first; those that passed, and the SQL to look closer or to cure, folded below."""
    order = list(Severity)
    shown = sorted(checks, key=lambda check: order.index(check.severity))
    found = [check for check in shown if check.severity is not Severity.OK]
    passed = [check for check in shown if check.severity is Severity.OK]
    findings = Table(
        ["severity", "table", "check", "what", "why it matters", "how to cure it"],
        [(str(c.severity), c.table, c.name, c.what, c.why or None, c.cure or None) for c in found],
    )
    folded = [
        (
            f"{count(len(passed))} checks passed",
            Table(["table", "check", "what"], [(c.table, c.name, c.what) for c in passed]),
        ),
        (
            "SQL to look closer or to cure, ready to paste",
            Table(["table", "check", "SQL"], [(c.table, c.name, c.sql) for c in found if c.sql]),
        ),
    ]
    return Folded(
        findings if found else Words("Nothing was found.", f"{count(len(passed))} checks passed.", GREEN),
        *((title, table) for title, table in folded if table.rows),
    )


def ledger_table(ledgers: Sequence[tuple[str, Sequence[Difference]]]) -> Folded:
    """The difference of two ledgers: what is red first, then what was waived or had to change; what is the same is folded below."""
    order = [Kept.RED, Kept.WAIVED, Kept.CHANGED]
    every = [(table, line) for table, lines in ledgers for line in lines]
    kept = Counter(line.kept for _, line in every)
    other = sorted((one for one in every if one[1].kept in order), key=lambda one: order.index(one[1].kept))
    shown = Table(
        ["kept", "table", "what", "of the original", "of the partitioned table", "why"],
        [(str(line.kept), table, line.label, line.before, line.after, line.reason) for table, line in other],
        limit=len(other),
    )
    same = Table(
        ["table", "what", "value"],
        [(table, line.label, line.before) for table, line in every if line.kept is Kept.SAME],
        limit=len(every),
    )
    red = kept[Kept.RED]
    words = Words(
        f"{count(red)} properties differ." if red else "The new table is the old table.",
        f"Of {count(len(every))} properties {count(kept[Kept.SAME])} are the same, {count(kept[Kept.CHANGED])} changed of necessity, "
        f"{count(kept[Kept.WAIVED])} waived by name, {count(red)} red.",
        RED if red else GREEN,
    )
    parts = [(f"{count(len(other))} that changed, and why", shown)] if other else []
    if red:
        return Folded(Stacked(words, shown), (f"{count(len(same.rows))} that are the same", same))
    return Folded(words, *parts, (f"{count(len(same.rows))} that are the same", same))


def facts_table(ledgers: Sequence[tuple[str, Sequence[Fact]]]) -> Folded:
    """Everything that is true of the tables: how much of each kind, and all of it folded below."""
    counted = Counter(
        (table, kind) for table, facts in ledgers for kind, _ in sorted({(fact.kind, fact.name) for fact in facts})
    )
    short = Table(
        ["table", "kind", "how many"],
        [(table, kind, number) for (table, kind), number in counted.items()],
        limit=len(counted),
    )
    every = [
        (table, f"{fact.kind} {fact.name}".strip(), fact.aspect, fact.value)
        for table, facts in ledgers
        for fact in facts
    ]
    return Folded(
        short,
        (f"All {count(len(every))} properties", Table(["table", "of", "property", "value"], every, limit=len(every))),
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
    return Folded(short, ("Every step", long))


def following_table(snapshots: Sequence[tuple[TableSpec, Snapshot]]) -> Folded:
    """Who is written, who follows, and how far behind; the open transactions that an exchange would wait for folded below."""
    rows: list[tuple[object, ...]] = []
    for spec, snapshot in snapshots:
        state = snapshot.online
        if state is None:
            rows.append((spec.table, None, "nothing", None, None, None, None, takeover.told(spec, snapshot)))
            continue
        written, follows = (spec.original_at, spec.partitioned_at)[:: 1 if state.authority == "original" else -1]
        told = "in step" if state.in_step and state.captured else "stopped" if not state.captured else "being copied"
        rows.append(
            (
                spec.table,
                ".".join(written),
                ".".join(follows),
                state.log_rows,
                state.log_bytes,
                state.behind_s,
                state.turned_at,
                told,
            )
        )
    table = Table(
        [
            "table",
            "the application writes",
            "what follows",
            Column("keys in the log", "count"),
            Column("log", "size"),
            Column("behind at most", "duration"),
            Column("turned", "auto"),
            "state",
        ],
        rows,
    )
    blockers = [
        (one.pid, one.role, one.application or None, one.state or None, one.seconds, one.holds)
        for one in {one.pid: one for _, snapshot in snapshots for one in snapshot.transactions}.values()
    ]
    shown = Table(
        [Column("process", "text"), "role", "application", "state", "seconds", "strongest lock on the table"], blockers
    )
    title = f"{count(len(blockers))} transactions open for more than 5 s: an exchange waits for them"
    return Folded(table, *([(title, shown)] if blockers else []))


def exchange_table(lines: Sequence[Line]) -> Table | Words:
    """How long each lock of an exchange was waited for and all of them were held: what a client of the application could notice."""
    held = [line for line in lines if line.held_ms is not None]
    if not held:
        return Words("Nothing was exchanged.", "No lock was asked for.")
    rows = [
        (
            line.step,
            line.attempts,
            "\n".join(f"{_lock(statement)}: {ms:,.1f}" for statement, ms in line.waits),
            f"{line.held_ms or 0:,.1f}",
            ", ".join(line.sqlstates) or None,
        )
        for line in held
    ]
    columns: list[Column | str] = [
        "step",
        "attempts",
        Column("waited for, ms", "text"),
        Column("held, ms", "text"),
        "tried again after",
    ]
    return Table(
        columns, rows, caption="Waits and holds of the attempt that succeeded; a failed attempt gave its locks back"
    )


def rehearsal_table(rehearsals: Sequence[Rehearsal]) -> Folded:
    """What each stage of a rehearsal took and held, and what the clients saw meanwhile; what the writer could not do folded below."""
    sentences = "\n".join(rehearsal_sentence(one) for one in rehearsals)
    good = all(one.whole and one.within_limits for one in rehearsals)
    tone = GREEN if good else AMBER if all(one.whole for one in rehearsals) else RED
    left_out = [(one.table, kind, why) for one in rehearsals for kind, why in one.left_out.items()]
    refused = Table(["table", "statement", "why the table does not take it"], left_out)
    return Folded(
        Stacked(Words("Rehearsed.", sentences, tone), *map(_stages_table, rehearsals)),
        *([("Statements that were left out", refused)] if left_out else []),
    )


def rehearsal_sentence(one: Rehearsal) -> str:
    """A rehearsal in three sentences: what failed, what was held, what a client waited."""
    failed = ", ".join(f"{count(number)} with {state}" for state, number in one.errors.items())
    gone = f" {count(one.missed)} found their row gone." if one.missed else ""
    lost = f" {count(one.lost)} rows differ and are in no key log." if one.lost else ""
    whole = "none failed." if one.whole else f"failed: {failed or 'none'}.{gone}{lost}"
    worst = max(one.exchanges, key=lambda turn: turn.longest_ms or 0.0, default=None)
    waited = (
        f" A client waited for {worst.longest_ms or 0:,.0f} ms at most while the tables were exchanged "
        f"(lock_timeout and the hold are {one.lock_timeout_ms + (worst.held_ms or 0):,.0f} ms)."
        if worst
        else ""
    )
    return (
        f"{one.table}: {count(len(one.statements))} statements, {one.done_rate:,.0f} a second of {count(one.rate)} asked for, {whole} "
        f"Locks were held for {one.held_ms or 0:,.0f} ms at most.{waited}"
    )


def _stages_table(one: Rehearsal) -> Table:
    columns: list[Column | str] = [
        "stage",
        "seconds",
        "rows written",
        "statements",
        *(
            Column(heading, "text")
            for heading in ("median ms", "p99 ms", "longest stall ms", "lock waits ms", "held ms")
        ),
        "attempts",
    ]
    caption = f"{one.table}: {count(one.rows)} rows, {one.clients} clients, {count(one.rate)} statements a second"
    return Table(columns, [_stage_row(figures) for figures in one.figures()], caption=caption)


def _stage_row(one: Figures) -> tuple[object, ...]:
    return (
        one.stage,
        one.seconds,
        one.rows or None,
        one.statements,
        _tenths(one.median_ms),
        _tenths(one.p99_ms),
        _tenths(one.longest_ms),
        " + ".join(f"{ms:,.1f}" for ms in one.waits_ms) or None,
        _tenths(one.held_ms),
        one.attempts or None,
    )


def _tenths(ms: float | None) -> str | None:
    return None if ms is None else f"{ms:,.1f}"


def _lock(statement: str) -> str:
    """A LOCK TABLE statement as a DBA says it: the mode, then on what."""
    on, _, mode = statement.removeprefix("LOCK TABLE ").rpartition(" IN ")
    return f"{mode.removesuffix(' MODE')} on {on.replace(chr(34), '')}"


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


def archive_forecast_table(forecasts: Sequence[ArchiveForecast]) -> Table:
    """What exporting and proving the months that leave will take."""
    columns: list[Column | str] = [
        "table",
        "months",
        "rows",
        "rows timed",
        Column("export", "duration"),
        Column("proof", "duration"),
    ]
    columns += [Column("dump", "size"), Column("parquet", "size")]
    return Table(
        columns,
        [
            (f.table, f.months, f.rows, f.sampled, f.export_seconds, f.prove_seconds, f.dump_bytes, f.parquet_bytes)
            for f in forecasts
        ],
        caption="Forecast from a timed sample of the largest of them",
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
