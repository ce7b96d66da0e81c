"""03 Verify counts: is every row of the original in the partitioned table, with the same content?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from atlas_ops import charts, verify, views
from atlas_ops.division import Part
from atlas_ops.drawing import Chart
from atlas_ops.model import Relation, Snapshot
from atlas_ops.plan import Plan, joined
from atlas_ops.report import Report, Verdict, stopped
from atlas_ops.spec import TableSpec
from atlas_ops.stages.base import Run
from atlas_ops.tables import Column, Table
from atlas_ops.verify import Difference, Figures, PartProof


class VerifyCounts(Run):
    """All proofs are read once, in one snapshot, when the first of them is asked for."""

    stage = "verify_counts"
    next = "04 Inspect partitions and 05 Explain analysis, before the application uses the partitioned tables."

    @cached_property
    def _migrated(self) -> list[tuple[TableSpec, Snapshot, Relation, tuple[Part, ...]]]:
        return self.migrated()

    @cached_property
    def _proven(self) -> tuple[tuple[PartProof, ...], tuple[Difference, ...]]:
        proofs, differences = self.prove()
        self.figures["parts"] = [
            {
                "table": proof.table,
                "part": proof.part,
                "rows": [proof.original.rows, proof.partitioned.rows],
                # digests are sums beyond 64 bits: as text, JSON readers would round them
                "keys": [str(proof.original.keys), str(proof.partitioned.keys)],
                "content": [str(proof.original.content), str(proof.partitioned.content)],
                **({} if proof.lost is None else {"waiting": proof.waiting, "lost": proof.lost}),
            }
            for proof in proofs
        ]
        return proofs, differences

    def compare_counts(self) -> Chart:
        """Rows by part on both sides."""
        proofs, _ = self._proven
        return charts.both_sides(
            [(proof.table, proof.part, proof.original.rows, proof.partitioned.rows) for proof in proofs]
        )

    def compare_keys(self) -> Table:
        """The keys in both directions, a row a table."""
        proofs, _ = self._proven
        rows = []
        for spec in self.specs:
            own = [proof for proof in proofs if proof.table == spec.name]
            rows.append(
                (
                    spec.name,
                    sum(proof.keys.only_original for proof in own),
                    sum(proof.keys.only_partitioned for proof in own),
                    sum(proof.keys.both for proof in own),
                    _verdict(own)
                    if all(proof.proven for proof in own) or not all(proof.same_keys for proof in own)
                    else "same",
                    sum(proof.seconds for proof in own),
                )
            )
        return Table(
            [
                "table",
                "only in the original",
                "only in the partitioned table",
                "in both",
                "verdict",
                "seconds",
            ],
            rows,
        )

    def compare_digests(self) -> views.Folded:
        """The content digest of each table on both sides; that of every part folded below."""
        proofs, _ = self._proven
        heads: list[Column | str] = [
            Column("digest of the original", "text"),
            Column("digest of the partitioned table", "text"),
            "verdict",
        ]
        rows = []
        for spec in self.specs:
            own = [proof for proof in proofs if proof.table == spec.name]
            original, partitioned = (
                Figures(*map(sum, zip(*((side.rows, side.keys, side.content) for side in sides), strict=True)))
                for sides in ([proof.original for proof in own], [proof.partitioned for proof in own])
            )
            same = _verdict(own)
            rows.append(
                (spec.name, len(own), original.rows, _short(original.content), _short(partitioned.content), same)
            )
        return views.Folded(
            Table(["table", "parts", "rows", *heads], rows),
            (
                "Every part",
                Table(["table", "part", "rows", *heads], [_digests(proof) for proof in proofs], limit=len(proofs)),
            ),
        )

    def differences(self) -> Table | views.Words:
        """The rows that differ, by key and by column name, never by content; at most 20 a part."""
        _, differences = self._proven
        if not differences:
            return views.Words("No row differs.", "Nothing is to be repaired.")
        return Table(
            ["part", Column("key", "text"), "difference", "columns that differ"],
            [(found.part, ", ".join(found.key), found.kind, ", ".join(found.columns) or None) for found in differences],
        )

    def waiting(self) -> Table:
        """Where something follows: keys in the log, rows that differ and wait for a drain, rows that are in no log and thus lost."""
        proofs, _ = self._proven
        rows = []
        for spec, snapshot, *_ in self._migrated:
            own = [proof for proof in proofs if proof.table == spec.name]
            state = snapshot.online
            lost = sum(proof.lost or 0 for proof in own)
            rows.append(
                (
                    spec.name,
                    "nothing"
                    if state is None
                    else ".".join(spec.partitioned_at if state.authority == "original" else spec.original_at),
                    state and state.log_rows,
                    sum(proof.waiting for proof in own) if state else None,
                    lost if state else None,
                    _verdict(own),
                )
            )
        return Table(
            ["table", "what follows", Column("keys in the log", "count"), "rows that differ and wait", "rows in no log", "verdict"], rows
        )  # fmt: skip

    def plan_repair(self) -> views.PlanView:
        """Statements that make the parts that differ like the original again."""
        proofs, _ = self._proven
        plans = [
            verify.plan_repair(
                spec,
                snapshot,
                parts,
                [proof.part for proof in proofs if proof.table == spec.name and not proof.proven],
            )
            for spec, snapshot, _, parts in self._migrated
        ]
        return views.PlanView(joined(plans), self.confirm)

    def execute(self, plan: Plan | views.PlanView) -> views.Folded | views.Words:
        """Repair where the plan is confirmed, and then compare everything anew: the verdict is of what is there now."""
        shown = super().execute(plan)
        if self.lines:
            self.checks.clear()
            del self._proven
        return shown

    def verdict(self) -> Verdict:
        """Red or proven: there is no middle."""
        return Verdict.STOPPED if stopped(self.checks) else Verdict.OK

    def headline(self) -> str:
        """The result in a sentence a table."""
        proofs, _ = self._proven
        repaired = f"{len(self.lines)} parts were repaired, then all was compared anew. " if self.lines else ""
        return repaired + verify.headline(proofs)

    def report(self) -> Report:
        """Compare, if no cell has asked for it yet: a verdict without a proof would be worthless."""
        _ = self._proven
        return super().report()


def _digests(proof: PartProof) -> tuple[object, ...]:
    both = _short(proof.original.content), _short(proof.partitioned.content)
    return (proof.table, proof.part, proof.original.rows, *both, _verdict([proof]))


def _verdict(proofs: Sequence[PartProof]) -> str:
    """Same, in step (what differs waits in the key log) or differs."""
    if all(proof.same for proof in proofs):
        return "same"
    return "in step" if all(proof.proven for proof in proofs) else "differs"


def _short(digest: int) -> str:
    """The last twelve hexadecimal digits: enough for eyes; the result holds all of them."""
    return f"{digest & (1 << 48) - 1:012x}"
