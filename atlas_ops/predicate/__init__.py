"""What a statement says of the partition key, before anything is built: which partitions it will read, and why. Pure.

`foresee` reads a workload's statement, with `{table}` and `%(name)s`. What it tells is what PostgreSQL 15 to 18 prune by, as far as the text
shows it: not which join a plan takes, nor when a LIMIT has enough.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from atlas_ops.bounds import Bound, Period
from atlas_ops.predicate.pruning import (
    Answers,
    Both,
    Compare,
    Condition,
    Either,
    Everything,
    Nothing,
    Unknown,
    compares,
    either,
    remaining,
)
from atlas_ops.predicate.reading import Reading, is_target, readings, stops
from atlas_ops.predicate.scope import Subject
from atlas_ops.predicate.statement import Statement, Unreadable, argument, guarded, named, parse
from atlas_ops.predicate.value import TIMES, short

Reads = Literal["none", "one", "some", "all", "routed", "unknown"]


@dataclass(frozen=True, slots=True)
class Foresight:
    """What a statement will read of the partitioned table.

    `reads`: "one" by equality; "some" by a bound or several values; "none" where no row can match; "routed": it only inserts.
    `when` the bounds are known: "plan" (constants, parameters), "run" where one of them is known later, "" where nothing bounds the key.
    """

    reads: Reads
    when: Literal["plan", "run", ""]
    lower: tuple[str, ...]  # SQL over the parameters: the key lies at or above all of these
    upper: tuple[str, ...]  # and at or below these
    because: str  # for a DBA
    rewrite: str = ""  # a condition that follows from the statement's own and does bound the key
    ordered: bool = False  # it asks for the first rows in order of the key
    conditions: tuple[Condition, ...] = ()  # one a place where the table is read

    @property
    def question(self) -> str:
        """A workload's statement whose single row answers what `partitions` asks for; empty where nothing need be asked."""
        asked = self._asked()
        return f"SELECT {', '.join(asked)}" if asked else ""

    def partitions(
        self, partitions: Sequence[Bound | Period], answer: Sequence[object] = (), *, planned: bool = False
    ) -> int:
        """How many of the partitions remain, at most; `planned`: how many are left in the plan, which locks them.

        `answer` is the row that `question` returns. Without it, or where values are known only row by row, all remain. A statement that only
        inserts counts as one. Raises ValueError for an answer of another length, TypeError for one that is no time.
        """
        if self.reads == "routed":
            return min(1, len(partitions))
        asked = self._asked()
        if answer and len(answer) != len(asked):
            raise ValueError(f"{len(answer)} values for {len(asked)} bounds")
        if not self.conditions:
            return len(partitions)
        answers = dict(zip(asked, answer, strict=False))
        found = (_left(each, partitions, answers, planned) for each in self.conditions)
        return len(frozenset().union(*found))

    def stops_early(self, partitions: Sequence[Bound | Period], answer: Sequence[object] = ()) -> bool:
        """Whether it may stop before it reaches the last of the partitions that remain.

        It may where they are read in order (an ordered Append), which PostgreSQL does not do as long as a default partition is among them.
        """
        if not self.ordered:
            return False
        answers = dict(zip(self._asked(), answer, strict=False))
        left = _left(self.conditions[0], partitions, answers, planned=True)
        return not any(isinstance(each := partitions[place], Bound) and each.is_default for place in left)

    def _asked(self) -> list[str]:
        found = (compare.instant for each in self.conditions for compare in compares(each))
        return [instant for instant in dict.fromkeys(found) if instant]


def foresee(
    sql: str,
    key: str,
    *,
    key_type: str = "timestamp with time zone",
    types: Mapping[str, str] | None = None,
    columns: Collection[str] = (),
    table: str = "",
    version: int = 0,
    time_zone: str = "",
) -> Foresight:
    """What a workload's statement will read of the table once it is partitioned by `key`. Never raises for what `sql` holds.

    `types` are those of the parameters, as format_type prints them; one without is taken for a value of the key's own type. `columns` of the table
    and its bare name `table` tell whose an unqualified column is, and what a qualifier means. `version` is server_version_num, `time_zone` that of
    the application's sessions. Raises ValueError for a key that is no time.
    """
    if short(key_type) not in TIMES:
        raise ValueError(f"{key_type} is no type of time")
    subject = Subject(key, short(key_type), types or {}, columns, table, version, time_zone)
    try:
        with guarded():
            statement = parse(sql)
            return _foresight(statement, subject, list(readings(statement, subject)))
    except Unreadable as error:
        return Foresight("unknown", "", (), (), f"It could not be read: {error}.")


def _foresight(statement: Statement, subject: Subject, found: list[Reading]) -> Foresight:
    targets = [
        table for table in statement.tree.find_all(exp.Table) if table.name == statement.table and is_target(table)
    ]
    routed = " ".join(filter(None, (_conflict(target, subject) for target in targets)))
    if not found:
        if not targets:
            return Foresight("unknown", "", (), (), "It does not read {table}.")
        return Foresight("routed", "", (), (), routed or f"A new row goes to the partition of its own {subject.key}.")
    whole = found[0].condition if len(found) == 1 else either(each.condition for each in found)
    ordered = len(found) == 1 and stops(found[0], subject.key) and _reads(whole) in ("some", "all", "unknown")
    early = _EARLY.format(key=subject.key) if ordered else ""
    told = [_because(whole, subject.key), _moves(found, subject), early, routed]
    if len(found) > 1:
        unbounded: list[Condition] = [each.condition for each in found if isinstance(each.condition, Everything)]
        told[0] = f"It reads {{table}} in {len(found)} places. {_because((unbounded or [whole])[0], subject.key)}"
    return Foresight(
        _reads(whole),
        _when(whole),
        _ends(whole, (">", ">=", "=")),
        _ends(whole, ("<", "<=", "=")),
        " ".join(filter(None, told)),
        whole.rewrite if isinstance(whole, Everything) else "",
        ordered,
        tuple(each.condition for each in found),
    )


_EARLY = (
    "With ORDER BY {key} and LIMIT it may have enough before it reaches the last one, if no default partition remains."
)


def _left(
    condition: Condition, partitions: Sequence[Bound | Period], answers: Answers, planned: bool
) -> frozenset[int]:
    """A plan with one partition has no Append that could skip it when it runs."""
    found = remaining(condition, partitions, answers, ("plan",))
    return found if planned or len(found) == 1 else remaining(condition, partitions, answers, ("plan", "run"))


def _reads(condition: Condition) -> Reads:
    match condition:
        case Nothing():
            return "none"
        case Everything():
            return "all"
        case Unknown():
            return "unknown"
        case Compare("=", known=known, over="") if known != "join":
            return "one"
        case Both(parts) if any(_reads(part) == "one" for part in parts):
            return "one"
        case _:
            return "some"


def _when(condition: Condition) -> Literal["plan", "run", ""]:
    match condition:
        case Everything() | Unknown():
            return ""
        case _:
            return "run" if any(each.known != "plan" for each in compares(condition)) else "plan"


def _ends(condition: Condition, operators: Collection[str]) -> tuple[str, ...]:
    """The values at one end, all of which bound the key; of alternatives the outermost."""
    match condition:
        case Compare(operator, sql, known, over=over) if operator in operators and known != "join" and not over:
            return (sql,)
        case Both(parts):
            return tuple(dict.fromkeys(end for part in parts for end in _ends(part, operators)))
        case Either(parts):
            each = [_ends(part, operators) for part in parts]
            if not all(each):
                return ()
            outermost, innermost = ("least", "greatest") if ">" in operators else ("greatest", "least")
            return (f"{outermost}({', '.join(_one(ends, innermost) for ends in each)})",)
        case _:
            return ()


def _one(ends: tuple[str, ...], innermost: str) -> str:
    return ends[0] if len(ends) == 1 else f"{innermost}({', '.join(ends)})"


def _because(condition: Condition, key: str) -> str:
    match condition:
        case Everything(cause, rewrite):
            follows = f" {rewrite} follows from it, and would bound {key}." if rewrite else ""
            return f"{cause or f'{key} is not bounded'}.{follows}"
        case Unknown(cause):
            return f"It cannot be told: {cause}."
        case Nothing(null, why):
            return f"{f'Only a default partition can hold a row without {key}' if null else why}."
        case _:
            return f"{_bounded(condition, key)}{_later(condition)}."


def _bounded(condition: Condition, key: str) -> str:  # noqa: PLR0911 - one line a kind
    match condition:
        case Compare("=", known="join"):
            return f"{key} is joined"
        case Compare("=", over=""):
            return f"{_said(condition, key)} names one partition"
        case Compare("="):
            return f"{_said(condition, key)} names some partitions"
        case Compare():
            return f"{_said(condition, key)} bounds it from {'below' if '>' in condition.operator else 'above'}"
        case Both(parts):
            return _bounded_by(parts, key)
        case Either(parts):
            if all(isinstance(part, Compare) and part.operator == "=" and not part.over for part in parts):
                return f"{key} is one of {len(parts)} values"
            return f"{key} is bounded in each branch of an OR"
        case _:
            raise AssertionError(condition)


def _bounded_by(parts: Sequence[Condition], key: str) -> str:
    plain = [part for part in parts if isinstance(part, Compare)]
    equal = next((part for part in plain if _reads(part) == "one"), None)
    if equal is not None:
        return _bounded(equal, key)
    if len(plain) < len(parts) or any(part.sql == "(...)" for part in plain):
        return f"{key} is bounded"
    sides = {part.operator[0] for part in plain}
    where = "on both sides" if {"<", ">"} <= sides else "from below" if ">" in sides else "from above"
    return f"{' and '.join(_said(part, key) for part in plain)} bound it {where}"


def _said(compare: Compare, key: str) -> str:
    value = f"{compare.over} ({compare.sql})" if compare.over else compare.sql
    return f"{key} {compare.operator} {value}"


def _later(condition: Condition) -> str:
    """Why not while planning, and by whom else."""
    late = [each for each in compares(condition) if each.known != "plan"]
    if not late:
        return ""
    joined = next((each.why for each in late if each.known == "join"), "")
    if joined:
        return f"; {joined} is known row by row: partitions are skipped only by a nested loop over them"
    return f"; known only when it runs: {late[0].why}"


def _moves(found: Sequence[Reading], subject: Subject) -> str:
    """SET of the key itself."""
    updates = [each.block for each in found if isinstance(each.block, exp.Update) and each.block.this is each.table]
    for update in updates:
        if any(
            isinstance(each, exp.EQ) and named(each.this.args.get("this")) == subject.key for each in update.expressions
        ):
            return f"A row whose {subject.key} changes may move to another partition."
    return ""


def _conflict(target: exp.Table, subject: Subject) -> str:
    """ON CONFLICT on columns that lack the key."""
    insert = target.find_ancestor(exp.Insert)
    conflict = argument(insert, "conflict") if insert is not None else None
    keys = conflict.args.get("conflict_keys") if conflict is not None else None
    if not keys:
        return ""
    names = [named(each.this.args.get("this")) for each in keys]
    if subject.key in names:
        return ""
    return f"ON CONFLICT ({', '.join(names)}) lacks {subject.key}: no unique constraint of the partitioned table fits."
