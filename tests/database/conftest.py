"""What the tests of the core share: a database with the specifications of its tables, and an Atlas that is migrated already."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg
import pytest

from atlas_ops import catalog, compare, database, execute, migration, preflight, verify
from atlas_ops.migration import Part
from atlas_ops.model import Relation, Snapshot
from atlas_ops.plan import Plan, joined
from atlas_ops.report import Check, Line, Severity
from atlas_ops.spec import TableSpec, tables_from

AS_OF = date(2026, 11, 23)
MONTHS = {"from": "2024-01-01", "until": "2027-01-01"}
MESSAGES: Mapping[str, Any] = {
    "table": "public.messages",
    "partition_key": "created_at",
    "null_keys": "set_aside",
    "indexes": [["user_id"], ["conversation_id"], ["created_at"], ["role"]],
    **MONTHS,
}
USAGE_LOGS: Mapping[str, Any] = {
    "table": "public.usage_logs",
    "partition_key": "timestamp",
    "indexes": [["user_id"], ["event"], ["timestamp"]],
    **MONTHS,
}
TEMPLATE = "template_migrated"


@dataclass
class Subject:
    """A database under test and the specifications of its tables; `connect` is by the role that migrates."""

    database: Any
    specs: tuple[TableSpec, ...] = field(default_factory=lambda: tables_from([MESSAGES, USAGE_LOGS]))
    as_of: date = AS_OF

    @property
    def where(self) -> database.Session:
        return database.Session("test", self.database.conninfo, "test")

    @property
    def spec(self) -> TableSpec:
        return self.specs[0]

    def specify(self, *tables: Mapping[str, Any]) -> None:
        self.specs = tables_from(list(tables))

    def run(self, *statements: str) -> int:
        """Rows of the last statement; all in one transaction, in UTC."""
        with self.database.connect() as conn:
            conn.execute("SET TimeZone = 'UTC'")
            return [conn.execute(statement) for statement in statements][-1].rowcount

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.database.connect() as conn:
            conn.execute("SET TimeZone = 'UTC'")
            found: list[tuple[Any, ...]] = conn.execute(query).fetchall()
            return found

    def value(self, query: str) -> Any:
        ((found,),) = self.rows(query)
        return found

    def snapshot(self, spec: TableSpec) -> Snapshot:
        with database.connect(self.where) as conn:
            return catalog.snapshot(conn, spec, migration.names_needed(spec, self.as_of))

    def plan(self) -> Plan:
        return joined(
            migration.plan_migration(spec, self.snapshot(spec), self.as_of, install=number == 0)
            for number, spec in enumerate(self.specs)
        )

    def migrate(self) -> tuple[Line, ...]:
        plan = self.plan()
        return execute.execute(self.where, plan, plan.digest)

    def checks(self) -> tuple[Check, ...]:
        """What preflight says of every table; it reads the keys where the catalogs alone have no objection."""
        return tuple(check for spec in self.specs for check in self._checks(spec))

    def _checks(self, spec: TableSpec) -> tuple[Check, ...]:
        snapshot = self.snapshot(spec)
        found = preflight.checks(spec, snapshot, self.as_of)
        if snapshot.original is None or any(check.severity is Severity.STOP for check in found):
            return found
        with database.connect(self.where) as conn:
            facts = catalog.key_facts(conn, spec, snapshot.original.table)
            counts = catalog.rows_per_period(conn, spec, migration.periods(spec, self.as_of))
        return preflight.checks(spec, snapshot, self.as_of, facts, dict(counts))

    def compared(self) -> list[tuple[TableSpec, Relation, Sequence[Part]]]:
        return [(spec, *self._original_and_parts(spec)) for spec in self.specs]

    def prove(
        self, **options: Any
    ) -> tuple[tuple[verify.PartProof, ...], tuple[verify.Difference, ...]]:
        return compare.prove(self.where, self.compared(), **options)

    def repair(self, proofs: Sequence[verify.PartProof]) -> Plan:
        wrong = [(proof.table, proof.part) for proof in proofs if not proof.same]
        return joined(
            verify.plan_repair(
                spec,
                self.snapshot(spec),
                self._original_and_parts(spec)[1],
                [part for table, part in wrong if table == spec.name],
            )
            for spec in self.specs
        )

    def _original_and_parts(self, spec: TableSpec) -> tuple[Relation, Sequence[Part]]:
        original = self.snapshot(spec).original
        key = original.column(spec.partition_key) if original else None
        assert original and key
        return original, migration.parts(spec, key.base_type, self.as_of)


@pytest.fixture
def subject(atlas: Any) -> Subject:
    """The Atlas as production has it, and the specifications for its two big tables."""
    return Subject(atlas)


@pytest.fixture
def bare(empty: Any) -> Subject:
    """An empty database; the test makes the table and specifies it."""
    return Subject(empty, ())


@pytest.fixture(scope="session")
def migrated_template(server: Any, template: str) -> str:
    """The Atlas with both tables migrated; made by the worker that comes first, and like every template without connections."""
    with (server.cluster.data.parent / f"{TEMPLATE}.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            if admin.execute("SELECT FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone() is None:
                made = server.clone(template)
                Subject(made).migrate()
                name = psycopg.conninfo.conninfo_to_dict(made.conninfo)["dbname"]
                admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
                admin.execute(f"ALTER DATABASE {name} RENAME TO {TEMPLATE}")
    return TEMPLATE


@pytest.fixture
def migrated(server: Any, migrated_template: str) -> Iterator[Subject]:
    """The migrated Atlas, for this test alone."""
    made = server.clone(migrated_template)
    yield Subject(made)
    server.drop(made)
