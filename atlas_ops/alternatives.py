"""What else could be asked of the partitioned table: reads what `rewrites` must know, fetches the values a rewrite sends along, and counts the
rows of the original that speak against it. No row leaves the server but the values, which go back into statements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import psycopg

from atlas_ops import catalog
from atlas_ops.bindings import Values, bound, extended, rolled_back
from atlas_ops.bounds import Bound, Period, parse_bound, stretch
from atlas_ops.comparison import Foreseen
from atlas_ops.database import Session, connect, identifier
from atlas_ops.errors import AtlasError
from atlas_ops.index_advice import index_advice
from atlas_ops.model import Relation
from atlas_ops.predicate import Foresight, foresee
from atlas_ops.predicate.halfopen import UTC
from atlas_ops.predicate.value import short
from atlas_ops.rewrites import Rewrite, RewriteFacts, candidates
from atlas_ops.spec import TableSpec
from atlas_ops.workload import Query, asks, parameters, statement

MOST_TRIED = 4
"""Rewrites of one query: each is measured as often as the query itself."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """A rewritten statement with its values. `counterexamples`: rows it would answer otherwise; None: they could not be counted."""

    name: str
    description: str
    sql: str
    values: Values
    counterexamples: int | None


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One table's rewrites. Counts are of the whole table, and kept: the queries of a workload ask for the same ones."""

    spec: TableSpec
    facts: RewriteFacts
    partitioned: Relation | None
    search_path: str
    default_partition: str = ""  # its name, where there is one
    _counted: dict[str, int | None] = field(default_factory=dict)

    @property
    def original(self) -> str:
        """The original as SQL writes it."""
        return identifier(*self.spec.original_at)

    @classmethod
    def of(cls, connection: psycopg.Connection, spec: TableSpec, search_path: str) -> Alternatives:
        """What the catalogs, and a sample of the ids, tell of both tables. Raises AtlasError where the original cannot be read."""
        with catalog.reading(connection, f"Reading {spec.table}"):
            original = catalog.relation(connection, *spec.original_at)
            partitioned = catalog.relation(connection, *spec.partitioned_at)
            if original is None:
                raise AtlasError(
                    what=f"There is no {spec.table}.",
                    why="The queries of the workload are asked of it.",
                    next="Correct the table's name in the specification.",
                )
            partitions = catalog.attached(connection, partitioned.table.oid) if partitioned else ()
            bounds = {each.name: parse_bound(each.bound) for each in partitions}
            default = next((name for name, each in bounds.items() if each.is_default), "")
            facts = RewriteFacts.of(
                original,
                spec.partition_key,
                catalog.foreign_times(connection, original.table.oid),
                version=catalog.server(connection).version,
                time_zone=_zone(catalog.session_zones(connection)),
                key_not_null=_key_not_null(spec, original, partitioned),
            )
            facts = replace(
                facts,
                time_ordered=catalog.id_kinds(connection, original.table, _ids(facts)),
                # without a default partition the rows are read in order as they are asked for
                covered=_covered(list(bounds.values()), short(facts.key_type)) if default else None,
            )
        return cls(spec, facts, partitioned, search_path, default)

    def foreseen(self, query: Query, types: Mapping[str, str]) -> Foresight:
        """What the text of a query tells of the partition key."""
        return foresee(
            query.sql_partitioned or query.sql,
            self.facts.key,
            key_type=self.facts.key_type,
            types=types,
            columns=self.facts.columns,
            table=self.facts.table,
            version=self.facts.version,
            time_zone=self.facts.time_zone,
        )

    def index(self, query: Query, types: Mapping[str, str]) -> str:
        """The statement that makes the index with which a query could stop early, or nothing."""
        if self.partitioned is None:
            return ""
        asked = query.sql_partitioned or query.sql
        found = index_advice(asked, self.facts, self.partitioned.indexes, self.spec.partitioned_at, types=types)
        return found.statement if found else ""

    def of_query(self, connection: psycopg.Connection, query: Query, values: Values) -> Iterator[Alternative]:
        """The rewrites to measure: the workload's own, then those that follow from the text and that no row speaks against, or few can tell.

        Raises psycopg's errors where the workload's own values cannot be had.
        """
        if query.sql_rewritten:
            yield Alternative("sql_rewritten", "the workload's own", query.sql_rewritten, values, 0)
        asked = query.sql_partitioned or query.sql
        if not all(name in values.types for name in parameters(asked)):
            return  # the query itself cannot be asked
        found = candidates(asked, self.facts, types=values.types, taken=values.types)
        against = [(each, self._against(connection, each)) for each in found]
        best = sorted(against, key=lambda pair: pair[1] is None or pair[1])[:MOST_TRIED]
        for rewrite, count in best:
            more = extended(connection, values, rewrite.bindings, self.original, self.search_path)
            yield Alternative(rewrite.name, rewrite.description, rewrite.sql, more, count)

    def _against(self, connection: psycopg.Connection, rewrite: Rewrite) -> int | None:
        """Rows for which the rewrite may answer otherwise, of the table that has more of them; None: they could not be counted.

        Both are searched: the copy, of which it is asked, may hold other keys than the original (null_keys); the original may hold rows that the copy
        has not been given yet, and a roll back brings it back.
        """
        if rewrite.counterexamples is None:
            return 0
        counts = []
        for table in self._searched:
            counts.append(self._count(connection, rewrite.counterexamples, table))
            if counts[-1]:
                break  # that is enough to speak against it
        return None if None in counts else max(each or 0 for each in counts)

    @property
    def _searched(self) -> tuple[str, ...]:
        copy = (identifier(*self.spec.partitioned_at),) if self.partitioned else ()
        # rows without a key that are set aside are in no partition: where one may come without a key, the original's would be taken for it
        aside = self.spec.null_keys == "set_aside" and not self.facts.key_not_null
        return copy if copy and aside else (*copy, self.original)

    def _count(self, connection: psycopg.Connection, counterexamples: str, table: str) -> int | None:
        text = statement(counterexamples, table, {})
        if text not in self._counted:
            try:
                with rolled_back(connection, self.search_path):
                    row = connection.execute(text.encode(), {}).fetchone()
                self._counted[text] = row[0] if row else None
            except psycopg.errors.QueryCanceled:
                self._counted[text] = None  # the table is too large for the time there is
        return self._counted[text]


def _key_not_null(spec: TableSpec, original: Relation, partitioned: Relation | None) -> bool:
    """Whether a rewrite need not ask for rows without a key.

    Those that are set aside are in no partition, and refused ones in no copy. One that was given a key has it in the copy alone: whoever read it
    in the original sends NULL, and a rewritten statement would lose it there, before a cut-over and after a roll back.
    """
    after = partitioned.column(spec.partition_key) if partitioned else None
    if after is not None and not after.not_null:
        return False
    before = original.column(spec.partition_key)
    return spec.null_value is None or (before is not None and before.not_null)


def _zone(zones: Collection[str]) -> str:
    """UTC where all sessions begin with it: then a day is a day. Otherwise nothing is taken for known."""
    return "UTC" if zones and all(zone.lower() in UTC for zone in zones) else ""


def _covered(bounds: Sequence[Bound], key_type: str) -> tuple[str, str] | None:
    """The stretch that the partitions cover, as values of the key's type."""
    found = stretch(bounds)
    if found is None:
        return None
    lower, upper = (None if end is None else _written(end, key_type) for end in found)
    return lower or "-infinity", upper or "infinity"


def _written(moment: datetime, key_type: str) -> str:
    if key_type == "date":
        return moment.date().isoformat()
    return moment.replace(tzinfo=None).isoformat(sep=" ") + ("+00" if key_type == "timestamptz" else "")


def _ids(facts: RewriteFacts) -> list[str]:
    """The columns whose values might carry a time: a key of one column, or what refers to one."""
    columns = [each[0] for each in facts.unique if len(each) == 1] + [each.column for each in facts.foreign_keys]
    return list(dict.fromkeys(columns))


def foreseen(
    where: Session, spec: TableSpec, queries: Sequence[Query], periods: Sequence[Period]
) -> tuple[Foreseen, ...]:
    """What each query that asks the table of `spec` would read of the partitions of `periods`. The original alone is read, for the values.

    Raises AtlasError where the original is not there or the connection is lost.
    """
    path = search_path(spec)
    partitions: list[Bound | Period] = [*periods]
    if spec.default_partition:
        partitions.append(parse_bound("DEFAULT"))
    found = []
    with connect(where) as connection:
        alternatives = Alternatives.of(connection, spec, path)
        for query in queries:
            if not asks(query, spec):
                continue
            values = bound(connection, query, alternatives.original, path)
            known = values if isinstance(values, Values) else Values((), {})
            foresight = alternatives.foreseen(query, known.types)
            count = _partitions(connection, foresight, partitions, known, alternatives)
            found.append(Foreseen(query, foresight, count, len(partitions)))
    return tuple(found)


def _partitions(
    connection: psycopg.Connection,
    foresight: Foresight,
    partitions: Sequence[Bound | Period],
    values: Values,
    alternatives: Alternatives,
) -> int | None:
    """The most partitions that any of the values leaves."""
    if foresight.reads == "unknown":
        return None
    if not foresight.question:
        return foresight.partitions(partitions)
    if not all(name in values.types for name in parameters(foresight.question)):
        return None  # the bindings leave it out, as 05 will tell
    text = statement(foresight.question, alternatives.original, values.types)
    counts = []
    try:
        for row in values.rows:
            with rolled_back(connection, alternatives.search_path):
                answer = connection.execute(text.encode(), row).fetchone()
            assert answer is not None
            counts.append(foresight.partitions(partitions, answer))
    except psycopg.Error:  # infinity is no datetime, and a question may fail as the query itself would
        if connection.closed:
            raise
    return max(counts, default=None)


def search_path(spec: TableSpec) -> str:
    """Where the application's unqualified names are found."""
    return ", ".join(dict.fromkeys((identifier(spec.schema), identifier("public"))))
