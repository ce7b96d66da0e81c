"""Who makes the next partitions: jobs of pg_cron, made and taken back by plans, and what is seen of any schedule by its outcome. Pure.

A job's own status says that a command ran. What counts is whether the partitions are there: the registry notes which one was made last, when and by
whom, and when everything was last found there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from psycopg import sql

from atlas_ops import maintain
from atlas_ops.definition import fit, plainly, text
from atlas_ops.errors import AtlasError
from atlas_ops.model import Relation, Server, Snapshot
from atlas_ops.partitions import partitioned_table
from atlas_ops.plan import Effect, Plan, Step, Target
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from atlas_ops.tables import count
from atlas_ops.upkeep import CronPlace, Job, Upkeep

MAKE = "SELECT public.create_future_partitions()"
MAKE_JOB = "atlas_ops partitions"
ANALYZE_JOB = "atlas_ops analyze "
ANALYZE_AT = "23 3 * * 0"
"""Sundays at night: the sample of a large table reads for some seconds."""

GRACE_DAYS = 1
_FIELD = r"(\*|\d{1,2}(-\d{1,2})?(,\d{1,2}(-\d{1,2})?)*)(/\d{1,2})?"
_CRON = re.compile(rf"{_FIELD}( +{_FIELD}){{4}}", re.ASCII)

Set = tuple[TableSpec, Snapshot, Upkeep]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is seen of the schedule of one table, whoever runs it."""

    table: str
    until: date | None  # from there on a row finds no partition; None: never
    missing: int
    overdue_days: int
    made: str | None
    made_at: datetime | None
    made_by: str | None
    whole_at: datetime | None
    whole_by: str | None


def outcome(spec: TableSpec, snapshot: Snapshot, upkeep: Upkeep, as_of: date) -> Outcome:
    """By the catalogs and the registry alone."""
    care = upkeep.care
    return Outcome(
        table=spec.table,
        until=maintain.covered_until(snapshot, as_of),
        missing=len(maintain.missing(spec, snapshot, upkeep, as_of)),
        overdue_days=maintain.overdue(spec, snapshot, upkeep, as_of),
        made=care.made if care else None,
        made_at=care.made_at if care else None,
        made_by=care.made_by if care else None,
        whole_at=care.whole_at if care else None,
        whole_by=care.whole_by if care else None,
    )


def checks(sets: Sequence[Set], as_of: date) -> Iterator[Check]:
    """Whether some schedule does its work, by outcome; then what pg_cron says of its jobs."""
    for spec, snapshot, upkeep in sets:
        if upkeep.care is None or upkeep.elsewhere:
            continue
        late = maintain.overdue(spec, snapshot, upkeep, as_of)
        if late > GRACE_DAYS:
            yield Check(
                Severity.WARN, spec.table, "schedule", f"A partition has been missing for {count(late)} days: no schedule has made it.",
                "Judged by what is there, whatever the status of a job says.", "See the table of schedules: is there one, and what stops it?",
            )  # fmt: skip
        else:
            yield Check(Severity.OK, spec.table, "schedule", "Nothing has been missing for longer than a day.")
    yield from _job_checks(sets)


def _job_checks(sets: Sequence[Set]) -> Iterator[Check]:
    if not sets or not any(upkeep.care for _, _, upkeep in sets):
        return
    table, jobs = sets[0][0].table, sets[0][2].jobs
    job = next((one for one in jobs if one.name == MAKE_JOB), None)
    if job is None:
        yield Check(
            Severity.NOTE, table, "pg_cron", "No job of pg_cron makes partitions here.",
            "Another schedule may: cron, a systemd timer or GitHub Actions run this notebook.",
            'Run this with what = "schedule"; or see docs/maintenance.md.',
        )  # fmt: skip
        return
    faults = [
        *(["it is switched off"] if not job.active else []),
        *(["it runs another command"] if job.command != MAKE else []),
        *([f"its last run {job.last_status}"] if job.last_status == "failed" else []),
    ]
    what = f'Job "{job.name}" runs at {job.schedule} as {job.role}' + (
        f", but {' and '.join(faults)}." if faults else "."
    )
    cure = (
        'Run this with what = "schedule": it makes the job anew.'
        if not job.active or job.command != MAKE
        else "Its message is in cron.job_run_details."
    )
    yield Check(
        Severity.WARN if faults else Severity.OK,
        table,
        "pg_cron",
        what,
        "Nobody else may be making partitions." if faults else "",
        cure if faults else "",
    )


def plan_schedule(server: Server, sets: Sequence[Set], at: str) -> Plan:
    """pg_cron, its extension if need be, and the jobs that are missing or different. `at`: five fields, as cron has them; pg_cron reads them in GMT.

    Raises AtlasError where pg_cron cannot be used here, or `at` is no schedule.
    """
    if not _CRON.fullmatch(at):
        raise AtlasError(
            what=f"cron is {at!r}.", why="It takes five fields: minute, hour, day of the month, month, day of the week.",
            next='Write for instance "17 * * * *": every hour at 17 past.',
        )  # fmt: skip
    cared = [one for one in sets if one[2].care is not None and one[2].care.ready and not one[2].elsewhere]
    if not cared:
        return _plan(server, [])
    _refuse(server, cared[0][2].cron)
    return _plan(server, list(_schedule(server, cared, at)))


def _schedule(server: Server, sets: Sequence[Set], at: str) -> Iterator[Step]:
    place, jobs = sets[0][2].cron, {job.name: job for job in sets[0][2].jobs}
    if not place.installed:
        yield Step(
            name="install pg_cron",
            statements=("CREATE EXTENSION pg_cron WITH SCHEMA pg_catalog",),
            lock="ACCESS EXCLUSIVE",
            on="the objects of the extension only",
            why="Its jobs run in this database, by the server itself: nothing outside of it must be up.",
        )
    if step := maintain.installing(sets[0][1]):
        yield step
    wanted = [
        (
            MAKE_JOB,
            at,
            MAKE,
            "Hourly is not too often: a call that finds everything there takes some milliseconds and no lock that anybody waits for.",
        )
    ]
    for spec, snapshot, _ in sets:
        relation = partitioned_table(snapshot)
        assert relation is not None, "a table under care is there"
        why = f"Autovacuum never analyzes {spec.table} as a whole."
        wanted.append((_analyze_job(relation), ANALYZE_AT, maintain.analyze_statement(snapshot, relation), why))
    for name, when, command, why in wanted:
        job = jobs.get(name)
        if job is None or (job.schedule, job.command, job.active) != (when, command, True):
            call = sql.SQL("SELECT cron.schedule({}, {}, {})").format(*map(sql.Literal, (name, when, command)))
            again = sql.SQL(
                "SELECT cron.alter_job(jobid, active => true) FROM cron.job WHERE jobname = {} AND username = current_user AND NOT active"
            ).format(sql.Literal(name))
            yield Step(
                name=f'schedule "{name}"',
                statements=(text(call), text(again)),
                lock="ROW EXCLUSIVE",
                on="the table of pg_cron's jobs",
                why=f'{why} Runs as {server.role}. Undo: what = "unschedule".',
            )


def plan_unschedule(server: Server, jobs: Sequence[Job]) -> Plan:
    """Every job of ours goes; the extension stays, others may use it."""
    return _plan(
        server,
        [
            Step(
                name=f'unschedule "{job.name}"',
                statements=(
                    text(
                        sql.SQL(
                            "SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname = {} AND username = current_user"
                        ).format(sql.Literal(job.name))
                    ),
                ),
                lock="ROW EXCLUSIVE",
                on="the table of pg_cron's jobs",
                why="The job goes. Whatever it made stays. The extension stays too.",
                effect=Effect.REMOVES,
            )
            for job in jobs
            if job.role == server.role
        ],
    )


def _refuse(server: Server, place: CronPlace) -> None:
    """Raises AtlasError where pg_cron is not to be had in this database."""
    elsewhere = place.database is not None and place.database != server.database
    if place.installed:
        return
    if not place.available:
        why, cure = (
            "The extension is not installed on the server.",
            "Install it (Debian: postgresql-NN-cron), or take another schedule: docs/maintenance.md.",
        )
    elif elsewhere:
        why = f"It runs in database {place.database} of this server, and an extension of it can be made there only."
        cure = f"In {place.database}: SELECT cron.schedule_in_database('{MAKE_JOB}', '17 * * * *', '{MAKE}', '{server.database}');"
    elif not server.superuser:
        why = f"Its extension is not in this database, and {server.role} is no superuser, who could make it."
        cure = "Have it made: CREATE EXTENSION pg_cron WITH SCHEMA pg_catalog; on Supabase: Integrations, Cron."
    elif place.database is None:
        why = "The server has not loaded it: shared_preload_libraries does not name pg_cron."
        cure = "Add pg_cron to shared_preload_libraries, set cron.database_name to this database, restart the server."
    else:
        return
    raise AtlasError(what="pg_cron cannot be used in this database.", why=why, next=cure)


def _analyze_job(relation: Relation) -> str:
    """At most 63 bytes, never one name for two tables."""
    return fit(ANALYZE_JOB + plainly(relation.table.schema, relation.table.name))


def _plan(server: Server, steps: Sequence[Step]) -> Plan:
    return Plan(
        maintain.STAGE,
        Target(server.system_identifier, server.database),
        tuple(steps),
        headline="Schedules.",
        alone=False,
    )
