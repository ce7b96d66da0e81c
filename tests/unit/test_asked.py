"""What a text of pg_stat_statements asks of a table, and that nobody's value gets out of it. No database."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from atlas_ops.asked import Asked, asked
from atlas_ops.querytext import LONGEST_SHOWN, Unclear, masked

AT = ("public", "messages")
COLUMNS = ("id", "conversation_id", "user_id", "role", "content", "created_at", "n", "messages")


def read(text: str, at: tuple[str, str] = AT) -> Asked:
    found = asked(text, at, "created_at", COLUMNS)
    assert found is not None, text
    return found


def written(text: str, at: tuple[str, str] = AT) -> str:
    return read(text, at).text("{table}", "%(p{})s".format)


def slots(text: str) -> list[str]:
    return [f"{slot.how} {slot.column}".strip() for slot in read(text).slots]


# Which statements ask the table


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM messages",
        'select * from "public"."messages" m',
        "SELECT * FROM PUBLIC.Messages",
        "SELECT 1 FROM other o JOIN messages ON o.id = messages.id",
        "SELECT (SELECT count(*) FROM messages m WHERE m.user_id = u.id) FROM users u",
        "INSERT INTO messages DEFAULT VALUES",
        "INSERT INTO archive SELECT * FROM ONLY messages",
        "UPDATE messages SET n = $1",
        "DELETE FROM x USING messages WHERE x.id = messages.id",
        "MERGE INTO messages m USING s ON m.id = s.id WHEN MATCHED THEN DELETE",
        "WITH gone AS (DELETE FROM messages RETURNING *) SELECT * FROM gone",
        "WITH messages AS (SELECT * FROM messages) SELECT * FROM messages",
        "WITH a AS (SELECT 1), messages AS (SELECT * FROM messages) SELECT 1 FROM a",
        "PREPARE page (uuid, numeric(10,2)) AS SELECT * FROM messages WHERE id = $1",
        "DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT * FROM messages",
        "(SELECT id FROM messages) UNION ALL (SELECT id FROM archive)",
        "TABLE messages",
        "TRUNCATE messages",
        "COPY messages (id) FROM STDIN",
        "-- SELECT\n/* a /* nested */ comment */ SELECT * FROM messages;",
        "SELECT * FROM other, messages /*, ... */",
        "SELECT * FROM messages TABLESAMPLE SYSTEM ($1) REPEATABLE ($2)",
        "INSERT INTO messages (id) OVERRIDING SYSTEM VALUE VALUES ($1)",
    ],
)
def test_a_statement_on_the_table_is_found(text: str) -> None:
    assert read(text)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM messages_archive",
        "SELECT * FROM old_messages",
        "SELECT * FROM other.messages",
        'SELECT * FROM "Messages"',
        "SELECT messages FROM counters",
        "SELECT c.messages FROM counters c WHERE messages > $1",
        "SELECT * FROM counters AS messages",
        "SELECT messages(1)",
        "SELECT * FROM messages()",
        "SELECT * FROM x WHERE a = 'FROM messages'",
        "SELECT * FROM x -- FROM messages",
        "SELECT * FROM x /* FROM messages */",
        'SELECT "FROM messages" FROM x',
        "SELECT $$ FROM messages $$ FROM x",
        "WITH messages AS (SELECT 1) SELECT * FROM messages",
        "WITH RECURSIVE messages AS (SELECT 1 UNION SELECT * FROM messages) SELECT * FROM messages",
        "EXPLAIN (ANALYZE) SELECT * FROM messages",
        "SELECT * FROM messages /* atlas_ops */",
        "SELECT * FROM messages JOIN atlas_ops.copy_progress ON true",
        "CREATE INDEX ON messages (n)",
        "CREATE TABLE x AS SELECT * FROM messages",
        "SELECT * INTO x FROM messages",
        "VACUUM messages",
        "LOCK TABLE messages",
        "DO $$ BEGIN PERFORM FROM messages; END $$",
        "",
        "messages",
    ],
)
def test_any_other_is_not(text: str) -> None:
    assert asked(text, AT, "created_at", COLUMNS) is None


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM messages WHERE content = 'it",
        'SELECT "messages FROM messages',
        "SELECT * FROM messages /* open",
        r"SELECT * FROM messages WHERE content = 'a\' OR 1 = 1",
        "SELECT * FROM messages; DELETE FROM messages",
        'SELECT U&"d\\0061ta" FROM messages',
        "SELECT * FROM messages WHERE",
        "SELECT * FROM messages WHERE " + "(" * 5000,
        "SELECT * FROM messages WHERE content = $a$ open",
    ],
)
def test_what_cannot_be_told_apart_for_certain_is_unclear(text: str) -> None:
    with pytest.raises(Unclear):
        asked(text, AT, "created_at", COLUMNS)


def test_hostile_names_are_found_as_the_catalogs_have_them() -> None:
    name = 'a"b; DROP $1 %(x)s {table} --'
    text = f'SELECT "{name.replace(chr(34), chr(34) * 2)}"."x y" FROM "s.t"."{name.replace(chr(34), chr(34) * 2)}" WHERE "x y" = $1'
    found = asked(text, ("s.t", name), "created_at", ["x y"])
    assert found is not None
    assert [slot.column for slot in found.slots] == ["x y"]
    quoted = f'"{name.replace(chr(34), chr(34) * 2)}"'
    assert found.text("T", "${}".format) == f'SELECT {quoted}."x y" FROM T AS {quoted} WHERE "x y" = $1'
    assert found.text("T", lambda _: "?") == f'SELECT {quoted}."x y" FROM T AS {quoted} WHERE "x y" = ?'


def test_a_name_is_cut_where_the_server_cuts_it() -> None:
    long = "m" * 70
    assert asked(f"SELECT * FROM {long}", ("public", long[:63]), "created_at") is not None


# What it asks


@pytest.mark.parametrize(
    ("text", "verb", "writes"),
    [
        ("SELECT * FROM messages", "select", False),
        ("SELECT * FROM messages FOR UPDATE", "select", True),
        ("INSERT INTO messages (id) VALUES ($1)", "insert", True),
        ("INSERT INTO archive SELECT * FROM messages", "select", True),
        ("WITH x AS (UPDATE messages SET n = 1 RETURNING *) SELECT * FROM x", "update", True),
        ("DELETE FROM messages", "delete", True),
        ("COPY messages TO STDOUT", "copy", True),
    ],
)
def test_whether_it_writes(text: str, verb: str, writes: bool) -> None:
    found = read(text)
    assert (found.verb, found.writes) == (verb, writes)


@pytest.mark.parametrize(
    ("condition", "bounds"),
    [
        ("created_at >= $1", True),
        ("$1 <= m.created_at", True),
        ("(created_at) = $1", True),
        ("created_at BETWEEN $1 AND $2", True),
        ("created_at IN ($1, $2)", True),
        ("created_at = ANY($1)", True),
        ('"created_at" > now() - interval $1', True),
        ("user_id = $1", False),
        ("created_at::date = $1", False),
        ("date_trunc($1, created_at) = $2", False),
        ("created_at IS NOT NULL", False),
        ("created_at <> $1", False),
        ("(created_at, id) < ($1, $2)", False),  # no row comparison prunes
        ("x.created_at = $1", False),
        ("$1 BETWEEN created_at AND n", False),
    ],
)
def test_whether_the_partition_key_is_compared(condition: str, bounds: bool) -> None:
    assert read(f"SELECT created_at FROM messages m, x WHERE {condition} ORDER BY created_at").bounds_key is bounds


def test_other_places_of_the_key_are_no_condition() -> None:
    assert read("UPDATE messages SET created_at = $1 WHERE id = $2").bounds_key is False
    assert read("INSERT INTO messages (created_at) VALUES ($1)").bounds_key is None
    assert read("SELECT created_at = $1 FROM messages").bounds_key is False
    assert read("INSERT INTO messages SELECT * FROM messages WHERE created_at < $1").bounds_key is True
    assert read("SELECT * FROM x JOIN messages m ON m.created_at = x.at").bounds_key is True


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT * FROM messages WHERE user_id = $1", ["value user_id"]),
        ("SELECT * FROM messages m WHERE $1 = m.user_id", ["value user_id"]),
        ("SELECT * FROM messages WHERE user_id = $1::uuid AND (role) = ($2)", ["value user_id", "value role"]),
        ("SELECT * FROM messages WHERE user_id IN ($1, $2)", ["value user_id", "value user_id"]),
        ("SELECT * FROM messages WHERE user_id = ANY($1)", ["array user_id"]),
        ("SELECT * FROM messages WHERE user_id = ANY(ARRAY[$1, $2])", ["value user_id", "value user_id"]),
        ("SELECT * FROM messages WHERE created_at >= $1 AND created_at < $2", ["lower created_at", "upper created_at"]),
        ("SELECT * FROM messages WHERE created_at BETWEEN $1 AND $2", ["lower created_at", "upper created_at"]),
        ("SELECT * FROM messages WHERE $1 < created_at", ["lower created_at"]),
        ("SELECT * FROM messages WHERE (created_at, id) < ($1, $2)", ["value created_at", "value id"]),
        ("SELECT * FROM messages WHERE (user_id, id) IN (($1, $2), ($3, $4))", ["value user_id", "value id"] * 2),
        ("SELECT * FROM messages LIMIT $1 OFFSET $2", ["limit", "offset"]),
        ("SELECT * FROM messages FETCH FIRST $1 ROWS ONLY", ["limit"]),
        ("SELECT * FROM (SELECT * FROM messages LIMIT $1) m LIMIT $2", ["page", "limit"]),
        ("SELECT * FROM messages WHERE user_id = $1 OR user_id = $1", ["value user_id"]),
        ("SELECT $1 FROM messages WHERE user_id = $1", ["value user_id"]),
        ("INSERT INTO messages (id, n) VALUES ($1, $2), ($3, $4)", ["insert id", "insert n"] * 2),
        ("INSERT INTO messages VALUES ($1, $2)", ["insert id", "insert conversation_id"]),
        ("INSERT INTO messages (n, id) SELECT $1, $2", ["insert n", "insert id"]),
        ("UPDATE messages SET n = $1, (role, content) = ($2, $3) WHERE id = $4",
         ["set n", "set role", "set content", "value id"]),
        ("INSERT INTO messages (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET n = $2", ["insert id", "set n"]),
        ("MERGE INTO messages m USING s ON m.id = $1 WHEN MATCHED THEN UPDATE SET n = $2", ["value id", "set n"]),
        ("SELECT extract($1 FROM created_at) FROM messages", ["field"]),
        # what no column of the table tells
        ("SELECT * FROM messages WHERE lower(role) = $1", ["unknown"]),
        ("SELECT * FROM messages WHERE content ILIKE $1 ESCAPE $2", ["unknown", "unknown"]),
        ("SELECT * FROM messages WHERE created_at > now() - interval $1", ["unknown"]),
        ("SELECT * FROM messages m JOIN users u USING (id) WHERE u.id = $1", ["unknown"]),
        ("SELECT * FROM messages WHERE email = $1", ["unknown"]),
        ("SELECT * FROM users WHERE user_id = $1 AND EXISTS (SELECT FROM messages)", ["unknown"]),
        ("UPDATE users SET n = $1 FROM messages", ["unknown"]),
        ("INSERT INTO users (id) SELECT $1 FROM messages", ["unknown"]),
        ("UPDATE messages SET n = n + $1", ["unknown"]),
        ("SELECT * FROM messages WHERE n = ARRAY[$1]", ["unknown"]),
    ],
)  # fmt: skip
def test_where_a_parameter_stands(text: str, found: list[str]) -> None:
    assert slots(text) == found


def test_an_outer_alias_is_found_from_within() -> None:
    text = "SELECT * FROM messages m WHERE EXISTS (SELECT FROM users u WHERE u.id = m.user_id AND m.role = $1 AND u.role = $2)"
    assert slots(text) == ["value role", "unknown"]


def test_the_columns_of_on_conflict() -> None:
    assert read("INSERT INTO messages (id) VALUES ($1) ON CONFLICT (id, n) DO NOTHING").arbiter == ("id", "n")
    assert read("INSERT INTO messages (id) VALUES ($1) ON CONFLICT DO NOTHING").arbiter == ()


# How it is written


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("SELECT * FROM messages WHERE id = $1;", "SELECT * FROM {table} WHERE id = %(p1)s"),
        ("SELECT m.* FROM public.messages m", "SELECT m.* FROM {table} m"),
        ("SELECT * FROM public . messages", "SELECT * FROM {table}"),
        ("SELECT messages.id FROM messages", "SELECT messages.id FROM {table} AS messages"),
        ("SELECT count(messages) FROM messages", "SELECT count(messages) FROM {table} AS messages"),
        ('SELECT "public"."messages".* FROM "public"."messages"', 'SELECT "messages".* FROM {table} AS "messages"'),
        ("SELECT m.messages FROM messages m", "SELECT m.messages FROM {table} m"),
        ("SELECT * FROM messages FOR UPDATE OF messages", "SELECT * FROM {table} AS messages FOR UPDATE OF messages"),
        ("SELECT * FROM messages a, messages b", "SELECT * FROM {table} a, {table} b"),
        ("SELECT * FROM other.messages o, messages m", "SELECT * FROM other.messages o, {table} m"),
        (
            "INSERT INTO messages (id) VALUES ($1) RETURNING messages.id",
            "INSERT INTO {table} AS messages (id) VALUES (%(p1)s) RETURNING messages.id",
        ),
        ("SELECT n % $1, n %(2) FROM messages", "SELECT n % %(p1)s, n % (%(p2)s) FROM {table}"),
        ("SELECT '$1', $1 FROM messages /* $2 */", "SELECT %(p2)s, %(p1)s FROM {table}"),
        ('SELECT "$1" FROM messages WHERE "%(x)s" = $1', 'SELECT "$1" FROM {table} WHERE "%(x)s" = %(p1)s'),
        ("SELECT interval $1, date $2 FROM messages", "SELECT %(p1)s::interval, %(p2)s::date FROM {table}"),
        ("SELECT interval '1 day' FROM messages", "SELECT %(p1)s::interval FROM {table}"),
        (
            "SELECT timestamp with time zone $1, interval(3) $2 FROM messages",
            "SELECT %(p1)s::timestamp with time zone, %(p2)s::interval(3) FROM {table}",
        ),
        ("SELECT n AT TIME ZONE $1 FROM messages", "SELECT n AT TIME ZONE %(p1)s FROM {table}"),
        (
            "SELECT extract($1 from created_at) FROM messages",
            "SELECT pg_catalog.date_part(%(p1)s, created_at) FROM {table}",
        ),
        ("SELECT id FROM messages WHERE id IN ($1 /*, ... */)", "SELECT id FROM {table} WHERE id IN (%(p1)s )"),
        ("SELECT*FROM messages WHERE content LIKE'a'AND n=1", "SELECT*FROM {table} WHERE content LIKE %(p1)s AND n=%(p2)s"),
        ("SELECT content::varchar(10), n::numeric(10, 2) FROM messages ORDER BY 1, 2 LIMIT 5",
         "SELECT content::varchar(10), n::numeric(10, 2) FROM {table} ORDER BY 1, 2 LIMIT %(p1)s"),
        ("PREPARE p AS SELECT * FROM messages WHERE id = $1", "SELECT * FROM {table} WHERE id = %(p1)s"),
        ("SELECT a\n    FROM messages -- x\n", "SELECT a\n    FROM {table}"),
    ],
)  # fmt: skip
def test_what_the_workload_file_gets(text: str, made: str) -> None:
    assert written(text) == made


# Masking

SECRET = "Zk7alice"


@pytest.mark.parametrize(
    "text",
    [
        f"SELECT * FROM messages WHERE content = '{SECRET}'",
        f"SELECT * FROM messages WHERE content = E'{SECRET}\\''",
        f"SELECT * FROM messages WHERE content = $x${SECRET}$x$",
        f"SELECT * FROM messages WHERE content = $${SECRET}$$",
        f"SELECT * FROM messages WHERE content = 'it''s {SECRET}'",
        f"SELECT * FROM messages WHERE content = U&'{SECRET}'",
        f"SELECT * FROM messages /* user={SECRET} */",
        f"-- {SECRET}\nSELECT * FROM messages -- {SECRET}",
        f"SELECT * FROM messages /* /* */ {SECRET} */",
    ],
)
def test_no_literal_and_no_comment_gets_out(text: str) -> None:
    found = read(text)
    assert SECRET not in found.masked
    assert SECRET not in found.text("{table}", "${}".format)


@pytest.mark.parametrize("number", ["4711", "-4711", "4711.5", "4711e3", "0x4711", "1_4711", ".4711"])
def test_no_number_gets_out(number: str) -> None:
    found = read(f"SELECT * FROM messages WHERE n = {number} AND n IN (1, {number})")
    assert "4711" not in found.masked + found.text("{table}", "${}".format)


@given(st.lists(st.sampled_from(
    ["'", '"', "$", "$$", "$a$", "/*", "*/", "--", "\n", "\\", "E'", "U&'", " ", "messages", "FROM", "SELECT", "x", "=", "1", "$1", ";", "(", ")"]
), max_size=25), st.sampled_from(["'{}'", "E'{}'", "$q${}$q$", "/*{}*/"]))  # fmt: skip
@example(["SELECT", " ", "FROM", " ", "messages"], "'{}'")
def test_a_secret_stays_in_whatever_stands_around_it(around: list[str], quote: str) -> None:
    half = len(around) // 2
    text = "".join(around[:half]) + " " + quote.format(SECRET) + " " + "".join(around[half:])
    if _is_code(text):
        return
    try:
        shown = masked(text, 10_000)
        found = asked(text, AT, "created_at", COLUMNS)
    except Unclear:
        return
    assert SECRET not in shown + (found.text("T", "${}".format) if found else "")


def _is_code(text: str) -> bool:
    """Whether what stands around has turned the literal into code: a quote opened before it, and the secret is a name of the statement's."""
    from sqlglot import tokenize  # noqa: PLC0415
    from sqlglot.errors import SqlglotError  # noqa: PLC0415

    try:
        return any(
            SECRET in token.text and token.token_type.name in ("VAR", "IDENTIFIER")
            for token in tokenize(text, read="postgres")
        )
    except SqlglotError:
        return True


def test_what_is_shown_is_one_short_line() -> None:
    shown = masked("SELECT\n  " + "a, " * 200 + "b FROM messages")
    assert len(shown) == LONGEST_SHOWN and "\n" not in shown and shown.endswith("…")
