"""How the set is used, and what use does to it: the questions that counters and counts answer. Pure.

Ages are told by the server's own clock. What no statistics tell is None, in words; never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from atlas_ops import growth
from atlas_ops.bounds import Bound
from atlas_ops.health import State
from atlas_ops.look import Answer, Look
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.online import ORIGINAL
from atlas_ops.partitions import NEVER_ANALYZED, listed, rows_of
from atlas_ops.tables import count
from atlas_ops.vitals import Vitals

DAY_S = 86_400.0
WRAPAROUND = 2**31
FEWEST_DEAD = 10_000  # dead rows of a partition: below, they cost nothing that is worth a call
FEWEST_CHANGED = 1_000  # rows: below, a VACUUM or ANALYZE would change nothing
FEWEST_SCANS = 1_000  # of the busiest partition: below, a share of them says nothing
RECENTLY = timedelta(days=1)
LAST_SCANS_SINCE = 160_000  # server version that remembers when a table was last scanned


def answers(vitals: Vitals, snapshot: Snapshot, relation: Relation, state: State, as_of: date) -> dict[str, Answer]:
    """The answers by the names of their figures."""
    asked = _Wear(vitals, snapshot, relation, state, as_of)
    questions = (
        asked.default_rows, asked.late_rows, asked.growth, asked.dead_rows, asked.vacuum_age, asked.analyze_age,
        asked.transaction_age, asked.unpruned, asked.key_log_rows, asked.key_log_age, asked.capture,
    )  # fmt: skip
    return {question.__name__: question() for question in questions}


class _Wear(Look):
    """Rows out of place, growth, VACUUM and ANALYZE, scans, the copy that follows."""

    # rows where they should not be

    def default_rows(self) -> Answer:
        if self.default is None:
            return Answer(None, "There is no default partition.")
        counted = self.vitals.default_rows
        if counted is not None:
            return Answer(
                counted.rows,
                f"{self.default.name} holds {count(counted.rows)}{' and more' if counted.more else ''} rows (counted).",
            )
        rows, by = rows_of(self.default)
        return Answer(
            rows,
            f"{self.default.name} holds {'an unknown number of' if rows is None else count(rows)} rows ({by}, not counted).",
        )

    def late_rows(self) -> Answer:
        """An insert is late for certain where a VACUUM came after the end of the period, and counted inserts from then on."""
        if self.state is not State.IN_USE:
            return Answer(None, f"{self.state}.")
        judged = [
            (one.name, self.pulses[one.oid].inserts_since_vacuum)
            for one, bound in self.ended
            if one.oid in self.pulses and one.last_vacuum and bound.upper and one.last_vacuum >= bound.upper
        ]
        rest = len(self.ended) - len(judged)
        unknown = f" Of {rest} others nothing is on record: no VACUUM since their end." if rest else ""
        if not judged:
            return Answer(None, f"Nothing is on record.{unknown}")
        late = [(name, rows) for name, rows in judged if rows]
        rows = sum(rows for _, rows in late)
        where = f": {listed([f'{name} ({count(n)})' for name, n in late])}" if late else ""
        return Answer(
            rows,
            f"{count(rows)} inserts since the last VACUUM of {len(judged)} ended periods{where}.{unknown}",
            [name for name, _ in late],
        )

    def growth(self) -> Answer:
        newest = growth.newest_against_median(self.months)
        if newest is None:
            return Answer(None, "Too few periods hold rows to compare the newest with.")
        month, times = newest
        return Answer(
            times,
            f"{month.label} holds {count(month.rows)} rows, {times:,.1f} times the median of the periods before.",
        )

    # what the server looks after

    def dead_rows(self) -> Answer:
        found = [
            (100 * one.dead_rows / (one.dead_rows + (rows_of(one)[0] or 0)), one)
            for one, _ in self.attached
            if one.dead_rows >= FEWEST_DEAD
        ]
        if not found:
            return Answer(0.0, f"No partition has {count(FEWEST_DEAD)} or more.")
        share, worst = max(found, key=lambda one: one[0])
        return Answer(
            share, f"{worst.name}: {count(worst.dead_rows)}, {share:.0f} % of its row versions.", [worst.name]
        )

    def vacuum_age(self) -> Answer:
        due = [
            (one, bound, one.last_vacuum)
            for one, bound in self.attached
            if one.kind == "r" and one.dead_rows + self.pulse(one, "inserts_since_vacuum") >= FEWEST_CHANGED
        ]
        return self._oldest("VACUUM", due)

    def analyze_age(self) -> Answer:
        due = [
            (one, bound, one.last_analyze)
            for one, bound in self.attached
            if one.kind == "r"
            and self.pulse(one, "mods_since_analyze") >= max(FEWEST_CHANGED, (rows_of(one)[0] or 0) / 10)
        ]
        age, told, named = self._oldest("ANALYZE", due)
        whole = self.vitals.clock.whole_table_analyzed if self.vitals.clock else None
        rows = sum(rows_of(one)[0] or 0 for one, _ in self.attached)
        never = self.relation.table.estimated_rows == NEVER_ANALYZED
        if self.vitals.clock is None or rows < FEWEST_CHANGED or (whole is None and not never):
            return Answer(age, told, named)
        since = whole or min([bound.lower for _, bound in self.attached if bound.lower], default=self.now)
        days = max(0.0, (self.now - since).total_seconds() / DAY_S)
        if age is not None and age >= days:
            return Answer(age, told, named)
        name = self.relation.table.name
        return Answer(
            days,
            f"{name} itself: {'never' if never else f'{days:,.1f} days ago'}; autovacuum analyzes partitions only.",
            [name],
        )

    def _oldest(self, what: str, due: Sequence[tuple[Partition, Bound, datetime | None]]) -> Answer:
        """The longest time since; where none is on record, since the statistics began to count, or since the partition's own beginning."""
        if not due:
            return Answer(
                0.0, f"No partition has changed by {count(FEWEST_CHANGED)} rows or more since its last {what}.", []
            )
        clock = self.vitals.clock
        began = max(filter(None, (clock.statistics_since, clock.server_started)), default=None) if clock else None
        aged = []
        for one, bound, last in due:
            start = min(bound.lower, self.now) if bound.lower else began or self.now
            since = last or start
            aged.append(((self.now - since).total_seconds() / DAY_S, last is None, one.name))
        days, never, name = max(aged)
        told = (
            f"{name}: {'none on record' if never else f'{days:,.1f} days ago'}; {len(due)} have changed since theirs."
        )
        return Answer(max(days, 0.0), told, [name])

    def transaction_age(self) -> Answer:
        ages = [
            (100 * max(self.pulses[one.oid].transaction_age, self.pulses[one.oid].multixact_age) / WRAPAROUND, one.name)
            for one, _ in self.attached
            if one.oid in self.pulses
        ]
        if not ages:
            return Answer(None, "Nothing is on record.")
        share, name = max(ages)
        return Answer(share, f"{name}: {share:.2f} % of the way to the wraparound.", [name])

    def unpruned(self) -> Answer:
        """A statement that is not pruned scans every partition: what the least scanned ended one has, all have."""
        if self.state is not State.IN_USE:
            return Answer(None, f"{self.state}.")
        scans = {one.name: one.seq_scans + one.index_scans for one, _ in self.attached}
        busiest = max(scans.values(), default=0)
        ended = [one for one, _ in self.ended if one.kind == "r"]
        if busiest < FEWEST_SCANS or len(ended) < growth.FEWEST_PERIODS:
            return Answer(None, f"Too few scans to tell: {count(busiest)} of the busiest partition.")
        least = min(scans[one.name] for one in ended)
        share = 100 * least / busiest
        if self.snapshot.server.version >= LAST_SCANS_SINCE:
            last = [self.pulses[one.oid].last_scan for one in ended if one.oid in self.pulses]
            if any(scan is None or self.now - scan > RECENTLY for scan in last):
                return Answer(
                    0.0,
                    f"Some ended period was not scanned for a day; before, {share:.0f} % of the scans may have met all of them.",
                )
        since = self.vitals.clock.statistics_since if self.vitals.clock else None
        counted = f"since {since:%Y-%m-%d}" if since else "since the statistics began to count"
        return Answer(
            share,
            f"Each of {len(ended)} ended periods was scanned {count(least)} times or more, the busiest {count(busiest)} times ({counted}).",
        )

    # the copy

    def key_log_rows(self) -> Answer:
        if self.vitals.following is None:
            return Answer(None, "Nothing follows.")
        if self.vitals.log_rows is None:
            return Answer(None, "Not read.")
        rows = self.vitals.log_rows
        return Answer(
            rows.rows, f"{count(rows.rows)}{' and more' if rows.more else ''} keys wait in the {self._direction()}."
        )

    def key_log_age(self) -> Answer:
        following = self.vitals.following
        if following is None:
            return Answer(None, "Nothing follows.")
        if self.vitals.log_rows is not None and not self.vitals.log_rows.rows:
            return Answer(0.0, f"The {self._direction()} is empty.")
        if following.behind_s is None:
            return Answer(None, "It was never seen empty: the copy is being made.")
        minutes = max(following.behind_s, 0.0) / 60
        return Answer(minutes, f"Its oldest key is at most {minutes:,.1f} minutes old.")

    def _direction(self) -> str:
        reverse = self.vitals.following is not None and self.vitals.following.authority != ORIGINAL
        return "reverse log (the retired original follows)" if reverse else "key log (the partitioned table follows)"

    def capture(self) -> Answer:
        following = self.vitals.following
        if following is None:
            return Answer(None, "Nothing follows.")
        lost = not following.captured
        return Answer(
            float(lost),
            "What is written is in no log: the copy is stale." if lost else "Both triggers of the capture are there.",
        )
