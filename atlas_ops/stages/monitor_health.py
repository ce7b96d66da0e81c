"""09 Monitor health: one page that says whether the partitions of every table are well, and what to do where they are not."""

from __future__ import annotations

from functools import cached_property

from atlas_ops import (
    alerts,
    announcement,
    charts,
    health_catalog,
    health_charts,
    health_views,
    monitor,
    partitions,
    views,
)
from atlas_ops.alerts import Judgement, Level
from atlas_ops.drawing import Chart
from atlas_ops.health import Health
from atlas_ops.report import Report
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table, count


class MonitorHealth(Run):
    """Reads catalogs and statistics, waits for no lock longer than half a second, and stops for none."""

    stage = "monitor_health"
    next = "07 Maintain partitions and 08 Plan archive cure most of it. `atlas-ops health` tells a scheduler the same."

    @cached_property
    def _look(self) -> tuple[Judgement, ...]:
        return monitor.judgements(self.where, self.specs, self.as_of)

    @cached_property
    def _healths(self) -> list[Health]:
        return [one.health for one in self._look]

    def alerts(self) -> views.Folded:
        """What is wrong, the critical first, with why it matters, what to do and the SQL; what is well folded below."""
        return health_views.alerts_table(self._look)

    def tables(self) -> Table:
        """A line a table: how far it has come, how long it lasts, how large it is and will be."""
        return health_views.states_table(self._look)

    def figures_table(self) -> Table:
        """Every figure of every table, with the thresholds."""
        return health_views.figures_table(self._look)

    def runway(self) -> Chart:
        """The partitions along the calendar, and where today stands."""
        rows = [row for health in self._healths for row in health.rows]
        return charts.runway(partitions.runway_rows(rows), self.as_of)

    def sizes(self) -> Chart:
        """Bytes of each period by kind."""
        return health_charts.sizes(self._healths)

    def growth(self) -> Chart:
        """Rows of each period, and where the trend leads."""
        return health_charts.growth(self._healths)

    def activity(self) -> Chart:
        """What is done to each partition."""
        return health_charts.activity(self._healths)

    def partitions(self) -> views.Folded:
        """How many tables nobody watches; every partition folded below."""
        rows = [row for health in self._healths for row in health.rows]
        return views.Folded(self._unwatched(), ("Every partition", partitions.as_table(rows)))

    def _unwatched(self) -> views.Words:
        """Tables under care that this run has no specification of."""
        watched = {health.partitioned_table for health in self._healths}
        others = [f"{one.schema}.{one.name}" for one in health_catalog.under_care(self.where)]
        left = [name for name in others if name not in watched]
        if not left:
            return views.Words("Every table under care is on this page.")
        return views.Words(
            f"{count(len(left))} more under care, on no page of this file:",
            f"{partitions.listed(left)}. Name them in the parameters file.",
        )

    def report(self) -> Report:
        """The checks are the alerts, and every figure is in the record: the trend is drawn from there."""
        every = [alert for one in self._look for alert in one.alerts]
        self.checks = [
            *alerts.checks(alerts.sorted_by_level(every)),
            *(check for one in self._look for check in (*alerts.noted(one.health), *alerts.passed(one))),
        ]
        self.figures |= {
            "level": announcement.level(self._look).name.lower(),
            "alerts": {
                level.name.lower(): sum(alert.level is level for alert in every)
                for level in Level
                if level is not Level.OK
            },
            "tables": [announcement.table(one) for one in self._look],
        }
        return super().report()

    def headline(self) -> str:
        """How many alerts of which kind, and the shortest runway."""
        days = [value for health in self._healths if (value := health.figure("runway").value) is not None]
        shortest = f" The shortest runway is {count(min(days))} days." if days else ""
        return health_views.headline(self._look) + shortest
