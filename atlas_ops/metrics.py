"""The figures as Prometheus has them: metric families in base units (seconds, bytes, ratios), one family a figure. Pure.

`atlas_ops_alert_level` holds what the thresholds of the specification make of each figure, so that a rule needs no threshold of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from atlas_ops.alerts import Judgement, worst
from atlas_ops.growth import When
from atlas_ops.health import State
from atlas_ops.thresholds import FIGURES, Watch

PREFIX = "atlas_ops_"
# unit of a figure → ending of its family, factor into the base unit, and how that reads
_BASE = {
    "days": ("_seconds", 86_400.0, "seconds"),
    "minutes": ("_seconds", 60.0, "seconds"),
    "percent": ("_ratio", 0.01, "which share (1 is all)"),
    "times": ("_ratio", 1.0, "times"),
}

# The families beside those of the figures: name and what it says.
OTHERS: Mapping[str, str] = {
    "up": "1 if the database could be looked at, 0 if not",
    "look_timestamp_seconds": "when the look was taken",
    "alert_level": "a figure against its thresholds: 0 ok, 1 warning, 2 critical, 3 not read",
    "level": "the worst of a table: 0 ok, 1 warning, 2 critical, 3 not read",
    "unread": "reads of a table that failed",
    "state": "how far a table has come: 1 at the state it has",
    "whole_timestamp_seconds": "when everything that ahead asks for was last found there, by create_future_partitions() or by 07",
    "partitions": "attached partitions with two bounds",
    "rows": "rows of the partitions, by statistics",
    "bytes": "bytes on disk of the partitions and what stands beside them, by kind",
    "expected_rows": "rows of the current period once it is full, if the trend goes on",
    "expected_bytes": "bytes that the periods `ahead` will add, if the trend goes on",
    "partition_rows": "rows of a partition, by statistics",
    "partition_bytes": "bytes on disk of a partition, by kind",
    "partition_dead_rows": "dead rows of a partition, by statistics",
    "partition_scans": "sequential and index scans of a partition since the statistics began to count",
}
COUNTERS = {"partition_scans"}
KINDS = ("heap", "index", "toast")


def name_of(figure: str) -> str:
    """The family of a figure, in its base unit."""
    return f"{PREFIX}{figure}{_base(FIGURES[figure].unit)[0]}"


def _base(unit: str) -> tuple[str, float, str]:
    return _BASE.get(unit, ("", 1.0, unit))


def names() -> list[str]:
    """Every name that a sample can have, as a rule or a dashboard writes it."""
    others = [f"{PREFIX}{name}{'_total' if name in COUNTERS else ''}" for name in OTHERS]
    return [*map(name_of, FIGURES), *others]


class Exposition:
    """A collector over one look; `per_partition`: with the families of each partition."""

    def __init__(
        self, database: str, found: Sequence[Judgement] | None, looked_at: datetime, *, per_partition: bool = True
    ) -> None:
        self.database, self.found, self.looked_at, self.per_partition = database, found, looked_at, per_partition

    def collect(self) -> Iterator[Metric]:
        """The families; of a look that was not possible (`found` None) only that."""
        yield self._one("up", float(self.found is not None))
        yield self._one("look_timestamp_seconds", self.looked_at.timestamp())
        if self.found is None:
            return
        for figure, watch in FIGURES.items():
            yield self._figure(figure, watch, self.found)
        yield from self._levels(self.found)
        yield from self._sizes(self.found)
        if self.per_partition:
            yield from self._partitions(self.found)

    def _one(self, name: str, value: float) -> Metric:
        family = self._family(name)
        family.add_metric([self.database], value)
        return family

    def _figure(self, figure: str, watch: Watch, found: Iterable[Judgement]) -> Metric:
        _, factor, words = _base(watch.unit)
        family = GaugeMetricFamily(name_of(figure), f"{words} {watch.what}", labels=["database", "table"])
        for one in found:
            value = one.health.figure(figure).value
            if value is not None:
                family.add_metric([self.database, one.health.table], value * factor)
        return family

    def _levels(self, found: Iterable[Judgement]) -> Iterator[Metric]:
        alert, level, unread, state, whole = (
            self._family("alert_level", "table", "figure"),
            self._family("level", "table"),
            self._family("unread", "table"),
            self._family("state", "table", "state"),
            self._family("whole_timestamp_seconds", "table"),
        )
        for one in found:
            table = one.health.table
            for judged in one.judged:
                alert.add_metric([self.database, table, judged.figure.name], float(judged.level))
            level.add_metric([self.database, table], float(worst(one.alerts)))
            unread.add_metric([self.database, table], float(len(one.health.unread)))
            for each in State:
                state.add_metric([self.database, table, str(each)], float(one.health.state is each))
            if one.health.whole_at:
                whole.add_metric([self.database, table], one.health.whole_at.timestamp())
        yield from (alert, level, unread, state, whole)

    def _sizes(self, found: Iterable[Judgement]) -> Iterator[Metric]:
        partitions, rows, size, more_rows, more_bytes = (
            self._family("partitions", "table"),
            self._family("rows", "table"),
            self._family("bytes", "table", "kind"),
            self._family("expected_rows", "table"),
            self._family("expected_bytes", "table"),
        )
        for health in (one.health for one in found):
            if not health.rows:
                continue
            partitions.add_metric([self.database, health.table], len(health.months))
            rows.add_metric([self.database, health.table], sum(row.rows or 0 for row in health.rows))
            for kind in KINDS:
                size.add_metric(
                    [self.database, health.table, kind], sum(getattr(row, f"{kind}_bytes") for row in health.rows)
                )
            if health.expected:
                more_rows.add_metric([self.database, health.table], health.expected[0].rows)
                more_bytes.add_metric([self.database, health.table], sum(each.bytes for each in health.expected[1:]))
        yield from (partitions, rows, size, more_rows, more_bytes)

    def _partitions(self, found: Iterable[Judgement]) -> Iterator[Metric]:
        rows, size, dead, scans = (
            self._family("partition_rows", "table", "partition"),
            self._family("partition_bytes", "table", "partition", "kind"),
            self._family("partition_dead_rows", "table", "partition"),
            self._family("partition_scans", "table", "partition", "ended"),
        )
        for health in (one.health for one in found):
            ended = {month.partition for month in health.months if month.when is When.ENDED}
            for row in health.rows:
                if row.rows is not None:
                    rows.add_metric([self.database, health.table, row.partition], row.rows)
                for kind in KINDS:
                    size.add_metric([self.database, health.table, row.partition, kind], getattr(row, f"{kind}_bytes"))
                dead.add_metric([self.database, health.table, row.partition], row.dead_rows)
            for one in health.activity:
                is_ended = "true" if one.partition in ended else "false"
                scans.add_metric(
                    [self.database, health.table, one.partition, is_ended], one.seq_scans + one.index_scans
                )
        yield from (rows, size, dead, scans)

    def _family(self, name: str, *labels: str) -> GaugeMetricFamily | CounterMetricFamily:
        kind = CounterMetricFamily if name in COUNTERS else GaugeMetricFamily
        return kind(f"{PREFIX}{name}", OTHERS[name], labels=["database", *labels])


def registry(exposition: Exposition) -> CollectorRegistry:
    """A registry of its own, with nothing of this process in it."""
    found = CollectorRegistry(auto_describe=False)
    found.register(exposition)
    return found
