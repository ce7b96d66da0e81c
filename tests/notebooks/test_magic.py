"""`%%sql` in a real IPython shell against a real server: what the stock magic gets wrong."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

import psycopg
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from sql.connection import Connection
from traitlets.config import Config

from atlas_ops import magic
from atlas_ops.errors import AtlasError

Run = Callable[[str], object]


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    magic.load_ipython_extension(shell)
    yield shell
    magic._forget()


@pytest.fixture
def run(shell, atlas) -> Iterator[Run]:
    """Run a cell and return its value; what it raises is raised."""
    engine = magic.adopt(atlas.conninfo)

    def cell(source: str) -> object:
        outcome = shell.run_cell(source, store_history=False)
        outcome.raise_error()
        return outcome.result

    with capture_output():
        yield cell
    engine.dispose()


def value(rows) -> object:
    assert len(rows) == 1, rows
    return rows[0][0]


def test_a_select_returns_rows_in_all_three_forms(run, shell):
    assert value(run("%%sql\nSELECT 40 + 2 AS answer")) == 42
    assert value(run("%sql SELECT 42")) == 42
    run("x = %sql SELECT 42 AS n")
    assert shell.user_ns["x"].dict() == {"n": (42,)}
    run("%%sql kept <<\nSELECT 7")
    assert value(shell.user_ns["kept"]) == 7


def test_the_session_is_pinned(run):
    rows = run(
        "%%sql\nSELECT name, setting FROM pg_settings WHERE name IN ('default_transaction_read_only',"
        " 'statement_timeout', 'lock_timeout', 'TimeZone', 'application_name') ORDER BY name COLLATE \"C\""
    )
    assert dict(map(tuple, rows)) == {
        "TimeZone": "UTC",
        "application_name": "atlas_ops %%sql",
        "default_transaction_read_only": "on",
        "lock_timeout": "2000",
        "statement_timeout": "60000",
    }


@pytest.mark.parametrize(
    "literal",
    [
        "'12:30'", "'{1,2}'", "'{\"a\": 1}'", "'it''s; fine'", "E'a\\'b;:n'", "'100%'",
        "'%s %(n)s'", "$$;:n$$",
        "$q$ $$ {1,2} $q$", "'a' /* ; :n */", "'a' -- ; :n\n", "'$n'", "'{{n}}'", "'{missing}'", "'x  y'",
    ],
)  # fmt: skip
def test_text_reaches_the_server_as_it_was_written(run, shell, atlas, literal):
    shell.user_ns["n"] = "WRONG"
    with psycopg.connect(atlas.conninfo) as connection:
        expected = connection.execute(f"SELECT {literal}").fetchone()
    assert tuple(run(f"%%sql\nSELECT {literal}")[0]) == expected


def test_casts_slices_and_named_arguments_are_no_parameters(run, shell):
    shell.user_ns.update(text="WRONG", n=1, secs="WRONG")
    assert value(run("%%sql\nSELECT '5'::text || ('{1,2,3}'::int[])[2:3]::text")) == "5{2,3}"
    assert value(run("%%sql\nSELECT make_interval(secs := 5)::text")) == "00:00:05"


def test_braces_are_replaced_and_colons_bound_where_the_variable_exists(run, shell):
    shell.user_ns.update(table="pg_class", wanted="pg_class", nasty="' OR true --")
    assert value(run("%%sql\nSELECT count(*) FROM {table} WHERE relname = :wanted AND '50%' LIKE '%\\%'")) == 1
    assert value(run("%sql SELECT count(*) FROM pg_class WHERE relname = :nasty")) == 0
    run("def local():\n    one = 'pg_am'\n    return get_ipython().run_line_magic('sql', 'SELECT FROM {one}')")
    assert len(run("local()")) > 1


def test_a_do_block_runs_and_its_notice_is_shown(run):
    with capture_output() as shown:
        assert run("%%sql\nDO $$BEGIN RAISE NOTICE 'seen: %', 1; END$$; ") is None
    assert shown.stdout == "NOTICE: seen: 1\n"


def test_several_statements_return_the_rows_of_the_last(run):
    assert value(run("%%sql\nSELECT 'a;b'; -- not; these\nSELECT 2; SELECT $$;$$ AS last;\n/* ; */")) == ";"
    assert run("%%sql\n-- nothing to run") is None


@pytest.mark.parametrize(
    ("source", "what", "why"),
    [
        ("SELECT 1 FROM no_such_table", 'relation "no_such_table" does not exist', "42P01"),
        ("SELEC 1", "syntax error", "42601"),
        ("CREATE TABLE public.made_by_a_cell (i int)", "read-only transaction", "25006"),
        ("DELETE FROM public.messages", "read-only transaction", "25006"),
        (
            "SET default_transaction_read_only = off; DELETE FROM public.messages",
            "read-only transaction",
            "25006",
        ),
        (
            "SELECT set_config('default_transaction_read_only', 'off', false); DELETE FROM public.messages",
            "",
            "25006",
        ),
        (
            "START TRANSACTION READ WRITE; DELETE FROM public.messages",
            "does not hold a transaction",
            "stands alone",
        ),
        ("BEGIN", "does not hold a transaction", "stands alone"),
        ("SET statement_timeout = '10ms'; SELECT pg_sleep(5)", "statement timeout", "57014"),
        ("COPY (SELECT 1) TO STDOUT", "could not be run", "COPY"),
    ],
)
def test_a_failure_is_red_and_three_lines(run, source, what, why):
    with pytest.raises(AtlasError) as raised:
        run(f"%%sql\n{source}")
    assert what in raised.value.what
    assert why in raised.value.why
    assert len(raised.value._render_traceback_()) == 3
    assert value(run("%sql SELECT 'still connected'")) == "still connected"


def test_a_failure_quotes_no_value_of_a_row(run):
    with pytest.raises(AtlasError) as raised:
        run("%%sql\nSELECT secret::int FROM (VALUES ('the content of a message')) AS message (secret)")
    assert "content" not in str(raised.value)
    assert "22P02" in raised.value.why


def test_a_failure_says_which_line(run):
    with pytest.raises(AtlasError, match="line 3 of the statement"):
        run("%%sql\nSELECT 1,\n  2,\n  no_such_column")


def test_a_value_that_cannot_be_sent_does_not_print_the_namespace(run, shell):
    shell.user_ns.update(thing=object(), password_like="s3cret-value")
    with pytest.raises(AtlasError) as raised:
        run("%sql SELECT :thing")
    assert "s3cret-value" not in str(raised.value)


@pytest.mark.parametrize(
    "source",
    [
        "%%sql postgresql://me:hunter2@localhost/atlas\nSELECT 1",
        "%sql postgresql://me:hunter2@localhost/atlas",
        "%%sql\nSELECT * FROM dblink('host=db password=hunter2', 'SELECT 1') AS t (i int)",
        "%%sql\nALTER ROLE me PASSWORD 'hunter2'",
    ],
)
def test_a_password_is_refused_and_not_repeated(run, source):
    with pytest.raises(AtlasError, match="holds a password") as raised:
        run(source)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "head", ["postgresql://localhost/atlas", "me@atlas", "@", "--connections", "-f a.sql", "-p x", "[d]"]
)  # fmt: skip
def test_a_cell_names_no_connection_and_no_option(run, head):
    with pytest.raises(AtlasError):
        run(f"%%sql {head}\nSELECT 1")


def test_without_a_connection_it_says_what_to_run(shell, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "sqlite://")
    with pytest.raises(AtlasError, match=r"ops\.start"), capture_output():
        shell.run_cell("%sql SELECT 1").raise_error()


def test_adopting_replaces_the_connection_and_closes_the_one_before(run, atlas):
    before = value(run("%sql SELECT pg_backend_pid()"))
    engine = magic.adopt(atlas.conninfo)
    assert len(Connection.connections) == 1
    assert value(run("%sql SELECT pg_backend_pid()")) != before
    with psycopg.connect(atlas.conninfo) as connection:
        alive = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", (before,)).fetchone()
    assert alive == (0,)
    engine.dispose()


def test_a_server_that_is_not_there_is_three_lines_without_the_password(shell):
    with pytest.raises(AtlasError, match="cannot reach") as raised:
        magic.adopt("host=/nonexistent dbname=atlas password=hunter2 connect_timeout=2")
    assert "hunter2" not in str(raised.value)


def test_after_a_lost_connection_the_next_cell_connects_anew(run, atlas):
    pid = value(run("%sql SELECT pg_backend_pid()"))
    with psycopg.connect(atlas.conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises(AtlasError):
        run("%sql SELECT 1")
    assert value(run("%sql SELECT current_setting('default_transaction_read_only')")) == "on"


def test_dates_that_python_does_not_know_are_shown_as_text(run):
    row = run("%sql SELECT timestamptz 'infinity', date '-infinity', timestamp '2024-01-02'")[0]
    assert tuple(row) == ("infinity", "-infinity", dt.datetime(2024, 1, 2))  # noqa: DTZ001


def test_only_so_many_rows_are_shown_but_all_are_kept(run, shell):
    rows = run("%sql SELECT g AS year FROM generate_series(1980, 2100) AS g")
    assert len(rows) == 121
    html, plain = shell.display_formatter.format(rows)[0].values()
    for text in (html, plain):
        assert "and 61 more" in text
        assert "2039" in text
        assert "2040" not in text
    run("%config SqlMagic.displaylimit = 2")
    assert "and 119 more" in rows._repr_html_()


def test_hostile_names_and_values_are_escaped(run):
    html = run("%%sql\nSELECT '<img src=x onerror=alert(1)>' AS \"<script>\", NULL AS n")._repr_html_()
    assert "<img" not in html
    assert "<script" not in html


def test_explain_is_shown_whole(run):
    plan = run("%%sql\nEXPLAIN SELECT FROM pg_description WHERE description = '" + "x" * 300 + "'")
    assert "x" * 300 in plan._repr_html_()
    assert "<pre" in plan._repr_html_()
    assert "x" * 300 in repr(plan)
    assert '"Node Type"' in repr(run("%sql EXPLAIN (FORMAT JSON) SELECT 1"))


def test_configuration_goes_on_working(run, shell):
    run("%config SqlMagic.autopandas = True")
    frame = run("%sql SELECT 1 AS a, 'x' AS b WHERE false")
    assert list(frame.columns) == ["a", "b"]
    run("%config SqlMagic.autopandas = False")
    run("%config SqlMagic.column_local_vars = True")
    run("%sql SELECT 5 AS five")
    assert shell.user_ns["five"] == (5,)


def test_the_package_loads_as_an_extension_and_wins_over_the_stock_magic(run, shell):
    with capture_output():
        shell.run_line_magic("load_ext", "sql")
        shell.run_line_magic("load_ext", "atlas_ops")
        run("%config SqlMagic.displaylimit = 3")
    assert "and 7 more" in run("%sql SELECT * FROM generate_series(1, 10)")._repr_html_()
    named = {type(known) for known in shell.configurables if type(known).__name__ == "SqlMagic"}
    assert named == {magic.SqlMagic}
