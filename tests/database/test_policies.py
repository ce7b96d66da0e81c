"""The form with a sub-select on real servers: the same rows for everybody, and an InitPlan."""

from __future__ import annotations

import html
import json
from typing import Any

import psycopg

from atlas_ops import policies
from atlas_ops.stages.preflight import Preflight
from tests.database.conftest import MESSAGES, USAGE_LOGS, Subject

TEAM = (
    "CREATE TABLE team (id int PRIMARY KEY, member uuid)",
    "INSERT INTO team SELECT n, md5((n % 7)::text)::uuid FROM generate_series(1, 20) n",
    'CREATE TABLE "my doc" (id int PRIMARY KEY, "Owner é" uuid, team int, org text, tenant int)',
    "INSERT INTO \"my doc\" SELECT n, md5((n % 9)::text)::uuid, n % 20, 'o' || n % 4, n % 5 FROM generate_series(1, 300) n",
    'ALTER TABLE "my doc" ENABLE ROW LEVEL SECURITY',
    'GRANT ALL ON "my doc", team TO authenticated, anon',
    'CREATE POLICY "it\'s ""mine""" ON "my doc" USING (auth.uid() = "Owner é") '
    "WITH CHECK (\"Owner é\" = auth.uid() AND auth.role() = 'authenticated')",
    'CREATE POLICY team ON "my doc" FOR SELECT USING (EXISTS (SELECT FROM team t WHERE t.id = "my doc".team AND t.member = auth.uid()))',
    "CREATE POLICY org ON \"my doc\" FOR SELECT TO authenticated USING (org = (auth.jwt() -> 'app' ->> 'org'))",
    "CREATE POLICY tenant ON \"my doc\" AS RESTRICTIVE USING (tenant >= coalesce(nullif(current_setting('app.least', true), '')::int, 0))",
    'CREATE POLICY fast ON "my doc" FOR SELECT USING ((SELECT auth.uid()) = "Owner é" AND (SELECT auth.role()) IS NOT NULL)',
    "CREATE POLICY of_the_row ON \"my doc\" FOR DELETE USING (current_setting(org, true) = 'x')",
)
ASKED = {
    "my doc": (
        "SELECT count(*)::int, md5(string_agg(id::text, ',' ORDER BY id)) FROM \"my doc\"",
        "WITH x AS (UPDATE \"my doc\" SET org = org RETURNING id) SELECT count(*)::int, md5(string_agg(id::text, ',' ORDER BY id)) FROM x",
        'WITH x AS (DELETE FROM "my doc" RETURNING id) SELECT count(*)::int FROM x',
        "WITH x AS (INSERT INTO \"my doc\" SELECT 1000, md5('3')::uuid, 1, 'o1', 4 RETURNING id) SELECT count(*)::int FROM x",
    ),
    **{
        table: (
            f"SELECT count(*)::int, md5(string_agg(id::text, ',' ORDER BY id)) FROM {table}",
            f"WITH x AS (UPDATE {table} SET metadata = metadata RETURNING id) SELECT count(*)::int FROM x",
            f"WITH x AS (DELETE FROM {table} RETURNING id) SELECT count(*)::int FROM x",
        )
        for table in ("messages", "usage_logs")
    },
}


def relations(subject: Subject, *tables: str) -> list[Any]:
    if not tables:
        return [subject.snapshot(spec).original for spec in subject.specs]
    subject.specify(*({**MESSAGES, "table": table, "partition_key": "x", "indexes": []} for table in tables))
    return relations(subject)


def seen(subject: Subject, table: str, users: list[str], statements: list[str]) -> list[Any]:
    """What everybody gets once `statements` ran, in a transaction that is rolled back."""
    found: list[Any] = []
    with subject.database.connect() as conn, conn.transaction(force_rollback=True):
        for statement in statements:
            conn.execute(statement)
        for role in ("anon", "authenticated", "service_role"):
            for user in users:
                for query in ASKED[table]:
                    try:
                        with conn.transaction(force_rollback=True):
                            claims = json.dumps({"sub": user, "role": role, "app": {"org": "o2"}})
                            conn.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
                            conn.execute("SELECT set_config('app.least', '2', true)")
                            conn.execute(f"SET LOCAL ROLE {role}")
                            found.append(conn.execute(query).fetchone())
                    except psycopg.Error as error:
                        found.append(error.sqlstate)
    return found


def init_plans(subject: Subject, table: str, statements: list[str]) -> int:
    with subject.database.connect() as conn, conn.transaction(force_rollback=True):
        for statement in statements:
            conn.execute(statement)
        conn.execute("SET LOCAL ROLE authenticated")
        lines = [line for (line,) in conn.execute(f'EXPLAIN (COSTS OFF) SELECT * FROM "{table}"').fetchall()]
    return sum("InitPlan" in line for line in lines)


def test_the_rewritten_policies_give_the_same_rows_and_an_init_plan(subject: Subject) -> None:
    subject.run(*TEAM)
    users = [
        str(user)
        for (user,) in subject.rows("SELECT user_id FROM messages WHERE user_id IS NOT NULL GROUP BY 1 LIMIT 2")
    ]
    tables = {"my doc": [*subject.rows("SELECT md5('3')::uuid::text"), *subject.rows("SELECT md5('8')::uuid::text")]}
    for table, given in {
        "my doc": [user for (user,) in tables["my doc"]],
        "messages": users,
        "usage_logs": users,
    }.items():
        [relation] = relations(subject, f'public."{table}"')
        found = policies.advices(relation)
        statements = [str(advice.statement) for advice in found]
        assert found and None not in [advice.statement for advice in found]
        before = seen(subject, table, given, [])
        assert any(isinstance(row, tuple) and row[0] > 0 for row in before)
        for chosen in ([], *([one] for one in statements), statements):
            assert seen(subject, table, given, chosen) == before
        assert init_plans(subject, table, statements) > init_plans(subject, table, [])
        subject.run(*statements)
        assert policies.advices(relations(subject)[0]) == ()


def test_only_what_is_called_for_every_row_is_told(subject: Subject) -> None:
    subject.run(*TEAM)
    told = {
        relation.table.name: [policy.name for policy in policies.per_row(relation)]
        for relation in relations(subject, 'public."my doc"', "public.messages", "public.usage_logs")
    }
    assert told == {
        "my doc": ['it\'s "mine"', "org", "team", "tenant"],
        "messages": ["Users can access own and assistant messages"],
        "usage_logs": ["Service role can manage all usage logs"],
    }


def test_an_expression_that_cannot_be_read_for_certain_is_left_to_the_dba(subject: Subject) -> None:
    subject.run(
        "CREATE FUNCTION auth.role(text) RETURNS text[] LANGUAGE sql STABLE AS $$ SELECT ARRAY['user'] $$",
        "CREATE POLICY odd ON messages USING (role = ANY (auth.role('x')))",
    )
    [relation] = relations(subject, "public.messages")
    [odd] = [advice for advice in policies.advices(relation) if advice.policy.name == "odd"]
    assert odd.statement is None
    shown = repr(policies.shown([subject.snapshot(subject.spec)]))
    assert policies.LOOK[:20] in shown and "ALTER POLICY odd" not in shown


def test_preflight_shows_them_and_changes_none(service: str) -> None:
    run = Preflight(service, [dict(MESSAGES), dict(USAGE_LOGS)], "", "2026-11-23")
    shown = html.unescape(run.policies()._repr_html_())
    assert 'ALTER POLICY "Service role can manage all usage logs" ON "public"."usage_logs" USING' in shown
    assert run.lines == ()
