"""What the preflight finds of the partition key: what is unique without it, its values, and the rows that no partition would take. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

from atlas_ops import bounds, division
from atlas_ops.definition import name, text
from atlas_ops.model import KeyFacts, Relation
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

DOMINANT_SHARE = 0.10  # of the sampled rows share one value: no clock does that
CORRELATED = 0.9  # pg_stats.correlation from which a column is taken to follow the order of the rows


def uniqueness(spec: TableSpec, original: Relation) -> Iterator[Check]:
    """What is unique today and can be so only together with the partition key."""
    primary = original.primary_key
    if primary and spec.partition_key not in primary.columns:
        old = ", ".join(primary.columns)
        users = "; ".join(f"{reference.table} ({reference.constraint})" for reference in original.references)
        yield Check(
            Severity.WARN, spec.name, "uniqueness", f"The primary key ({old}) becomes ({old}, {spec.partition_key}).",
            f"A unique index of a partitioned table must hold the partition key, so ({old}) alone is unique within a partition only. "
            f"ON CONFLICT ({old}) finds no such constraint any more and fails." + (f" Relied on by {users}." if users else ""),
            f"Before the application uses the partitioned table: ON CONFLICT ({old}, {spec.partition_key}), with the key supplied by the client.",
        )  # fmt: skip
    for index in original.indexes:
        if not index.unique or index.primary or not index.valid or spec.partition_key in index.columns:
            continue
        what = f"{index.name} is unique on ({', '.join(index.columns)}), without {spec.partition_key}."
        special = "expr" in index.columns or " WHERE " in index.tail
        if special or spec.unique_without_key == "refuse":
            yield Check(
                Severity.STOP, spec.name, "uniqueness", what,
                "A partitioned table can promise uniqueness only together with the partition key: duplicates could come in that were refused before."
                + (" With an expression or a condition the key cannot be added by itself." if special else ""),
                "Keep the promise elsewhere (a table of its own with that key)"
                + (" and drop this index." if special else f", or accept the weaker one: unique_without_key: add_key for {spec.name}."),
            )  # fmt: skip
        else:
            yield Check(
                Severity.WARN, spec.name, "uniqueness", what, f"As specified it becomes unique together with {spec.partition_key} only.",
                "Look who relies on it: ON CONFLICT, and code that expects 23505.",
            )  # fmt: skip


def values(spec: TableSpec, original: Relation, facts: KeyFacts) -> Iterator[Check]:
    """Rows whose key is NULL or infinite, and keys that no clock can have given. `facts`: one read of the whole table, a sample for the last."""
    key, table = text(name(spec.partition_key)), text(name(spec.schema, spec.name))
    query = f"SELECT count(*) FROM {table} WHERE {key} IS NULL;"
    if facts.nulls and spec.null_keys == "refuse":
        yield Check(
            Severity.STOP, spec.name, "null keys", f"{facts.nulls:,} rows have no {spec.partition_key}.",
            "A primary key that holds the partition key forbids NULL: these rows have no place.",
            "Say in the specification what becomes of them: null_keys: set_aside, or null_keys: {value: <expression>}.", query,
        )  # fmt: skip
    elif facts.nulls and spec.null_keys == "set_aside":
        yield Check(
            Severity.NOTE, spec.name, "null keys", f"{facts.nulls:,} rows have no {spec.partition_key}.",
            f"They are set aside in {spec.partition_schema}.{spec.null_keys_name}, which verify accounts for. The application does not see them there.",
            "Give them a key in the original when you know which.", query,
        )  # fmt: skip
    elif facts.nulls and spec.null_value:
        severity = Severity.STOP if facts.unvalued_nulls else Severity.NOTE
        yield Check(
            severity, spec.name, "null keys", f"{facts.nulls:,} rows have no {spec.partition_key}; {facts.unvalued_nulls:,} get none from {spec.null_value} either.",
            f"The copy holds {spec.null_value} in its place; the original stays as it is.",
            "Extend the expression until every row has a value." if facts.unvalued_nulls else "", query,
        )  # fmt: skip
    column = original.column(spec.partition_key)
    if column is not None and not column.not_null:
        yield Check(
            Severity.WARN, spec.name, "key to be NULL", f"{spec.partition_key} may be NULL in {spec.table}; in the partitioned table it may not.",
            "What writes NULL into it is refused with 23502 once it writes to the partitioned table, whatever null_keys says of the rows there are.",
            f"Leave {spec.partition_key} out of such a statement"
            + (f", so that its DEFAULT {column.default} holds." if column.default else ", and give the column a default."),
            query,
        )  # fmt: skip
    if facts.infinite:
        taken = _taken_by_default(spec)
        yield Check(
            Severity.NOTE if taken else Severity.STOP, spec.name, "infinite keys", f"{facts.infinite:,} rows have an infinite {spec.partition_key}.",
            "They belong to no period: they lie in the default partition." if taken else "No partition takes them.",
            "" if taken else "Allow a default partition, or correct those rows.",
            f"SELECT count(*) FROM {table} WHERE NOT isfinite({key});",
        )  # fmt: skip
    share = facts.dominant_rows / facts.sampled_rows if facts.sampled_rows else 0.0
    if share > DOMINANT_SHARE and facts.dominant_rows > 1:
        yield Check(
            Severity.WARN, spec.name, "dominant value", f"{share:.0%} of the rows share one single {spec.partition_key}.",
            "So does a column that was added late with DEFAULT now(): the whole history falls into one partition.",
            _better_keys(spec, original),
            f"SELECT count(*) FROM {table} GROUP BY {key} ORDER BY 1 DESC LIMIT 5;",
        )  # fmt: skip


def _better_keys(spec: TableSpec, original: Relation) -> str:
    """Which other column tells when a row was made: one whose values rise with the order of the rows (pg_stats.correlation)."""
    able = [
        column
        for column in original.columns
        if column.base_type in bounds.KEY_TYPES and column.not_null and column.name != spec.partition_key
    ]
    rising = [column for column in able if column.correlation is not None and column.correlation >= CORRELATED]
    if rising:
        told = " or ".join(f"{column.name} (correlation {column.correlation:.2f})" for column in rising)
        return f"Consider {told} as the partition key: it rises with the order in which the rows were made."
    if able and all(column.correlation is None for column in able):
        names = " or ".join(column.name for column in able)
        return f"Consider {names} as the partition key; after an ANALYZE its correlation with the order of the rows is known."
    return "Look for a column that tells when the row was made: no other one rises with the order of the rows."


def out_of_range(spec: TableSpec, original: Relation, as_of: date, counts: Mapping[str, int]) -> Iterator[Check]:
    """Rows before the first partition and after the last. `counts`: how many, by "before" and "after"."""
    before, after = counts.get("before", 0), counts.get("after", 0)
    if not before + after:
        return
    key, table = text(name(spec.partition_key)), text(name(spec.schema, spec.name))
    what = f"{before:,} rows lie before the first partition, {after:,} after the last."
    column = original.column(spec.partition_key)
    assert column is not None  # _possible stops without it
    outside = next(
        part.of_original
        for part in division.parts(spec, column.base_type, as_of)
        if part.label == division.OUT_OF_RANGE
    )
    query = f"SELECT date_trunc('month', {key}) AS month, count(*) FROM {table} WHERE {outside} GROUP BY 1 ORDER BY 1;"
    if _taken_by_default(spec):
        yield Check(
            Severity.NOTE, spec.name, "out of range", what, "They lie in the default partition, where every read of it must look.",
            "Few are harmless. Move `from` back for months that deserve a partition, or set out_of_range: extend.", query,
        )  # fmt: skip
    else:
        yield Check(
            Severity.STOP, spec.name, "out of range", what,
            "out_of_range is refuse." if spec.out_of_range == "refuse" else "No partition takes them: the copy would fail or lose them.",
            "Widen from and until, or let out_of_range: extend do it"
            + (", or set out_of_range: default." if spec.default_partition else ", or set default_partition: true."), query,
        )  # fmt: skip


def _taken_by_default(spec: TableSpec) -> bool:
    return spec.default_partition and spec.out_of_range != "refuse"
