"""How the key of a table is divided into parts, each with the table that holds its rows, and every name that a migration needs for it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import pairwise

from psycopg import sql

from atlas_ops import bounds, definition
from atlas_ops.bounds import Period
from atlas_ops.definition import name, text
from atlas_ops.model import Relation, Snapshot
from atlas_ops.spec import TableSpec

BOUND_CHECK = "atlas_ops_bound"
SET_ASIDE = "set aside"  # in the mark of a table that is never attached
OUT_OF_RANGE = "out of range"  # the label of the part that no period holds


class Kind(StrEnum):
    """What becomes of the rows of a part."""

    PERIOD = "period"  # a partition of its own
    REST = "rest"  # the default partition
    SET_ASIDE = "set aside"  # a closed table beside the partitioned one
    UNCOVERED = "uncovered"  # no table takes them: preflight refuses, and verify counts them all the same


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the partition key, with the table that holds its rows; the conditions are SQL over the row's columns."""

    kind: Kind
    label: str
    table: str  # in the schema of the partitions; empty where no table takes the rows
    bound: str | None  # FOR VALUES ... or DEFAULT; None: never attached
    of_original: str  # which rows of the original
    of_partitioned: str  # which rows of the partitioned table, or of the table set aside
    check: str = ""  # what every row of the table satisfies

    @property
    def attachable(self) -> bool:
        """It becomes a partition."""
        return self.bound is not None


def mark_prefix(spec: TableSpec) -> str:
    """How the comment of every table starts that was filled from this original: our mark, by which a later run knows its own."""
    return f"atlas_ops: rows of {text(name(spec.schema, spec.name))} "


def periods(spec: TableSpec, as_of: date) -> tuple[Period, ...]:
    """The periods that the specification wants partitions for, on that day."""
    return bounds.covered(spec.every, spec.from_, spec.until, spec.ahead, as_of)


def parts(spec: TableSpec, key_type: str, as_of: date) -> tuple[Part, ...]:
    """Every stretch of the key, so that each row of the original lies in exactly one: the periods, the rest, the rows without a key."""
    wanted = periods(spec, as_of)
    edges = [
        text(sql.Literal(bounds.literal(edge, key_type)))
        for edge in (*(period.lower for period in wanted), wanted[-1].upper)
    ]
    return (
        *(_period(spec, period, *edge) for period, edge in zip(wanted, pairwise(edges), strict=True)),
        _rest(spec, edges[0], edges[-1]),
        _keyless(spec),
    )


def _period(spec: TableSpec, period: Period, lower: str, upper: str) -> Part:
    key = text(name(spec.partition_key))
    inside = f"{key} >= {lower} AND {key} < {upper}"
    value = spec.null_value
    valued = f"({inside} OR ({key} IS NULL AND ({value}) >= {lower} AND ({value}) < {upper}))"
    return Part(
        kind=Kind.PERIOD,
        label=period.label,
        table=spec.partition_name(period),
        bound=f"FOR VALUES FROM ({lower}) TO ({upper})",
        of_original=valued if value else inside,
        of_partitioned=inside,
        check=f"{key} IS NOT NULL AND {inside}",
    )


def _rest(spec: TableSpec, first: str, last: str) -> Part:
    key = text(name(spec.partition_key))
    outside = f"({key} < {first} OR {key} >= {last})"
    value = spec.null_value
    valued = f"({outside} OR ({key} IS NULL AND (({value}) < {first} OR ({value}) >= {last})))"
    kept = spec.default_partition
    return Part(
        kind=Kind.REST if kept else Kind.UNCOVERED,
        label=OUT_OF_RANGE,
        table=spec.default_name if kept else "",
        bound="DEFAULT" if kept else None,
        of_original=valued if value else outside,
        of_partitioned=outside,
        check=f"{key} IS NOT NULL AND {outside}",
    )


def _keyless(spec: TableSpec) -> Part:
    key = text(name(spec.partition_key))
    aside = spec.null_keys == "set_aside"
    value = spec.null_value
    return Part(
        kind=Kind.SET_ASIDE if aside else Kind.UNCOVERED,
        label="no key",
        table=spec.null_keys_name if aside else "",
        bound=None,
        of_original=f"{key} IS NULL AND ({value}) IS NULL" if value else f"{key} IS NULL",
        of_partitioned="true" if aside else f"{key} IS NULL",
    )


def names_needed(spec: TableSpec, as_of: date) -> tuple[str, ...]:
    """Every relation name that the migration makes, for the catalogs to say which are taken.

    Raises AtlasError where one of them is over 63 bytes.
    """
    tables = [spec.partition_name(period) for period in periods(spec, as_of)]
    return (
        spec.partitioned_name,
        spec.name,
        *tables,
        *([spec.default_name] if spec.default_partition else []),
        *([spec.null_keys_name] if spec.null_keys == "set_aside" else []),
        *([spec.key_log_name, spec.retired_name] if spec.copy == "online" else []),
    )


def index_names(spec: TableSpec, original: Relation, tables: Sequence[str]) -> tuple[str, ...]:
    """The names that the indexes get on tables of ours, and on the partitioned table those of its identities' sequences too."""
    plans = definition.index_plans(original, spec.partition_key, spec.indexes)
    return (
        *(plan.name_on(table) for table in tables for plan in plans),
        *(
            definition.fit(f"{spec.partitioned_name}_{column.name}_seq")
            for column in original.columns
            if column.identity and spec.partitioned_name in tables
        ),
    )


def copied(snapshot: Snapshot) -> bool:
    """Whether any part was copied, or is being copied: from then on a capture that is not there means writes that nothing knows of."""
    return bool(snapshot.partitions)
