"""pg_stat_statements as servers have it: loaded, not loaded, missing, closed; what it tells becomes a workload that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from typer.testing import CliRunner

from atlas_ops import cli, database, demo, measure, skeleton, statements, tracked, workload
from atlas_ops.embedded import SUPERUSER, Cluster
from atlas_ops.errors import AtlasError
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec
from atlas_ops.tables import Table
from tests.database.conftest import MESSAGES, USAGE_LOGS, Subject

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
ATLAS = Path(__file__).parents[2] / "parameters" / "workloads" / "atlas.yml"
LOADED = {
    "shared_preload_libraries": "pg_stat_statements",
    "fsync": "off",
    "shared_buffers": "64MB",
    "max_connections": "20",
}
SPECS = tables_from([MESSAGES, USAGE_LOGS])


class Counted:
    """A database on a server that counts statements; the extension lies where Supabase has it."""

    version = 15

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self.conninfo, self.superuser_conninfo = cluster.conninfo(name), cluster.conninfo(name, SUPERUSER)
        self.cluster = cluster

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.conninfo, **options)

    def admin(self, *texts: str) -> None:
        with psycopg.connect(self.superuser_conninfo, autocommit=True) as conn:
            for text in texts:
                conn.execute(text)

    def forget(self) -> None:
        self.admin("SELECT extensions.pg_stat_statements_reset()")

    def ask(self, *texts: str, path: str = "public") -> None:
        """Statements of the application, as it sends them: without psycopg's own transactions and parameters."""
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            conn.execute("SELECT set_config('search_path', %s, false)", (path,))
            for text in texts:
                conn.execute(text)

    def where(self, user: str = "postgres") -> database.Session:
        return database.Session("test", self.cluster.conninfo(self.name, user), "test")

    def read(self, spec: TableSpec = SPECS[0], user: str = "postgres") -> statements.Tracked:
        with database.connect(self.where(user)) as conn:
            return tracked.read(conn, spec)

    def typed(self, spec: TableSpec = SPECS[0]) -> list[skeleton.Typed]:
        with database.connect(self.where()) as conn:
            return [tracked.typed(conn, spec, one) for one in statements.found(tracked.read(conn, spec)).statements]


@pytest.fixture(scope="module")
def counting(pytestconfig: pytest.Config, clusters: Path) -> Iterator[Cluster]:
    """Debian's 15 comes with contrib; the embedded 18 without."""
    if pytestconfig.getoption("--pg") == "18" or not (DEBIAN_15 / "postgres").exists():
        pytest.skip("pg_stat_statements is tried on Debian's PostgreSQL 15")
    cluster = Cluster(clusters / "15_counting" / "data", DEBIAN_15, 120.0, LOADED)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def counted(counting: Cluster) -> Counted:
    with psycopg.connect(counting.conninfo("postgres", SUPERUSER), autocommit=True) as conn:
        conn.execute("DROP DATABASE IF EXISTS counted WITH (FORCE)")
        conn.execute("DROP ROLE IF EXISTS stranger")
        conn.execute("CREATE DATABASE counted OWNER postgres")
    made = Counted(counting, "counted")
    with psycopg.connect(made.conninfo) as conn:
        demo.build(conn, messages=2_000, usage_logs=2_000)
    made.admin(
        "CREATE SCHEMA IF NOT EXISTS extensions",
        "CREATE EXTENSION pg_stat_statements SCHEMA extensions",
        "GRANT USAGE ON SCHEMA extensions TO postgres",
        "CREATE ROLE stranger LOGIN",
    )
    return made


@pytest.fixture(scope="module")
def lived(counted: Counted, now: Any) -> Counted:
    """The application has asked, in each way it can, and every stage has run."""
    subject = Subject(counted)
    assert not [check for check in subject.checks() if check.severity == "stop"]
    counted.forget()
    for query in workload.load(ATLAS).queries:
        _ask(counted, query)
    subject.migrate()
    subject.prove()
    return counted


def _ask(counted: Counted, query: workload.Query) -> None:
    """Prepared, with literals, and by name in SQL: rolled back."""
    with psycopg.connect(counted.conninfo, autocommit=True) as conn:
        conn.execute("SET search_path = public, pg_temp")
        found = conn.execute(str(query.bindings).replace("{table}", query.table).encode())
        values = dict(zip([one.name for one in found.description or ()], found.fetchone() or (), strict=True))
        text = workload.statement(query.sql, query.table, dict.fromkeys(values, "x")).replace("::x", "").encode()
        for cursor in (conn.cursor(), psycopg.ClientCursor(conn), psycopg.ClientCursor(conn)):
            with conn.transaction(force_rollback=True):
                cursor.execute(text, values)


@pytest.fixture(scope="module")
def values(counted: Counted) -> set[str]:
    """Everything in the two tables that could be told of a user."""
    with counted.connect() as conn:
        rows = conn.execute(
            "SELECT id::text, user_id::text, conversation_id::text, content, created_at::text FROM messages"
        ).fetchall()
        return {str(value) for row in rows for value in row if value is not None and len(str(value)) > 3}


# What it tells


def test_the_statements_of_the_application_are_told_and_nothing_of_ours(lived: Counted) -> None:
    shown = statements.shown(lived.read())
    assert isinstance(shown, Table)
    told = {row[0]: row for row in shown.rows}
    page = [
        row
        for text, row in told.items()
        if text.startswith("SELECT * FROM messages WHERE conversation_id = ($1) ORDER")
        or text.startswith("SELECT * FROM messages WHERE conversation_id = ($1::uuid) ORDER")
    ]
    assert sum(row[1] for row in page) >= 2 * 3, "history_page and history_page_as_user, each three times"
    assert not [
        text for text in told if re.search("atlas_ops|partition|EXPLAIN|count\\(\\*\\) FILTER|width_bucket", text)
    ]
    assert {text.split()[0] for text in told} == {"SELECT", "WITH", "UPDATE", "INSERT"}
    bounds = {text[:60]: row[5] for text, row in told.items() if text.startswith("SELECT count(*)")}
    assert set(bounds.values()) == {"yes", "no"}
    assert shown.caption.endswith(" of this database."), "none is hidden, each could be read"


def test_the_skeleton_is_a_workload_that_runs(lived: Counted, values: set[str], tmp_path: Path) -> None:
    text = tracked.workload(lived.where(), SPECS)
    assert not [value for value in values if value in text]
    assert "left out" not in text
    file = tmp_path / "made.yml"
    file.write_text(text)
    queries = workload.load(file).queries
    assert {query.table for query in queries} == {spec.table for spec in SPECS}
    assert {query.writes for query in queries} == {True, False}
    results = [result for spec in SPECS for result in measure.workload(lived.where(), spec, queries, 1)]
    assert len(results) == len(queries)
    failed = {result.name: result for result in results if result.verdict == "failed"}
    assert failed, "the upsert by id"
    for result in failed.values():
        assert "ON CONFLICT (id)" in result.query.sql
        assert result.original.failure is None
        assert result.partitioned.failure is not None and result.partitioned.failure.sqlstate == "42P10"
    remarked = text.count("on the partitioned table ON CONFLICT must name the partition key too")
    assert remarked == len(failed)
    found = [
        result.original.figures.rows
        for result in results
        if result.original.figures and "NULL::" not in str(result.query.bindings)
    ]
    assert sum(rows > 0 for rows in found) > len(found) / 2, "values of a real row find rows"


def test_no_value_is_shown(lived: Counted, values: set[str]) -> None:
    for spec in SPECS:
        shown = statements.shown(lived.read(spec))
        text = repr(shown) + shown._repr_html_()
        assert not [value for value in values if value in text]


def test_statements_that_clients_and_utilities_send(counted: Counted) -> None:
    counted.forget()
    counted.ask(
        "PREPARE page (uuid) AS SELECT * FROM messages WHERE id = $1 AND content = 'prepared secret'",
        "EXECUTE page ('00000000-0000-0000-0000-000000000000')",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM messages WHERE content = 'cursor secret'",
        "EXPLAIN SELECT * FROM messages WHERE content = 'explained secret'",
        "DO $$ BEGIN PERFORM * FROM messages WHERE content = 'done secret'; END $$",
        "CREATE TEMP TABLE t AS SELECT * FROM messages WHERE content = 'created secret' /* tag='comment secret' */",
        "SELECT count(*) FROM messages WHERE created_at > now() - interval '3 days' /* user='comment secret' */",
        "SELECT extract(epoch FROM created_at) FROM public.messages m WHERE m.id IN (gen_random_uuid(), gen_random_uuid()) ORDER BY 1 LIMIT 3",
    )
    with counted.connect() as conn, conn.cursor().copy("COPY messages (id) TO STDOUT") as copy:
        assert len(list(copy)) == 2_000
    found = statements.found(counted.read())
    assert found.unread == 0
    assert sorted(one.asked.masked for one in found.statements) == [
        "COPY messages (id) TO STDOUT",
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM messages WHERE content = …",
        "PREPARE page (uuid) AS SELECT * FROM messages WHERE id = $1 AND content = $2",
        "SELECT count(*) FROM messages WHERE created_at > now() - interval $1",
        "SELECT extract($1 FROM created_at) FROM public.messages m WHERE m.id IN (gen_random_uuid(), gen_random_uuid()) ORDER BY … LIMIT $2",
    ]
    text = tracked.workload(counted.where(), SPECS[:1])
    assert "secret" not in text
    assert "%(p1)s::interval" in text and "pg_catalog.date_part(%(p1)s, created_at)" in text
    assert [one.refused for one in counted.typed() if one.refused] == ["COPY has no plan to measure"]
    assert "# public.messages: left out (COPY has no plan to measure): COPY messages (id) TO STDOUT\n" in text


def test_a_table_of_the_same_name_elsewhere_is_told_apart(counted: Counted) -> None:
    counted.admin("CREATE SCHEMA archive", "CREATE TABLE archive.messages (LIKE public.messages)", "ALTER TABLE archive.messages OWNER TO postgres",
                  "ALTER SCHEMA archive OWNER TO postgres")  # fmt: skip
    try:
        counted.forget()
        counted.ask("SELECT role FROM archive.messages", "SELECT role FROM public.messages")
        shown = statements.shown(counted.read())
        assert isinstance(shown, Table)
        assert [row[0] for row in shown.rows] == ["SELECT role FROM public.messages"]
        assert shown.caption.endswith("A bare messages was taken for public.messages; there is archive.messages too.")
    finally:
        counted.admin("DROP SCHEMA archive CASCADE")


def test_a_hostile_name(counted: Counted, tmp_path: Path) -> None:
    name = 'a"b %(x)s {table} $1; --'
    quoted = '"' + name.replace('"', '""') + '"'
    [spec] = tables_from([{**MESSAGES, "table": f"public.{quoted}", "partition_key": '"the key"', "indexes": []}])
    counted.ask(
        f'CREATE TABLE public.{quoted} ("the key" timestamptz, "%(x)s" text)',
        f"INSERT INTO {quoted} VALUES (now(), 'x')",
    )
    try:
        counted.forget()
        counted.ask(f'SELECT {quoted}."%(x)s" FROM {quoted} WHERE {quoted}."%(x)s" = \'x\' AND "the key" < now()')
        [one] = counted.typed(spec)
        assert (one.types, one.refused, one.statement.asked.bounds_key) == (("text",), "", True)
        file = tmp_path / "made.yml"
        file.write_text(tracked.workload(counted.where(), [spec]))
        [query] = workload.load(file).queries
        assert (
            query.sql
            == f'SELECT {quoted}."%(x)s" FROM {{table}} AS {quoted} WHERE {quoted}."%(x)s" = %(p1)s AND "the key" < now()'
        )
        with counted.connect() as conn:
            conn.execute(f"EXPLAIN {workload.statement(query.sql, quoted, {'p1': 'text'})}".encode(), {"p1": "x"})
            bound = conn.execute(workload.statement(str(query.bindings), quoted, {}).encode(), {}).fetchone()
        assert bound == ("x",)
    finally:
        counted.ask(f"DROP TABLE public.{quoted}")


# Types, as the server knows them


def test_the_server_tells_the_types(counted: Counted) -> None:
    counted.forget()
    counted.ask(
        "SELECT json_build_object('a', role, 'b', 1) FROM messages WHERE user_id = '00000000-0000-0000-0000-000000000000' LIMIT 3",
        "SELECT role FROM messages WHERE NULL IS NULL",
    )
    by_text = {one.statement.asked.masked: one for one in counted.typed()}
    types = {text: one.types for text, one in by_text.items() if not one.refused}
    assert types == {
        "SELECT json_build_object($1, role, $2, $3) FROM messages WHERE user_id = $4 LIMIT $5": (
            "text",
            "text",
            "text",
            "uuid",
            "bigint",
        ),
        "SELECT role FROM messages WHERE $1 IS NULL": ("text",),
    }


def test_what_the_server_does_not_take_is_left_out_with_its_words(counted: Counted) -> None:
    counted.ask("ALTER TABLE messages ADD soon_gone text")
    counted.forget()
    counted.ask("SELECT soon_gone FROM messages LIMIT 1", "SELECT role FROM messages LIMIT 1")
    counted.ask("ALTER TABLE messages DROP soon_gone")
    text = tracked.workload(counted.where(), SPECS[:1])
    assert (
        '# public.messages: left out (42703 column "soon_gone" does not exist): SELECT soon_gone FROM messages LIMIT $1\n'
        in text
    )
    assert "name: select\n" in text


def test_asking_for_types_runs_nothing(counted: Counted) -> None:
    counted.forget()
    counted.ask("DELETE FROM messages WHERE id = '00000000-0000-0000-0000-000000000000'")
    with counted.connect() as conn:
        before = conn.execute("SELECT count(*) FROM messages").fetchone()
        for _ in range(2):
            [one] = [each for each in counted.typed() if each.statement.asked.verb == "delete"]
            assert (one.types, one.statement.asked.writes, one.statement.calls) == (("uuid",), True, 1)
        assert conn.execute("SELECT count(*) FROM messages").fetchone() == before


# Rights


def test_without_usage_on_the_schema(counted: Counted) -> None:
    words = repr(statements.shown(counted.read(user="stranger")))
    assert words.startswith(
        "The role stranger may not read pg_stat_statements. It lacks USAGE on the schema extensions"
    )
    with pytest.raises(AtlasError) as stop:
        tracked.workload(counted.where("stranger"), SPECS)
    assert 'GRANT USAGE ON SCHEMA "extensions" TO "stranger"' in stop.value.next


def test_without_pg_read_all_stats_the_texts_of_others_are_hidden_and_counted(counted: Counted) -> None:
    counted.forget()
    counted.ask("SELECT role FROM messages")
    counted.admin("GRANT USAGE ON SCHEMA extensions TO stranger")
    try:
        words = repr(statements.shown(counted.read(user="stranger")))
        assert re.fullmatch(
            r"pg_stat_statements knows no statement on public\.messages\. It knows \d+ of this database since \S+ \S+ UTC\. "
            r'The text of \d+ is hidden from stranger: GRANT pg_read_all_stats TO "stranger";',
            words,
        )
        with pytest.raises(AtlasError, match=r"knows no statement on public\.messages, public\.usage_logs"):
            tracked.workload(counted.where("stranger"), SPECS)
    finally:
        counted.admin("REVOKE USAGE ON SCHEMA extensions FROM stranger")


def test_an_older_version_of_the_view_is_read(counted: Counted) -> None:
    """After pg_upgrade the extension stays as old as it was: total_time, and nobody knows since when."""
    counted.admin(
        "DROP EXTENSION pg_stat_statements", "CREATE EXTENSION pg_stat_statements SCHEMA extensions VERSION '1.7'"
    )
    try:
        counted.ask("SELECT role FROM messages")
        found = counted.read()
        assert (found.view.version, found.view.has_exec_time, found.rows[0].since) == ("1.7", False, None)
        assert statements.found(found).statements
    finally:
        counted.admin("DROP EXTENSION pg_stat_statements", "CREATE EXTENSION pg_stat_statements SCHEMA extensions")


# The command


@pytest.fixture
def parameters(counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = {key: value for key, value in conninfo_to_dict(counted.conninfo).items() if value}
    (tmp_path / "pg_service.conf").write_text(
        "[counted]\n" + "".join(f"{key}={value}\n" for key, value in settings.items())
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "pg_service.conf"))
    file = tmp_path / "counted.yml"
    file.write_text(
        "database: counted\ntables:\n  - {table: public.messages, partition_key: created_at, from: 2024-01-01}\n"
    )
    return file


def test_the_command_writes_a_file_once(counted: Counted, parameters: Path, tmp_path: Path) -> None:
    counted.forget()
    counted.ask("SELECT role FROM messages WHERE user_id IS NULL LIMIT 1")
    made = tmp_path / "made.yml"
    done = CliRunner().invoke(cli.app, ["workload", "-f", str(parameters), "-o", str(made)])
    assert (done.exit_code, done.output) == (
        0,
        f"Written: {made}. Fill in what its comments ask for, then name it as workload in {parameters}.\n",
    )
    assert [query.name for query in workload.load(made).queries] == ["select"]
    printed = CliRunner().invoke(cli.app, ["workload", "-f", str(parameters)])
    assert (printed.exit_code, printed.output) == (0, made.read_text())

    made.write_text("mine")
    again = CliRunner().invoke(cli.app, ["workload", "-f", str(parameters), "-o", str(made)])
    assert isinstance(again.exception, AtlasError)
    assert again.exception.what == f"{made} is there already."
    assert made.read_text() == "mine"
    nowhere = CliRunner().invoke(cli.app, ["workload", "-f", str(parameters), "-o", str(tmp_path / "no" / "made.yml")])
    assert isinstance(nowhere.exception, AtlasError) and "cannot be written" in nowhere.exception.what


def test_the_command_says_why_it_has_nothing(counted: Counted, parameters: Path) -> None:
    counted.forget()
    done = CliRunner().invoke(cli.app, ["workload", "-f", str(parameters)])
    assert isinstance(done.exception, AtlasError)
    assert done.exception.lines()[0] == "STOPPED: pg_stat_statements knows no statement on public.messages."


# Where it is not, on servers as they come


def test_where_it_is_not_loaded_or_not_there(server: Any, atlas: Any) -> None:
    def told() -> str:
        with database.connect(database.Session("test", atlas.conninfo, "test")) as conn:
            return repr(statements.shown(tracked.read(conn, SPECS[0])))

    if server.version == 18:
        assert told() == (
            "pg_stat_statements is not on this server. Its files are missing: they come with PostgreSQL's contrib package. Install that "
            "package and add pg_stat_statements to shared_preload_libraries, or write the workload by hand: "
            "parameters/workloads/atlas.yml is an example."
        )
        return
    assert told().startswith("pg_stat_statements is not in this database. Nobody counts here")
    with psycopg.connect(atlas.superuser_conninfo, autocommit=True) as conn:
        conn.execute("CREATE EXTENSION pg_stat_statements")
    assert told().startswith("pg_stat_statements is not loaded. The extension is in this database, but")


def test_a_table_that_is_not_there(atlas: Any) -> None:
    [spec] = tables_from([{**MESSAGES, "table": "nothing", "indexes": []}])
    with (
        database.connect(database.Session("test", atlas.conninfo, "test")) as conn,
        pytest.raises(AtlasError, match="There is no table nothing"),
    ):
        tracked.read(conn, spec)
