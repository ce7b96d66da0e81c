"""A run of one stage: parameters, connection, snapshots, execution, and the last cell's verdict."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from atlas_ops import __version__, catalog, compare, cutover, demo, division, magic, preflight, takeover, verify, views
from atlas_ops.database import DEMO, Session, connect, identifier, session
from atlas_ops.division import Part
from atlas_ops.errors import AtlasError
from atlas_ops.execute import execute
from atlas_ops.model import KeyFacts, Relation, Server, Snapshot
from atlas_ops.plan import Plan, Target, confirmed
from atlas_ops.progress import Progress
from atlas_ops.report import RESULT_TYPE, Check, Line, Report, Verdict, stopped
from atlas_ops.settings import find_specs
from atlas_ops.spec import TableSpec
from atlas_ops.verify import Difference, PartProof


class Run:
    """One stage on one database. Displays who and where; `finish()` displays the verdict and is red when it should be."""

    stage: ClassVar[str] = ""
    next: ClassVar[str] = ""

    def __init__(self, database: str, tables: Sequence[dict[str, Any]], confirm: str, as_of: str) -> None:
        _refuse_unknown_parameters()
        self.specs: tuple[TableSpec, ...] = find_specs(database, tables)
        self.confirm = confirm
        self.as_of = day(as_of)
        if database == DEMO:
            demo.ensure()
        self.where: Session = session(database, self.stage)
        with connect(self.where) as connection:
            self.server: Server = catalog.server(connection)
        self.checks: list[Check] = []
        self.lines: tuple[Line, ...] = ()
        self.figures: dict[str, Any] = {}
        self.plan: Plan | None = None
        magic.adopt(self.where.conninfo)

    def __repr__(self) -> str:
        return repr(self._identity())

    def _repr_html_(self) -> str:
        return self._identity()._repr_html_()

    def _identity(self) -> views.Words:
        return views.identity(
            self.server,
            self.where.name,
            f"atlas_ops {__version__}{_commit()}",
            [spec.table for spec in self.specs],
        )

    @property
    def target(self) -> Target:
        """The database that a plan of this run is for."""
        return Target(self.server.system_identifier, self.server.database)

    def snapshots(self) -> list[tuple[TableSpec, Snapshot]]:
        """What the catalogs say of every table now; each specification as it reads since its last cut-over or roll-back."""
        with connect(self.where) as connection:
            placed = [catalog.placed(connection, spec) for spec in self.specs]
            return [
                (spec, catalog.snapshot(connection, spec, division.names_needed(spec, self.as_of))) for spec in placed
            ]

    def key_figures(self, spec: TableSpec, snapshot: Snapshot) -> tuple[KeyFacts, dict[str, int]] | None:
        """What reads of the whole partition key tell: its facts, and rows by period; None where the catalogs alone object, or nothing is
        to be copied any more."""
        if (
            snapshot.original is None
            or cutover.turned(snapshot)
            or stopped(preflight.checks(spec, snapshot, self.as_of))
        ):
            return None
        with connect(self.where) as connection:
            facts = catalog.key_facts(connection, spec, snapshot.original.table)
            return facts, dict(catalog.rows_per_period(connection, spec, division.periods(spec, self.as_of)))

    def migrated(self) -> list[tuple[TableSpec, Snapshot, Relation, tuple[Part, ...]]]:
        """The snapshots of tables whose partitioned copy is there. Raises AtlasError where one is not.

        Once the original is retired the partitioned table stands in its place.
        """
        found = []
        for spec, snapshot in self.snapshots():
            original = snapshot.original or (snapshot.partitioned if cutover.turned(snapshot) else None)
            key = original.column(spec.partition_key) if original else None
            if original is None or key is None or snapshot.partitioned is None:
                missing = spec.table if original is None or key is None else ".".join(spec.partitioned_at)
                raise AtlasError(
                    what=f"There is no {missing} to look at.",
                    why="The table is not there, or its migration has not begun.",
                    next="Run 01 Preflight and 02 Apply migration first.",
                )
            found.append((spec, snapshot, original, division.parts(spec, key.base_type, self.as_of)))
        return found

    def names(self, number: int = 0) -> tuple[str, str]:
        """The original and the partitioned table as SQL writes them now, of the first table or another: for queries of one's own."""
        spec = self.migrated()[number][0]
        return identifier(*spec.original_at), identifier(*spec.partitioned_at)

    def following(self) -> tuple[list[tuple[TableSpec, Snapshot]], views.Folded]:
        """The snapshots, and how each table that is kept in step stands: who is written, who follows, how far behind."""
        snapshots = self.snapshots()
        return snapshots, views.following_table(snapshots)

    def execute(self, plan: Plan | views.PlanView) -> views.Folded | views.Words:
        """Run the plan if `confirm` arms it; shows a line a step, or says that nothing was done."""
        wanted = plan.plan if isinstance(plan, views.PlanView) else plan
        self.plan = wanted
        if not confirmed(wanted, self.confirm, demo=self.where.is_demo):
            return views.Words(
                "Nothing was done.",
                "There is nothing to do." if not wanted.steps else "No plan was confirmed.",
            )
        unit = "rows" if any(step.weight for step in wanted.steps) else "steps"
        with Progress(self.stage, unit=unit) as progress:
            self.lines += execute(self.where, wanted, self.confirm, progress)
        return views.lines_table(self.lines)

    @cached_property
    def _started(self) -> datetime:
        return datetime.now(UTC)

    def prove(self, *, without_retired: bool = False) -> tuple[tuple[PartProof, ...], tuple[Difference, ...]]:
        """Compare both sides of every table in one snapshot; the checks of the run are what came out.

        `without_retired`: leave out tables whose original was dropped after the cut-over (otherwise AtlasError is raised for one), or whose copy
        the application may write to by now, while nothing follows.
        """
        tables = [
            (spec, snapshot, original, parts)
            for spec, snapshot, original, parts in self.migrated()
            if not (without_retired and (cutover.retired_for_good(snapshot) or takeover.opened(spec, snapshot)))
        ]
        for spec, snapshot, *_ in tables:
            if snapshot.original is None:
                raise AtlasError(
                    what=f"The original of {spec.table} is gone.",
                    why="It was retired after the cut-over: there is nothing to compare with.",
                    next="Leave it out of `tables`; 04 Inspect partitions tells how the partitioned table is.",
                )
        with Progress("compared", unit="parts") as progress:
            proofs, differences = compare.prove(
                self.where,
                [(spec, original, parts) for spec, _, original, parts in tables],
                progress,
                {spec.name: snapshot.online.authority for spec, snapshot, *_ in tables if snapshot.online},
            )
        for spec, *_ in tables:
            self.checks += verify.checks(spec, [proof for proof in proofs if proof.table == spec.name])
        return proofs, differences

    def headline(self) -> str:
        """The result in a sentence; each stage says its own."""
        raise NotImplementedError

    def verdict(self) -> Verdict:
        """Red checks stop; a plan that was shown only is planned; one without steps had nothing to do."""
        if stopped(self.checks):
            return Verdict.STOPPED
        if self.plan is not None and not self.plan.steps:
            return Verdict.NOTHING_TO_DO
        if self.plan is not None and not self.lines:
            return Verdict.PLANNED
        return Verdict.OK

    def report(self) -> Report:
        """What the stage came to, for the record. A plan that was only shown waits for its digest, whatever comes after it."""
        verdict, digest = self.verdict(), self.plan.digest if self.plan and self.plan.steps else ""
        return Report(
            stage=self.stage,
            database=self.where.name,
            verdict=verdict,
            headline=self.headline(),
            digest=digest,
            lines=self.lines,
            checks=tuple(self.checks),
            figures=self.figures,
            next=to_confirm(digest) if verdict is Verdict.PLANNED else self.next,
            tables=tuple(spec.table for spec in self.specs),
        )

    def finish(self) -> None:
        """Display the verdict with the machine-readable result; raises AtlasError where it is `stopped`."""
        from IPython.display import display  # noqa: PLC0415  # only a notebook has a last cell

        report = self.report()
        words = views.ending(report)
        display(
            {RESULT_TYPE: report.result(), "text/html": words._repr_html_(), "text/plain": repr(words)},
            raw=True,
        )
        report.require_ok()


def to_confirm(digest: str) -> str:
    """What is next where a plan waits for its digest."""
    return f'Read the plan, then run again with confirm = "{digest}".'


def day(as_of: str) -> date:
    """The day to plan from. Raises AtlasError for what is none."""
    if not as_of:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(as_of)
    except ValueError:
        raise AtlasError(
            what=f"as_of is {as_of!r}.",
            why="It takes a day such as 2026-11-23, or nothing for today (UTC).",
            next="Correct as_of.",
        ) from None


def _commit() -> str:
    """The commit of a checkout in brackets, or nothing for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return f" ({told.stdout.strip()})" if told.returncode == 0 else ""


def _refuse_unknown_parameters() -> None:
    """papermill only warns of a parameter the notebook does not have: its cell is compared with the notebook's own here."""
    cells: Sequence[str] = getattr(sys.modules.get("__main__"), "In", [])
    injected = [number for number, cell in enumerate(cells) if cell.startswith("# Parameters\n")]
    if not injected:
        return
    given = _assigned(cells[injected[-1]])
    known = {name for cell in cells[: injected[-1]] for name in _assigned(cell)}
    if unknown := [name for name in given if name not in known]:
        raise AtlasError(
            what=f"Unknown parameter: {', '.join(unknown)}.",
            why="This notebook has no such parameter; papermill would have passed over it with a warning.",
            next=f"Use one of: {', '.join(sorted(known))}.",
        )


def _assigned(cell: str) -> Mapping[str, None]:
    """The names a cell of plain assignments sets; nothing for a cell that is no Python (a magic)."""
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return {}
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return dict.fromkeys(target.id for target in targets if isinstance(target, ast.Name))
