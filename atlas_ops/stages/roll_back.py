"""10 Roll back: the original comes back with every write made since; or the copy is switched off, or removed altogether."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from atlas_ops import cutover, takeover, views
from atlas_ops.errors import AtlasError
from atlas_ops.model import Fact, Snapshot
from atlas_ops.plan import Plan, joined
from atlas_ops.report import Report, Severity, stopped
from atlas_ops.spec import TableSpec
from atlas_ops.stages import ledgers
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table, count


class RollBack(Run):
    """Every verb of this suite has its inverse here."""

    stage = "roll_back"
    _left: Sequence[tuple[TableSpec, Sequence[Fact]]] = ()  # what the partitioned tables were in the originals' places
    next = "03 Verify counts, to see that both tables are the same; 02 Apply migration, to begin again."
    _WAYS: ClassVar[dict[str, Callable[[TableSpec, Snapshot], Plan]]] = {
        "roll_back": cutover.plan_roll_back,
        "switch_off": cutover.plan_switch_off,
        "abandon": cutover.plan_abandon,
    }

    def state(self) -> views.Folded:
        """Who is written, who follows, and how far behind the reverse log is."""
        return self.following()[1]

    def plan_roll_back(self, how: str = "roll_back") -> views.PlanView:
        """`how`: roll_back, switch_off (the kill switch) or abandon (remove the copy). Raises AtlasError for anything else."""
        if how not in self._WAYS:
            raise AtlasError(
                what=f"how is {how!r}.", why="There are three ways back.", next=f"Use one of: {', '.join(self._WAYS)}."
            )
        snapshots = self.snapshots()
        self.checks, self._left = [], []
        wanted = [
            (spec, snapshot)
            for spec, snapshot in snapshots
            if snapshot.online is not None
            or (how == "abandon" and snapshot.registered)
            or (how == "roll_back" and takeover.serves(spec, snapshot))
        ]
        if how == "roll_back":
            turned = [(spec, snapshot) for spec, snapshot in wanted if cutover.turned(snapshot)]
            self.checks = [check for spec, snapshot in turned for check in cutover.checks(spec, snapshot)]
            if stopped(self.checks):
                red = next(check for check in self.checks if check.severity is Severity.STOP)
                raise AtlasError(what=f"{red.table}: {red.what}", why=red.why, next=red.cure)
            found = ledgers.facts(self.where, *(spec.partitioned_at for spec, _ in turned))
            self._left = [(spec, facts) for (spec, _), facts in zip(turned, found, strict=True)]
        plans = [self._WAYS[how](spec, snapshot) for spec, snapshot in wanted]
        self.plan = joined(plans) if plans else Plan(self.stage, self.target, ())
        return views.PlanView(self.plan, self.confirm)

    def ledger(self) -> views.Folded | views.Words:
        """What is true of each original again, and was true of the partitioned table in its place."""
        now = ledgers.now(self)
        pairs = (ledgers.came_back(self.where, left, *now[spec.schema, spec.name]) for spec, left in self._left)
        return ledgers.told(self, [pair for pair in pairs if pair])

    def exchanged(self) -> Table | views.Words:
        """How long each lock was waited for and held."""
        return views.exchange_table(self.lines)

    def report(self) -> Report:
        """Plan, if no cell has asked for it yet: a verdict without a plan would be worthless."""
        if self.plan is None:
            self.plan_roll_back()
        return super().report()

    def headline(self) -> str:
        """What came back, or the digest that is waited for."""
        if self.plan is None or not self.plan.steps:
            return "The originals are in use: there is nothing to roll back."
        if not self.lines:
            return f"{count(len(self.plan.steps))} steps are waiting for their digest: {self.plan.digest}."
        held = [line.held_ms for line in self.lines if line.held_ms is not None]
        told = f" Locks were held for {max(held):,.0f} ms at most." if held else ""
        return f"{count(len(self.lines))} steps done.{told}"
