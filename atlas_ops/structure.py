"""How the set is built: the questions that the catalogs alone answer. Pure.

What lies on the calendar is told as of `as_of`.
"""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime

from atlas_ops import archive, bounds, inspection, partitions
from atlas_ops.health import State
from atlas_ops.look import Answer, Look, named, stretch
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.partitions import listed, marked, midnight
from atlas_ops.vitals import Vitals

DAY_S = 86_400.0


def answers(vitals: Vitals, snapshot: Snapshot, relation: Relation, state: State, as_of: date) -> dict[str, Answer]:
    """The answers by the names of their figures."""
    asked = _Structure(vitals, snapshot, relation, state, as_of)
    questions = (
        asked.missing, asked.runway, asked.gaps, asked.overlaps, asked.misaligned,
        asked.detach_pending, asked.not_attached, asked.archive_lag, asked.unproven_archives,
        asked.row_security, asked.grants, asked.indexes_missing, asked.indexes_invalid,
    )  # fmt: skip
    return {question.__name__: question() for question in questions}


class _Structure(Look):
    """Calendar, unfinished work, doors, indexes."""

    def missing(self) -> Answer:
        return Answer(0.0, f"{self.relation.table.schema}.{self.relation.table.name} is there.")

    def runway(self) -> Answer:
        if self.attached and all(not bound.readable for _, bound in self.attached):
            return Answer(None, "No partition is a range of time.")
        if self.covered_until is None and any(bound.readable and not bound.is_default for _, bound in self.attached):
            return Answer(None, "The last partition has no end.")
        end = self.covered_until or midnight(self.as_of)
        days = (end - midnight(self.as_of)).total_seconds() / DAY_S
        falls = "fall into the default partition" if self.default else "fail (23514)"
        if days == 0:
            return Answer(0.0, f"No partition holds {self.as_of}: inserts {falls}.")
        ahead = self._periods_ahead(end)
        wanted = f"{self.spec.ahead} {self.spec.every}s ahead"
        schedule = (
            f"all {wanted} are there"
            if ahead >= self.spec.ahead
            else f"{ahead} of {wanted}: the schedule has not made the next"
        )
        return Answer(days, f"{days:,.0f} days, up to {end.date()}, then inserts {falls}; {schedule}.{self._whole()}")

    def _whole(self) -> str:
        """When the schedule was last seen to have left everything there: its outcome, whatever a job's status says."""
        care = self.vitals.care
        if care is None or care.whole_at is None:
            return ""
        return f" All was there at {care.whole_at:%Y-%m-%d %H:%M} ({care.whole_by or 'by whom is not known'})."

    def _periods_ahead(self, end: datetime) -> int:
        period, found = bounds.period_of(self.spec.every, self.as_of), 0
        while found < self.spec.ahead and period.next().upper <= end:
            period, found = period.next(), found + 1
        return found

    def gaps(self) -> Answer:
        found = bounds.gaps(bound for _, bound in self.attached)
        return Answer(
            len(found), f"No partition covers {listed([stretch(*gap) for gap in found])}." if found else "None."
        )

    def overlaps(self) -> Answer:
        waiting = [bounds.parse_bound(marked(self.spec, each)) for each in self.beside]
        found = bounds.overlaps([*(bound for _, bound in self.attached), *waiting])
        return Answer(
            len(found),
            (
                f"A table that waits to be attached shares {listed([stretch(*each) for each in found])} with a partition."
                if found
                else "None."
            ),
        )

    def misaligned(self) -> Answer:
        odd = [
            one.name
            for one, bound in self.attached
            if not bound.readable
            or (bound.lower and bound.upper and not inspection.whole(self.spec.every, bound.lower, bound.upper))
        ]
        return Answer(len(odd), named(odd, f"No whole {self.spec.every} in UTC, or no range of time"), odd)

    # what is left undone

    def detach_pending(self) -> Answer:
        found = [one.name for one, _ in self.attached if one.detach_pending]
        return Answer(len(found), named(found, "Out of sight, and inserts in their range fail"), found)

    def not_attached(self) -> Answer:
        # one that overlaps is told there: it cannot be attached at all
        ranges = [bound for _, bound in self.attached]
        found = [
            one.name
            for one in self.beside
            if not partitions.is_set_aside(self.spec, one)
            and not bounds.overlaps([*ranges, bounds.parse_bound(marked(self.spec, one))])
        ]
        return Answer(len(found), named(found, "Filled, and not attached"), found)

    def archive_lag(self) -> Answer:
        if self.spec.keep is None or self.state is not State.IN_USE:
            return Answer(None, "keep is null: all is kept." if self.spec.keep is None else f"{self.state}.")
        found = [
            one.partition
            for one, (partition, _) in zip(
                archive.candidates(self.spec, self.snapshot, self.as_of), self.attached, strict=True
            )
            if one.goes and not partition.detach_pending
        ]
        return Answer(len(found), named(found, f"Older than the {self.spec.keep} {self.spec.every}s to keep"), found)

    def unproven_archives(self) -> Answer:
        found = [one.name for one in self.vitals.quarantined if one.name not in self.vitals.proven]
        return Answer(len(found), named(found, "Detached, and no archive of it was restored and compared"), found)

    # doors

    def row_security(self) -> Answer:
        if not (self.snapshot.registered or self.relation.table.row_security):
            return Answer(None, "The partitioned table has none, and no policy is passed by.")
        found = [one for one in self._tables() if not one.row_security]
        opened = sorted({role for one in found for role in one.open_to})
        told = named([one.name for one in found], "Off")
        return Answer(len(found), told + (f" Open to {listed(opened)}." if opened else ""), [one.name for one in found])

    def grants(self) -> Answer:
        tables = self._tables()
        owner = self.relation.table.owner
        held = {one.oid: self.pulses[one.oid].privileges if one.oid in self.pulses else one.open_to for one in tables}
        [(usual, _)] = Counter(held.values()).most_common(1) or [((), 0)]
        found = [one for one in tables if held[one.oid] != usual or one.owner != owner]
        roles = sorted(
            {role for one in found for role in one.open_to} | {one.owner for one in found if one.owner != owner}
        )
        told = named([one.name for one in found], "Not as their siblings")
        return Answer(
            len(found), told + (f" It concerns {listed(roles)}." if roles else ""), [one.name for one in found]
        )

    def _tables(self) -> list[Partition]:
        return [one for one in (*(one for one, _ in self.attached), *self.beside) if one.kind != "f"]

    # indexes

    def indexes_missing(self) -> Answer:
        siblings = [one for one, _ in self.attached if one.kind == "r"]
        tally = Counter(one.indexes for one in siblings)
        usual = max(tally, key=lambda number: (tally[number], number), default=0)
        lost = {
            one.name: list(self.pulses[one.oid].missing_indexes) if one.oid in self.pulses else [] for one in siblings
        }
        found = [one.name for one in siblings if lost[one.name] or one.indexes < usual]
        without = sorted({index for one in found for index in lost[one]})
        return Answer(
            len(found), named(found, "Fewer indexes") + (f" No partner of {listed(without)}." if without else ""), found
        )

    def indexes_invalid(self) -> Answer:
        found = [one for one, _ in self.attached if one.invalid_indexes]
        return Answer(
            sum(one.invalid_indexes for one in found),
            named([one.name for one in found], "Invalid ones"),
            [one.name for one in found],
        )
