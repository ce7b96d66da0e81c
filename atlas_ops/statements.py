"""What the application asks of a table, by pg_stat_statements: for reading, and as the skeleton of a workload file. Pure.

The texts are other people's and may hold their data: what is shown or written went through `querytext`, and no value of a row is in either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from string import Formatter

from atlas_ops import sqlfile
from atlas_ops.asked import Asked, asked
from atlas_ops.definition import name, text
from atlas_ops.errors import AtlasError
from atlas_ops.model import Column as TableColumn
from atlas_ops.model import Constraint, Index, StatementsView, TrackedStatement
from atlas_ops.querytext import Unclear, shape
from atlas_ops.spec import TableSpec
from atlas_ops.tables import AMBER, Column, Table, count
from atlas_ops.views import Words

NOT_LOADED, NO_RIGHT = "55000", "42501"
OWN_READS = ("key_extent", "key_facts", "part_figures", "rows_per_period")
"""Our reads of the original alone: whatever else we ask of it names another table of ours beside it."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What one read of pg_stat_statements told of a table. `refused`: the SQLSTATE of a view that could not be read."""

    spec: TableSpec
    view: StatementsView
    refused: str = ""
    rows: tuple[TrackedStatement, ...] = ()
    columns: tuple[TableColumn, ...] = ()
    indexes: tuple[Index, ...] = ()
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that asks the table. Times in ms."""

    asked: Asked
    calls: int
    total_ms: float
    rows: int

    @property
    def mean_ms(self) -> float:
        """Milliseconds a call."""
        return self.total_ms / self.calls

    @property
    def rows_a_call(self) -> float:
        """Rows returned or written a call."""
        return self.rows / self.calls


@dataclass(frozen=True, slots=True)
class Found:
    """The statements on a table, those that took most time first; `unread`: others name it and cannot be read for certain."""

    statements: tuple[Statement, ...]
    unread: int


def trouble(tracked: Tracked) -> AtlasError | None:
    """Why pg_stat_statements tells nothing here, in three lines; None where it can be read."""
    view = tracked.view
    if view.schema is None:
        return _missing(available=view.available)
    if tracked.refused == NOT_LOADED:
        return AtlasError(
            what="pg_stat_statements is not loaded.",
            why="The extension is in this database, but shared_preload_libraries does not name it: nothing is counted.",
            next="Add it there (ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'), restart the server, and let the "
            "application run for a day.",
        )
    if tracked.refused == NO_RIGHT:
        schema, role = text(name(view.schema)), text(name(view.role))
        return AtlasError(
            what=f"The role {view.role} may not read pg_stat_statements.",
            why=f"It lacks USAGE on the schema {view.schema}, or SELECT on the view there.",
            next=f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {schema}.pg_stat_statements TO {role}; "
            f"GRANT pg_read_all_stats TO {role};",
        )
    return None


def _missing(*, available: bool) -> AtlasError:
    if available:
        return AtlasError(
            what="pg_stat_statements is not in this database.",
            why="Nobody counts here how often the application asks what.",
            next="CREATE EXTENSION pg_stat_statements; it counts once shared_preload_libraries names it, which takes a restart.",
        )
    return AtlasError(
        what="pg_stat_statements is not on this server.",
        why="Its files are missing: they come with PostgreSQL's contrib package.",
        next="Install that package and add pg_stat_statements to shared_preload_libraries, or write the workload by hand: "
        "parameters/workloads/atlas.yml is an example.",
    )


def found(tracked: Tracked) -> Found:
    """Those statements that ask the table, the same text added up; our own are left out."""
    spec, columns = tracked.spec, [column.name for column in tracked.columns]
    by_text: dict[str, Statement] = {}
    unread = tracked.rows[0].too_long if tracked.rows else 0
    for row in tracked.rows:
        # planned and never run to its end: pg_stat_statements.track_planning
        if row.query is None or not row.calls or row.rows is None or row.total_ms is None:
            continue
        try:
            what = asked(row.query, (spec.schema, spec.name), spec.partition_key, columns)
            if what is None or _is_ours(what, row.query, spec):
                continue
        except Unclear:
            unread += not _says_ours(row.query, spec)
            continue
        key = _alike(what)
        was = by_text.get(key) or Statement(what, 0, 0.0, 0)
        by_text[key] = replace(
            was, calls=was.calls + row.calls, total_ms=was.total_ms + row.total_ms, rows=was.rows + row.rows
        )
    return Found(tuple(sorted(by_text.values(), key=lambda one: -one.total_ms)), unread)


def _is_ours(what: Asked, query: str, spec: TableSpec) -> bool:
    """Whether it asks a table of ours besides, or has the shape of one of our own reads."""
    at = (spec.schema, spec.name)
    ours = {one for one in (spec.original_at, spec.partitioned_at) if one != at}
    for schema, table in what.tables:
        if schema == spec.partition_schema or any(table == one[1] and schema in ("", one[0]) for one in ours):
            return True
    return any(own.fullmatch(shape(query)) for own in _own_shapes())


def _says_ours(query: str, spec: TableSpec) -> bool:
    """The same of a text that cannot be read: one of our names stands somewhere in it."""
    ours = {spec.partitioned_name, spec.retired_name, spec.key_log_name} - {spec.name}
    return any(each in query for each in ours)


def _alike(what: Asked) -> str:
    """The text by which two statements are one: parameters numbered as they come, white space aside."""
    numbers: dict[int, int] = {}
    return " ".join(what.text("{table}", lambda n: f"${numbers.setdefault(n, len(numbers) + 1)}").split())


@cache
def _own_shapes() -> tuple[re.Pattern[str], ...]:
    return tuple(_pattern(sqlfile.text("template", file)) for file in OWN_READS)


def _pattern(template: str) -> re.Pattern[str]:
    """What a template can have become once it is filled in and its constants are $1."""
    field = "atlas_ops_field"
    flat = "".join(
        literal + (f" {field} " if part is not None else "") for literal, part, _, _ in Formatter().parse(template)
    )
    return re.compile(".*".join(re.escape(piece.strip()) for piece in shape(flat).split(field)), re.DOTALL)


# For reading


def shown(tracked: Tracked) -> Table | Words:
    """The statements on the table, masked, by the time they took; in words why there are none."""
    stop = trouble(tracked)
    if stop is not None:
        return Words(stop.what, f"{stop.why} {stop.next}", AMBER)
    those = found(tracked)
    if not those.statements:
        return Words(f"pg_stat_statements knows no statement on {tracked.spec.table}.", nothing_found(tracked, those))
    all_ms = tracked.rows[0].all_ms
    key = tracked.spec.partition_key
    return Table(
        [
            Column("statement", "sql"),
            Column("calls", "count"),
            "mean ms",
            Column("share of time", "text"),
            "rows a call",
            Column(f"{key} in the predicate", "text"),
        ],
        [
            (
                one.asked.masked,
                one.calls,
                round(one.mean_ms, 3),
                f"{one.total_ms / all_ms:.1%}" if all_ms else "—",
                round(one.rows_a_call, 1),
                None if one.asked.bounds_key is None else "yes" if one.asked.bounds_key else "no",
            )
            for one in those.statements
        ],
        caption=_caption(tracked, those),
    )


def nothing_found(tracked: Tracked, those: Found) -> str:
    """Where to look when there is no statement on the table."""
    known = tracked.rows[0].statements if tracked.rows else 0
    return " ".join([f"It knows {count(known)} of this database{_since(tracked)}.", *_left_out(tracked, those)])


def _caption(tracked: Tracked, those: Found) -> str:
    spec = tracked.spec
    sentences = [
        f"Statements on {spec.table}{_since(tracked)}, their share of the time of all {count(tracked.rows[0].statements)} of this database.",
        *_left_out(tracked, those),
    ]
    if tracked.view.namesakes:
        others = ", ".join(f"{schema}.{spec.name}" for schema in tracked.view.namesakes)
        sentences.append(f"A bare {spec.name} was taken for {spec.schema}.{spec.name}; there is {others} too.")
    return " ".join(sentences)


def _since(tracked: Tracked) -> str:
    since = tracked.rows[0].since if tracked.rows else None
    return f" since {since:%Y-%m-%d %H:%M} UTC" if since else ""


def _left_out(tracked: Tracked, those: Found) -> Iterator[str]:
    hidden = tracked.rows[0].hidden if tracked.rows else 0
    if hidden:
        yield (
            f"The text of {count(hidden)} is hidden from {tracked.view.role}: "
            f"GRANT pg_read_all_stats TO {text(name(tracked.view.role))};"
        )
    if those.unread:
        yield f"{count(those.unread)} that name it could not be read for certain."
