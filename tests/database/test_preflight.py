"""Each check of preflight fires when it should and not on a clean table, and what it gives to paste can be pasted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest

from atlas_ops import catalog, preflight
from atlas_ops.errors import AtlasError
from atlas_ops.report import Severity, Verdict
from atlas_ops.stages import start

STOP, WARN, NOTE = Severity.STOP, Severity.WARN, Severity.NOTE
CLEAN = {(NOTE, "space"), (Severity.OK, "range")}
TABLE = """
CREATE TABLE t (id bigint, at timestamptz, n int, PRIMARY KEY (id, at));
CREATE INDEX ON t (at);
INSERT INTO t SELECT g, timestamptz '2026-08-01 00:00+00' + g * interval '1 day', g FROM generate_series(0, 99) g;
"""
NULLABLE = """
CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz, made timestamptz);
CREATE INDEX ON t (at);
INSERT INTO t SELECT g, timestamptz '2026-08-01 00:00+00' + g * interval '1 day' FROM generate_series(0, 99) g;
"""
UNIQUE_PK = (WARN, "uniqueness")
KEY_TO_BE_NULL = (WARN, "key to be NULL")
SPEC = {"table": "t", "partition_key": "at", "from": "2026-08-01", "ahead": 1}


@dataclass(frozen=True)
class Case:
    """A situation, as SQL on top of the clean table; what preflight says of it beyond what it says of the clean table."""

    sql: str
    expected: set[tuple[Severity, str]]
    table: str = TABLE
    keys: Mapping[str, Any] = field(default_factory=dict)
    superuser: str = ""  # what the migrating role could not do
    cured: str = ""  # the check that is gone once its SQL has been run as printed
    only: bool = False  # nothing else is said: the table cannot be migrated at all


VALUE = {"null_keys": {"value": "coalesce(made, '2026-09-09 00:00+00')"}}
CASES = {
    "a clean table": Case("", set()),
    "no table": Case("DROP TABLE t", {(STOP, "table")}, only=True),
    "no primary key": Case("ALTER TABLE t DROP CONSTRAINT t_pkey", {(STOP, "primary key")}, only=True),
    "partitioned already": Case(
        "CREATE TABLE t (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)", {(STOP, "table")}, table="", only=True
    ),
    "a partition": Case(
        "CREATE TABLE p (id int, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); CREATE TABLE t PARTITION OF p DEFAULT",
        {(STOP, "table")}, table="", only=True,
    ),
    "a view": Case("CREATE VIEW t AS SELECT 1 AS id, now() AS at", {(STOP, "table")}, table="", only=True),
    "a materialized view": Case("CREATE MATERIALIZED VIEW t AS SELECT 1 AS id, now() AS at", {(STOP, "table")}, table="", only=True),
    "inheritance": Case("CREATE TABLE child () INHERITS (t)", {(STOP, "table")}, only=True),
    "unlogged": Case("ALTER TABLE t SET UNLOGGED", {(STOP, "table")}, only=True),
    "no such key": Case("", {(STOP, "partition key")}, keys={"partition_key": "nope"}, only=True),
    "a key that is no time": Case("", {(STOP, "partition key")}, keys={"partition_key": "id"}, only=True),
    "a key of a domain": Case(
        "CREATE DOMAIN d AS timestamptz; ALTER TABLE t ADD COLUMN when_made d", {(STOP, "partition key")},
        keys={"partition_key": "when_made"}, only=True,
    ),
    "a generated key": Case(
        "ALTER TABLE t ADD COLUMN made timestamp GENERATED ALWAYS AS (at AT TIME ZONE 'UTC') STORED", {(STOP, "partition key")},
        keys={"partition_key": "made"}, only=True,
    ),
    "a key of type date": Case(
        "CREATE TABLE t (id int, at date, PRIMARY KEY (at, id)); INSERT INTO t SELECT g, date '2026-08-01' + g FROM generate_series(0, 99) g",
        set(), table="",
    ),
    "a key of type timestamp(3)": Case(
        "CREATE TABLE t (id int, at timestamp(3), PRIMARY KEY (at, id)); "
        "INSERT INTO t SELECT g, timestamp '2026-08-01' + g * interval '1 day' FROM generate_series(0, 99) g",
        set(), table="",
    ),
    "an exclusion constraint": Case(
        "ALTER TABLE t ADD COLUMN r tstzrange, ADD EXCLUDE USING gist (r WITH &&)", {(STOP, "exclusion constraint")}, only=True
    ),
    "a check that is not inherited": Case(
        "ALTER TABLE t ADD CHECK (n >= 0) NO INHERIT", {(STOP, "constraint")}, cured="constraint", only=True
    ),
    "a row trigger with transition tables": Case(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
        "CREATE TRIGGER g AFTER INSERT ON t REFERENCING NEW TABLE AS new_rows FOR EACH ROW EXECUTE FUNCTION f()",
        {(STOP, "trigger")}, only=True,
    ),
    "a statement trigger with transition tables": Case(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
        "CREATE TRIGGER g AFTER INSERT ON t REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION f()",
        {(NOTE, "triggers")},
    ),
    # what the keys promise
    "a primary key without the partition key": Case("", {UNIQUE_PK, KEY_TO_BE_NULL}, table=NULLABLE),
    "unique without the key": Case("ALTER TABLE t ADD UNIQUE (n)", {(STOP, "uniqueness")}),
    "unique without the key, accepted": Case("CREATE UNIQUE INDEX ON t (n)", {(WARN, "uniqueness")}, keys={"unique_without_key": "add_key"}),
    "unique with the key": Case("CREATE UNIQUE INDEX ON t (n, at)", set()),
    "unique on an expression": Case("CREATE UNIQUE INDEX ON t (abs(n))", {(STOP, "uniqueness")}, keys={"unique_without_key": "add_key"}),
    "unique under a condition": Case(
        "CREATE UNIQUE INDEX ON t (n) WHERE n > 5", {(STOP, "uniqueness")}, keys={"unique_without_key": "add_key"}
    ),
    # the keys of the rows
    "null keys": Case("INSERT INTO t VALUES (500)", {UNIQUE_PK, KEY_TO_BE_NULL, (STOP, "null keys")}, table=NULLABLE),
    "null keys set aside": Case(
        "INSERT INTO t VALUES (500)", {UNIQUE_PK, KEY_TO_BE_NULL, (NOTE, "null keys")}, table=NULLABLE, keys={"null_keys": "set_aside"}
    ),
    "null keys with a value": Case("INSERT INTO t VALUES (500)", {UNIQUE_PK, KEY_TO_BE_NULL, (NOTE, "null keys")}, table=NULLABLE, keys=VALUE),
    "null keys with a value that is null": Case(
        "INSERT INTO t VALUES (500)", {UNIQUE_PK, KEY_TO_BE_NULL, (STOP, "null keys")}, table=NULLABLE, keys={"null_keys": {"value": "made"}}
    ),
    "null keys with a value out of range": Case(
        "INSERT INTO t VALUES (500, NULL, '1999-01-01')", {UNIQUE_PK, KEY_TO_BE_NULL, (NOTE, "null keys"), (STOP, "out of range")},
        table=NULLABLE, keys={**VALUE, "default_partition": False},
    ),
    "infinite": Case("INSERT INTO t VALUES (500, 'infinity')", {(NOTE, "infinite keys"), (NOTE, "out of range")}),
    "infinite without a default partition": Case(
        "INSERT INTO t VALUES (500, '-infinity')", {(STOP, "infinite keys"), (STOP, "out of range")}, keys={"default_partition": False}
    ),
    "before the first": Case("INSERT INTO t VALUES (500, '2026-07-31 23:59:59.999999+00')", {(NOTE, "out of range")}),
    "after the last": Case("INSERT INTO t VALUES (500, '2027-01-01 00:00+00')", {(STOP, "out of range")}, keys={"default_partition": False}),
    "just before the last bound": Case("INSERT INTO t VALUES (500, '2026-12-31 23:59:59.999999+00')", set(), keys={"default_partition": False}),
    "a dominant value": Case("INSERT INTO t SELECT g, '2026-09-09' FROM generate_series(101, 120) g", {(WARN, "dominant value")}),
    "no dominant value": Case("INSERT INTO t SELECT g, '2026-09-09' FROM generate_series(101, 109) g", set()),
    # names
    "a partition's name": Case(
        "CREATE SCHEMA partitions; CREATE TABLE partitions.t_2026_10 (id int PRIMARY KEY)", {(STOP, "name taken")}, cured="name taken"
    ),
    "a partition's name, by a view": Case(
        "CREATE SCHEMA partitions; CREATE VIEW partitions.t_2026_10 AS SELECT 1", {(STOP, "name taken")}, cured="name taken"
    ),
    "a partition's name, by a sequence": Case(
        "CREATE SCHEMA partitions; CREATE SEQUENCE partitions.t_2026_10", {(STOP, "name taken")}, cured="name taken"
    ),
    "a partition's name, by a type": Case(
        "CREATE SCHEMA partitions; CREATE TYPE partitions.t_2026_10 AS (n int)", {(STOP, "name taken")}, cured="name taken"
    ),
    "a partition's name, by an index": Case(
        "CREATE SCHEMA partitions; CREATE TABLE partitions.other (n int); CREATE INDEX t_2026_10 ON partitions.other (n)",
        {(STOP, "name taken")}, cured="name taken",
    ),
    "a partition's name elsewhere": Case("CREATE TABLE t_2026_10 (n int)", {(WARN, "same name elsewhere")}),
    "the partitioned table's name": Case("CREATE TABLE t_partitioned (n int PRIMARY KEY)", {(STOP, "name taken")}, cured="name taken"),
    "its name while it is built": Case("CREATE SCHEMA partitions; CREATE TABLE partitions.t (n int)", {(STOP, "name taken")}, cured="name taken"),
    "the default partition's name": Case("CREATE SCHEMA partitions; CREATE TABLE partitions.t_default (n int)", {(STOP, "name taken")}),
    "the default partition's name, unneeded": Case(
        "CREATE SCHEMA partitions; CREATE TABLE partitions.t_default (n int)", set(), keys={"default_partition": False}
    ),
    "the name for null keys, unneeded": Case("CREATE SCHEMA partitions; CREATE TABLE partitions.t_null_keys (n int)", set()),
    "a function's name": Case(
        "CREATE FUNCTION get_partition_sizes() RETURNS int LANGUAGE sql AS 'SELECT 1'", {(STOP, "name taken")}, cured="name taken"
    ),
    "a view's name": Case("CREATE VIEW partition_performance AS SELECT 1 AS n", {(STOP, "name taken")}, cured="name taken"),
    "a function's name elsewhere": Case(
        "CREATE SCHEMA other; CREATE FUNCTION other.get_partition_sizes() RETURNS int LANGUAGE sql AS 'SELECT 1'", set()
    ),
    # rights
    "another owner": Case("", {(STOP, "rights")}, superuser="ALTER TABLE t OWNER TO supabase_admin; GRANT SELECT ON t TO postgres"),
    "no right to read": Case("", {(STOP, "rights")}, superuser="REVOKE SELECT ON t FROM postgres", cured="rights"),
    "no right to refer": Case(
        "CREATE TABLE o (id int PRIMARY KEY); ALTER TABLE t ADD COLUMN o int REFERENCES o; REVOKE REFERENCES ON o FROM postgres",
        {(STOP, "rights"), (NOTE, "foreign keys")}, cured="rights",
    ),
    "somebody else's schema": Case("", {(STOP, "rights")}, superuser="CREATE SCHEMA partitions"),
    "an open schema with other things": Case(
        "CREATE SCHEMA partitions; CREATE TABLE partitions.other (n int); GRANT USAGE ON SCHEMA partitions TO anon", {(STOP, "open schema")}
    ),
    "an open schema, empty": Case("CREATE SCHEMA partitions; GRANT USAGE ON SCHEMA partitions TO anon", set()),
    "a closed schema with other things": Case("CREATE SCHEMA partitions; CREATE TABLE partitions.other (n int)", set()),
    # what hangs on it
    "an incoming foreign key": Case(
        "CREATE TABLE r (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES t)", {(NOTE, "incoming foreign key")}
    ),
    "a rule": Case("CREATE RULE r AS ON DELETE TO t WHERE old.n = 13 DO INSTEAD NOTHING", {(STOP, "rule")}, cured="rule"),
    "an unvalidated check": Case("ALTER TABLE t ADD CHECK (n >= 0) NOT VALID", {(STOP, "unvalidated")}, cured="unvalidated"),
    "policies that do nothing": Case("CREATE POLICY p ON t", {(NOTE, "policies"), (WARN, "row security")}, cured="row security"),
    "policies": Case("CREATE POLICY p ON t; ALTER TABLE t ENABLE ROW LEVEL SECURITY", {(NOTE, "policies")}),
    "an owner-rights view": Case("CREATE VIEW v AS SELECT * FROM t", {(WARN, "view")}),
    "a view with the caller's rights": Case("CREATE VIEW v WITH (security_invoker) AS SELECT * FROM t", {(NOTE, "view")}),
    "a view with the caller's rights, spelt otherwise": Case("CREATE VIEW v WITH (security_invoker = 1) AS SELECT * FROM t", {(NOTE, "view")}),
    "a materialized view of it": Case("CREATE MATERIALIZED VIEW v AS SELECT * FROM t", {(NOTE, "materialized view")}),
    "a function that names it": Case("CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.t'", {(NOTE, "function")}),
    "a definer's function that names it": Case(
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.t'", {(WARN, "function")}
    ),
    "a function that names a longer name": Case("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$SELECT 'tt'::text$$", set()),
    "a policy of another table": Case(
        "CREATE TABLE o (n int); CREATE POLICY p ON o USING (n IN (SELECT n FROM t))", {(NOTE, "policy")}
    ),
    "a sequence": Case("ALTER TABLE t ADD COLUMN s serial", {(NOTE, "sequence")}),
    "an identity": Case("ALTER TABLE t ADD COLUMN s int GENERATED ALWAYS AS IDENTITY", set()),
    "a publication": Case("CREATE PUBLICATION {database} FOR TABLE t", {(WARN, "publication")}),
    "a publication of another": Case("", {(STOP, "publication")}, superuser="CREATE PUBLICATION {database} FOR TABLE t"),
    "a publication of another, to be left": Case(
        "", {(WARN, "publication")}, superuser="CREATE PUBLICATION {database} FOR TABLE t", keys={"publications": "leave"}
    ),
    "a publication of everything": Case("", {(WARN, "publication")}, superuser="CREATE PUBLICATION {database} FOR ALL TABLES"),
    # what it costs
    "no index on the key": Case("DROP INDEX t_at_idx", {(WARN, "no index on the key")}, cured="no index on the key"),
    "a partial index on the key": Case(
        "DROP INDEX t_at_idx; CREATE INDEX ON t (at) WHERE n > 5", {(WARN, "no index on the key")}, cured="no index on the key"
    ),
    "many partitions": Case("", {(WARN, "many partitions")}, keys={"every": "day", "from": "2023-08-01"}),
}  # fmt: skip


@pytest.fixture
def place(shared: Any) -> Iterator[Any]:
    """The module's database, emptied after the test."""
    yield shared
    with psycopg.connect(shared.database.superuser_conninfo, autocommit=True) as conn:
        for (publication,) in conn.execute("SELECT pubname FROM pg_publication").fetchall():
            conn.execute(f'DROP PUBLICATION "{publication}"')
        for (schema,) in conn.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        ).fetchall():
            conn.execute(f'DROP SCHEMA "{schema}" CASCADE')
        conn.execute("CREATE SCHEMA public AUTHORIZATION postgres")


def prepared(place: Any, case: Case) -> Any:
    name = f'"{place.value("SELECT current_database()")}"'
    place.run(
        f"SELECT 1; {case.table if 'CREATE TABLE t ' not in case.sql else ''}{case.sql}".replace("{database}", name)
    )
    if case.superuser:
        with psycopg.connect(place.database.superuser_conninfo, autocommit=True) as conn:
            conn.execute(case.superuser.replace("{database}", name))
    place.specify({**SPEC, **case.keys})
    return place


def paste(place: Any, cure: str) -> None:
    """As a DBA would paste it into psql: a statement at a time."""
    with place.database.connect(autocommit=True) as conn:
        for statement in cure.split(";"):
            if statement.strip() and not statement.strip().startswith("--"):
                conn.execute(statement)


def parses(place: Any, cure: str) -> bool:
    """PL/pgSQL parses every statement when a block is made, and runs none that is never reached."""
    with place.database.connect() as conn:
        conn.execute(f"DO $cure$ BEGIN IF false THEN\n{cure}\nEND IF; END $cure$")
    return True


@pytest.mark.parametrize("situation", CASES)
def test_a_check_fires_when_it_should_and_only_then(place: Any, situation: str) -> None:
    case = CASES[situation]
    found = prepared(place, case).checks()
    assert {(check.severity, check.name) for check in found} == case.expected | (set() if case.only else CLEAN)
    assert all(check.what and (check.why or check.cure or check.severity is Severity.OK) for check in found)
    assert all(check.severity is not STOP or check.cure for check in found)
    assert all(parses(place, check.sql) for check in found if check.sql)
    if case.cured:
        for check in found:
            if check.name == case.cured:
                paste(place, check.sql)
        assert case.cured not in {check.name for check in place.checks()}


def test_an_unvalidated_foreign_key_is_red_where_a_partitioned_table_cannot_have_it(place: Any) -> None:
    prepared(place, Case(
        "CREATE TABLE o (id int PRIMARY KEY); ALTER TABLE t ADD COLUMN o int; ALTER TABLE t ADD FOREIGN KEY (o) REFERENCES o NOT VALID", set(),
        keys={"copy": "by_partition"},  # the online copy has no foreign key before the cut-over
    ))  # fmt: skip
    (told,) = (check for check in place.checks() if check.name == "unvalidated")
    assert told.severity is (WARN if place.database.version >= 18 else STOP)
    if told.severity is WARN:
        place.migrate()
        assert all(proof.same for proof in place.prove()[0])
    else:
        with pytest.raises(AtlasError):
            place.migrate()
        paste(place, told.sql)
        assert "unvalidated" not in {check.name for check in place.checks()}


def test_an_index_that_failed_promises_nothing_and_serves_nothing(place: Any) -> None:
    prepared(place, Case("DROP INDEX t_at_idx; INSERT INTO t SELECT id + 200, at, n FROM t", set()))
    with place.database.connect(autocommit=True) as conn:
        for columns in ("n", "at"):
            with pytest.raises(psycopg.errors.UniqueViolation):
                conn.execute(f"CREATE UNIQUE INDEX CONCURRENTLY ON t ({columns})")
    found = {check.name: check for check in place.checks()}
    assert found.keys() == {"space", "range", "invalid index", "no index on the key"}
    assert found["invalid index"].what == "t_at_idx, t_n_idx"
    assert parses(place, found["invalid index"].sql)


@pytest.mark.parametrize("forced", [False, True])
def test_row_security_that_would_hide_rows_stops(place: Any, forced: bool) -> None:
    """The migrating role of the tests has BYPASSRLS; one that has not is told before a policy hides a row."""
    prepared(place, Case("ALTER TABLE t ENABLE ROW LEVEL SECURITY", set()))
    if forced:
        place.run("ALTER TABLE t FORCE ROW LEVEL SECURITY")
    snapshot = place.snapshot(place.spec)
    assert "row security" not in {check.name for check in place.checks()}
    lesser = replace(snapshot, server=replace(snapshot.server, bypasses_row_security=False))
    reds = [check.name for check in preflight.checks(place.spec, lesser, place.as_of) if check.severity is STOP]
    assert reds == (["row security"] if forced else [])


@contextmanager
def held(place: Any, mode: str) -> Iterator[int]:
    with place.database.connect(application_name="holder") as conn:
        conn.execute(f"LOCK TABLE t IN {mode} MODE")
        yield conn.info.backend_pid


@pytest.mark.parametrize(("mode", "told"), [("EXCLUSIVE", True), ("ROW EXCLUSIVE", False)])
def test_who_holds_a_strong_lock_is_named(place: Any, monkeypatch: pytest.MonkeyPatch, mode: str, told: bool) -> None:
    monkeypatch.setattr(catalog, "OLD_TRANSACTION_S", 0.0)
    prepared(place, CASES["a clean table"])
    with held(place, mode) as pid:
        found = [check for check in place.checks() if check.name == "long transaction"]
    assert [check.severity for check in found] == [WARN] * told
    assert all(f"Process {pid} (postgres, holder, idle in transaction)" in check.what for check in found)
    assert all(check.sql == f"SELECT pg_terminate_backend({pid});" for check in found)


def test_a_transaction_that_is_open_for_long_is_named(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "OLD_TRANSACTION_S", 0.0)
    prepared(place, CASES["a clean table"])
    with held(place, "ACCESS SHARE"):
        assert "long transaction" not in {check.name for check in place.checks()}
        monkeypatch.setattr(preflight, "OLD_TRANSACTION_S", 0.0)
        assert "long transaction" in {check.name for check in place.checks()}


def test_an_old_server_is_refused(place: Any) -> None:
    prepared(place, CASES["a clean table"])
    snapshot = place.snapshot(place.spec)
    old = replace(snapshot, server=replace(snapshot.server, version=140012, version_text="14.12"))
    (told,) = preflight.checks(place.spec, old, place.as_of)
    assert (told.severity, told.name, told.what) == (STOP, "version", "The server is PostgreSQL 14.12.")


def test_the_cure_names_what_could_be_the_key(place: Any) -> None:
    prepared(place, Case(
        "ALTER TABLE t ADD COLUMN day date, ADD COLUMN made timestamp GENERATED ALWAYS AS (at AT TIME ZONE 'UTC') STORED",
        set(), keys={"partition_key": "n"},
    ))  # fmt: skip
    assert [check.cure for check in place.checks()] == ["Name one of: at, day."]


def test_the_query_for_rows_out_of_range_counts_them(place: Any) -> None:
    prepared(
        place,
        Case("INSERT INTO t VALUES (500, '2019-01-01 00:00+00'), (501, '2031-05-05'), (502, '2031-05-06')", set()),
    )
    (told,) = (check for check in place.checks() if check.name == "out of range")
    assert told.what == "1 rows lie before the first partition, 2 after the last."
    assert [rows for _, rows in place.rows(told.sql)] == [1, 2]


def test_names_that_need_quotes_are_quoted_in_what_is_pasted(place: Any) -> None:
    table = '"My ""Table"" %s {x}"'
    place.run(
        f'CREATE TABLE {table} (id int PRIMARY KEY, "At" timestamptz, s serial)',
        f"INSERT INTO {table} SELECT g, '2026-09-09' FROM generate_series(1, 9) g",
        f"INSERT INTO {table} VALUES (10, NULL), (11, 'infinity')",
        f"CREATE POLICY p ON {table}",
    )
    place.specify({**SPEC, "table": table, "partition_key": '"At"'})
    found = place.checks()
    assert {
        "null keys",
        "infinite keys",
        "out of range",
        "dominant value",
        "row security",
        "no index on the key",
    } <= {check.name for check in found}
    assert all(parses(place, check.sql) for check in found)
    for check in found:
        if check.sql.startswith("SELECT"):
            assert place.rows(check.sql.replace("date_trunc('month', \"At\")", "1")) is not None


LATE = (
    "CREATE TABLE t (id int PRIMARY KEY, at timestamptz NOT NULL DEFAULT '2026-09-09', made timestamp NOT NULL, shuffled date NOT NULL, maybe date)",
    "INSERT INTO t (id, made, shuffled, maybe) SELECT g, '2026-01-01'::timestamp + g * interval '1 h', "
    "'2026-01-01'::date + (g * 7919) % 400, '2026-01-01'::date + g FROM generate_series(1, 5000) g",
)


@pytest.mark.parametrize(
    ("more", "cure"),
    [
        ("ANALYZE t", r"Consider made \(correlation 1\.00\) as the partition key: it rises .*"),
        ("SELECT", r"Consider made or shuffled as the partition key; after an ANALYZE .*"),
        ("ALTER TABLE t DROP COLUMN made; ANALYZE t", "Look for a column that tells .*"),
    ],
)
def test_a_better_key_is_one_that_rises_with_the_order_of_the_rows(place: Any, more: str, cure: str) -> None:
    place.run(*LATE, more)
    place.specify({**SPEC, "null_keys": "refuse"})
    checks = place.checks()
    assert "dominant value" in {check.name for check in checks}, checks
    [told] = [check for check in checks if check.name == "dominant value"]
    assert re.fullmatch(cure, told.cure)


# -- the stage


def specification(**keys: Any) -> list[dict[str, Any]]:
    both = {"partition_key": "created_at", "from": "2024-01-01", "until": "2027-01-01"}
    return [{"table": "messages", "null_keys": "set_aside", **both, **keys}]


def test_the_stage_reads_and_reports(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = start("preflight", service, specification(), "", "2026-11-23")
    assert "atlas_test" in repr(run) and "1 table: messages" in repr(run)
    assert "incoming foreign key" in repr(run.findings()) and "uniqueness" in run.findings()._repr_html_()
    assert run.rows_per_month()._repr_mimebundle_()
    assert "Forecast" in run.forecast()._repr_html_()
    report = run.report()
    assert (report.verdict, report.database, report.stage) == (Verdict.OK, "atlas_test", "preflight")
    assert report.headline.startswith("4,000 rows in 1 tables: 0 stop, ")
    (figures,) = report.figures["forecast"]
    assert figures["rows"] == 4_000 and figures["disk_bytes"] > 0
    run.finish()
    assert "OK." in capsys.readouterr().out


def test_a_red_check_ends_the_stage_in_red(service: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = start("preflight", service, specification(null_keys="refuse"), "", "2026-11-23")
    report = run.report()
    assert report.verdict is Verdict.STOPPED, "a verdict needs no cell to have asked for the findings"
    with pytest.raises(AtlasError) as stopped:
        run.finish()
    assert "rows have no created_at." in stopped.value.why
    assert "null_keys: set_aside" in stopped.value.next
    assert "STOPPED." in capsys.readouterr().out


def test_nothing_is_made_where_preflight_is_red(service: str, atlas: Any) -> None:
    relations = "SELECT count(*) FROM pg_class"
    with atlas.connect() as conn:
        before = conn.execute(relations).fetchone()
    run = start("apply_migration", service, specification(default_partition=False), "additive", "2026-11-23")
    with pytest.raises(AtlasError) as stopped:
        run.plan_migration()
    assert "messages cannot be migrated" in stopped.value.what and "And 1 more." in stopped.value.what
    assert run.report().verdict is Verdict.STOPPED
    with atlas.connect() as conn:
        assert conn.execute(relations).fetchone() == before


def test_the_stages_of_a_migration_plan_do_and_have_nothing_left_to_do(service: str) -> None:
    def apply(confirm: str) -> Any:
        run = start("apply_migration", service, specification(), confirm, "2026-11-23")
        run.execute(run.plan_migration())
        return run.report()

    planned = apply("")
    assert (planned.verdict, planned.lines) == (Verdict.PLANNED, ())
    assert planned.headline.endswith(f"{planned.digest}.")
    with pytest.raises(AtlasError, match="This plan is"):
        apply("a" * 8)
    done = apply(planned.digest)
    assert (done.verdict, done.digest) == (Verdict.OK, planned.digest)
    assert done.headline.startswith("4,000 rows copied in ")
    again = apply(planned.digest)
    assert (again.verdict, again.digest, again.lines) == (Verdict.NOTHING_TO_DO, "", ())

    run = start("verify_counts", service, specification(), "", "2026-11-23")
    assert run.report().verdict is Verdict.OK, "a verdict needs no cell to have asked for the proof"
    for shown in (
        run.compare_counts(),
        run.compare_keys(),
        run.compare_digests(),
        run.differences(),
        run.plan_repair(),
    ):
        assert repr(shown)
    assert "No row differs." in repr(run.differences())


def test_an_unknown_stage_day_or_service_is_told(service: str) -> None:
    for arguments, what in (
        (("no_stage", service), "There is no stage no_stage."),
        (("preflight", service, specification(), "", "yesterday"), "as_of is 'yesterday'."),
        (("preflight", "nowhere", specification()), "There is no libpq service named nowhere."),
        (("preflight", "host=x password=secret", specification()), "database"),
    ):
        with pytest.raises(AtlasError) as stopped:
            start(*arguments)
        assert what in stopped.value.what
        assert "secret" not in str(stopped.value)
