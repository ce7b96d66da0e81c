"""What could be asked instead, where a statement reads every partition: the same statement with one condition more that bounds the key. Pure.

A rewrite is the application's own text, with the condition put in at the end of a WHERE; what comes out is parsed again and must be the statement
that went in and that condition, or there is no rewrite. Where rows of the data could make the answers differ, `counterexamples` counts them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from psycopg import sql as composed
from sqlglot import exp

from atlas_ops.definition import name, text
from atlas_ops.idtime import Carries, instant
from atlas_ops.model import ForeignTime, Relation
from atlas_ops.predicate import foresee
from atlas_ops.predicate.condition import conjuncts
from atlas_ops.predicate.insertion import inserted
from atlas_ops.predicate.pruning import Condition, Everything, Nothing, Unknown, compares
from atlas_ops.predicate.reading import Reading, follows_from_where, readings, stops
from atlas_ops.predicate.scope import Subject
from atlas_ops.predicate.statement import Statement, Unreadable, argument, guarded, named, parse
from atlas_ops.predicate.value import short


@dataclass(frozen=True, slots=True)
class RewriteFacts:
    """What must be known of the original to rewrite a statement on it."""

    key: str
    key_type: str  # as format_type prints it
    columns: Mapping[str, str]  # every column's type
    unique: tuple[tuple[str, ...], ...] = ()  # of the primary key, of each unique constraint and whole unique index
    foreign_keys: tuple[ForeignTime, ...] = ()
    key_not_null: bool = False  # no row lacks the key, or those that do are not in the partitioned table
    time_ordered: Mapping[str, Carries] = field(default_factory=dict)  # columns whose ids carry a time
    tolerance_s: int = 3600  # how far a row's key may be from the time in its id
    margin_s: int = 0  # how much older a row may be than the row it refers to: clocks differ
    covered: tuple[str, str] | None = None  # by the partitions beside a default one: from, until; no gap between
    table: str = ""  # its bare name
    version: int = 0  # server_version_num
    time_zone: str = ""  # of all the application's sessions; empty where it is not known

    @classmethod
    def of(cls, relation: Relation, key: str, foreign_keys: Collection[ForeignTime], **others: Any) -> RewriteFacts:
        """The facts of a table as the catalogs tell them; `others` are further fields. Raises KeyError for a key that is no column."""
        columns = {column.name: column for column in relation.columns}
        constrained = [each.columns for each in relation.constraints if each.kind in "pu" and not each.deferrable]
        indexed = [
            index.columns
            for index in relation.indexes
            if index.unique
            and index.valid
            and not index.constraint
            and "expr" not in index.columns
            and " WHERE " not in index.tail
        ]
        return cls(
            key,
            columns[key].base_type,
            {each.name: each.type for each in relation.columns},
            tuple(dict.fromkeys([*constrained, *indexed])),
            tuple(foreign_keys),
            **{"key_not_null": columns[key].not_null, "table": relation.table.name, **others},
        )

    def subject(self, types: Mapping[str, str]) -> Subject:
        """The table as `predicate` looks at it; `types` are those of the parameters."""
        return Subject(
            self.key, short(self.key_type), types, frozenset(self.columns), self.table, self.version, self.time_zone
        )


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A statement to ask instead."""

    name: str  # a-z, 0-9 and _
    description: str  # what changes, and what the application must do
    sql: str  # a workload's statement
    bindings: tuple[tuple[str, str], ...] = ()  # further parameters, each with the SQL of its value on the original
    counterexamples: str | None = None  # counts the rows for which it could answer otherwise; None: there can be none


def candidates(
    sql: str, facts: RewriteFacts, *, types: Mapping[str, str] | None = None, taken: Collection[str] = ()
) -> tuple[Rewrite, ...]:
    """The rewrites of a workload's statement; empty where nothing is gained, or nothing is certain.

    `types` are those of the parameters, as format_type prints them; `taken` names that no further parameter may have.
    """
    try:
        with guarded():
            statement = parse(sql)
            found = list(readings(statement, facts.subject(types or {})))
            asked = _Asked.of(statement, found, facts, types or {}, taken)
            return tuple(_kept(asked)) if asked is not None else ()
    except Unreadable:
        return ()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A statement that reads the table once, in a block that has a WHERE."""

    statement: Statement
    reading: Reading
    facts: RewriteFacts
    types: Mapping[str, str]
    taken: frozenset[str]
    key: str  # as the statement may write it
    equal: Mapping[str, str]  # column -> the value that it equals, as text of a workload

    @classmethod
    def of(
        cls,
        statement: Statement,
        found: list[Reading],
        facts: RewriteFacts,
        types: Mapping[str, str],
        taken: Collection[str],
    ) -> _Asked | None:
        if len(found) != 1 or found[0].table.args.get("sample") or found[0].table.args.get("only"):
            return None
        [reading] = found
        where = argument(reading.block, "where")
        if not isinstance(reading.block, exp.Select | exp.Update | exp.Delete) or where is None:
            return None
        own = frozenset({*taken, *statement.parameters.values()})
        return cls(
            statement,
            reading,
            facts,
            types,
            own,
            _key(statement, reading, facts),
            equal_columns(statement, reading, facts),
        )

    def inserted(self, condition: str) -> str | None:
        """The statement with one condition more."""
        return inserted(self.statement, self.reading.block, condition)

    def parameter(self, wanted: str) -> str:
        """A name for a further parameter."""
        plain = _plain(wanted)
        return next(each for each in (plain, *(f"{plain}_{n}" for n in range(2, 99))) if each not in self.taken)


def _kept(asked: _Asked) -> Iterator[Rewrite]:
    """The rewrites that do bound the key, each name once."""
    names: set[str] = set()
    for rewrite in _all(asked):
        types = {**asked.types, **dict.fromkeys((each for each, _ in rewrite.bindings), asked.facts.key_type)}
        seen = foresee(
            rewrite.sql,
            asked.facts.key,
            key_type=asked.facts.key_type,
            types=types,
            columns=frozenset(asked.facts.columns),
            table=asked.facts.table,
            version=asked.facts.version,
            time_zone=asked.facts.time_zone,
        )
        if seen.reads in ("one", "some") and rewrite.name not in names:
            names.add(rewrite.name)
            yield rewrite


def _all(asked: _Asked) -> Iterator[Rewrite]:
    condition = asked.reading.condition
    equal = any(compare.operator == "=" for compare in compares(condition))
    if equal or isinstance(condition, Nothing | Unknown):
        return
    if isinstance(condition, Everything):
        yield from _follows(asked)
    yield from _by_key(asked)
    if isinstance(condition, Everything):
        yield from _by_time_of_id(asked)
    if _open_below(condition):
        yield from _by_referenced(asked)
    yield from _within(asked)


def _open_below(condition: Condition) -> bool:
    return isinstance(condition, Everything) or (
        bool(list(compares(condition))) and all(compare.operator in ("<", "<=") for compare in compares(condition))
    )


def _follows(asked: _Asked) -> Iterator[Rewrite]:
    """A key that is wrapped: what follows for the bare key, beside the condition that is there."""
    facts = asked.facts
    follows = follows_from_where(asked.statement, facts.subject(asked.types), asked.reading)
    written = asked.inserted(follows) if follows else None
    if written is None:
        return
    anywhere = follows_from_where(asked.statement, replace(facts.subject(asked.types), time_zone=""), asked.reading)
    zoned = facts.time_zone and follows != anywhere
    sessions = f" It is so for sessions with TimeZone {facts.time_zone}." if zoned else ""
    yield Rewrite(
        "bare_key",
        f"Adds {follows}, which follows from the condition that is there. Only the text changes.{sessions}",
        written,
    )


def _by_key(asked: _Asked) -> Iterator[Rewrite]:
    """At most one row is asked for: the application knows it, and its key with it."""
    facts = asked.facts
    unique = next(
        (columns for columns in facts.unique if columns and set(columns) <= set(asked.equal) - {facts.key}), None
    )
    if unique is None:
        return
    parameter = asked.parameter(facts.key)
    written = asked.inserted(f"{asked.key} = %({parameter})s")
    if written is None:
        return
    where = " AND ".join(f"{_quoted(column)} = {asked.equal[column]}" for column in unique)
    yield Rewrite(
        f"send_{_plain(facts.key)}",
        f"The application sends {facts.key} of the row along, exactly as it read it: all six digits of a second, which a JavaScript Date "
        "does not keep. Who sends another value gets no row.",
        written,
        ((parameter, f"(SELECT {_quoted(facts.key)} FROM {{table}} WHERE {where})"),),
        None if facts.key_not_null else f"SELECT count(*) FROM {{table}} WHERE {_quoted(facts.key)} IS NULL",
    )


def _by_referenced(asked: _Asked) -> Iterator[Rewrite]:
    """All rows of one referenced row are asked for: none of them is older than it."""
    kind = short(asked.facts.key_type)
    fitting = [
        each for each in asked.facts.foreign_keys if each.column in asked.equal and short(each.type or "") == kind
    ]
    for foreign in fitting:
        siblings = [each.time for each in fitting if (each.column, each.table) == (foreign.column, foreign.table)]
        if asked.facts.key not in siblings or foreign.time == asked.facts.key:
            alone = len(siblings) == 1 or foreign.time == asked.facts.key
            yield from _since(asked, foreign, _plain(foreign.table if alone else f"{foreign.table}_{foreign.time}"))


def _since(asked: _Asked, foreign: ForeignTime, ending: str) -> Iterator[Rewrite]:
    facts = asked.facts
    at, column = text(name(foreign.schema, foreign.table)), f"referenced.{_quoted(foreign.referenced)}"
    earlier = f" - interval '{facts.margin_s} seconds'" if facts.margin_s else ""
    begin = f"referenced.{_quoted(foreign.time or '')}{earlier}"
    value = asked.equal[foreign.column]
    since = f"coalesce((SELECT {begin} FROM {at} AS referenced WHERE {column} = {value}), '-infinity')"
    own, key = f"counted.{_quoted(foreign.column)}", f"counted.{_quoted(facts.key)}"
    nulls = "" if facts.key_not_null else f" OR {key} IS NULL"
    counterexamples = (
        f"SELECT count(*) FROM {{table}} AS counted LEFT JOIN {at} AS referenced ON {column} = {own} "
        f"WHERE {own} IS NOT NULL AND ({key} < {begin}{nulls})"
    )
    much = f" by more than {facts.margin_s} seconds" if facts.margin_s else ""
    promise = f"No row may ever be older{much} than {foreign.time} of its row in {foreign.table}."
    written = asked.inserted(f"{asked.key} >= {since}")
    if written is not None:
        described = (
            f"Looks up {foreign.time} in {foreign.table} and reads from there on. Only the text changes; the role that asks must be allowed to "
            f"read {foreign.table}. {promise}"
        )
        yield Rewrite(f"bound_by_{ending}", described, written, (), counterexamples)
    parameter = asked.parameter(f"{foreign.table}_{foreign.time}")
    written = asked.inserted(f"{asked.key} >= %({parameter})s")
    if written is not None:
        sent = f"{foreign.time} of the row in {foreign.table} along{f', {facts.margin_s} seconds earlier' if facts.margin_s else ''}"
        described = f"The application sends {sent}, or -infinity where it does not know it. {promise}"
        yield Rewrite(f"send_{ending}", described, written, ((parameter, since),), counterexamples)


def _within(asked: _Asked) -> Iterator[Rewrite]:
    """The first rows in order are asked for: they are read partition by partition, unless a default partition may hold any of them."""
    facts = asked.facts
    if facts.covered is None or not stops(asked.reading, facts.key):
        return
    known = [compare.operator[0] for compare in compares(asked.reading.condition) if compare.known == "plan"]
    ends = [
        (asked.parameter(f"{facts.key}_{word}"), operator, f"'{bound}'::{short(facts.key_type)}")
        for word, operator, bound in zip(("from", "until"), (">=", "<"), facts.covered, strict=True)
        if operator[0] not in known
    ]
    written = (
        asked.inserted(" AND ".join(f"{asked.key} {operator} %({each})s" for each, operator, _ in ends))
        if ends
        else None
    )
    if written is None:
        return
    key = _quoted(facts.key)
    lower, upper = (f"'{bound}'" for bound in facts.covered)
    nulls = "" if facts.key_not_null else f" OR {key} IS NULL"
    yield Rewrite(
        "within_partitions",
        f"The application sends {' and '.join(each for each, _, _ in ends)}: a stretch that holds every row, within {facts.covered[0]} and "
        f"{facts.covered[1]}, such as until tomorrow. The default partition is left out, so the query stops as soon as it has enough.",
        written,
        tuple((each, bound) for each, _, bound in ends),
        f"SELECT count(*) FROM {{table}} WHERE {key} < {lower} OR {key} >= {upper}{nulls}",
    )


def _by_time_of_id(asked: _Asked) -> Iterator[Rewrite]:
    """An id that carries the time it was made at: the row's own, or that of the row it refers to."""
    facts = asked.facts
    referring = {foreign.column for foreign in facts.foreign_keys}
    for column, kind in facts.time_ordered.items():
        if column not in asked.equal or (kind == "uuid7" and facts.columns.get(column) != "uuid"):
            continue
        own = (column,) in facts.unique
        if not own and column not in referring:
            continue
        yield from _around(asked, column, kind, own)


def _around(asked: _Asked, column: str, kind: Carries, own: bool) -> Iterator[Rewrite]:
    facts, value = asked.facts, asked.equal[column]
    key = _quoted(facts.key)
    lowest, highest = (
        instant(_quoted(column), kind, shift, short(facts.key_type))
        for shift in (-facts.tolerance_s, facts.tolerance_s)
    )
    outside = f"{key} NOT BETWEEN {lowest} AND {highest}" if own else f"{key} < {lowest}"
    nulls = "" if facts.key_not_null else f" OR {key} IS NULL"
    counterexamples = f"SELECT count(*) FROM {{table}} WHERE {_quoted(column)} IS NOT NULL AND ({outside}{nulls})"
    about = f"{facts.tolerance_s} seconds"
    lower, upper = (
        instant(value, kind, shift, short(facts.key_type)) for shift in (-facts.tolerance_s, facts.tolerance_s)
    )
    bindings: tuple[tuple[str, str], ...] = ()
    sent = "Only the text changes"
    if kind == "ulid":
        first, last = asked.parameter(f"{facts.key}_from"), asked.parameter(f"{facts.key}_until")
        bindings = ((first, lower), (last, upper))[: 2 if own else 1]
        lower, upper = f"%({first})s", f"%({last})s"
        sent = f"The application reads the time out of the id and sends it along, {about} earlier{' and later' if own else ''}"
    written = asked.inserted(f"{asked.key} BETWEEN {lower} AND {upper}" if own else f"{asked.key} >= {lower}")
    if written is None:
        return
    promise = (
        f"{facts.key} must always be within {about} of the time in {column}"
        if own
        else f"{facts.key} must never be more than {about} before the time in {column}"
    )
    yield Rewrite(f"time_of_{_plain(column)}", f"{sent}. {promise}.", written, bindings, counterexamples)


# What the statement says


def equal_columns(statement: Statement, reading: Reading, facts: RewriteFacts) -> dict[str, str]:
    """The columns of the table that its WHERE sets equal to a constant or a parameter."""
    found: dict[str, str] = {}
    for each in conjuncts(argument(reading.block, "where").this):
        if not isinstance(each, exp.EQ):
            continue
        for one, value in ((each.this, each.expression), (each.expression, each.this)):
            column = one.unnest()
            if isinstance(column, exp.Column) and _is_own(column, reading, facts) and _is_constant(value):
                found.setdefault(named(column.this), statement.written(value))
    return found


def _is_own(column: exp.Column, reading: Reading, facts: RewriteFacts) -> bool:
    qualifier = named(column.args.get("table"))
    return named(column.this) in facts.columns and (qualifier in reading.names or not qualifier)


def _is_constant(node: exp.Expression) -> bool:
    while isinstance(node, exp.Paren | exp.Cast):
        node = node.this
    return isinstance(node, exp.Placeholder | exp.Literal)


def _key(statement: Statement, reading: Reading, facts: RewriteFacts) -> str:
    """The key as the block writes it already, or as it may: a bare name is the table's own where nothing stands beside it."""
    alone = len(reading.level.sources) == 1
    for column in reading.block.find_all(exp.Column):
        around = column.find_ancestor(exp.Select, exp.Update, exp.Delete, exp.Merge)
        own = named(column.args.get("table")) in reading.names or (alone and not column.args.get("table"))
        if around is reading.block and named(column.this) == facts.key and own:
            return statement.written(column)
    alias = reading.table.args.get("alias")
    if isinstance(alias, exp.TableAlias):
        return f"{statement.written(alias.this)}.{_quoted(facts.key)}"
    return _quoted(facts.key) if alone else f"{{table}}.{_quoted(facts.key)}"


def _quoted(identifier: str) -> str:
    return text(composed.Identifier(identifier))


def _plain(words: str) -> str:
    """A name of a-z, 0-9 and _ out of any."""
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:40] or "key"
