"""Hostile text in every place where a text may stand: refused by the reader, or nothing but a quoted name or literal in what is sent."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from shapes.shapes import named, quoted
from shapes.skeleton import Tap, skeleton
from shapes.story import Story

import atlas_ops
from atlas_ops import settings, spec
from atlas_ops.errors import AtlasError
from atlas_ops.stages.apply_migration import ApplyMigration
from atlas_ops.stages.inspect_partitions import InspectPartitions
from atlas_ops.stages.preflight import Preflight
from atlas_ops.stages.roll_back import RollBack

CANARY = (
    "CREATE TABLE public.canary (id int)",
    "CREATE SEQUENCE public.sung",
    "CREATE FUNCTION public.sing() RETURNS int LANGUAGE sql AS $$ SELECT nextval('public.sung')::int $$",
)
# Short, so that they fit into names with what is derived from them; each would end a text that it stands in unquoted.
HOSTILE = (
    '";drop table canary;--',
    "';drop table canary;--",
    "$do$;drop table canary;--",
    "$$;drop table canary;$$",
    "$capture$;drop table canary;",
    "\\';drop table canary;--",
    "*/drop table canary;/*",
    "'||sing()||'",
    '"||sing()||"',
    "%s{}{0}%(a)s%%;sing()",
    "a)\n;drop table canary\n;--",
    "FROM canary; SELECT sing()",
)
KEYS = {"table": "item", "partition_key": "at", "from": "2024-01-01"}


def alive(db: Any) -> bool:
    """The table is there, and the function was never called."""
    with psycopg.connect(db.superuser_conninfo) as conn:
        row = conn.execute(
            "SELECT to_regclass('public.canary') IS NOT NULL AND NOT is_called FROM public.sung"
        ).fetchone()
    return bool(row and row[0])


# -- what is sent


def story_of(word: str, server: Any, ops: Any) -> None:
    """The whole story of a table all of whose names are made of `word`."""
    db = server.clone("template0")
    try:
        shape = named("hostile", word, schema=word)
        ops.run(db, *CANARY, *shape.made)
        names = {"partition_schema": quoted(f"{word}p"), "partitioned_table": f"{quoted(word)}.{quoted(f'{word}q')}"}
        story = Story(ops, db, **shape.keys, **names, indexes=[[shape.keys["partition_key"]]])
        assert story.refused() == ()
        story.tell(*shape.chapters)
        assert alive(db)
    finally:
        server.drop(db)


@pytest.fixture(scope="module")
def innocuous(server: Any, ops: Any) -> set[str]:
    """What is sent for a table with quiet names; in capitals, so that PostgreSQL quotes them as well."""
    with pytest.MonkeyPatch.context() as patch:
        tap = Tap(patch)
        story_of("Item", server, ops)
        return tap.skeletons()


@pytest.mark.parametrize("word", [one + other for one, other in zip(HOSTILE[::2], HOSTILE[1::2], strict=True)])
def test_nothing_that_is_sent_differs_but_in_its_quoted_names(
    server: Any, ops: Any, innocuous: set[str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tap = Tap(monkeypatch)
    story_of(word, server, ops)
    assert len(tap.skeletons()) > 100
    assert tap.skeletons() - innocuous == set()


def test_a_name_that_is_not_quoted_would_be_seen() -> None:
    quiet = skeleton('SELECT "a""b", E\'x\\\'\', \'it\'\'s\' FROM "t" -- "c"\n WHERE true')
    assert quiet == "SELECT N,L,L FROM N WHERE true"
    assert skeleton('DO $do_$ BEGIN DELETE FROM "$do$"; END $do_$') == "DO [ BEGIN DELETE FROM N; END ]".replace(
        "[ ", "["
    ).replace(" ]", "]")
    assert skeleton('SELECT * FROM a";drop') != skeleton('SELECT * FROM "a"')


# -- what is read

NAMES: dict[str, Callable[[spec.TableSpec], str]] = {
    "table": lambda read: read.name,
    "partitioned_table": lambda read: read.partitioned_name,
    "partition_key": lambda read: read.partition_key,
    "partition_schema": lambda read: read.partition_schema,
    "indexes": lambda read: read.indexes[0][0],
}
STRINGS = sorted(
    key for key, kind in settings.json_schema()["$defs"]["TableSpec"]["properties"].items() if "string" in str(kind)
    and key not in {"workload", "archive_to"}  # paths: opened, and for DuckDB a literal
)  # fmt: skip


@pytest.mark.parametrize("key", STRINGS)
def test_a_hostile_text_is_refused_or_read_as_a_name(key: str) -> None:
    for word in HOSTILE:
        for written in (word, f"public.{word}", f'"x"{word}', f'"x".{word}', f'"{word}', quoted(word)):
            value: Any = [[written]] if key == "indexes" else written
            try:
                [read] = settings.tables_from([{**KEYS, key: value}])
            except AtlasError as stop:
                assert stop.what and stop.next
                assert written != quoted(word) or key not in NAMES
            else:
                # one whole quoted name, and nothing after it
                told = NAMES[key](read)
                assert written in (quoted(told), f'"x".{quoted(told)}', f"public.{quoted(told)}")


@pytest.mark.parametrize(
    "word",
    [
        *HOSTILE,
        "1) OR (1=1",
        "1; SELECT sing()",
        "a FROM canary) --",
        "E'\\'' || sing()",
        "(now()",
        "$a$b$a$",
        "now() /* ",
        '"a',
    ],
)
def test_an_expression_cannot_leave_its_place(word: str) -> None:
    if word in ("'||sing()||'", '"||sing()||"'):
        return  # a whole expression: one text. It is shown in the plan, as the DBA wrote it
    with pytest.raises(AtlasError):
        settings.tables_from([{**KEYS, "null_keys": {"value": word}}])


@pytest.mark.parametrize("word", HOSTILE)
def test_a_hostile_parameter_of_a_notebook_stops_it(empty: Any, ops: Any, enter: Any, word: str) -> None:
    ops.run(empty, *CANARY, "CREATE TABLE note (id int PRIMARY KEY, at timestamptz NOT NULL, body text)")
    for stage in (Preflight, ApplyMigration, RollBack, InspectPartitions):
        with pytest.raises(AtlasError):
            stage(word, [ops.keys()], "", "2024-01-15")
        with pytest.raises(AtlasError):
            stage("entered", [ops.keys()], "", word)
        with pytest.raises(AtlasError):
            stage("entered", word, "", "2024-01-15")
    migrating = enter(ApplyMigration, empty, confirm=word)
    with pytest.raises(AtlasError, match="was confirmed"):
        migrating.execute(migrating.plan_migration())
    with pytest.raises(AtlasError, match="three ways back"):
        enter(RollBack, empty).plan_roll_back(word)
    assert alive(empty)


# -- what is written: no text becomes SQL by an f-string, a + or a %

PACKAGE = Path(atlas_ops.__file__).parent
OWN_WORDS = {
    (
        "definition.py",
        "f\" WITH ({', '.join(parameters)})\"",
    ),  # as pg_class has them: known options, checked values
    ("exchange.py", "f\"SET LOCAL lock_timeout = '{wait_ms}ms'\""),
    ("exchange.py", "f'{statement} NOWAIT'"),  # a statement of a plan
    ("incoming.py", "f'ON UPDATE {ACTIONS[made.on_update]}'"),
    ("incoming.py", "f'ON DELETE {ACTIONS[made.on_delete]}'"),
    *(
        ("keys.py", words) for words in ("f'pg_{catalog}'", "f'{prefix}acl'", "f'{prefix}owner'")
    ),  # names of catalogs and their columns
    ("scratch.py", "f\" WHERE {' AND '.join(nowhere)}\""),  # conditions of the parts, composed already
    # the DBA's own expression over parameters, held to one statement when it is read
    ("measure.py", "f\"SELECT set_config('request.jwt.claims', ({claims})::text, true)\""),
    (
        "restore.py",
        "f'NOT ({bounds.condition(one.bound, text(name(spec.partition_key)))})'",
    ),  # a quoted name, and times of ours
    # DuckDB's SQL, which has no composer: every name through _quoted, every value through _literal
    ("inplace.py", "f\"CREATE VIEW {schema}.{_quoted(each.spec.name)} AS {' UNION ALL BY NAME '.join(parts)}\""),
    ("inplace.py", "f'CREATE SCHEMA IF NOT EXISTS {schema}'"),
    ("inplace.py", "'SET search_path = ' + _literal(path)"),
}


def composed_by_hand(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(value, ast.FormattedValue) for value in node.values)
    if isinstance(node, ast.BinOp):
        return True
    is_format = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
    return is_format and isinstance(node.func.value, ast.Constant)  # type: ignore[attr-defined]


def sent_as_sql() -> Iterator[tuple[str, str]]:
    """Where a text is sent, or declared to be SQL, that was put together by hand."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and node.args and composed_by_hand(node.args[0]):
                called = ast.unparse(node.func)
                if called.endswith(".execute") or called.rpartition(".")[2] in {"SQL", "raw"}:
                    yield path.name, ast.unparse(node.args[0])


def test_no_text_is_put_together_and_called_sql() -> None:
    assert set(sent_as_sql()) == OWN_WORDS
