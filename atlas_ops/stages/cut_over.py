"""06 Cut over: the partitioned table takes the place of the original, in one short transaction; and later, the retired table goes."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_ops import catalog, charts, cutover, ledger, rehearsal, scratch, takeover, views
from atlas_ops.database import connect
from atlas_ops.drawing import Chart
from atlas_ops.errors import AtlasError
from atlas_ops.ledger import Ledgers
from atlas_ops.model import Snapshot
from atlas_ops.plan import Plan, confirmed, joined
from atlas_ops.progress import Progress
from atlas_ops.report import Check, Report, Severity, stopped
from atlas_ops.spec import TableSpec
from atlas_ops.stages import ledgers
from atlas_ops.stages.base import Run
from atlas_ops.tables import Table, count
from atlas_ops.traffic import Rehearsal

FASTEST = 10_000  # statements a second: more than this client could send


class CutOver(Run):
    """Looks, proves, plans, exchanges. Nothing is exchanged that this run has not proven."""

    stage = "cut_over"
    next = "watch the application; 10 Roll back brings the original back with every write made since."
    _proven = False
    _opens = False  # a copy that follows nothing, which the application will write to
    _before: Sequence[Ledgers] = ()
    _rehearses = False  # then this run does nothing else: one run, one plan, one digest
    _rehearsed: tuple[Rehearsal, ...] = ()

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
        snapshots = self.snapshots()
        if all(cutover.retired_for_good(snapshot) or takeover.opened(spec, snapshot) for spec, snapshot in snapshots):
            return views.Words(
                "Nothing to prove.",
                "The retired tables are gone, or the application has moved: there is nothing to compare with.",
            )
        proofs, _ = self.prove(without_retired=True)
        self._proven = all(proof.proven for proof in proofs)
        waiting = sum(proof.waiting for proof in proofs)
        lost = sum(proof.lost or 0 for proof in proofs)
        self.figures |= {"rows": sum(proof.original.rows for proof in proofs), "waiting": waiting, "lost": lost}
        if not self._proven:
            apart = [f"{proof.table} {proof.part}" for proof in proofs if not proof.proven and proof.lost is None]
            raise AtlasError(
                what=f"{count(lost)} rows differ and are in no key log."
                if not apart
                else f"{count(len(apart))} parts differ: {', '.join(apart[:5])}.",
                why="They would be lost, or stale, after the exchange.",
                next="03 Verify counts names them and plans the repair.",
            )
        return views.Words(
            "Nothing is lost.",
            f"{count(self.figures['rows'])} rows compared in one snapshot; {count(waiting)} differ, and wait in the key log for the next drain.",
        )

    def rehearse(self, rate: int = 0) -> views.Words | views.Stacked | views.Folded:
        """The whole story on a scratch copy of each table, with `rate` statements a second of a synthetic writer; 0: none.

        Armed by `confirm` as any plan; a run that rehearses does nothing else. Raises AtlasError where it cannot be done here.
        """
        if not isinstance(rate, int) or isinstance(rate, bool) or not 0 <= rate <= FASTEST:
            raise AtlasError(
                what=f"rehearse is {rate!r}.",
                why=f"It takes statements a second, 1 to {FASTEST:,}, or 0 for no rehearsal.",
                next="Write rehearse = 100, or about what the application writes in a second.",
            )
        if not rate:
            return views.Words("No rehearsal was asked for.", "rehearse is 0.")
        self._rehearses, self.checks = True, []  # what stops the exchange is shown above, and stops no rehearsal
        plans = self._rehearsals()
        self.plan = joined(plan for _, plan in plans)
        if not confirmed(self.plan, self.confirm, demo=self.where.is_demo):
            return views.Stacked(
                views.PlanView(self.plan, self.confirm),
                views.Words(
                    "What is rehearsed", "are the plans of 02, 06 and 10, for the scratch copy. " + scratch.LEFT_OUT
                ),
            )
        with Progress("rehearsal", unit="stages") as progress:
            self._rehearsed = tuple(
                rehearsal.on_scratch(self.where, plan, spec, self.as_of, rehearsal.Load(rate), progress)
                for spec, plan in plans
            )
        self._tell()
        return views.rehearsal_table(self._rehearsed)

    def _rehearsals(self) -> list[tuple[TableSpec, Plan]]:
        """The plan of each table's scratch copy. Raises AtlasError where there is nothing to rehearse."""
        with connect(self.where) as connection:
            place = catalog.rehearsal_place(connection)
        wanted = [(spec, snapshot) for spec, snapshot in self.snapshots() if not cutover.turned(snapshot)]
        if not wanted:
            raise AtlasError(
                what="There is nothing to rehearse.",
                why="The application uses the partitioned tables already.",
                next="Write rehearse = 0.",
            )
        for spec, snapshot in wanted:
            scratch.refuse(spec, snapshot, place, self.as_of)
        left_over = bool(place.left_over)  # what a killed rehearsal left goes once
        return [
            (spec, scratch.plan_scratch(spec, snapshot, self.as_of, left_over=left_over and not number))
            for number, (spec, snapshot) in enumerate(wanted)
        ]

    def _tell(self) -> None:
        """Into the record: the steps, the figures, and a red line for each table whose rehearsal failed."""
        self.lines = tuple(line for one in self._rehearsed for line in one.lines)
        self.figures["rehearsals"] = [one.result() for one in self._rehearsed]
        self.checks = [
            Check(
                Severity.STOP, one.table, "rehearsal", views.rehearsal_sentence(one),
                "What failed here would fail for the application.", "Find out why before you cut over; the record holds the figures.",
            )
            for one in self._rehearsed
            if not one.whole
        ]  # fmt: skip

    def stalls(self) -> Chart | views.Words:
        """How long each client of the rehearsal waited, with the exchanges under the glass."""
        if not self._rehearsed:
            return views.Words("No client waited.", "Nothing was rehearsed.")
        return charts.stalls([one.drawn() for one in self._rehearsed])

    def plan_cut_over(self, drop_retired: bool = False) -> views.PlanView | views.Words:
        """The exchange as the specification asks for it, or, with `drop_retired`, the end of the retired tables."""
        if self._rehearses:
            return views.Words(
                "Nothing was planned.", "This run rehearses, and does nothing else. To cut over: rehearse = 0."
            )
        snapshots = self.snapshots()
        if drop_retired:
            self.plan = joined(cutover.plan_retire(spec, snapshot) for spec, snapshot in snapshots)
        else:
            self._refuse(snapshots)
            if stopped(self.checks):
                red = next(check for check in self.checks if check.severity is Severity.STOP)
                raise AtlasError(what=f"{red.table}: {red.what}", why=red.why, next=red.cure)
            left = [(spec, snapshot) for spec, snapshot in snapshots if not cutover.retired_for_good(snapshot)]
            self._opens = any(takeover.waits(spec, snapshot) for spec, snapshot in left)
            plans = [cutover.plan_cut_over(spec, snapshot, self.as_of) for spec, snapshot in left]
            self.plan = joined(plans) if plans else Plan(self.stage, self.target, ())
        return views.PlanView(self.plan, self.confirm)

    def _refuse(self, snapshots: Sequence[tuple[TableSpec, Snapshot]]) -> None:
        """What stops the exchange: its own checks, and whatever was changed on one of the tables and not on the other since."""
        pairs = (
            ledgers.both(self.where, spec, snapshot) for spec, snapshot in snapshots if not cutover.turned(snapshot)
        )
        self._before = [pair for pair in pairs if pair]
        self.checks = [
            check
            for spec, snapshot in snapshots
            if not cutover.retired_for_good(snapshot)
            for check in cutover.checks(spec, snapshot)
        ]
        self.checks += ledgers.checks(self._before)

    def ledger(self) -> views.Folded | views.Words:
        """What was true of each original before the exchange, and is true of the table that has its place now."""
        now = ledgers.now(self)
        self.checks = [check for check in self.checks if check.name != ledger.CHECK]
        return ledgers.told(
            self, [ledgers.after(self.where, one, *now[one.spec.schema, one.spec.name]) for one in self._before]
        )

    def execute(self, plan: Plan | views.PlanView | views.Words) -> views.Folded | views.Words:
        """Run the plan if `confirm` arms it. An exchange that this run has not proven is refused."""
        if isinstance(plan, views.Words):
            return views.Words("Nothing was done.", "There was no plan.")
        wanted = plan.plan if isinstance(plan, views.PlanView) else plan
        if self.confirm and not self._proven and (self._opens or any(step.exchange for step in wanted.steps)):
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
        if self._rehearsed:
            return " ".join(views.rehearsal_sentence(one) for one in self._rehearsed)
        if self.plan is None or not self.plan.steps:
            return "Every table is where the specification wants it."
        if not self.lines:
            return f"{count(len(self.plan.steps))} steps are waiting for their digest: {self.plan.digest}."
        held = [line.held_ms for line in self.lines if line.held_ms is not None]
        told = f" Locks were held for {max(held):,.0f} ms at most." if held else ""
        return f"{count(len(self.lines))} steps done.{told}"
