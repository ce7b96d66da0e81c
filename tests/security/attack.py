"""Everything that a role of the application could try, tried: each attempt in a savepoint that is rolled back, each outcome kept.

Objects come from the catalogs, never from a list: what a stage has made is attacked because it is there. An outcome is compared with the one
of the same attempt before anything was done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

ROLES = ("anon", "authenticated", "service_role", "authenticator")
DENIED = "42501"
WRONG_KIND = "42809"  # ALTER TABLE on a view, a partition as parent: refused to everybody

OBJECTS = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a') AS columns,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND NOT a.attnotnull
          AND a.atttypid <> 'timestamptz'::regtype) AS nullable,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND starts_with(col_description(c.oid, a.attnum), 'atlas_ops: ')) AS ours
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 2, 3
"""
FUNCTIONS = """
SELECT n.nspname AS schema, p.proname AS name, p.oid::regprocedure::text AS signature, p.prorettype = 'trigger'::regtype AS trigger,
       p.prokind = 'p' AS procedure, p.prokind IN ('a', 'w') AS aggregate,
       ARRAY(SELECT CASE WHEN p.provariadic > 0 AND a.n = p.pronargs THEN 'VARIADIC ' ELSE '' END || 'NULL::' || format_type(a.type, NULL)
             FROM unnest(p.proargtypes) WITH ORDINALITY AS a(type, n) ORDER BY a.n) AS nothing, p.pronargs = p.pronargdefaults AS callable
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2, 3
"""
# What the catalogs let a role do, schema by schema and column by column; what they let nobody but the owner do is not in it.
PRIVILEGES = """
WITH mine AS (SELECT oid, nspname, has_schema_privilege(%(role)s, oid, 'USAGE') AS entered FROM pg_namespace
              WHERE nspname <> 'information_schema' AND nspname !~ '^pg_')
SELECT nspname || ': ' || p FROM mine, unnest(ARRAY['USAGE', 'CREATE']) p WHERE has_schema_privilege(%(role)s, oid, p)
UNION ALL
SELECT format('%%s.%%s: %%s', nspname, c.relname, p) FROM mine JOIN pg_class c ON c.relnamespace = mine.oid,
       unnest(%(privileges)s::text[]) p
WHERE entered AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND has_table_privilege(%(role)s, c.oid, p)
UNION ALL
SELECT format('%%s.%%s.%%s: %%s', nspname, c.relname, a.attname, p) FROM mine JOIN pg_class c ON c.relnamespace = mine.oid
       JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped,
       unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p
WHERE entered AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND has_column_privilege(%(role)s, c.oid, a.attnum, p)
UNION ALL
SELECT format('%%s.%%s: %%s', nspname, c.relname, p) FROM mine JOIN pg_class c ON c.relnamespace = mine.oid,
       unnest(ARRAY['USAGE', 'SELECT', 'UPDATE']) p
WHERE entered AND c.relkind = 'S' AND has_sequence_privilege(%(role)s, c.oid, p)
UNION ALL
SELECT format('%%s.%%s(%%s): EXECUTE', nspname, f.proname, pg_get_function_identity_arguments(f.oid))
FROM mine JOIN pg_proc f ON f.pronamespace = mine.oid WHERE entered AND has_function_privilege(%(role)s, f.oid, 'EXECUTE')
"""

# What a user may do with own and with foreign rows, of either table under care, by whichever name it is reached.
MESSAGES = {
    "see own": "SELECT count(*)::int FROM {t} WHERE user_id = %(me)s AND created_at IS NOT NULL",
    "see foreign": "SELECT count(*)::int FROM {t} WHERE user_id = %(them)s AND created_at IS NOT NULL",
    "write into own conversation": "INSERT INTO {t} (user_id, conversation_id, role, content) VALUES (%(me)s, %(mine)s, 'user', 'x')",
    "write into foreign conversation": "INSERT INTO {t} (user_id, conversation_id, role, content) VALUES (%(me)s, %(theirs)s, 'user', 'x')",
    "write in another's name": "INSERT INTO {t} (user_id, conversation_id, role, content) VALUES (%(them)s, %(theirs)s, 'user', 'x')",
    "write as assistant": "INSERT INTO {t} (conversation_id, role, content) VALUES (%(theirs)s, 'assistant', 'x')",
    "edit own": "UPDATE {t} SET content = 'x' WHERE user_id = %(me)s AND created_at IS NOT NULL",
    "edit foreign": "UPDATE {t} SET content = 'x' WHERE user_id = %(them)s AND created_at IS NOT NULL",
    "edit one foreign by id": "UPDATE {t} SET content = 'x' WHERE id = %(foreign)s",
    "take over": "UPDATE {t} SET user_id = %(me)s WHERE user_id = %(them)s AND created_at IS NOT NULL",
    "push away": "UPDATE {t} SET user_id = %(them)s, conversation_id = %(theirs)s WHERE id = %(own)s",
    "move to another month": "UPDATE {t} SET created_at = created_at + interval '100 days' WHERE user_id = %(me)s",
    "delete own": "DELETE FROM {t} WHERE user_id = %(me)s AND created_at IS NOT NULL",
    "delete foreign": "DELETE FROM {t} WHERE user_id = %(them)s AND created_at IS NOT NULL",
    "delete one foreign by id": "DELETE FROM {t} WHERE id = %(foreign)s",
}
USAGE_LOGS = {
    "see own": "SELECT count(*)::int FROM {t} WHERE user_id = %(me)s",
    "see foreign": "SELECT count(*)::int FROM {t} WHERE user_id = %(them)s",
    "log own": "INSERT INTO {t} (user_id, event) VALUES (%(me)s, 'x')",
    "log in another's name": "INSERT INTO {t} (user_id, event) VALUES (%(them)s, 'x')",
    "edit own": "UPDATE {t} SET event = 'x' WHERE user_id = %(me)s",
    "move to another month": 'UPDATE {t} SET "timestamp" = "timestamp" + interval \'100 days\' WHERE user_id = %(me)s',
    "delete own": "DELETE FROM {t} WHERE user_id = %(me)s",
    "delete foreign": "DELETE FROM {t} WHERE user_id = %(them)s",
}
REACTIONS = {
    "see own": "SELECT count(*)::int FROM {t} WHERE user_id = %(me)s",
    "see foreign": "SELECT count(*)::int FROM {t} WHERE user_id = %(them)s",
    "react to own": "INSERT INTO {t} (message_id, user_id, emoji) VALUES (%(own)s, %(me)s, 'x')",
    "react to foreign": "INSERT INTO {t} (message_id, user_id, emoji) VALUES (%(foreign)s, %(me)s, 'x')",
    "react to nothing": "INSERT INTO {t} (message_id, user_id, emoji) VALUES (gen_random_uuid(), %(me)s, 'x')",
    "react in another's name": "INSERT INTO {t} (message_id, user_id, emoji) VALUES (%(own)s, %(them)s, 'x')",
    "let own refer to foreign": "UPDATE {t} SET message_id = %(foreign)s WHERE user_id = %(me)s",
    "let own refer to nothing": "UPDATE {t} SET message_id = gen_random_uuid() WHERE user_id = %(me)s",
    "delete own": "DELETE FROM {t} WHERE user_id = %(me)s",
}
OF_USERS = {"messages": MESSAGES, "usage_logs": USAGE_LOGS, "message_reactions": REACTIONS}
# Which tables refer to messages, and by which column.
REFERRING = {"message_reactions": "message_id", "content_reports": "reported_message_id"}
# Rows without a key are set aside at the cut-over, and the application does not see them any more: the plan says so. All others it does.
ROWS = {"messages": "created_at IS NOT NULL", "active_messages": "created_at IS NOT NULL"}


@dataclass(frozen=True)
class Who:
    """Somebody who attacks: a role, and the user of the request."""

    role: str
    user: str | None = None

    def __str__(self) -> str:
        return self.role


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: the SQLSTATE that refused it, or '' and the rows and their digest."""

    sqlstate: str
    rows: int | None = None
    digest: str | None = None

    @property
    def done(self) -> bool:
        return not self.sqlstate


Outcomes = Mapping[tuple[str, str], Outcome]


@contextmanager
def rolled_back(conn: psycopg.Connection[Any]) -> Iterator[None]:
    with conn.transaction(force_rollback=True):
        yield


def become(conn: psycopg.Connection[Any], who: Who) -> None:
    """As PostgREST does it, with the settings besides that our own sessions make, and that anybody could who sends SQL."""
    claims = json.dumps({"sub": who.user, "role": who.role})
    conn.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
    conn.execute("SELECT set_config('atlas_ops.writes', 'allowed', true), set_config('atlas_ops.moving', 'on', true)")
    conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(who.role)))


def attempt(conn: psycopg.Connection[Any], statement: sql.Composable | str, parameters: Any = None) -> Outcome:
    """One statement, and whatever it did undone. A count and a digest are read where it returns a row of them."""
    try:
        with rolled_back(conn):
            cursor = conn.execute(statement, parameters)  # type: ignore[arg-type]
            if not cursor.description:
                return Outcome("", cursor.rowcount if cursor.rowcount >= 0 else None)
            row = cursor.fetchone()
            values = row if row and isinstance(row[0], int) else (None,)
            return Outcome("", *values[:2])
    except psycopg.Error as error:
        return Outcome(error.sqlstate or "?")


@dataclass(frozen=True)
class Battlefield:
    """What there is, as the superuser reads it, and who is who among the users."""

    relations: tuple[Any, ...]
    functions: tuple[Any, ...]
    people: Mapping[str, Any]

    @property
    def closed(self) -> list[str]:
        """The schemas that are ours."""
        return sorted({each.schema for each in self.relations} & {"partitions", "atlas_ops"})


def survey(db: Any, people: Mapping[str, Any]) -> Battlefield:
    with psycopg.connect(db.superuser_conninfo, row_factory=psycopg.rows.namedtuple_row) as conn:
        return Battlefield(tuple(conn.execute(OBJECTS)), tuple(conn.execute(FUNCTIONS)), people)


def people(db: Any) -> dict[str, Any]:
    """The two users who wrote most, a conversation and a message of each; neither message is without a key."""
    with psycopg.connect(db.superuser_conninfo) as conn:
        users = conn.execute(
            "SELECT user_id FROM messages WHERE user_id IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 2"
        )
        [(me,), (them,)] = users.fetchall()
        of = "SELECT (array_agg(id ORDER BY id))[1] FROM conversations WHERE user_id = %s"
        one = "SELECT (array_agg(id ORDER BY id))[1] FROM messages WHERE user_id = %s AND created_at IS NOT NULL"
        found = [conn.execute(query, (user,)).fetchone() for query in (of, one) for user in (me, them)]
    mine, theirs, own, foreign = (row[0] for row in found if row)
    return {"me": me, "them": them, "mine": mine, "theirs": theirs, "own": own, "foreign": foreign}


def privileges(conn: psycopg.Connection[Any], role: str) -> set[str]:
    kinds = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
    kinds += ["MAINTAIN"] if conn.info.server_version >= 170000 else []
    return {found for (found,) in conn.execute(PRIVILEGES, {"role": role, "privileges": kinds})}


def attack(db: Any, field: Battlefield, who: Who) -> Outcomes:
    """Every attempt of one attacker: (object, verb) → outcome."""
    outcomes: dict[tuple[str, str], Outcome] = {}
    settings = {"user": "authenticator", "options": "-c TimeZone=UTC -c search_path=public"}
    with psycopg.connect(db.conninfo, **settings) as conn, rolled_back(conn):
        become(conn, who)
        for each in field.relations:
            spoken = f"{each.schema}.{each.name}"
            tried = _on_sequence(each) if each.kind == "S" else _on_relation(each)
            for verb, statement in tried:
                outcomes[spoken, verb] = attempt(conn, statement)
            original = each.name.removesuffix("_partitioned")
            if each.schema == "public" and original in OF_USERS:
                at = sql.Identifier(each.schema, each.name)
                for verb, text in OF_USERS[original].items():
                    outcomes[spoken, verb] = attempt(conn, sql.SQL(text).format(t=at), field.people)
        for function in field.functions:
            for verb, statement in _on_function(function):
                outcomes[function.signature, verb] = attempt(conn, statement)
        for schema in sorted({each.schema for each in (*field.relations, *field.functions)}):
            made = sql.SQL("CREATE TABLE {} ()").format(sql.Identifier(schema, "planted"))
            outcomes[schema, "CREATE"] = attempt(conn, made)
    return outcomes


def _on_relation(each: Any) -> Iterator[tuple[str, sql.Composable]]:
    at = sql.Identifier(each.schema, each.name)
    condition = ROWS.get(each.name.removesuffix("_partitioned")) if each.schema == "public" else None
    some = sql.SQL(f" WHERE {condition}" if condition else "")
    first = sql.Identifier((each.columns or ["ctid"])[0])
    blank = sql.Identifier((each.nullable or each.columns or ["ctid"])[-1])
    rows = sql.SQL(
        "SELECT count(*)::int, md5(string_agg(j, ',' ORDER BY j)) FROM (SELECT (to_jsonb(t) - {}::text[])::text AS j FROM {} AS t{}) AS q"
    ).format(sql.Literal(each.ours), at, some)
    yield "SELECT", rows
    yield "SELECT nothing", sql.SQL("SELECT count(*)::int FROM {}{}").format(at, some)
    yield "SELECT, row_security off", sql.SQL("SET LOCAL row_security = off; SELECT 1 FROM {} LIMIT 1").format(at)
    yield "SELECT FOR UPDATE", sql.SQL("SELECT 'x' FROM {} FOR UPDATE").format(at)
    yield "INSERT", sql.SQL("INSERT INTO {} DEFAULT VALUES").format(at)
    yield "UPDATE", sql.SQL("UPDATE {} SET {} = {}{}").format(at, first, first, some)
    yield "UPDATE all", sql.SQL("UPDATE {} SET {} = NULL").format(at, blank)
    yield "DELETE", sql.SQL("DELETE FROM {}{}").format(at, some)
    yield "DELETE all", sql.SQL("DELETE FROM {}").format(at)
    yield "TRUNCATE", sql.SQL("TRUNCATE {}").format(at)
    yield "TRUNCATE CASCADE", sql.SQL("TRUNCATE {} CASCADE").format(at)
    yield "LOCK", sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(at)
    yield "ALTER", sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY").format(at)
    yield "POLICY", sql.SQL("CREATE POLICY planted ON {}").format(at)
    yield "DROP", sql.SQL("DROP TABLE {} CASCADE").format(at)
    yield "INHERIT", sql.SQL("CREATE TEMPORARY TABLE heir () INHERITS ({})").format(at)
    yield "LIKE", sql.SQL("CREATE TEMPORARY TABLE twin (LIKE {})").format(at)
    yield (
        "TRIGGER",
        sql.SQL(
            "CREATE TRIGGER planted AFTER INSERT ON {} EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()"
        ).format(at),
    )


def _on_sequence(each: Any) -> Iterator[tuple[str, sql.Composable]]:
    literal = sql.Literal(sql.Identifier(each.schema, each.name).as_string(None))
    yield "SELECT", sql.SQL("SELECT 'x' FROM {}").format(sql.Identifier(each.schema, each.name))
    yield "nextval", sql.SQL("SELECT 'x' || nextval({})").format(literal)
    # to where it is: no rollback undoes it
    yield "setval", sql.SQL("SELECT 'x' || setval({}, nextval({}))").format(literal, literal)


def _on_function(each: Any) -> Iterator[tuple[str, sql.Composable]]:
    at = sql.Identifier(each.schema, each.name)
    if each.trigger:
        # a trigger function is called through a table of the attacker's own
        yield (
            "EXECUTE",
            sql.SQL(
                "CREATE TEMPORARY TABLE bait (id uuid); CREATE TRIGGER t AFTER INSERT ON bait FOR EACH ROW EXECUTE FUNCTION {}()"
            ).format(at),
        )
    elif not each.aggregate:
        verb = "CALL {}({})" if each.procedure else "SELECT 'x' FROM {}({})"
        if each.callable:
            yield "EXECUTE", sql.SQL(verb).format(at, sql.SQL(""))
        if each.nothing:
            # who has the right is refused by the function itself, if at all: a right is asked for before a value is looked at
            yield "EXECUTE with arguments", sql.SQL(verb).format(at, sql.SQL(", ".join(each.nothing)))


def let_in(db: Any, field: Battlefield, role: str) -> Iterator[str]:
    """What a role gets at in our schemas where somebody has let it in: nothing."""
    with psycopg.connect(db.conninfo) as conn, rolled_back(conn):
        _enter(conn, field, role)
        become(conn, Who(role))
        for each in _inside(field):
            for verb, statement in _on_sequence(each) if each.kind == "S" else _on_relation(each):
                found = attempt(conn, statement)
                if found.sqlstate not in {DENIED, WRONG_KIND} and not (each.kind == "v" and found.sqlstate):
                    yield f"{role}, let into the schema: {verb} {each.schema}.{each.name} {found}"
        for function in field.functions:
            for verb, statement in _on_function(function) if function.schema in field.closed else ():
                if (found := attempt(conn, statement)).sqlstate != DENIED:
                    yield f"{role}, let into the schema: {verb} {function.signature} {found}"


def let_go(db: Any, field: Battlefield, who: Who) -> Iterator[str]:
    """What a role can make of a column of ours in a table of the application: nothing but what the row that is referred to says.

    A row that held something else, NULL above all, would be out of its foreign key's sight, and outlive what it refers to.
    """
    ours = [(each, column) for each in field.relations if each.name in REFERRING for column in each.ours]
    with psycopg.connect(db.superuser_conninfo, options="-c TimeZone=UTC -c search_path=public") as conn:
        for each, column in ours:
            for statement in _on_added(each.name, column):
                with rolled_back(conn):
                    become(conn, who)
                    done = _kept(conn, statement, field.people)
                    _kept(conn, "DELETE FROM messages WHERE id = %(own)s", field.people)
                    conn.execute("RESET ROLE")
                    row = conn.execute(_WRONG.format(table=each.name, refers=REFERRING[each.name], column=column))
                    if (wrong := row.fetchone()) != (0,):
                        yield f"{who}: {statement} ({done} rows) leaves {wrong} rows that their foreign key does not see"


_WRONG = (
    "SELECT count(*)::int FROM {table} AS r LEFT JOIN messages AS m ON m.id = r.{refers} "
    "WHERE r.{refers} IS NOT NULL AND (m.id IS NULL OR r.{column} IS DISTINCT FROM m.created_at)"
)


def _on_added(table: str, column: str) -> Iterator[str]:
    refers = REFERRING[table]
    for value in ("NULL", "'infinity'", "'2024-05-05 00:00+00'"):
        yield f"UPDATE {table} SET {column} = {value}"
        yield f"UPDATE {table} SET {refers} = {refers}, {column} = {value}"
        yield f"UPDATE {table} SET {refers} = %(foreign)s, {column} = {value}"
        owner = ("user_id", "emoji") if table == "message_reactions" else ("reporter_id", "report_reason")
        yield f"INSERT INTO {table} ({refers}, {', '.join(owner)}, {column}) VALUES (%(own)s, %(me)s, 'x', {value})"


def _kept(conn: psycopg.Connection[Any], statement: str, parameters: Any) -> int:
    """The rows that a statement wrote; 0 where it was refused."""
    try:
        with conn.transaction():
            return conn.execute(statement, parameters).rowcount  # type: ignore[arg-type]
    except psycopg.Error:
        return 0


def given_all(db: Any, field: Battlefield, role: str) -> Iterator[str]:
    """What it gets at where somebody has given it all privileges besides: no row, as row security is on."""
    with psycopg.connect(db.conninfo) as conn, rolled_back(conn):
        _enter(conn, field, role)
        grant = sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA {} TO {}")
        for schema in field.closed:
            conn.execute(grant.format(sql.Identifier(schema), sql.Identifier(role)))
        become(conn, Who(role))
        for each in _inside(field):
            for verb, statement in _on_relation(each) if each.kind in "rp" else ():
                if verb in {"SELECT", "SELECT nothing", "UPDATE", "DELETE"}:
                    found = attempt(conn, statement)
                    if found.done and found.rows:
                        yield f"{role}, with all privileges: {verb} {each.schema}.{each.name} {found}"
        for view in (
            "pg_stats",
            "pg_stats_ext",
            "pg_stats_ext_exprs",
        ):  # the most common values of a column are its rows'
            told = conn.execute(f"SELECT count(*)::int FROM {view} WHERE schemaname = 'partitions'").fetchone()
            if told != (0,):
                yield f"{role}, with all privileges: {view} tells of {told} columns"


def _enter(conn: psycopg.Connection[Any], field: Battlefield, role: str) -> None:
    for schema in field.closed:
        conn.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), sql.Identifier(role)))


def _inside(field: Battlefield) -> list[Any]:
    return [each for each in field.relations if each.schema in field.closed]
