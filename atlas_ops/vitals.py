"""The vocabulary of 09: what the catalogs and the statistics tell of a partition set on one look, as frozen values.

Beside `model`, whose rule holds here: a class is one row of one file in `sql/catalog/`, field by field. Nothing decides here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from atlas_ops.model import Snapshot
from atlas_ops.spec import TableSpec


@dataclass(frozen=True, slots=True)
class Pulse:
    """What changes every minute on one partition; `sql/catalog/health_pulses.sql`. Counters run since the statistics were reset."""

    oid: int
    privileges: tuple[str, ...]  # role=privilege, of roles other than the owner
    missing_indexes: tuple[str, ...]  # of the partitioned table, that have no partner here
    mods_since_analyze: int
    inserts_since_vacuum: int
    inserted: int
    updated: int
    deleted: int
    last_scan: datetime | None  # before PostgreSQL 16 always None
    transaction_age: int  # of relfrozenxid, its TOAST table's included
    multixact_age: int


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes on disk, as the file system has them; `sql/catalog/health_sizes.sql`."""

    oid: int
    heap_bytes: int
    index_bytes: int
    toast_bytes: int


@dataclass(frozen=True, slots=True)
class Clock:
    """What the figures of a whole server are measured by; `sql/catalog/health_clock.sql`."""

    statistics_since: datetime | None  # None: never reset
    server_started: datetime
    whole_table_analyzed: datetime | None  # last ANALYZE of the partitioned table on record


@dataclass(frozen=True, slots=True)
class Care:
    """A table under care; `sql/catalog/health_care.sql`."""

    schema: str
    name: str
    every: str
    ahead: int
    ready: bool  # false while its rows are being copied
    whole_at: datetime | None = (
        None  # when everything was last found there, by the function or by 07, and who had called it
    )
    whole_by: str | None = None


@dataclass(frozen=True, slots=True)
class Following:
    """A copy that is kept in step; `sql/catalog/health_following.sql`. Its key log is counted apart."""

    authority: str  # original or partitioned: the table that the application writes
    exchanged: bool
    in_step: bool
    behind_s: float | None  # seconds since the key log was last seen empty; None: never yet
    captured: bool


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A table that was detached to be archived; `sql/catalog/health_quarantined.sql`."""

    schema: str
    name: str
    comment: str


@dataclass(frozen=True, slots=True)
class Counted:
    """Rows that were really counted; `more`: the count was cut off there."""

    rows: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class Unread:
    """A read that failed: what was to be read, and why not. None of it holds a row's value."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Vitals:
    """Everything 09 knows of one table of the specification. What could not be read is None, or empty, and listed in `unread`."""

    spec: TableSpec  # as it reads since the last cut-over or roll-back
    snapshot: Snapshot | None  # the partitioned table and its partitions without columns; None: nothing could be read
    pulses: tuple[Pulse, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    proven: frozenset[str] = frozenset()  # the names of those whose archive was restored and compared, by its manifest
    sized: bool = False  # sizes are those of the file system; else pages as of the last VACUUM or ANALYZE
    clock: Clock | None = None
    care: Care | None = None  # None: not under care, or the registry could not be read
    following: Following | None = None
    default_rows: Counted | None = None
    log_rows: Counted | None = None
    unread: tuple[Unread, ...] = ()
