"""The specification of a table: what a DBA writes in parameters/*.yml, or in a notebook's `tables`.

One description a key serves the JSON schema (completion in an editor), the error that refuses a value, and the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any, Literal, cast

from pydantic import (
    ConfigDict,
    Field,
    model_validator,
)
from pydantic.dataclasses import dataclass

from atlas_ops.bounds import MOST_PERIODS, Every, Period, aligned, period_of, periods
from atlas_ops.errors import AtlasError
from atlas_ops.thresholds import Alerts
from atlas_ops.written import (
    LOCK,
    MOST_BYTES_OF_A_NAME,
    PAUSE,
    STATEMENT,
    BatchRows,
    Count,
    Day,
    EveryText,
    Flag,
    Hold,
    Indexes,
    KeyFrom,
    LimitText,
    LockTimeText,
    Name,
    NameText,
    NullKeys,
    PauseText,
    PlaceText,
    ServiceText,
    Size,
    StatementTimeText,
    TableText,
    Text,
    Waivers,
    Workers,
    milliseconds,
    qualified,
    size_bytes,
)
from atlas_ops.yamlfile import Fault, refuse_together, shown

# The specification

KEPT = {Every.day: 731, Every.week: 105, Every.month: 24, Every.quarter: 8, Every.year: 2}
"""Past partitions that make 24 months."""


@dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid", populate_by_name=True))
class TableSpec:
    """How one table is to be partitioned. The keys are PostgreSQL's words; `from` is `from_` in Python.

    Made by `load`, `tables_from` and `find_specs`, which raise AtlasError; its constructor raises pydantic's.
    """

    table: TableText = Field(
        description="the table to partition, as in SQL: name, schema.name or quoted; public if bare",
        examples=["public.messages"],
    )
    partitioned_table: TableText | None = Field(
        default=None,
        description="the partitioned table's name until the cut-over; left out: the table's and _partitioned",
        examples=["public.messages_partitioned"],
    )
    partition_key: NameText = Field(
        description="a column's name: its time (of type timestamptz, timestamp or date) decides",
        examples=["created_at"],
    )
    every: EveryText = Field(
        default=Every.month,
        strict=True,
        description="one of day, week, month, quarter, year: the length of one partition",
        examples=["month"],
    )
    from_: Day = Field(
        alias="from",
        description="a day as YYYY-MM-DD, a bound of every: where the first partition begins",
        examples=["2024-01-01"],
    )
    until: Day | None = Field(
        default=None,
        description="a day as YYYY-MM-DD, exclusive: where the last partition ends; left out: ahead decides",
        examples=["2027-01-01"],
    )
    ahead: Count = Field(
        default=3,
        description=f"a whole number, 1 to {MOST_PERIODS}: partitions kept ready beyond the current one",
        examples=[3],
    )
    keep: Count | None = Field(
        default_factory=lambda given: KEPT[given["every"]],
        description=f"a whole number, 1 to {MOST_PERIODS}: past partitions kept; null keeps all; left out: those of 24 months",
        examples=[24],
    )
    hold: Hold = Field(
        default=(),
        description="legal hold: all, or a list of years, months or days: a partition that touches one is never detached or dropped",
        examples=[["2024-01", "2024-03-15"]],
    )
    archive_to: PlaceText | None = Field(
        default=None,
        description="a folder (from that of the parameters file) or s3://bucket/prefix: where months are exported to",
        examples=["s3://atlas-archive/production"],
    )
    prove_on: ServiceText | None = Field(
        default=None,
        description="a libpq service: the database that restores exports to prove them; null: this one, in temporary tables",
        examples=["atlas_scratch"],
    )
    partition_schema: NameText = Field(
        default="partitions",
        validate_default=True,  # into a Name
        description="a schema's name, for the partitions: one where the application's roles have no USAGE",
        examples=["partitions"],
    )
    default_partition: Flag = Field(
        default=True,
        description="true or false: whether a DEFAULT partition takes the rows that no other takes",
        examples=[True],
    )
    out_of_range: Literal["default", "extend", "refuse"] = Field(
        default="default",
        description="default, extend or refuse: rows outside of the partitions go where default_partition says, or get "
        "further partitions at either end, or stop the run",
        examples=["extend"],
    )
    null_keys: NullKeys = Field(
        default="refuse",
        description="refuse, set_aside (in a table of their own) or {value: an SQL expression over the row}",
        examples=["set_aside"],
    )
    unique_without_key: Literal["refuse", "add_key"] = Field(
        default="refuse",
        description="refuse or add_key: unique constraints without the partition key (the primary key aside) "
        "stop the run, or get the key added, which is weaker",
        examples=["add_key"],
    )
    indexes: Indexes = Field(
        default=(),
        description="a list of lists of column names: indexes wanted beyond those of the table itself",
        examples=[[["user_id"], ["conversation_id", "created_at"]]],
    )
    copy: Literal["online", "by_partition", "single_transaction"] = Field(
        default="online",
        description="online (while the application writes), by_partition (the same without following its writes) "
        "or single_transaction (all or nothing)",
        examples=["online"],
    )
    cut_over: Literal["swap", "side_by_side"] = Field(
        default="swap",
        description="swap (06 exchanges the names) or side_by_side (the application moves to the new name itself)",
        examples=["swap"],
    )
    in_step: Literal["to_partitioned", "to_original"] = Field(
        default="to_partitioned",
        description="with side_by_side: to_partitioned while the application writes to the original, to_original "
        "once it writes to the partitioned table",
        examples=["to_partitioned"],
    )
    batch_rows: BatchRows = Field(
        default=200_000,
        description="a whole number, 1000 to 100000000: rows that one transaction of the online copy copies",
        examples=[200_000],
    )
    pause: PauseText = Field(
        default="0ms",
        description=f"a duration, {PAUSE[0]} to {PAUSE[1]}: rest between two batches of a copy or a drain",
        examples=["100ms"],
    )
    max_replica_lag: LimitText | None = Field(
        default="30s",
        description="a duration: batches wait while a replica replays later than that; null: they do not look",
        examples=["30s"],
    )
    max_wal_rate: Size | None = Field(
        default=None,
        description="a size: batches wait while the server writes more WAL than that in a second; null: no limit",
        examples=["50MB"],
    )
    max_database_size: Size | None = Field(
        default=None,
        description="a size: batches wait, and then stop, when the database is larger: SQL cannot see the free disk",
        examples=["200GB"],
    )
    max_snapshot_age: LimitText | None = Field(
        default="1h",
        description="a duration: batches wait while a transaction is open for longer, since nothing is vacuumed then",
        examples=["1h"],
    )
    workers: Workers = Field(
        default=2,
        description="a whole number, 1 to 8: connections that copy at the same time",
        examples=[2],
    )
    lock_timeout: LockTimeText = Field(
        default="100ms",
        description=f"a duration, {LOCK[0]} to {LOCK[1]}: how long a step waits for a lock",
        examples=["100ms"],
    )
    statement_timeout: StatementTimeText = Field(
        default="6h",
        description=f"a duration, {STATEMENT[0]} to {STATEMENT[1]}: how long one statement may run",
        examples=["6h"],
    )
    workload: Annotated[Text, Field(min_length=1)] | None = Field(
        default=None,
        description="a path, from the folder of the parameters file: the queries to measure",
        examples=["workloads/atlas.yml"],
    )
    publications: Literal["carry", "leave"] = Field(
        default="carry",
        description="carry or leave: whether the partitioned table joins the publications of the table",
        examples=["carry"],
    )
    incoming_foreign_keys: Literal["refuse", "registry", "composite"] = Field(
        default="refuse",
        description="refuse, registry or composite: foreign keys of other tables that refer to the table stop the cut-over, "
        "or refer to a closed table of its keys, or get the partition key as a further column",
        examples=["registry"],
    )
    waive: Waivers = Field(
        default=(),
        description="a list of what may differ between the table and the partitioned table, as the ledger names it: "
        "'kind name: property', or 'kind name' for all of it",
        examples=[["index messages_old_idx", "table: of type"]],
    )
    alerts: Alerts = Field(
        default=None,
        description="a map of figures of 09 Monitor health, each with warning, critical or both: a number, or never",
        examples=[{"default_rows": {"warning": 100, "critical": "never"}}],
    )

    @property
    def schema(self) -> Name:
        """The schema of the table."""
        return qualified(self.table)[0]

    @property
    def name(self) -> Name:
        """The table's own name; the partitions are named after it."""
        return qualified(self.table)[1]

    @property
    def partitioned_schema(self) -> Name:
        """The schema of the partitioned table: the table's own, unless partitioned_table names another."""
        return qualified(self.partitioned_table)[0] if self.partitioned_table else self.schema

    @property
    def partitioned_name(self) -> Name:
        """The name of the partitioned table until the cut-over."""
        return qualified(self.partitioned_table)[1] if self.partitioned_table else self._derived("partitioned")

    @property
    def default_name(self) -> Name:
        """The name of the DEFAULT partition, in partition_schema."""
        return self._derived("default")

    @property
    def null_keys_name(self) -> Name:
        """The name of the table that takes the rows without a partition key, in partition_schema."""
        return self._derived("null_keys")

    @property
    def keys_name(self) -> Name:
        """The name of the registry that keeps the primary key unique over all partitions, in partition_schema."""
        return self._derived("keys")

    @property
    def pairs_name(self) -> Name:
        """The name of the table that logs which keys other tables have just referred to, in partition_schema."""
        return self._derived("pairs")

    @property
    def null_value(self) -> str | None:
        """The SQL expression that gives a row without a partition key one, if null_keys says so."""
        return self.null_keys.value if isinstance(self.null_keys, KeyFrom) else None

    @property
    def original_at(self) -> tuple[Name, Name]:
        """Schema and name of the original now: before a cut-over those of `table`."""
        return self.schema, self.name

    @property
    def partitioned_at(self) -> tuple[Name, Name]:
        """Schema and name of the partitioned table now."""
        return self.partitioned_schema, self.partitioned_name

    @property
    def retired_name(self) -> Name:
        """The name of the original after a cut-over that exchanged the names, in partition_schema."""
        return self._derived("retired")

    @property
    def key_log_name(self) -> Name:
        """The name of the key log, in partition_schema."""
        return self._derived("key_log")

    @property
    def pause_ms(self) -> int:
        """`pause` in milliseconds."""
        return milliseconds(self.pause)

    @property
    def max_replica_lag_ms(self) -> int:
        """`max_replica_lag` in milliseconds; 0: no limit."""
        return milliseconds(self.max_replica_lag) if self.max_replica_lag else 0

    @property
    def max_wal_rate_bytes(self) -> int:
        """`max_wal_rate` in bytes a second; 0: no limit."""
        return size_bytes(self.max_wal_rate) if self.max_wal_rate else 0

    @property
    def max_database_size_bytes(self) -> int:
        """`max_database_size` in bytes; 0: no limit."""
        return size_bytes(self.max_database_size) if self.max_database_size else 0

    @property
    def max_snapshot_age_ms(self) -> int:
        """`max_snapshot_age` in milliseconds; 0: no limit."""
        return milliseconds(self.max_snapshot_age) if self.max_snapshot_age else 0

    @property
    def lock_timeout_ms(self) -> int:
        """`lock_timeout` in milliseconds."""
        return milliseconds(self.lock_timeout)

    @property
    def statement_timeout_ms(self) -> int:
        """`statement_timeout` in milliseconds."""
        return milliseconds(self.statement_timeout)

    def partition_name(self, period: Period) -> Name:
        """The name of the partition of `period`, in partition_schema. Raises AtlasError over 63 bytes."""
        return self._derived(period.suffix)

    def _derived(self, ending: str) -> Name:
        name = f"{self.name}_{ending}"
        size = len(name.encode())
        if size > MOST_BYTES_OF_A_NAME:
            raise AtlasError(
                what=f"{shown(name)} is {size} bytes long.",
                why=f"PostgreSQL keeps {MOST_BYTES_OF_A_NAME} bytes of a name and would cut this one short.",
                next="Rename the table to a shorter name before it is partitioned.",
            )
        return Name(name)

    @model_validator(mode="after")
    def _whole(self) -> TableSpec:
        """What no key can say alone. All faults are told together."""
        faults = list(_faults_between_keys(self))
        if faults:
            refuse_together(faults)
        return self


class ExchangedSpec(TableSpec):
    """The same specification after a cut-over that exchanged the names: `table` is the partitioned one now."""

    __slots__ = ()

    @property
    def original_at(self) -> tuple[Name, Name]:
        """The retired table, in the closed schema."""
        return Name(self.partition_schema), self.retired_name

    @property
    def partitioned_at(self) -> tuple[Name, Name]:
        """Schema and name of `table`."""
        return self.schema, self.name


def extended(spec: TableSpec, lowest: datetime | None, highest: datetime | None) -> TableSpec:
    """`spec` with `from` and `until` moved outwards as far as these keys ask; None: there is none.

    Raises AtlasError where that makes too many periods.
    """
    first = min([spec.from_, *([period_of(spec.every, lowest).lower.date()] if lowest else [])])
    ends = [*([spec.until] if spec.until else []), *([period_of(spec.every, highest).upper.date()] if highest else [])]
    until = max(ends, default=None)
    if until is None or until <= first:
        return _moved(spec, from_=first)
    try:
        periods(spec.every, first, until)
    except AtlasError as stop:
        key, table = (shown(one) for one in (spec.partition_key, spec.table))
        raise AtlasError(
            what=f"The rows of {spec.table} reach from {first} to {until}: {stop.what}",
            why="out_of_range is extend: each of these periods would get a partition. A few keys far away look like slips of the pen.",
            next=f"Correct those rows, or set out_of_range: default, which leaves them to the default partition. Look at the lowest and the "
            f"highest {key} of {table} first.",
        ) from None
    return _moved(spec, from_=first, until=until)


def _moved(spec: TableSpec, **ends: date) -> TableSpec:
    """`replace`, which takes from_ at run time: mypy knows the alias only."""
    return replace(spec, **cast(Any, ends))


def exchanged(spec: TableSpec) -> TableSpec:
    """`spec` as it reads once the names are exchanged."""
    return ExchangedSpec(**{field.alias or name: getattr(spec, name) for name, field in _FIELDS.items()})


_FIELDS = cast(Any, TableSpec).__pydantic_fields__


# Faults between keys, in our words


def _faults_between_keys(spec: TableSpec) -> Iterator[Fault]:
    every, first, until = spec.every, spec.from_, spec.until
    checks: list[tuple[str, Callable[[], object]]] = [
        ("from", lambda: aligned(every, first, "from")),
        ("until", lambda: aligned(every, until or first, "until" if until else "from")),
        ("until", lambda: until and periods(every, first, until)),
        ("table", lambda: spec.partitioned_name),
        ("table", lambda: spec.partition_name(period_of(every, first))),
        ("table", lambda: spec.default_partition and spec.default_name),
        ("table", lambda: spec.null_keys == "set_aside" and spec.null_keys_name),
        ("table", lambda: spec.copy == "online" and spec.key_log_name),
        ("table", lambda: spec.incoming_foreign_keys == "registry" and spec.keys_name),
        ("table", lambda: spec.incoming_foreign_keys == "composite" and spec.pairs_name),
        ("partitioned_table", lambda: _two_tables(spec)),
        ("partition_schema", lambda: _no_system_schema(spec)),
        ("indexes", lambda: _no_index_twice(spec)),
    ]
    told = set()
    for key, check in checks:
        try:
            check()
        except AtlasError as stop:
            if stop.what not in told:
                told.add(stop.what)
                yield Fault((key,), stop.what, stop.why, stop.next)


def _two_tables(spec: TableSpec) -> None:
    if spec.partitioned_table and (spec.partitioned_schema, spec.partitioned_name) == (
        spec.schema,
        spec.name,
    ):
        raise AtlasError(
            what=f"partitioned_table is {shown(spec.partitioned_table)}, the table itself.",
            why="Both stand side by side until the cut-over, which swaps their names.",
            next="Leave partitioned_table out, or write another name.",
        )


def _no_system_schema(spec: TableSpec) -> None:
    if spec.partition_schema.startswith("pg_") or spec.partition_schema == "information_schema":
        raise AtlasError(
            what=f"partition_schema is {shown(spec.partition_schema)}.",
            why="PostgreSQL keeps that schema for itself.",
            next="Write partition_schema: partitions",
        )


def _no_index_twice(spec: TableSpec) -> None:
    for i, index in enumerate(spec.indexes):
        if len(set(index)) < len(index) or index in spec.indexes[:i]:
            raise AtlasError(
                what=f"indexes holds {shown(', '.join(index))}, where something stands twice.",
                why="A column again in one index, or an index again, costs every write and serves no read.",
                next="Remove one of the two.",
            )
