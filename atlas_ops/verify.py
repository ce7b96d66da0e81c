"""Decides whether two tables hold the same rows: what to ask, and what the answers mean. Pure.

Three proofs, each stronger than the one before: rows per part, keys, content. The content digest of a part is
`sum(hashtextextended(hash_record_extended(row, 0)::text, 0))`, with three turns that matter:

* The sum, not XOR: pairs of equal rows would cancel.
* The record's hash is hashed once more. `hash_record_extended` is linear in its columns (31 * h + column), so a plain sum does not
  see the values of one column exchanged between two rows: 63 % of such exchanges went unseen on PostgreSQL 18 (a test repeats it).
* Equal is not the same: `1.0 = 1.00`, `'1 month' = '30 days'`, jsonb and collations likewise. A column goes into the record as it is
  only where equal values are identical; any other goes in as the text that its output function writes, under pinned settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from psycopg import sql

from atlas_ops import incoming, online, sqlfile, takeover
from atlas_ops.definition import insertable, name, names, plainly, raw, switch_triggers, text
from atlas_ops.division import Kind, Part
from atlas_ops.migration import drain_step
from atlas_ops.model import Column, Relation, Snapshot
from atlas_ops.plan import Effect, Plan, Step, plan_for
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

STAGE = "verify_counts"
NAMED_DIFFERENCES = 20

# Types whose values are identical where they are equal, so that their own hash sees every difference.
EXACT = frozenset(
    {"bool", "char", "int2", "int4", "int8", "oid", "uuid", "date", "time", "timestamp", "timestamptz"}
    | {"bytea", "name", "text", "varchar", "pg_lsn", "xid8", "macaddr", "macaddr8"}
)
COLLATED = frozenset({"text", "varchar", "name"})


@dataclass(frozen=True, slots=True)
class Figures:
    """One part of one side: rows, and the sums of the hashes of keys and of content."""

    rows: int
    keys: int
    content: int


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one part: only in the original, only in the partitioned table, in both; rows each."""

    only_original: int
    only_partitioned: int
    both: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that is not the same on both sides, by the text of its key and the names of its columns."""

    part: str
    key: tuple[str, ...]
    kind: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PartProof:
    """What was found for one part of the key."""

    table: str
    part: str
    original: Figures
    partitioned: Figures
    keys: Keys
    seconds: float
    waiting: int = 0  # rows that differ and whose keys wait in the key log
    lost: int | None = (
        None  # rows that differ and are in no log; None: nothing follows, so there is no log to look into
    )

    @property
    def same_count(self) -> bool:
        """As many rows on both sides."""
        return self.original.rows == self.partitioned.rows

    @property
    def same_keys(self) -> bool:
        """The same keys: by digest, and by joining them in both directions."""
        return (
            self.original.keys == self.partitioned.keys
            and not self.keys.only_original
            and not self.keys.only_partitioned
        )

    @property
    def same(self) -> bool:
        """The same rows, with the same content."""
        return self.same_count and self.same_keys and self.original.content == self.partitioned.content

    @property
    def proven(self) -> bool:
        """Nothing is lost: the same rows, or every row that differs waits in the key log."""
        return self.same or self.lost == 0


def figures_query(spec: TableSpec, original: Relation, part: Part, *, partitioned: bool) -> sql.Composed:
    """Rows and digests of one part of one side: one row of `Figures`."""
    return sqlfile.template(
        "part_figures",
        key_hash=_hash(column for column in original.columns if column.name in online.key_columns(spec, original)),
        content_hash=_hash(original.columns),
        rows=_side(spec, original, part, partitioned=partitioned),
    )


def keys_query(spec: TableSpec, original: Relation, part: Part) -> sql.Composed:
    """The keys of one part in both directions: one row of `Keys`."""
    return sqlfile.template(
        "part_keys",
        original=_side(spec, original, part, partitioned=False),
        partitioned=_side(spec, original, part, partitioned=True),
        keys=names(_joined_by(spec, original, part)),
    )


def differences_query(spec: TableSpec, original: Relation, part: Part, limit: int = NAMED_DIFFERENCES) -> sql.Composed:
    """The rows of one part that differ, at most `limit`: key as text[], kind, names of columns."""
    keys = _joined_by(spec, original, part)
    columns = [column.name for column in original.columns]  # keys too: 1.0 joins with 1.00
    return sqlfile.template(
        "part_differences",
        key_texts=sql.SQL("ARRAY[{}]").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(name(key)) for key in keys)
        ),
        columns=sql.SQL(", ").join(
            sql.SQL("CASE WHEN NOT ({}) THEN {} END").format(_identical("o", "p", [column]), sql.Literal(column))
            for column in columns
        ),
        same=_identical("o", "p", columns),
        original=_side(spec, original, part, partitioned=False),
        partitioned=_side(spec, original, part, partitioned=True),
        keys=names(keys),
        limit=sql.Literal(limit),
    )


def waiting_query(spec: TableSpec, original: Relation, part: Part, authority: str) -> sql.Composed:
    """How many rows of one part that differ wait in the key log, and how many are in no log: the invariant of the online copy."""
    return sqlfile.template("part_waiting", differing=_differing(spec, original, part, authority))


def lost_query(
    spec: TableSpec, original: Relation, part: Part, authority: str, limit: int = NAMED_DIFFERENCES
) -> sql.Composed:
    """The rows of one part that differ and are in no log, at most `limit`: key as text[], kind, no column."""
    return sqlfile.template(
        "part_lost",
        key_texts=sql.SQL("ARRAY[{}]").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(name(key)) for key in _joined_by(spec, original, part))
        ),
        differing=_differing(spec, original, part, authority),
        limit=sql.Literal(limit),
    )


def _differing(spec: TableSpec, original: Relation, part: Part, authority: str) -> sql.Composed:
    """A drain into the original goes by primary key alone; one into the partitioned table by the partition key too, or by none of it."""
    keys, primary = _joined_by(spec, original, part), online.primary_columns(original)
    by_primary = sql.SQL(
        "LEFT JOIN (SELECT DISTINCT {}, true AS atlas_ops_logged FROM {} WHERE {}) AS by_primary USING ({})"
    )
    exact = sql.SQL("LEFT JOIN (SELECT DISTINCT {}, true AS atlas_ops_logged FROM {}) AS exact USING ({})")
    whole = authority == online.PARTITIONED or not part.attachable
    keyless = sql.SQL("true") if whole else sql.SQL("{} IS NULL").format(name(spec.partition_key))
    joins = [by_primary.format(names(primary), online.log(spec), keyless, names(primary))]
    found = ["by_primary"]
    if not whole:
        joins.append(exact.format(names(keys), online.log(spec), names(keys)))
        found.append("exact")
    columns = [column.name for column in original.columns]
    return sqlfile.template(
        "part_differing",
        keys=names(keys),
        using=names(keys),
        in_log=sql.SQL("coalesce({}, false)").format(
            sql.SQL(", ").join(name(alias, "atlas_ops_logged") for alias in found)
        ),
        original=_side(spec, original, part, partitioned=False),
        partitioned=_side(spec, original, part, partitioned=True),
        same=_identical("o", "p", columns),
        joins=sql.SQL("\n").join(joins),
    )


def _joined_by(spec: TableSpec, original: Relation, part: Part) -> tuple[str, ...]:
    """Rows without a partition key are named by their primary key alone: NULL joins with nothing."""
    if part.attachable or original.primary_key is None:
        return online.key_columns(spec, original)
    return original.primary_key.columns


def _identical(one: str, other: str, columns: Sequence[str]) -> sql.Composable:
    """Whether the columns of two aliased rows have the same images; ::record keeps the parser from comparing column by column."""
    rows = (
        sql.SQL("ROW({})::record").format(sql.SQL(", ").join(name(alias, column) for column in columns))
        for alias in (one, other)
    )
    return sql.SQL(" *= ").join(rows)


def _side(spec: TableSpec, original: Relation, part: Part, *, partitioned: bool) -> sql.Composed:
    """The rows of one part of one side as a subquery, with the columns of the original and a flag that the row is there."""
    columns: sql.Composable = names(column.name for column in original.columns)
    if part.kind is Kind.SET_ASIDE and partitioned:
        table = name(spec.partition_schema, part.table)
    elif partitioned:
        table = name(*spec.partitioned_at)
    else:
        table = name(*spec.original_at)
        if part.attachable:
            columns = sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(raw(online.projection(spec, column.name)), name(column.name))
                for column in original.columns
            )
    where = part.of_partitioned if partitioned else part.of_original
    return sql.SQL("(SELECT {}, true AS atlas_ops_here FROM {} WHERE {})").format(columns, table, raw(where))


def _hash(columns: Iterable[Column]) -> sql.Composed:
    return content_hash([exact(column) for column in columns])


def content_hash(values: Iterable[sql.Composable]) -> sql.Composed:
    """The hash of a row of such values, 64 bits: twice hashed, see above."""
    record = sql.SQL(", ").join(values)
    return sql.SQL('hashtextextended(hash_record_extended(ROW({}), 0)::text COLLATE "C", 0)').format(record)


class Typed(Protocol):
    """What has a name and a type: a column of the catalogs, or a field of an archive."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def base_type(self) -> str:
        """The name of its type, below any domain."""

    @property
    def type_kind(self) -> str:
        """typtype."""


def exact(column: Typed, *, anywhere: bool = False) -> sql.Composable:
    """The column of the row `r` in a form whose equality is identity.

    `anywhere`: on every server alike. An enum's hash is that of an OID, which another database gives to another label.
    """
    own = name("r", column.name)
    if column.type_kind == "b" and column.base_type in COLLATED:
        return sql.SQL('{} COLLATE "C"').format(own)  # a nondeterministic collation calls different texts equal
    if (column.type_kind == "b" and column.base_type in EXACT) or (column.type_kind == "e" and not anywhere):
        return own
    if column.base_type == "bpchar":
        return sql.SQL("textin(bpcharout({}))").format(own)  # ::text would cut trailing blanks
    return sql.SQL('{}::text COLLATE "C"').format(own)  # a domain or an array hands its collation on


# -- what the answers mean


def checks(spec: TableSpec, proofs: Sequence[PartProof]) -> tuple[Check, ...]:
    """One green check for a table whose every part is the same, else one red check a part."""
    wrong = [proof for proof in proofs if not proof.proven]
    if not wrong:
        rows = sum(proof.original.rows for proof in proofs)
        waiting = sum(proof.waiting for proof in proofs)
        behind = f", but for {waiting:,} whose keys wait in the key log" if waiting else ""
        return (
            Check(
                Severity.OK,
                spec.name,
                "same rows",
                f"{rows:,} rows in {len(proofs)} parts, equal in count, keys and content{behind}.",
            ),
        )
    return tuple(
        Check(
            Severity.STOP,
            spec.name,
            f"part {proof.part}",
            _what(proof),
            "A row is lost, came back or is stale"
            + (
                "; or the original was written to after this part was copied."
                if proof.lost is None
                else f": {proof.lost:,} rows that differ are in no key log."
            ),
            "Read the repair plan below and confirm its digest, with the application's writes to the original stopped. "
            "Rows that no table takes need another specification first: default_partition, null_keys.",
        )
        for proof in wrong
    )


def _what(proof: PartProof) -> str:
    kinds = [
        (proof.keys.only_original, "only in the original"),
        (proof.keys.only_partitioned, "only in the partitioned table"),
    ]
    named = [f"{count:,} {kind}" for count, kind in kinds if count]
    if not named:
        named = ["the same keys, but different content"]
    elif proof.same_count:
        named.append("as many rows on both sides")
    return f"{proof.part}: " + ", ".join(named) + "."


def headline(proofs: Sequence[PartProof]) -> str:
    """The result in a sentence a table."""
    sentences = []
    for table in dict.fromkeys(proof.table for proof in proofs):
        own = [proof for proof in proofs if proof.table == table]
        wrong = [proof.part for proof in own if not proof.proven]
        rows = sum(proof.original.rows for proof in own)
        waiting = sum(proof.waiting for proof in own)
        behind = f", but for {waiting:,} rows whose keys wait in the key log" if waiting else ""
        said = (
            f"{len(wrong)} of them differ: {', '.join(wrong[:5])}"
            if wrong
            else f"equal in count, keys and content{behind}"
        )
        sentences.append(f"{table}: {rows:,} rows in {len(own)} parts, {said}.")
    return " ".join(sentences)


# -- the repair


def plan_repair(spec: TableSpec, snapshot: Snapshot, parts: Sequence[Part], wrong: Iterable[str]) -> Plan:
    """Make the parts named in `wrong` like the original again, one transaction a part.

    The original is the authority: nothing is repaired in a copy that follows nothing and that the application may have moved to. Triggers of
    the partitioned table are off inside the transaction: the rows are not news.
    """
    assert snapshot.original is not None
    labels = set(wrong)
    if takeover.opened(spec, snapshot):
        said = f"{plainly(*spec.partitioned_at)} is open to the application: what it wrote there would go, so nothing is repaired."
        return plan_for(STAGE, spec, snapshot.server, (), said)
    if snapshot.online is not None:
        return _log_again(spec, snapshot, snapshot.original, [part for part in parts if part.label in labels])
    steps = [_repair(spec, snapshot, snapshot.original, part) for part in parts if part.label in labels and part.table]
    return plan_for(STAGE, spec, snapshot.server, steps, f"{spec.table}: {len(steps)} parts to repair.")


def _log_again(spec: TableSpec, snapshot: Snapshot, original: Relation, wrong: Sequence[Part]) -> Plan:
    """Where something follows, a repair is a drain: the keys that differ go into the log, whoever is the authority."""
    state = snapshot.online
    assert state is not None
    columns = [column.name for column in original.columns]
    primary = online.primary_columns(original)
    steps = []
    for part in wrong:
        joined_by = _joined_by(spec, original, part)
        found = sql.SQL(
            "SELECT {} FROM {} AS o FULL JOIN {} AS p USING ({}) WHERE {} IS NULL OR {} IS NULL OR NOT ({})"
        )
        differing = found.format(
            names(joined_by),
            _side(spec, original, part, partitioned=False),
            _side(spec, original, part, partitioned=True),
            names(joined_by),
            name("o", "atlas_ops_here"),
            name("p", "atlas_ops_here"),
            _identical("o", "p", columns),
        )
        # a row whose key the specification gives stands in the log without one
        also = [primary] if spec.null_value and part.attachable else []
        for listed in (joined_by, *also):
            insert = sql.SQL("INSERT INTO {} ({}) SELECT {} FROM ({}) AS d")
            steps.append(
                Step(
                    name=f"log {spec.name} {part.label}",
                    statements=(text(insert.format(online.log(spec), names(listed), names(listed), differing)),),
                    lock="ACCESS SHARE",
                    on=plainly(*spec.original_at),
                    why="The keys of the rows that differ go into the key log again.",
                )
            )
    if steps:
        too = incoming.drained_too(spec, snapshot)
        steps.append(drain_step(spec, original, state.authority, state.log_rows, too))
    return plan_for(STAGE, spec, snapshot.server, steps, f"{spec.table}: {len(wrong)} parts to repair.")


def _repair(spec: TableSpec, snapshot: Snapshot, original: Relation, part: Part) -> Step:
    attached = part.attachable
    table = name(*spec.partitioned_at) if attached else name(spec.partition_schema, part.table)
    columns = [column.name for column in insertable(original)]
    keys = _joined_by(spec, original, part)
    rows = _side(spec, original, part, partitioned=False)
    matching = sql.SQL(" AND ").join(sql.SQL("{} = {}").format(name("o", key), name("p", key)) for key in keys)
    where = raw(part.of_partitioned)
    delete = sql.SQL("DELETE FROM {} AS p WHERE {} AND NOT EXISTS (SELECT FROM {} AS o WHERE {} AND {})").format(
        table, where, rows, matching, _identical("o", "p", columns)
    )
    insert = sql.SQL(
        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS o WHERE NOT EXISTS (SELECT FROM {} AS p WHERE {})"
    ).format(
        table,
        names(columns),
        sql.SQL(", ").join(name("o", column) for column in columns),
        rows,
        _side(spec, original, part, partitioned=True),  # with the part's bounds: the other partitions are not read
        matching,
    )
    triggers = snapshot.partitioned.triggers if attached and snapshot.partitioned else ()
    off, on = switch_triggers(table, triggers)
    return Step(
        name=f"repair {spec.name} {part.label}",
        statements=(*off, text(delete), text(insert), *on),
        lock="SHARE ROW EXCLUSIVE" if off else "ROW EXCLUSIVE",
        on=plainly(*spec.partitioned_at) if attached else plainly(spec.partition_schema, part.table),
        why="Rows that are not in the original with the same content go, rows that are missing come. Not to be confirmed once the "
        "application writes to the partitioned table: its new rows would go.",
        effect=Effect.REMOVES,
    )
