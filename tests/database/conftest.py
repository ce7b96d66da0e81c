"""What the tests of the writing half share: specifications, plans and runs on a test's own database."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from atlas_ops import catalog, compare, cutover, database, division, execute, migration, online, preflight, verify
from atlas_ops.division import Part
from atlas_ops.model import Relation, Snapshot
from atlas_ops.plan import Plan, joined
from atlas_ops.report import Check, Line, Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

_KEYED = (
    "SELECT n, CASE WHEN n % 10 > 0 THEN '2023-12-30'::timestamptz + n * interval '1 day' END, '2024-01-31'::timestamptz + n * interval '1 day', "
    "'row ' || n FROM generate_series(1, 70) n"
)
FOLLOWED = (
    "CREATE TABLE author (id int PRIMARY KEY, name text)",
    "INSERT INTO author SELECT n, 'author ' || n FROM generate_series(1, 9) n",
    "CREATE TABLE topic (id int PRIMARY KEY)",
    "INSERT INTO topic SELECT generate_series(1, 9)",
    "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL, author int REFERENCES author, body text, "
    "topic int REFERENCES topic ON DELETE CASCADE)",
    "INSERT INTO note SELECT n, '2023-12-30'::timestamptz + n * interval '1 day', 1 + n % 5, 'row ' || n, 1 + n % 7 FROM generate_series(1, 70) n",
    "CREATE INDEX ON note (at)",
    # what each trigger heard, and on which table
    "CREATE TABLE heard (listener text, place text, verb text)",
    "CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
    "INSERT INTO public.heard VALUES (TG_NAME, TG_TABLE_NAME, TG_OP); RETURN NULL; END $$",
    *(
        f"CREATE TRIGGER hears_{state} AFTER INSERT OR UPDATE OR DELETE ON note FOR EACH ROW EXECUTE FUNCTION hear()"
        for state in ("always", "never", "origin", "replica")
    ),
    "ALTER TABLE note ENABLE ALWAYS TRIGGER hears_always",
    "ALTER TABLE note DISABLE TRIGGER hears_never",
    "ALTER TABLE note ENABLE REPLICA TRIGGER hears_replica",
    "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON note TO authenticated",
    "GRANT SELECT (id, at) ON note TO anon",
    "CREATE TABLE aside (id int PRIMARY KEY, at timestamptz, edited timestamptz, body text)",
    "INSERT INTO aside " + _KEYED,
    "CREATE TABLE valued (id int PRIMARY KEY, at timestamptz, edited timestamptz, body text)",
    "INSERT INTO valued " + _KEYED,
    # as a host may have it: whatever is made from here on is open to everybody, unless it is closed
    *(
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO anon, authenticated, service_role"
        for kind in ("TABLES", "FUNCTIONS", "SEQUENCES")
    ),
)


@dataclass(frozen=True)
class Operations:
    """The core as the notebooks call it, on any database of the tests; `as_of` is the day of every plan."""

    as_of: date
    programs: Path

    def keys(self, **keys: Any) -> dict[str, Any]:
        """Those of the small table `note` with two months, unless `keys` say otherwise."""
        months = {"from": "2024-01-01", "until": "2024-03-01", "ahead": 1}
        return {"table": "note", "partition_key": "at", **months, "copy": "by_partition", **keys}

    def spec(self, **keys: Any) -> TableSpec:
        """The specification of `note`, unless `keys` say otherwise."""
        [found] = tables_from([self.keys(**keys)])
        return found

    def online(self, **keys: Any) -> TableSpec:
        """The same, copied online."""
        return self.spec(**{"copy": "online", **keys})

    def aside(self) -> TableSpec:
        """The table `aside`, whose rows without a key are set aside."""
        return self.online(table="aside", null_keys="set_aside")

    def valued(self) -> TableSpec:
        """The table `valued`, whose rows without a key get another column's value for it."""
        return self.online(table="valued", null_keys={"value": "edited"})

    def session(self, db: Any, stage: str = "test") -> database.Session:
        return database.Session("test", db.conninfo, stage)

    def run(self, db: Any, *statements: str) -> None:
        """Statements as `postgres`, each in a transaction of its own, in UTC."""
        with psycopg.connect(db.conninfo, autocommit=True) as conn:
            conn.execute("SET TimeZone = 'UTC'")
            for statement in statements:
                conn.execute(statement)

    def value(self, db: Any, query: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        with psycopg.connect(db.conninfo, options="-c TimeZone=UTC") as conn:
            row = conn.execute(query, parameters or None).fetchone()
        return row[0] if row else None

    def relation(self, db: Any, schema: str, name: str) -> Relation:
        with database.connect(self.session(db)) as conn:
            found = catalog.relation(conn, schema, name)
        assert found is not None, f"there is no {schema}.{name}"
        return found

    def snapshot(self, db: Any, spec: TableSpec) -> Snapshot:
        with database.connect(self.session(db)) as conn:
            return catalog.snapshot(conn, spec, division.names_needed(spec, self.as_of))

    def checks(self, db: Any, spec: TableSpec, *, whole: bool = True) -> tuple[Check, ...]:
        """What preflight says; `whole`: with the reads of the key, where the table can be read at all."""
        found = self.snapshot(db, spec)
        first = preflight.checks(spec, found, self.as_of)
        if not whole or found.original is None or any(check.severity is Severity.STOP for check in first):
            return first
        with database.connect(self.session(db)) as conn:
            facts = catalog.key_facts(conn, spec, found.original.table)
            counts = catalog.rows_per_period(conn, spec, division.periods(spec, self.as_of))
        return preflight.checks(spec, found, self.as_of, facts, dict(counts))

    def reds(self, db: Any, spec: TableSpec) -> list[str]:
        """The names of preflight's red checks."""
        return [check.name for check in self.checks(db, spec) if check.severity is Severity.STOP]

    def plan(self, db: Any, *specs: TableSpec, install: bool = True) -> Plan:
        return joined(
            migration.plan_migration(spec, self.snapshot(db, spec), self.as_of, install=install and number == 0)
            for number, spec in enumerate(specs)
        )

    def migrate(self, db: Any, *specs: TableSpec) -> tuple[Line, ...]:
        """Preflight without a red check, the whole plan executed, and nothing left to do."""
        for spec in specs:
            assert self.reds(db, spec) == []
        plan = self.plan(db, *specs)
        lines = execute.execute(self.session(db), plan, plan.digest)
        assert [line.step for line in lines] == [step.name for step in plan.steps]
        assert self.plan(db, *specs).steps == ()
        return lines

    def parts(self, db: Any, spec: TableSpec) -> tuple[Part, ...]:
        """Every stretch of the key of a table that is there."""
        original = self.snapshot(db, spec).original
        assert original is not None
        return division.parts(spec, _key_type(spec, original), self.as_of)

    def prove(self, db: Any, *specs: TableSpec) -> int:
        """Every part is the same on both sides; returns the rows of the originals."""
        tables = []
        for spec in specs:
            found = self.snapshot(db, spec)
            assert found.original is not None
            key_type = _key_type(spec, found.original)
            tables.append((spec, found.original, division.parts(spec, key_type, self.as_of)))
        proofs, differences = compare.prove(self.session(db), tables)
        assert [(proof.table, proof.part) for proof in proofs if not proof.same] == []
        assert differences == ()
        return sum(proof.original.rows for proof in proofs)

    # the online copy

    def placed(self, db: Any, spec: TableSpec) -> tuple[TableSpec, Snapshot]:
        """The specification as it reads since the last exchange, and what the catalogs say by it."""
        with database.connect(self.session(db)) as conn:
            found = catalog.placed(conn, spec)
            return found, catalog.snapshot(conn, found, division.names_needed(found, self.as_of))

    def carry_out(self, db: Any, plan: Plan) -> tuple[Line, ...]:
        return execute.execute(self.session(db), plan, plan.digest)

    def follow(self, db: Any, spec: TableSpec, rows: Mapping[str, int] | None = None) -> tuple[Line, ...]:
        """The online copy made, or made whole; `rows` a part decide which are copied in batches."""
        found, snapshot = self.placed(db, spec)
        return self.carry_out(db, migration.plan_migration(found, snapshot, self.as_of, rows))

    def drain(self, db: Any, spec: TableSpec) -> tuple[Line, ...]:
        return self.carry_out(db, cutover.plan_drain(*self.placed(db, spec)))

    def cut_over(self, db: Any, spec: TableSpec) -> tuple[Line, ...]:
        """Without a red check, as 06 does it, and nothing left to do."""
        return self._exchange(db, spec, self._cut_over)

    def cut_over_plan(self, db: Any, spec: TableSpec) -> Plan:
        return self._cut_over(*self.placed(db, spec))

    def _cut_over(self, spec: TableSpec, snapshot: Snapshot) -> Plan:
        return cutover.plan_cut_over(spec, snapshot, self.as_of)

    def roll_back(self, db: Any, spec: TableSpec) -> tuple[Line, ...]:
        """Without a red check, as 10 does it, and nothing left to do."""
        return self._exchange(db, spec, cutover.plan_roll_back)

    def bars(self, db: Any, spec: TableSpec) -> list[str]:
        """The names of the red checks of an exchange."""
        found = self.placed(db, spec)
        return [check.name for check in cutover.checks(*found) if check.severity is Severity.STOP]

    def _exchange(self, db: Any, spec: TableSpec, planned: Callable[[TableSpec, Snapshot], Plan]) -> tuple[Line, ...]:
        assert self.bars(db, spec) == []
        lines = self.carry_out(db, planned(*self.placed(db, spec)))
        assert planned(*self.placed(db, spec)).steps == ()
        return lines

    def compared(self, db: Any, spec: TableSpec) -> tuple[tuple[verify.PartProof, ...], tuple[verify.Difference, ...]]:
        """Both sides in one snapshot, with a look into the key log."""
        found, snapshot = self.placed(db, spec)
        assert snapshot.original is not None and snapshot.online is not None
        parts = division.parts(found, _key_type(found, snapshot.original), self.as_of)
        return compare.prove(
            self.session(db), [(found, snapshot.original, parts)], following={spec.name: snapshot.online.authority}
        )

    def in_step(self, db: Any, spec: TableSpec) -> int:
        """Nothing differs and the key log is empty; returns the rows of the original."""
        proofs, differences = self.compared(db, spec)
        assert [(proof.part, proof.original, proof.partitioned) for proof in proofs if not proof.same] == []
        assert differences == () and self.log_rows(db, spec) == 0
        return sum(proof.original.rows for proof in proofs)

    def log_rows(self, db: Any, spec: TableSpec) -> int:
        """Keys in the key log."""
        return int(self.value(db, f"SELECT count(*) FROM {online.log(spec).as_string(None)}"))

    def bounds(self, db: Any, schema: str = "partitions") -> dict[str, str]:
        """The bounds of the partitions in a schema, as PostgreSQL prints them in UTC."""
        with database.connect(self.session(db)) as conn:
            return dict(
                conn.execute(
                    "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_class c "
                    "WHERE c.relispartition AND c.relkind = 'r' AND c.relnamespace = %s::regnamespace ORDER BY 1",
                    (f'"{schema}"',),
                ).fetchall()
            )

    def psql(self, db: Any, *arguments: str, **environment: str) -> str:
        """What psql printed; its errors fail the test."""
        return self._program("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *arguments, db.conninfo, **environment)

    def dump(self, db: Any, *arguments: str) -> str:
        """What the pg_dump of the server's own version prints. Its \\restrict keys differ by the dump."""
        told = self._program("pg_dump", *arguments, db.conninfo, version=db.version)
        return "\n".join(line for line in told.splitlines() if not line.startswith("\\"))

    def pg_restore(self, db: Any, file: Path) -> None:
        """By the pg_restore of the server's own version; its errors fail the test."""
        self._program("pg_restore", "--exit-on-error", f"--dbname={db.conninfo}", str(file), version=db.version)

    def _program(self, name: str, *arguments: str, version: int = 0, **environment: str) -> str:
        packaged = Path(f"/usr/lib/postgresql/{version}/bin")
        done = subprocess.run(
            [str((packaged if packaged.exists() else self.programs) / name), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **environment},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _key_type(spec: TableSpec, original: Relation) -> str:
    key = original.column(spec.partition_key)
    assert key is not None
    return key.base_type


@pytest.fixture(scope="session")
def ops(programs: Path) -> Operations:
    """The core on the 15th of January 2024: with `ahead: 1` a table from 2024-01-01 on has two months."""
    return Operations(date(2024, 1, 15), programs)


FOLLOWING = "template_following"


@pytest.fixture(scope="session")
def following_template(server: Any, ops: Operations) -> str:
    """Small tables whose copies are in step, made by the worker that comes first. `note` has all that the application could notice at an
    exchange; `aside` and `valued` have rows without a key."""
    admin_conninfo = server.conninfo()
    with (server.cluster.data.parent / f"{FOLLOWING}.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with psycopg.connect(admin_conninfo, autocommit=True) as admin:
            if admin.execute("SELECT FROM pg_database WHERE datname = %s", (FOLLOWING,)).fetchone() is None:
                made = server.clone("template0")
                ops.run(made, *FOLLOWED)
                for spec in (ops.online(), ops.aside(), ops.valued()):
                    ops.follow(made, spec)
                name = conninfo_to_dict(made.conninfo)["dbname"]
                admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
                admin.execute(f"ALTER DATABASE {name} RENAME TO {FOLLOWING}")
    return FOLLOWING


@pytest.fixture
def following(server: Any, following_template: str) -> Iterator[Any]:
    """A database of the test's own with copies that are in step: `ops.online()`, `ops.aside()` and `ops.valued()`."""
    made = server.clone(following_template)
    yield made
    server.drop(made)


@pytest.fixture
def enter(ops: Operations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A stage, as its notebook enters it: `enter(CutOver, db)` for the table `note` that is copied online; `keys` as in Operations.keys."""

    def entered(stage: Callable[..., Any], db: Any, *, confirm: str = "", **keys: Any) -> Any:
        settings = {key: value for key, value in conninfo_to_dict(db.conninfo).items() if value}
        (tmp_path / "pg_service.conf").write_text(
            "[entered]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())
        )
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))
        return stage("entered", [ops.keys(**{"copy": "online", **keys})], confirm, ops.as_of.isoformat())

    return entered


@pytest.fixture(scope="session")
def now(programs: Path) -> Operations:
    """The core on the day the Atlas database was built for."""
    return Operations(date(2026, 11, 23), programs)


@pytest.fixture(scope="session")
def atlas_specs() -> Callable[..., Sequence[TableSpec]]:
    """The specifications of messages and usage_logs; `keys` go into both."""

    def specs(**keys: Any) -> Sequence[TableSpec]:
        common = {"from": "2024-01-01", "until": "2027-01-01", "copy": "by_partition", **keys}
        messages = {
            "table": "messages",
            "partition_key": "created_at",
            "null_keys": "set_aside",
            "indexes": [["user_id"], ["conversation_id"], ["created_at"], ["role"]],
        }
        usage_logs = {
            "table": "usage_logs",
            "partition_key": "timestamp",
            "indexes": [["user_id"], ["event"], ["timestamp"]],
        }
        return tables_from([{**messages, **common}, {**usage_logs, **common}])

    return specs


# -- the reading half: a database with the specifications of its tables, and an Atlas that is migrated already

AS_OF = date(2026, 11, 23)
MONTHS = {"from": "2024-01-01", "until": "2027-01-01", "copy": "by_partition"}
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
            return catalog.snapshot(conn, spec, division.names_needed(spec, self.as_of))

    def plan(self) -> Plan:
        return joined(
            migration.plan_migration(spec, self.snapshot(spec), self.as_of, install=number == 0)
            for number, spec in enumerate(self.specs)
        )

    def migrate(self) -> tuple[Line, ...]:
        plan = self.plan()
        return execute.execute(self.where, plan, plan.digest)

    def open(self) -> None:
        """The copies, which follow nothing, to the application, as 06 does it."""
        for spec in self.specs:
            moved = replace(spec, cut_over="side_by_side")
            plan = cutover.plan_cut_over(moved, self.snapshot(moved), self.as_of)
            execute.execute(self.where, plan, plan.digest)

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
            counts = catalog.rows_per_period(conn, spec, division.periods(spec, self.as_of))
        return preflight.checks(spec, snapshot, self.as_of, facts, dict(counts))

    def compared(self) -> list[tuple[TableSpec, Relation, Sequence[Part]]]:
        return [(spec, *self._original_and_parts(spec)) for spec in self.specs]

    def prove(self, **options: Any) -> tuple[tuple[verify.PartProof, ...], tuple[verify.Difference, ...]]:
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
        return original, division.parts(spec, key.base_type, self.as_of)


@pytest.fixture
def subject(atlas: Any) -> Subject:
    """The Atlas as production has it, and the specifications for its two big tables."""
    return Subject(atlas)


@pytest.fixture
def bare(empty: Any) -> Subject:
    """An empty database; the test makes the table and specifies it."""
    return Subject(empty, ())


@pytest.fixture(scope="module")
def shared(server: Any) -> Iterator[Subject]:
    """An empty database for all tests of a module: each leaves it as it found it."""
    made = server.clone("template0")
    yield Subject(made, ())
    server.drop(made)


@pytest.fixture(scope="session")
def migrated_template(server: Any, template: str) -> str:
    """The Atlas with both tables migrated; made by the worker that comes first, and like every template without connections."""
    with (server.cluster.data.parent / f"{TEMPLATE}.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with psycopg.connect(server.conninfo(), autocommit=True) as admin:
            if admin.execute("SELECT FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone() is None:
                made = server.clone(template)
                Subject(made).migrate()
                name = conninfo_to_dict(made.conninfo)["dbname"]
                admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
                admin.execute(f"ALTER DATABASE {name} RENAME TO {TEMPLATE}")
    return TEMPLATE


@pytest.fixture
def migrated(server: Any, migrated_template: str) -> Iterator[Subject]:
    """The migrated Atlas, for this test alone."""
    made = server.clone(migrated_template)
    yield Subject(made)
    server.drop(made)
