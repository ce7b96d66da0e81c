"""What is known of the upkeep of a partition set: the registry's row, rows in the default partition, the schedules. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from atlas_ops.bounds import Period
from atlas_ops.model import Taken

ARCHIVED_MARK = "atlas_ops: archived rows of "
"""How the comment of a table begins that 08 detached; the functions in the database know it too."""


@dataclass(frozen=True, slots=True)
class Care:
    """A table under the care of create_future_partitions(): one row of `sql/catalog/care.sql`."""

    schema: str
    name: str
    every: str
    ahead: int
    keep: int | None
    lock_timeout_ms: int | None  # None: of a registry that an older version made
    partition_schema: str
    prefix: str
    name_form: str | None
    ready: bool
    made: str | None  # the partition that was made last, when and by which application_name
    made_at: datetime | None
    made_by: str | None
    whole_at: datetime | None  # when everything was last found there, by the function or by 07, and who had called it
    whole_by: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Rows of the default partition that belong to one period; without one they belong to none: no key, or one beyond the calendar."""

    period: Period | None
    rows: int
    keyless: bool = False


@dataclass(frozen=True, slots=True)
class CronPlace:
    """Whether pg_cron can be used here; one row of `sql/catalog/cron_place.sql`."""

    available: bool
    installed: bool  # in this database
    database: str | None  # where it runs; None: not loaded, or not for this role to see


@dataclass(frozen=True, slots=True)
class Job:
    """A job of ours in pg_cron, with its last run; one row of `sql/catalog/cron_jobs.sql`."""

    name: str
    schedule: str
    command: str
    active: bool
    database: str
    role: str
    last_status: str | None
    last_started: datetime | None


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What a decision about the upkeep of one set needs besides its snapshot."""

    care: Care | None = None
    elsewhere: bool = False  # pg_partman has it in its part_config
    unreadable: tuple[str, ...] = ()  # schemas with a part_config that this role may not read: it may have it
    waiting: tuple[Waiting, ...] = ()
    analyzed_at: datetime | None = None  # the partitioned table itself
    taken: tuple[Taken, ...] = ()  # relations that have the names of partitions to be made
    cron: CronPlace = CronPlace(available=False, installed=False, database=None)
    jobs: tuple[Job, ...] = ()
