"""06 Cut over: the partitioned table takes the place of the original, in one short transaction; and later, the retired table goes."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_ops import cutover, views
from atlas_ops.errors import AtlasError
from atlas_ops.model import Snapshot
from atlas_ops.plan import Plan, joined
from atlas_ops.report import Report, Severity, stopped
from atlas_ops.spec import TableSpec
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table, count


class CutOver(Run):
    """Looks, proves, plans, exchanges. Nothing is exchanged that this run has not proven."""

    stage = "cut_over"
    next = "watch the application; 10 Roll back brings the original back with every write made since."
    _proven = False

    def state(self) -> views.Folded:
        """Who is written, who follows, how far behind; and what stands in the way."""
        snapshots, table = self.following()
        self._refuse(snapshots)
        return table

    def findings(self) -> views.Folded:
        """Every check of the exchange, the red ones first."""
        return views.checks_table(self.checks)

    def proof(self) -> views.Words:
        """Compare both tables in one snapshot: what differs must wait in the key log. Raises AtlasError where it does not."""
        proofs, _ = self.prove()
        self._proven = all(proof.proven for proof in proofs)
        waiting = sum(proof.waiting for proof in proofs)
        lost = sum(proof.lost or 0 for proof in proofs)
        self.figures |= {"rows": sum(proof.original.rows for proof in proofs), "waiting": waiting, "lost": lost}
        if not self._proven:
            raise AtlasError(
                what=f"{count(lost)} rows differ and are in no key log.",
                why="They would be lost, or stale, after the exchange.",
                next="03 Verify counts names them and plans the repair.",
            )
        return views.Words(
            "Nothing is lost.",
            f"{count(self.figures['rows'])} rows compared in one snapshot; {count(waiting)} differ, and wait in the key log for the next drain.",
        )

    def plan_cut_over(self, drop_retired: bool = False) -> views.PlanView:
        """The exchange as the specification asks for it, or, with `drop_retired`, the end of the retired tables."""
        snapshots = self.snapshots()
        if drop_retired:
            self.plan = joined(cutover.plan_retire(spec, snapshot) for spec, snapshot in snapshots)
        else:
            self._refuse(snapshots)
            if stopped(self.checks):
                red = next(check for check in self.checks if check.severity is Severity.STOP)
                raise AtlasError(what=f"{red.table}: {red.what}", why=red.why, next=red.cure)
            self.plan = joined(cutover.plan_cut_over(spec, snapshot) for spec, snapshot in snapshots)
        return views.PlanView(self.plan, self.confirm)

    def _refuse(self, snapshots: Sequence[tuple[TableSpec, Snapshot]]) -> None:
        self.checks = [check for spec, snapshot in snapshots for check in cutover.checks(spec, snapshot)]

    def execute(self, plan: Plan | views.PlanView) -> views.Folded | views.Words:
        """Run the plan if `confirm` arms it. An exchange that this run has not proven is refused."""
        wanted = plan.plan if isinstance(plan, views.PlanView) else plan
        if self.confirm and not self._proven and any(step.exchange for step in wanted.steps):
            self.proof()
        return super().execute(wanted)

    def exchanged(self) -> Table | views.Words:
        """How long each lock was waited for and held."""
        self.figures["exchanges"] = [
            {"step": line.step, "attempts": line.attempts, "held_ms": line.held_ms, "waits_ms": [ms for _, ms in line.waits]}
            for line in self.lines
            if line.held_ms is not None
        ]  # fmt: skip
        return views.exchange_table(self.lines)

    def health(self) -> views.Folded:
        """After the exchange: the reverse log, from which a roll-back would be fed."""
        return self.following()[1]

    def report(self) -> Report:
        """Plan, if no cell has asked for it yet: a verdict without a plan would be worthless."""
        if self.plan is None and not self.checks:
            self.plan_cut_over()
        return super().report()

    def headline(self) -> str:
        """What was exchanged and for how long the application waited, or the digest that is waited for."""
        if self.plan is None or not self.plan.steps:
            return "Every table is where the specification wants it."
        if not self.lines:
            return f"{count(len(self.plan.steps))} steps are waiting for their digest: {self.plan.digest}."
        held = [line.held_ms for line in self.lines if line.held_ms is not None]
        told = f" Locks were held for {max(held):,.0f} ms at most." if held else ""
        return f"{count(len(self.lines))} steps done.{told}"
