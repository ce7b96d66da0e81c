"""A copy that follows nothing: closed to the application until 06 opens it, closed again by 10. Pure.

`copy: by_partition` has the original's grants and policies, its foreign keys and triggers, and nobody brings together again what is written to
one of the two. So the application's roles may read it, through its policies, and not write it, before it is whole, proven and opened; TRUNCATE,
which asks no policy, would otherwise be open to whoever holds it, although on the original the foreign keys that refer to it refuse it.

The application then moves to the new name itself (`cut_over: side_by_side`): there is no moment in which a swap would find both tables alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from atlas_ops import online
from atlas_ops.definition import name, plainly, text
from atlas_ops.model import Relation, Snapshot
from atlas_ops.plan import Effect, Step
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

CLOSED = "atlas_ops_closed"
REFERRED = "atlas_ops_referred"
WHY_REFUSED = "foreign keys refused it on the table that it was copied from"


def closed(table: tuple[str, str]) -> list[str]:
    """The guard of a copy that is not in use: nobody but its owner writes it."""
    return _guard(table, CLOSED, "INSERT OR UPDATE OR DELETE OR TRUNCATE", "atlas_ops.refuse_application()")


def as_referred(table: tuple[str, str], original: Relation) -> list[str]:
    """TRUNCATE is refused for good where the foreign keys of other tables refuse it on the original: they stay there."""
    if not original.references:
        return []
    reason = text(sql.Literal(WHY_REFUSED))
    return _guard(table, REFERRED, "TRUNCATE", f"atlas_ops.refuse_truncate({reason})")


def _guard(table: tuple[str, str], trigger: str, events: str, function: str) -> list[str]:
    """A session in replica role fires no trigger but those that are ALWAYS."""
    create = sql.SQL("CREATE TRIGGER {} BEFORE {} ON {} FOR EACH STATEMENT EXECUTE FUNCTION {}")
    always = sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(name(*table), name(trigger))
    return [text(create.format(name(trigger), sql.SQL(events), name(*table), sql.SQL(function))), text(always)]


# -- how far it has come


def serves(spec: TableSpec, snapshot: Snapshot) -> bool:
    """There is such a copy, whole or not."""
    return (
        spec.copy == "by_partition"
        and snapshot.online is None
        and snapshot.registered
        and snapshot.partitioned is not None
    )


def waits(spec: TableSpec, snapshot: Snapshot) -> bool:
    """It is whole, and 06 may open it."""
    return _whole(spec, snapshot) and _is_closed(snapshot)


def opened(spec: TableSpec, snapshot: Snapshot) -> bool:
    """The application may write to it, so it holds rows that are nowhere else."""
    return _whole(spec, snapshot) and not _is_closed(snapshot)


def _whole(spec: TableSpec, snapshot: Snapshot) -> bool:
    return serves(spec, snapshot) and snapshot.ready


def _is_closed(snapshot: Snapshot) -> bool:
    return snapshot.partitioned is not None and snapshot.partitioned.table.closed


def told(spec: TableSpec, snapshot: Snapshot) -> str:
    """In a word or two, for people."""
    if opened(spec, snapshot):
        return "open to the application"
    return "closed to the application" if serves(spec, snapshot) else "nothing to turn"


# -- what 06 and 10 do


def checks(spec: TableSpec, snapshot: Snapshot) -> Iterator[Check]:
    """What stops 06 from opening it; red lines name their cure."""
    copy = plainly(*spec.partitioned_at)
    if spec.cut_over == "swap":
        yield Check(
            Severity.STOP, spec.name, "copy", f"{spec.table} has a copy that follows no write.",
            "Only a copy that is kept in step can take its name while the application writes.",
            f"cut_over: side_by_side: 06 opens {copy}, and the application moves to that name itself. Or begin again (10 Roll back, "
            'how = "abandon") with copy: online.',
        )  # fmt: skip
    if not snapshot.ready:
        yield Check(
            Severity.STOP, spec.name, "whole", "Not every row is copied yet.", "The copy of some partitions was interrupted.",
            "02 Apply migration finishes it.",
        )  # fmt: skip


def open_steps(spec: TableSpec, snapshot: Snapshot) -> tuple[Step, ...]:
    """The application may write to the copy from here on; nothing where it may already."""
    if not waits(spec, snapshot):
        return ()
    original, copy = plainly(*spec.original_at), plainly(*spec.partitioned_at)
    return (
        Step(
            name=f"open {copy}",
            statements=(online.drop_trigger(spec.partitioned_at, CLOSED),),
            lock="ACCESS EXCLUSIVE",
            on=copy,
            why=f"Until now the application's roles could only read it. Move the application to this name now: what it writes to {original} "
            "after the proof above is in no other table.",
            effect=Effect.CHANGES,
        ),
    )


def close_steps(spec: TableSpec, snapshot: Snapshot) -> tuple[Step, ...]:
    """The application's roles may only read the copy again; nothing where it was not opened."""
    if not opened(spec, snapshot):
        return ()
    original, copy = plainly(*spec.original_at), plainly(*spec.partitioned_at)
    return (
        Step(
            name=f"close {copy}",
            statements=tuple(closed(spec.partitioned_at)),
            lock="SHARE ROW EXCLUSIVE",
            on=copy,
            why=f"The application goes back to {original}. What it wrote to {copy} stays there and is in no other table: 03 Verify counts names "
            "those rows, before you repair or abandon the copy.",
            effect=Effect.CHANGES,
        ),
    )
