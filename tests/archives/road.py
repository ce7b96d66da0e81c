"""The road of one table: migrated, detached, exported, proven, dropped, restored; each by a plan that is confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from atlas_ops import archive, catalog, contents, database, execute, months, restoring
from atlas_ops.manifest import Line, Month
from atlas_ops.model import Fact, Snapshot
from atlas_ops.months import Archive
from atlas_ops.partitions import partitioned_table
from atlas_ops.progress import Says, silent
from atlas_ops.report import Line as Done
from atlas_ops.report import Severity
from atlas_ops.spec import TableSpec
from tests.database.conftest import Operations

LATER = date(2026, 11, 23)


@dataclass
class Road:
    """One table on one database, and its archive in a folder."""

    ops: Operations
    db: Any
    folder: Path | str
    keys: dict[str, Any] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)  # what the progress told

    @property
    def spec(self) -> TableSpec:
        return self.ops.spec(**{"keep": 1, "archive_to": str(self.folder), **self.keys})

    @property
    def where(self) -> database.Session:
        return self.ops.session(self.db, archive.STAGE)

    @property
    def archive(self) -> Archive:
        return months.read(self.where, self.spec, self.snapshot())

    def run(self, *statements: str) -> None:
        self.ops.run(self.db, *statements)

    def value(self, query: str, *parameters: Any) -> Any:
        return self.ops.value(self.db, query, *parameters)

    def snapshot(self) -> Snapshot:
        return self.ops.snapshot(self.db, self.spec)

    def hear(self, done: int, total: int, label: str = "") -> None:
        self.heard.append(label)

    # -- the road

    def migrate(self) -> None:
        self.ops.migrate(self.db, self.spec)

    def attached(self) -> list[str]:
        return [each.name for each in self.snapshot().partitions if each.bound is not None]

    def detach(self) -> list[str]:
        """Everything that has ended leaves; returns its names."""
        before = self.attached()
        while (plan := archive.plan_archive(self.spec, self.snapshot(), LATER)).steps:
            execute.execute(self.where, plan, plan.digest)
        after = set(self.attached())
        return [name for name in before if name not in after]

    def plan_export(self, *names: str, purpose: Any = "archive") -> months.Exporting:
        return months.exporting([self.archive], names, purpose)

    def export(self, *names: str, purpose: Any = "archive", says: Says = silent) -> tuple[Done, ...]:
        planned = self.plan_export(*names, purpose=purpose)
        return months.run_export(planned, planned.plan.digest, says)

    def prove(self, *names: str, says: Says = silent) -> tuple[Done, ...]:
        planned = months.proving([self.archive], names)
        return months.prove(planned, planned.plan.digest, says)

    def drop(self, *names: str, says: Says = silent) -> tuple[Done, ...]:
        planned = months.dropping([self.archive], names)
        return months.drop(planned, planned.plan.digest, says)

    def returning(self, *names: str, form: Any = "dump", place: Any = "attach", view: str = "") -> restoring.Restoring:
        return restoring.returning([self.archive], names, form, place, view)

    def restore(self, *names: str, form: Any = "dump", place: Any = "attach", view: str = "") -> tuple[Done, ...]:
        return self.come_back(self.returning(*names, form=form, place=place, view=view))

    def come_back(self, planned: restoring.Restoring, says: Says = silent) -> tuple[Done, ...]:
        assert [check for check in planned.checks if check.severity is Severity.STOP] == []
        return restoring.run(planned, planned.plan.digest, says)

    def away(self) -> list[str]:
        """Detached, exported, proven and dropped."""
        names = self.detach()
        self.export()
        self.prove()
        assert len(self.drop()) == len(names)
        return names

    def lines(self) -> tuple[Line, ...]:
        return self.archive.lines

    def month(self, name: str) -> Month:
        return self.archive.months[name]

    def files(self) -> list[str]:
        return self.archive.kept.names()

    # -- what is there

    def ledger(self) -> dict[str, Sequence[Fact]]:
        """Every property of the partitioned table and of each of its partitions."""
        found = self.snapshot()
        relation = partitioned_table(found)
        assert relation is not None
        tables = [(relation.table.schema, relation.table.name)]
        tables += [(each.schema, each.name) for each in found.partitions if each.bound is not None]
        with database.connect(self.where) as connection:
            return {table[1]: catalog.ledger(connection, *table) for table in tables}

    def digest(self) -> tuple[int, int]:
        """Rows and content of the whole partitioned table."""
        relation = partitioned_table(self.snapshot())
        assert relation is not None
        table = relation.table
        query = contents.figures_query(table.schema, table.name, relation.columns, self.spec.partition_key, "")
        with database.connect(self.where) as connection:
            rows, content, *_ = connection.execute(query).fetchone()
        return rows, int(content)

    def bounds(self) -> dict[str, str]:
        return {each.name: each.bound for each in self.snapshot().partitions if each.bound is not None}

    def rows(self, table: str, columns: Iterable[str] = ("t",)) -> list[tuple[str | None, ...]]:
        """Rows as text, in an order of their own, under the settings that every connection of ours has."""
        listed = ", ".join(f"{column}::text" for column in columns)
        with database.connect(self.where) as connection:
            return connection.execute(f'SELECT {listed} FROM {table} AS t ORDER BY t::text COLLATE "C"').fetchall()
