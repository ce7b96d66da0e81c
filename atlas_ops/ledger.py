"""Whether the new table is the old table: the difference of two ledgers, line by line. Pure.

A ledger holds every property of a table and of all that hangs on it (`catalog.ledger`). Each line of the difference is *same*, *changed of
necessity* with the reason, *waived* by name in the specification, or red: a property that was lost, or won, and nobody said so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from atlas_ops import definition, repoint, takeover
from atlas_ops.definition import name, plainly, text
from atlas_ops.model import Fact, Relation
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

OWN_TRIGGER = re.compile(r"(000_|zzz_)?atlas_ops_")
CHECK = "ledger"
OWN_REASONS = {
    takeover.CLOSED: "Ours: the application may read the copy, and write it once 06 has opened it.",
    takeover.REFERRED: "Ours: TRUNCATE is refused as on the original, to which the foreign keys of other tables go on referring.",
}


class Place(StrEnum):
    """Where the partitioned table stands in relation to the original."""

    FOLLOWS = "follows"  # the application writes the original
    BESIDE = "beside"  # the application has moved to the partitioned table, under its own name
    IN_PLACE = "in place"  # the partitioned table has the original's name


class Kept(StrEnum):
    """What became of a property."""

    SAME = "same"
    CHANGED = "changed of necessity"
    WAIVED = "waived"
    RED = "red"


@dataclass(frozen=True, slots=True)
class Difference:
    """One property on both sides; `reason` says why it is another one, or for red what would cure it."""

    kind: str
    name: str
    aspect: str
    before: str | None
    after: str | None
    kept: Kept
    reason: str = ""

    @property
    def labels(self) -> tuple[str, str]:
        """What `waive` may call it: all of the thing, and this of it."""
        thing = f"{self.kind} {self.name}".strip()
        return thing, f"{thing}: {self.aspect}"

    @property
    def label(self) -> str:
        """What it is, and of what: `kind name: aspect`."""
        return self.labels[1]


@dataclass(frozen=True, slots=True)
class Ledgers:
    """Both sides of one table, and what the decisions need besides: `original` as it was when its ledger was read."""

    spec: TableSpec
    original: Relation
    before: tuple[Fact, ...]  # of the original
    after: tuple[Fact, ...]  # of the partitioned table
    after_at: tuple[str, str]  # its schema and name then
    place: Place


Key = tuple[str, str, str]
Rule = Callable[[Ledgers, Key, str | None, str | None], str | None]


def difference(ledgers: Ledgers) -> tuple[Difference, ...]:
    """Every property of either side, in the order of the original's ledger; what only the partitioned table has comes last."""
    before = _by_key(ledgers.before, ledgers.original.table.schema, ledgers.original.table.name)
    after = _by_key(_renamed(ledgers), *ledgers.after_at)
    before, after = _paired_statistics(before, after)
    return tuple(_line(ledgers, key, before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after]))


def _by_key(facts: Iterable[Fact], schema: str, table: str) -> dict[Key, str]:
    """The facts by what they are of. A table's own name in an expression is no difference, so it reads `table` on both sides."""
    own = "|".join(
        re.escape(words)
        for words in (f"{text(name(schema, table))}", plainly(schema, table), text(name(table)), plainly(table))
    )
    pattern = re.compile(rf'(?<![\w$."])(?:{own})(?=\.)')
    return {(fact.kind, fact.name, fact.aspect): pattern.sub("table", fact.value) for fact in facts}


def _renamed(ledgers: Ledgers) -> list[Fact]:
    """Until the exchange the indexes of the copy have names of their own: they are told by those that they will have."""
    if ledgers.place is Place.IN_PLACE:
        return list(ledgers.after)
    theirs = {own: original for own, original, _ in repoint.index_names(ledgers.spec, ledgers.original)}
    named = {"index", "primary key", "unique constraint"}
    return [
        replace(fact, name=theirs.get(fact.name, fact.name)) if fact.kind in named else fact for fact in ledgers.after
    ]


def _paired_statistics(before: dict[Key, str], after: dict[Key, str]) -> tuple[dict[Key, str], dict[Key, str]]:
    """Statistics objects by what they are of: nothing refers to one by its name, and a name is unique in its schema."""

    def told(facts: dict[Key, str]) -> dict[Key, str]:
        of = {key[1]: value for key, value in facts.items() if key[0] == "statistics" and key[2] == "definition"}
        return {
            ((kind, f"on {of[called]}", aspect) if kind == "statistics" else (kind, called, aspect)): value
            for (kind, called, aspect), value in facts.items()
        }

    return told(before), told(after)


def _line(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> Difference:
    kind, called, aspect = key
    if before == after:
        return Difference(kind, called, aspect, before, after, Kept.SAME)
    for rule in RULES:
        if reason := rule(ledgers, key, before, after):
            return Difference(kind, called, aspect, before, after, Kept.CHANGED, reason)
    line = Difference(kind, called, aspect, before, after, Kept.RED, _cure(before, after))
    if not set(line.labels).isdisjoint(ledgers.spec.waive):
        return replace(line, kept=Kept.WAIVED, reason="The specification waives it by name.")
    return line


def _cure(before: str | None, after: str | None) -> str:
    if before is None:
        return "The original does not have it. Take it away, or waive it by name."
    if after is None:
        return "It was lost. Add it to the partitioned table, or waive it by name."
    return "It is another one now. Set it as it was, or waive it by name."


# -- what PostgreSQL, or the protocol, does not allow to stay the same


def _partitioned(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    return "It is what was asked for." if key == ("table", "", "kind") else None


def _not_null(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    if key == ("column", ledgers.spec.partition_key, "not null") and after == "yes":
        return "The primary key of a partitioned table holds the partition key, and allows no NULL in it."
    return None


def _unique(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    """A unique key gets the partition key as its last column: no other difference passes."""
    kind, called, aspect = key
    if kind not in ("primary key", "unique constraint", "index") or aspect != "definition" or not before:
        return None
    made = definition.keyed(ledgers.original)
    if called not in made or (kind == "index" and not before.startswith("UNIQUE ")):
        return None
    bare = before.removeprefix("UNIQUE ") if kind == "index" else before
    wanted = definition.with_key(bare, made[called][0], ledgers.spec.partition_key)
    if after is not None and definition.unquoted(after) == definition.unquoted(before.replace(bare, wanted)):
        return "A unique key of a partitioned table must hold the partition key: it is unique within a partition only."
    return None


def _useless_index(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    kind, called, aspect = key
    if kind == "index" and after is None:
        if any(index.name == called and not index.valid for index in ledgers.original.indexes):
            return (
                "An invalid index serves no query, and is left behind. REINDEX it before the migration if you want it."
            )
        if aspect == "clustered":
            return "A partitioned index cannot be marked for CLUSTER."
    return None


def _wanted_index(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    kind, called, _ = key
    if kind != "index" or before is not None:
        return None
    plans = definition.index_plans(ledgers.original, ledgers.spec.partition_key, ledgers.spec.indexes)
    names = {plan.name_on(ledgers.spec.partitioned_name) for plan in plans if not plan.of}
    return "The specification asks for it." if called in names else None


def _ours(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    if key[0] == "trigger" and key[1] in OWN_REASONS:
        return OWN_REASONS[key[1]]
    if key[0] == "trigger" and OWN_TRIGGER.match(key[1]):
        return "Ours: it keeps the two tables in step, and goes with the table that is dropped at last."
    return None


LATER = "06 brings it: a stale row of the copy must not refuse, or repeat, what the application does."
BOUND = "It reads the original until 06 exchanges the tables."
COMES_WITH_06 = {
    "foreign key": LATER,
    "publication": "06 hands it over: until then a change would be sent twice.",
}
FOLLOWS_THE_NAME = frozenset(
    {
        "view",
        "materialized view",
        "rule of another table",
        "policy of another table",
        "function",
        "foreign key of another table",
    }
)


def _until_the_exchange(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    """What a table that only follows does without."""
    kind, _, aspect = key
    if ledgers.place is not Place.FOLLOWS:
        return None
    if kind == "sequence":
        return "Numbers are drawn from the original's sequence until 06."
    if kind == "trigger" and aspect == "enabled" and after == "disabled":
        return LATER
    if after is not None:
        return None
    if aspect == "comment" and kind not in ("table", "column"):
        return "06 brings it."
    return COMES_WITH_06.get(kind) or (BOUND if kind in FOLLOWS_THE_NAME else None)


def _beside(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    if ledgers.place is Place.BESIDE and key[0] in FOLLOWS_THE_NAME and after is None:
        return "Side by side no name is exchanged: what reads the original goes on reading it, and it follows."
    return None


def _incoming(ledgers: Ledgers, key: Key, before: str | None, after: str | None) -> str | None:
    way = ledgers.spec.incoming_foreign_keys
    if ledgers.place is Place.IN_PLACE and key[0] == "foreign key of another table" and way != "refuse":
        return {
            "registry": "It refers to the registry of keys, which is unique over all partitions: a foreign key needs a unique key.",
            "composite": "It refers to the primary key and the partition key together: a foreign key needs a unique key.",
        }[way]
    return None


RULES: Sequence[Rule] = (
    _partitioned, _not_null, _unique, _useless_index, _wanted_index, _ours, _until_the_exchange, _beside, _incoming,
)  # fmt: skip


# -- what is told of it


def checks(spec: TableSpec, lines: Sequence[Difference]) -> list[Check]:
    """A red check for each property that was lost or won unasked, and a note for a waiver that waives nothing."""
    used = {waiver for line in lines if line.kept is Kept.WAIVED for waiver in line.labels}
    return [
        *(
            Check(
                Severity.STOP, spec.table, CHECK, f"{line.label} is {line.after or 'gone'}; it was {line.before or 'not there'}.",
                "What was true of the original is not true of the partitioned table.", line.reason + f" (waive: ['{line.label}'])",
            )
            for line in lines
            if line.kept is Kept.RED
        ),
        *(
            Check(Severity.NOTE, spec.table, CHECK, f"waive names {waiver}, which nothing needs.", cure="Take it out of the specification.")
            for waiver in spec.waive
            if waiver not in used
        ),
    ]  # fmt: skip


def counted(lines: Sequence[Difference]) -> dict[str, int]:
    """How many properties were kept in which way."""
    found = Counter(line.kept for line in lines)
    return {str(kept): found[kept] for kept in Kept}
