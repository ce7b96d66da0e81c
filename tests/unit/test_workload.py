"""A workload file is read, or refused in words a DBA can act on; its SQL reaches psycopg unchanged. No database."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ops import workload
from atlas_ops.errors import AtlasError
from atlas_ops.settings import tables_from
from atlas_ops.workload import Query, load, parameters, statement

ATLAS = Path(__file__).parents[2] / "parameters" / "workloads" / "atlas.yml"

GOOD = """\
queries:
  - name: count_of_user
    description: how many messages a user wrote
    table: messages
    sql: SELECT count(*) FROM {table} WHERE user_id = %(user)s
    bindings: SELECT user_id AS "user" FROM {table} ORDER BY id LIMIT 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "workload.yml"


def told(file: Path, text: str) -> AtlasError:
    file.write_text(text)
    with pytest.raises(AtlasError) as stop:
        load(file)
    return stop.value


def one(file: Path, text: str) -> Query:
    file.write_text(text)
    [query] = load(file).queries
    return query


# what is read


def test_a_statement_may_stand_in_a_file_of_its_own(file: Path) -> None:
    (file.parent / "count.sql").write_text(
        "-- of the application\nSELECT count(*) FROM {table} WHERE user_id = %(user)s;\n"
    )
    query = one(file, GOOD.replace("sql: SELECT count(*) FROM {table} WHERE user_id = %(user)s", "sql_file: count.sql"))
    assert query.sql == "-- of the application\nSELECT count(*) FROM {table} WHERE user_id = %(user)s"


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (GOOD + "    sql_file: there.sql\n", "sql_file is given beside sql"),
        (GOOD.replace("sql: SELECT", "sql_file: SELECT"), "which cannot be read"),
        (GOOD.replace("sql: SELECT count(*) FROM {table} WHERE user_id = %(user)s", "sql_file: binary.sql"), "which cannot be read"),
        (GOOD.replace("sql: SELECT count(*) FROM {table} WHERE user_id = %(user)s", "sql_file: two.sql"), "more than one statement"),
        (GOOD.replace("sql: SELECT count(*) FROM {table} WHERE user_id = %(user)s", "sql_file: [a]"), "sql_file"),
        ("queries: [3]\n", "query"),
        ("queries: {sql_file: x}\n", "queries"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_told(file: Path, wrong: str, what: str) -> None:
    (file.parent / "binary.sql").write_bytes(b"\xff\xfe")
    (file.parent / "two.sql").write_text("SELECT 1 FROM {table}; SELECT 2")
    stop = told(file, wrong)
    assert what in f"{stop.what} {stop.why}"


def test_what_is_expected_is_one_or_both(file: Path) -> None:
    assert one(file, GOOD + "    expects: {max_slowdown: 2}\n").max_slowdown == 2.0
    both = one(file, GOOD + "    expects: {max_slowdown: 1.5, prunes_to: 3}\n")
    assert (both.max_slowdown, both.prunes_to) == (1.5, 3)
    for wrong in ("{}", "{max_slowdown: 0}", "{max_slowdown: .nan}", "{max_slowdown: .inf}", "{max_slowdown: yes}"):
        assert "expects is" in told(file, GOOD + f"    expects: {wrong}\n").what


def test_a_rewritten_statement_is_held_to_the_same_rules(file: Path) -> None:
    assert one(file, GOOD + "    sql_rewritten: SELECT 1 FROM {table};\n").sql_rewritten == "SELECT 1 FROM {table}"
    assert "sql_rewritten is" in told(file, GOOD + "    sql_rewritten: SELECT 1\n").what
    assert "writes, and does not say so" in told(file, GOOD + "    sql_rewritten: DELETE FROM {table}\n").what


def test_a_query_and_its_defaults(file: Path) -> None:
    query = one(file, GOOD)
    assert (query.name, query.table, query.writes, query.role) == ("count_of_user", "messages", False, None)
    assert (query.weight, query.prunes_to, query.sql_partitioned) == (None, None, None)


def test_every_key_is_read(file: Path) -> None:
    query = one(
        file,
        GOOD
        + "    sql_partitioned: SELECT 1 FROM {table};\n    role: '\"My Role\"'\n    writes: true\n"
        + "    claims: json_build_object('sub', %(user)s)\n    weight: 12\n    expects: {prunes_to: 2}\n",
    )
    assert query.sql_partitioned == "SELECT 1 FROM {table}"
    assert (query.role, query.writes, query.weight, query.prunes_to) == ("My Role", True, 12, 2)
    assert parameters(query.claims or "") == ("user",)


def test_the_shipped_workload_asks_what_the_application_asks() -> None:
    read = load(ATLAS)
    by_table = {name: [q.name for q in read.queries if q.table == name] for name in ("messages", "usage_logs")}
    assert by_table == {
        "messages": [
            "history_page",
            "history_page_as_user",
            "model_context",
            "monthly_count",
            "delta_sync",
            "pull",
            "one_message",
            "search",
            "conversation_count",
            "new_since",
            "edit",
            "soft_delete",
            "upsert",
            "insert",
        ],
        "usage_logs": ["cooldown", "today"],
    }
    assert [q.name for q in read.queries if q.writes] == ["edit", "soft_delete", "upsert", "insert"]


def test_queries_of_a_table_are_found_however_it_is_written(file: Path) -> None:
    file.write_text(
        GOOD + GOOD.replace("queries:\n", "").replace("count_of_user", "b").replace(": messages", ": public.Messages")
    )
    tables = [
        {"table": name, "partition_key": "created_at", "from": "2024-01-01"}
        for name in ("public.messages", "other.messages")
    ]
    ours, other = tables_from(tables[:1]) + tables_from(tables[1:])
    assert [query.name for query in load(file).of(ours)] == ["count_of_user", "b"]
    assert load(file).of(other) == ()


# what psycopg gets


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("SELECT %(a)s, %(a)s", "SELECT (%(a)s::uuid), (%(a)s::uuid)"),
        ("x ILIKE '%q%' AND n % 5 = 0", "x ILIKE '%%q%%' AND n %% 5 = 0"),
        ("SELECT '{}'::jsonb FROM {table}", "SELECT '{}'::jsonb FROM T"),
        ("SELECT '{table} %(a)s; ''' FROM {table}", "SELECT '{table} %%(a)s; ''' FROM T"),
        ('SELECT "{table}" FROM {table}', 'SELECT "{table}" FROM T'),
        ("SELECT 1 -- {table} of %(a)s\nFROM {table}", "SELECT 1 -- {table} of %%(a)s\nFROM T"),
        ("SELECT /* {table}\n; */ {table}", "SELECT /* {table}\n; */ T"),
        ("SELECT $x$ {table}; %(a)s $x$, {table}", "SELECT $x$ {table}; %%(a)s $x$, T"),
        (r"SELECT E'it\'s {table}', {table}", r"SELECT E'it\'s {table}', T"),
    ],
)
def test_only_the_marks_are_replaced(text: str, made: str) -> None:
    assert statement(text, "T", {"a": "uuid"}) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("SELECT 1 FROM {table}", 'SELECT 1 FROM "t"'),
        (
            "SELECT %(b)s, %(a)s, %(b)s FROM {table} -- %(a)s $1",
            'SELECT ($1::int), ($2::text), ($1::int) FROM "t" -- %(a)s $1',
        ),
        (
            "SELECT '%(a)s {table}' || $q$%(b)s$q$ FROM {table} WHERE 5 % 3",
            "SELECT '%(a)s {table}' || $q$%(b)s$q$ FROM \"t\" WHERE 5 % 3",
        ),
    ],
)
def test_a_statement_as_prepare_takes_it(text: str, made: str) -> None:
    assert workload.prepared(text, '"t"', {"a": "text", "b": "int"}) == made


def test_a_name_that_looks_like_a_mark_is_put_in_as_it_is() -> None:
    assert statement("SELECT FROM {table}", '"%(a)s {table}"', {}) == 'SELECT FROM "%%(a)s {table}"'


@given(st.text())
def test_no_text_loses_a_character(text: str) -> None:
    types = dict.fromkeys(parameters(text), "int")
    assert statement(text, "{table}", types).replace("%%", "%").replace("(%(", "%(").replace(
        "::int)", ""
    ) == text.replace("(%(", "%(").replace("::int)", "")


# what is refused


@pytest.mark.parametrize(
    ("wrong", "what", "next"),
    [
        (GOOD.replace("    sql:", "    sqll:"), "sqll is not a key known here", "Did you mean sql?"),
        (GOOD.replace("bindings:", "params:"), "params is not a key", "Did you mean bindings?"),
        (GOOD.replace("queries:", "query:"), "queries is missing", "queries:"),
        (GOOD + "    password: x\n", "password is not a key", "PGPASSFILE"),
        (GOOD.replace("    table: messages\n", ""), "table is missing", "table: messages"),
        (GOOD.replace("count_of_user", "Count of user"), "name is", "history_page"),
        (GOOD.replace("count_of_user", "../../etc/passwd"), "name is", "history_page"),
        (GOOD.replace("how many", '"two\\nlines"').replace(" messages a user wrote", ""), "description is", ""),
        (GOOD.replace("FROM {table} WHERE", "FROM messages WHERE"), "sql is", "Write {table}"),
        (GOOD.replace("FROM {table} WHERE", "FROM '{table}' WHERE"), "sql is", "Write {table}"),
        (GOOD.replace("%(user)s", "%(user)s; DROP TABLE messages"), "sql is", "Write one query a statement"),
        (GOOD.replace("%(user)s", "$1"), "sql is", "Write %(name)s"),
        (GOOD.replace("%(user)s", "%(user)"), "sql is", "Write %(name)s"),
        (GOOD.replace("ORDER BY id", "WHERE id = %(id)s"), "bindings is", "Write bindings"),
        (GOOD.replace("LIMIT 1", "LIMIT 1; COMMIT"), "bindings is", "Write one query a statement"),
        (GOOD + "    role: a b\n", "role is", "Quote a name"),
        (GOOD + "    writes: sometimes\n", "writes is", "writes: true"),
        (GOOD + "    weight: 0\n", "weight is 0", "weight: 12.5"),
        (GOOD + "    weight: '12'\n", 'weight is "12"', "weight: 12.5"),
        (GOOD + "    expects: {prunes_to: 0}\n", "expects is a map", "prunes_to: 1"),
        (GOOD + "    expects: {pruned: 1}\n", "expects is a map", "prunes_to: 1"),
        (GOOD + "    expects: {prunes_to: true}\n", "expects is a map", "prunes_to: 1"),
        (GOOD + "    claims: '1'\n", "role is missing beside claims", "Write role"),
        (GOOD.replace("SELECT count(*) FROM", "-- x\n      DELETE FROM").replace("sql:", "sql: |\n     "), "writes, and", "writes: true"),
        (GOOD[: GOOD.index("    bindings")], "bindings is missing", "column user"),
        ("queries: []\n", "queries is an empty list", "queries:"),
        ("queries:\n  - history\n", "a query is", "queries:"),
        ("- name: x\n", "is not a map of keys", "queries:"),
        ("", "is empty", "queries:"),
        ("queries: [\n", "this is not YAML", ""),
        (GOOD + "    name: again\n", "stands there twice", "Remove one"),
        (GOOD + GOOD.replace("queries:\n", ""), "name is count_of_user", "another name"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_cure(file: Path, wrong: str, what: str, next: str) -> None:
    stop = told(file, wrong)
    assert what in stop.what or ("has 2 faults" in stop.what and what in stop.why)  # a key misspelt is a key missing
    assert next in stop.next
    assert stop.why


def test_faults_are_told_together_each_on_its_line(file: Path) -> None:
    stop = told(file, GOOD.replace("    sql:", "    sqll:").replace("messages\n    sqll", "a b\n    sqll"))
    assert stop.what.endswith("has 3 faults.")
    assert [line.partition(":")[0] for line in stop.next.splitlines()] == ["line 2", "line 4", "line 5"]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="cannot be read"):
        load(tmp_path / "none.yml")


@given(
    st.dictionaries(
        st.sampled_from(["name", "description", "table", "sql", "bindings", "role", "claims", "expects"]), st.text()
    )
)
def test_hostile_text_is_read_or_refused(keys: dict[str, str]) -> None:
    try:
        workload.Workload.model_validate({"queries": [{"name": "a", "description": "b", "table": "c", **keys}]})
    except workload.ValidationError as error:
        assert workload._FORM.faults(error)
