"""The skeleton of a workload file, out of the statements that pg_stat_statements knows. Pure.

`workload.load` takes it as it stands. The values of parameters come from a row of the table by `bindings`, as in a file written by hand; what no
column tells is a NULL of the right type, and a comment says so.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from atlas_ops.asked import Slot
from atlas_ops.bounds import KEY_TYPES
from atlas_ops.definition import name, text
from atlas_ops.statements import Statement, Tracked
from atlas_ops.tables import count
from atlas_ops.workload import LONGEST_SQL

MOST_QUERIES = 50
"""Of a table: those that took most time. A file of more is read by nobody."""
PAGES = (1, 10, 20, 50, 100, 200, 500, 1_000, 10_000)
"""Numbers for LIMIT: the first that lets as many rows through as a call returned on average."""
PAGE = 100
"""And for a LIMIT further in, of which nobody counts the rows."""
SPAN = "interval '1 day'"
LONGEST_NAME = 41
_FIELD = "epoch"
_INTEGERS = ("int2", "int4", "int8")


@dataclass(frozen=True, slots=True)
class Typed:
    """A statement with the types of its parameters, from $1 on, as format_type prints them; or why the server does not take it."""

    statement: Statement
    types: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Value:
    """An expression for a parameter; `needs`: the column that must not be NULL for it; `remark`: what the DBA has to see to."""

    sql: str
    needs: str = ""
    of_row: bool = False
    remark: str = ""


def workload_file(tables: Sequence[tuple[Tracked, Sequence[Typed]]]) -> str:
    """The text of a workload file with the statements of these tables."""
    queries = CommentedSeq()
    ends: list[str] = []
    taken: set[str] = set()
    for tracked, typed in tables:
        whole = [one for one in typed if not one.refused and _fits(tracked, one)]
        for one in whole[:MOST_QUERIES]:
            queries.append(_query(tracked, one, taken))
        ends += _left_out(tracked, typed, len(whole))
    made = CommentedMap(queries=queries)
    made.yaml_set_start_comment(_head(tables))
    out = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(made, out)
    return out.getvalue() + "".join(f"# {_line(end)}\n" for end in ends)


def _head(tables: Sequence[tuple[Tracked, Sequence[Typed]]]) -> str:
    since = [tracked.rows[0].since for tracked, _ in tables if tracked.rows and tracked.rows[0].since]
    counted = f" since {min(since):%Y-%m-%d}" if since else ""
    return "\n".join(
        [
            f"Made from pg_stat_statements; weight is the number of calls{counted}. Read it before you measure by it:",
            "- a value that a comment asks for stands as NULL; until it is filled in, the query asks for nothing",
            "- values come from the newest row of the table, spans of time are a day around it: bindings, edit them freely",
            "- where the application asks as a role under row security, add role and claims",
            "- expects: {prunes_to: 1} makes a promise of what a query reads",
            "",
        ]
    )


def _left_out(tracked: Tracked, typed: Sequence[Typed], whole: int) -> Iterator[str]:
    if whole > MOST_QUERIES:
        yield f"{tracked.spec.table}: {count(whole - MOST_QUERIES)} more statements took less time and are left out."
    for one in typed:
        if one.refused or not _fits(tracked, one):
            why = one.refused or "it is too long"
            yield f"{tracked.spec.table}: left out ({why}): {one.statement.asked.masked}"


def _line(words: str) -> str:
    """One line of a comment: nothing in it may end it."""
    return "".join(one if one.isprintable() else " " for one in words)


def _fits(tracked: Tracked, one: Typed) -> bool:
    return len(_sql(one)) <= LONGEST_SQL and len(_bindings(tracked, one)[0]) <= LONGEST_SQL


def _sql(one: Typed) -> str:
    first, line_break, rest = one.statement.asked.text("{table}", "%(p{})s".format).partition("\n")
    return first + line_break + textwrap.dedent(rest)


def _query(tracked: Tracked, one: Typed, taken: set[str]) -> CommentedMap:
    statement = one.statement
    asked = statement.asked
    query = CommentedMap(
        name=_name(statement, taken),
        description=f"{asked.verb.upper()}, {count(statement.calls)} calls of {statement.mean_ms:,.3f} ms, "
        f"{statement.rows_a_call:,.1f} rows each",
        table=str(tracked.spec.table),
        weight=statement.calls,
    )
    if asked.writes:
        query["writes"] = True
    query["sql"] = _block(_sql(one))
    if asked.arbiter and tracked.spec.partition_key not in asked.arbiter:
        remark = "on the partitioned table ON CONFLICT must name the partition key too: write it as sql_partitioned"
        query.yaml_set_comment_before_after_key("sql", before=remark, indent=4)
    bindings, remarks = _bindings(tracked, one)
    if bindings:
        query["bindings"] = _block(bindings)
        if remarks:
            query.yaml_set_comment_before_after_key("bindings", before=_lines(remarks), indent=4)
    return query


def _block(text: str) -> str:
    """The text as a block; in quotes and escaped where a block cannot hold it: a name may have a control character."""
    plain = all(one.isprintable() or one == "\n" for one in text)
    made: str = LiteralScalarString(text) if plain else DoubleQuotedScalarString(text)
    return made


def _lines(remarks: Iterable[str]) -> str:
    return "\n".join(_line(remark) for remark in remarks)


def _name(statement: Statement, taken: set[str]) -> str:
    """Verb and columns, such as select_by_user_id; a number where that name is taken."""
    words = [statement.asked.verb, *(("by",) if statement.asked.compared() else ()), *statement.asked.compared()]
    stem = re.sub(r"[^a-z0-9_]+", "_", "_".join(words).lower(), flags=re.ASCII)
    number = 1
    while True:
        ending = f"_{number}" if number > 1 else ""
        made = stem[: LONGEST_NAME - len(ending)].rstrip("_") + ending
        if made not in taken:
            taken.add(made)
            return made
        number += 1


# Where values come from


def _bindings(tracked: Tracked, one: Typed) -> tuple[str, tuple[str, ...]]:
    """The query for the parameters, and what is to be filled in; two empty things where there is no parameter."""
    slots = {slot.number: slot for slot in one.statement.asked.slots}
    if not slots:
        return "", ()
    source = _Source(tracked, one)
    values = {number: source.value(slots[number]) for number in sorted(slots)}
    listed = [f"{value.sql} AS p{number}" for number, value in values.items()]
    query = "SELECT " + ",\n       ".join(listed)
    if any(value.of_row for value in values.values()):
        key = name(tracked.spec.partition_key)
        needed = dict.fromkeys(value.needs for value in values.values() if value.needs)
        needed.pop(tracked.spec.partition_key, None)
        conditions = [f"isfinite({text(key)})", *(f"{text(name(column))} IS NOT NULL" for column in needed)]
        query += f"\nFROM {{table}}\nWHERE {' AND '.join(conditions)}\nORDER BY {text(key)} DESC\nLIMIT 1"
    return query, tuple(f"p{number}: {value.remark}" for number, value in values.items() if value.remark)


class _Source:
    """What the parameters of one statement can be taken from."""

    def __init__(self, tracked: Tracked, one: Typed) -> None:
        self.tracked, self.one = tracked, one
        self.columns = {column.name: column for column in tracked.columns}
        self.fresh, self.clashing = self._keys()

    def value(self, slot: Slot) -> _Value:
        """The expression for one parameter, of the type that the server takes there."""
        kind = self.one.types[slot.number - 1]
        made = self._given(slot)
        if made is not None:
            return replace(made, sql=_cast(made.sql, kind))
        if slot.column in self.fresh and slot.how == "insert":
            return _Value(_cast(self._fresh(slot.column), kind))
        if slot.column in self.clashing and slot.how == "insert":
            return _Value(
                _cast("NULL", kind), remark=f"fill in a value of {slot.column} that is not there yet ({kind})"
            )
        if not slot.column:
            return _Value(
                _cast("NULL", kind), remark=f"fill in what the application sends here ({kind}): no column tells"
            )
        return self._of_row(slot, kind)

    def _given(self, slot: Slot) -> _Value | None:
        """What no column has to tell."""
        rows = self.one.statement.rows_a_call
        page = next((number for number in PAGES if number >= rows), PAGES[-1])
        return {
            "limit": _Value(str(page)),
            "page": _Value(str(PAGE)),
            "offset": _Value("0"),
            "field": _Value(f"'{_FIELD}'", remark=f"the field of extract(): {_FIELD} is a guess"),
        }.get(slot.how)

    def _of_row(self, slot: Slot, kind: str) -> _Value:
        column = self.columns[slot.column]
        own = name(column.name)
        expression = text(own)
        if slot.how == "array":
            expression = f"ARRAY[{expression}]"
        elif slot.how in ("lower", "upper") and column.base_type in KEY_TYPES:
            expression = f"({expression} {'-' if slot.how == 'lower' else '+'} {SPAN})"
        elif column.type == kind:
            kind = ""
        needs = column.name if slot.how not in ("set", "insert") else ""
        return _Value(_cast(expression, kind), needs=needs, of_row=True)

    def _fresh(self, column: str) -> str:
        highest = f"max({text(name(column))}) + 1"
        return "gen_random_uuid()" if self.columns[column].base_type == "uuid" else f"(SELECT {highest} FROM {{table}})"  # noqa: S608

    def _keys(self) -> tuple[set[str], set[str]]:
        """Columns of a plain INSERT that need a value of their own, so that no unique index objects: those that can have one, and others."""
        asked = self.one.statement.asked
        inserted = [slot.column for slot in asked.slots if slot.how == "insert"]
        if asked.arbiter:
            return set(), set()  # ON CONFLICT: the row that is there is what it is about
        foreign = {column for one in self.tracked.constraints if one.kind == "f" for column in one.columns}
        fresh: set[str] = set()
        clashing: set[str] = set()
        for index in self.tracked.indexes:
            there = [column for column in index.columns if column in inserted]
            if not index.unique or len(there) < len(index.columns) or fresh & set(there):
                continue
            able = [c for c in there if c not in foreign and self.columns[c].base_type in ("uuid", *_INTEGERS)]
            (fresh if able else clashing).add((able or there)[0])
        return fresh, clashing


def _cast(expression: str, kind: str) -> str:
    return f"{expression}::{kind}" if kind else expression
