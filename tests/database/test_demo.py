"""The demo database holds every trap of production's, and the same rows for the same seed everywhere."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from atlas_ops import demo
from atlas_ops.errors import AtlasError

TABLES = ["auth.users"] + [
    f"public.{name}"
    for name in (
        "profiles",
        "conversations",
        "messages",
        "usage_logs",
        "message_reactions",
        "content_reports",
    )
]
# Written down, not computed: whoever changes the rows sees it here.
DIGEST_OF_SEED_7 = (
    "50:-22512797190013187517 50:-49358337246561228780 166:8415830272306877132 2000:101532038022352017697"
    " 3000:-68447869946347296731 40:12054001649678800462 10:24901496976071008716"
)


def one(conn: psycopg.Connection[Any], query: str, *parameters: object) -> Any:
    row = conn.execute(query, parameters or None).fetchone()
    assert row is not None
    return row[0]


def rows(conn: psycopg.Connection[Any], query: str) -> list[Any]:
    return [row[0] if len(row) == 1 else row for row in conn.execute(query).fetchall()]


def digest(conn: psycopg.Connection[Any]) -> str:
    """Every value of every row of every table, as text, whatever the order of the rows."""
    conn.execute("SET TimeZone = 'UTC'; SET DateStyle = ISO")
    sums = [
        one(conn, f"SELECT count(*) || ':' || sum(hashtextextended(t::text, 0)::numeric) FROM {table} AS t")
        for table in TABLES
    ]
    return " ".join(sums)


def columns(conn: psycopg.Connection[Any], table: str) -> list[tuple[str, str, bool, str | None]]:
    return conn.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
        " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname",
        (table,),
    ).fetchall()


def index_definitions(conn: psycopg.Connection[Any], table: str) -> list[str]:
    return sorted(
        definition.partition(" btree ")[2]
        for definition in rows(conn, f"SELECT indexdef FROM pg_indexes WHERE tablename = '{table}'")
    )


def foreign_keys(conn: psycopg.Connection[Any], table: str) -> list[str]:
    return rows(
        conn,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        f" WHERE contype = 'f' AND conrelid = '{table}'::regclass ORDER BY 1",
    )


def policies(conn: psycopg.Connection[Any], table: str) -> list[tuple[str, str]]:
    return conn.execute(
        "SELECT cmd, array_to_string(roles, ',') FROM pg_policies"
        " WHERE tablename = %s AND permissive = 'PERMISSIVE' ORDER BY 1, 2",
        (table,),
    ).fetchall()


def test_the_same_seed_gives_the_same_rows_on_every_version_and_in_every_time_zone(empty):
    with empty.connect(options="-c TimeZone=Pacific/Auckland -c DateStyle=SQL,DMY") as conn:
        demo.build(conn, messages=2_000, usage_logs=3_000, seed=7)
        assert digest(conn) == DIGEST_OF_SEED_7


def test_another_seed_gives_other_rows(empty):
    with empty.connect() as conn:
        demo.build(conn, messages=2_000, usage_logs=3_000, seed=8)
        assert digest(conn) != DIGEST_OF_SEED_7


def test_it_has_exactly_the_rows_asked_for(atlas):
    with atlas.connect() as conn:
        assert one(conn, "SELECT count(*) FROM messages") == 4_000
        assert one(conn, "SELECT count(*) FROM usage_logs") == 5_000
        assert one(conn, "SELECT count(*) FROM message_reactions") == 80
        assert one(conn, "SELECT count(*) FROM content_reports") == 20


def test_months_grow_from_2024_01_to_2026_10(atlas):
    with atlas.connect() as conn:
        for column, table in (("created_at", "messages"), ('"timestamp"', "usage_logs")):
            month = f"date_trunc('month', {column}, 'UTC')"
            months = rows(
                conn,
                f"SELECT count(*) FROM {table}"
                f" WHERE {column} >= '2024-01-01+00' AND {column} < '2026-11-01+00'"
                f" GROUP BY {month} ORDER BY {month}",
            )
            assert len(months) == 34
            assert 4 < months[-1] / months[0] < 6


def test_messages_has_productions_columns(atlas):
    with atlas.connect() as conn:
        assert columns(conn, "messages") == [
            ("attachments", "jsonb", False, "'[]'::jsonb"),
            ("content", "text", True, None),
            ("conversation_id", "uuid", False, None),
            ("created_at", "timestamp with time zone", False, "now()"),
            ("deleted_at", "timestamp with time zone", False, None),
            ("deleted_by", "text", False, None),
            ("edited_at", "timestamp with time zone", False, None),
            ("id", "uuid", True, "gen_random_uuid()"),
            ("image_url", "text", False, None),
            ("message_type", "text", False, None),
            ("metadata", "jsonb", False, None),
            ("role", "text", True, None),
            ("user_id", "uuid", False, None),
        ]


def test_usage_logs_has_productions_columns(atlas):
    with atlas.connect() as conn:
        assert columns(conn, "usage_logs") == [
            ("created_at", "timestamp with time zone", False, "now()"),
            ("data", "jsonb", True, "'{}'::jsonb"),
            ("estimated_cost", "numeric(10,4)", False, "0"),
            ("event", "text", True, None),
            ("feature", "text", False, None),
            ("id", "bigint", True, "nextval('usage_logs_id_seq'::regclass)"),
            ("metadata", "jsonb", False, "'{}'::jsonb"),
            ("tier", "text", False, None),
            ("timestamp", "timestamp with time zone", True, "now()"),
            ("tokens_used", "integer", False, "0"),
            ("user_id", "uuid", False, None),
        ]


@pytest.mark.parametrize(("table", "gaps"), [("messages", 2), ("usage_logs", 1)])
def test_dropped_columns_leave_gaps_in_the_physical_order(atlas, table, gaps):
    with atlas.connect() as conn:
        dropped = "SELECT count(*) FROM pg_attribute WHERE attrelid = %s::regclass AND attisdropped"
        assert one(conn, dropped, table) == gaps


def test_messages_has_productions_indexes(atlas):
    with atlas.connect() as conn:
        assert index_definitions(conn, "messages") == sorted(
            [
                "(id)",
                "(conversation_id)",
                "(created_at)",
                "(user_id)",
                "(deleted_at) WHERE (deleted_at IS NULL)",
                "(conversation_id, created_at DESC) WHERE (deleted_at IS NULL)",
            ]
        )


def test_usage_logs_has_productions_indexes(atlas):
    with atlas.connect() as conn:
        assert index_definitions(conn, "usage_logs") == sorted(
            [
                "(id)",
                "(created_at)",
                "(feature)",
                "(tier)",
                "(tier, created_at)",
                "(user_id, event)",
                "(user_id, tier) WHERE (user_id IS NOT NULL)",
            ]
        )


def test_foreign_keys_lead_out_of_the_tables_and_into_messages(atlas):
    with atlas.connect() as conn:
        assert foreign_keys(conn, "messages") == [
            "FOREIGN KEY (conversation_id) REFERENCES conversations(id) ON DELETE CASCADE",
            "FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE",
        ]
        assert foreign_keys(conn, "usage_logs") == ["FOREIGN KEY (user_id) REFERENCES auth.users(id) ON DELETE CASCADE"]
        assert foreign_keys(conn, "message_reactions")[0] == (
            "FOREIGN KEY (message_id) REFERENCES messages(id) ON DELETE CASCADE"
        )
        assert foreign_keys(conn, "content_reports") == [
            "FOREIGN KEY (reported_message_id) REFERENCES messages(id) ON DELETE CASCADE",
            "FOREIGN KEY (reporter_id) REFERENCES auth.users(id) ON DELETE CASCADE",
        ]
        assert foreign_keys(conn, "profiles") == ["FOREIGN KEY (id) REFERENCES auth.users(id) ON DELETE CASCADE"]
        assert foreign_keys(conn, "conversations") == [
            "FOREIGN KEY (user_id) REFERENCES profiles(id) ON DELETE CASCADE"
        ]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE messages SET role = 'tool'",
        "UPDATE messages SET deleted_by = 'admin'",
        "UPDATE usage_logs SET tier = 'gold'",
        "UPDATE content_reports SET status = 'lost'",
    ],
)
def test_check_constraints_hold(atlas, change):
    with atlas.connect() as conn, pytest.raises(psycopg.errors.CheckViolation):
        conn.execute(change)


def test_the_sequence_is_owned_by_its_column_and_goes_on_after_the_rows(atlas):
    with atlas.connect() as conn:
        assert one(conn, "SELECT pg_get_serial_sequence('usage_logs', 'id')") == "public.usage_logs_id_seq"
        assert one(conn, "INSERT INTO usage_logs (event) VALUES ('login') RETURNING id") == 5_001


def test_row_security_is_on_and_not_forced(atlas):
    with atlas.connect() as conn:
        assert rows(
            conn,
            "SELECT DISTINCT relrowsecurity, relforcerowsecurity FROM pg_class"
            " WHERE oid IN ('messages'::regclass, 'usage_logs'::regclass, 'conversations'::regclass)",
        ) == [(True, False)]


def test_messages_has_nine_policies_redundant_ones_among_them(atlas):
    with atlas.connect() as conn:
        assert policies(conn, "messages") == [
            ("ALL", "authenticated"),
            ("ALL", "public"),
            ("ALL", "service_role"),
            ("ALL", "service_role"),
            ("DELETE", "public"),
            ("INSERT", "public"),
            ("INSERT", "public"),
            ("SELECT", "public"),
            ("UPDATE", "public"),
        ]


def test_usage_logs_has_four_policies(atlas):
    with atlas.connect() as conn:
        assert policies(conn, "usage_logs") == [
            ("ALL", "public"),
            ("INSERT", "public"),
            ("INSERT", "service_role"),
            ("SELECT", "public"),
        ]


def test_policies_show_a_user_his_own_rows_and_nothing_to_anon(atlas):
    with atlas.connect() as conn:
        owner = one(conn, "SELECT user_id FROM conversations GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
        own = one(conn, "SELECT count(*) FROM messages JOIN conversations AS c ON c.id = conversation_id"
                  " WHERE c.user_id = %s", owner)  # fmt: skip
        assert own > 0
        conn.execute(
            "SELECT set_config('request.jwt.claims', %s, true)",
            (f'{{"sub":"{owner}","role":"authenticated"}}',),
        )
        assert one(conn, "SELECT auth.role()") == "authenticated"
        assert one(conn, "SELECT auth.jwt() ->> 'sub'") == str(owner)
        conn.execute("SET LOCAL ROLE authenticated")
        in_own = "SELECT count(*) FROM messages WHERE conversation_id IN (SELECT id FROM conversations)"
        assert one(conn, in_own) == own
        assert one(conn, "SELECT count(*) FROM active_messages") < one(conn, "SELECT count(*) FROM messages")
        conn.rollback()
        conn.execute("SET LOCAL ROLE anon")
        assert one(conn, "SELECT count(*) FROM messages") == 0
        assert one(conn, "SELECT count(*) FROM active_messages") == 0
        assert one(conn, "SELECT count(*) FROM usage_logs") == 0
        assert one(conn, "SELECT auth.uid()") is None
        conn.rollback()
        conn.execute("SET LOCAL ROLE service_role")
        assert one(conn, "SELECT count(*) FROM messages") == 4_000


def test_the_trigger_stamps_the_conversation(atlas):
    with atlas.connect() as conn:
        conversation, before = conn.execute("SELECT id, updated_at FROM conversations LIMIT 1").fetchone()
        conn.execute("INSERT INTO messages (conversation_id, role, content) VALUES (%s, 'system', '')", (conversation,))
        assert before < one(conn, "SELECT updated_at FROM conversations WHERE id = %s", conversation)
        assert one(conn, "SELECT updated_at = now() FROM conversations WHERE id = %s", conversation)


def test_loading_did_not_fire_the_trigger(atlas):
    with atlas.connect() as conn:
        assert one(conn, "SELECT max(updated_at) FROM conversations").year < 2027
        assert one(conn, "SELECT count(DISTINCT updated_at) > 300 FROM conversations")


def test_the_soft_delete_function_updates_messages_by_name(atlas):
    with atlas.connect() as conn:
        user, conversation = conn.execute(
            "SELECT user_id, id FROM conversations WHERE id IN (SELECT conversation_id FROM active_messages)"
            " AND deleted_at IS NULL LIMIT 1"
        ).fetchone()
        assert one(conn, "SELECT prosecdef FROM pg_proc WHERE proname = 'delete_conversation_soft'")
        conn.execute("SELECT delete_conversation_soft(%s, %s)", (user, conversation))
        left = "SELECT count(*) FROM messages WHERE conversation_id = %s AND deleted_at IS NULL"
        assert one(conn, left, conversation) == 0


def test_publication_and_replica_identity(atlas):
    with atlas.connect() as conn:
        published = "SELECT tablename FROM pg_publication_tables WHERE pubname = 'supabase_realtime' ORDER BY 1"
        assert rows(conn, published) == ["conversations", "messages"]
        assert rows(
            conn,
            "SELECT relname FROM pg_class WHERE relreplident = 'f' AND relkind = 'r' ORDER BY 1",
        ) == ["conversations", "messages"]


def test_a_new_table_in_public_is_open_to_the_applications_roles(atlas):
    with atlas.connect() as conn:
        conn.execute("CREATE TABLE fresh (id bigserial)")
        for table in ("fresh", "messages", "usage_logs"):
            for role in ("anon", "authenticated", "service_role"):
                for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
                    assert one(conn, "SELECT has_table_privilege(%s, %s, %s)", role, f"public.{table}", privilege)
        assert one(conn, "SELECT has_sequence_privilege('anon', 'fresh_id_seq', 'USAGE')")
        conn.execute(
            "CREATE FUNCTION fresh() RETURNS int LANGUAGE sql RETURN 1;REVOKE ALL ON FUNCTION fresh FROM PUBLIC"
        )
        assert one(conn, "SELECT has_function_privilege('anon', 'fresh()', 'EXECUTE')")


def test_the_migrating_role_is_no_superuser_and_owns_everything(atlas):
    with atlas.connect() as conn:
        assert one(conn, "SELECT current_user::text") == "postgres"
        assert one(conn, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert rows(
            conn,
            "SELECT DISTINCT relowner::regrole::text FROM pg_class"
            " WHERE relnamespace IN ('public'::regnamespace, 'auth'::regnamespace)",
        ) == ["postgres"]
        assert rows(
            conn,
            "SELECT rolname, rolcanlogin, rolinherit, rolbypassrls FROM pg_roles"
            " WHERE rolname IN ('anon', 'authenticated', 'service_role', 'authenticator') ORDER BY 1",
        ) == [
            ("anon", False, False, False),
            ("authenticated", False, False, False),
            ("authenticator", True, False, False),
            ("service_role", False, False, True),
        ]


def test_grants_that_a_copy_forgets(atlas):
    with atlas.connect() as conn:
        assert one(conn, "SELECT has_column_privilege('authenticator', 'messages', 'created_at', 'SELECT')")
        assert not one(conn, "SELECT has_column_privilege('authenticator', 'messages', 'content', 'SELECT')")
        assert one(conn, "SELECT has_table_privilege('service_role', 'usage_logs', 'SELECT WITH GRANT OPTION')")


def test_storage_parameters_and_comments(atlas):
    with atlas.connect() as conn:
        assert one(conn, "SELECT reloptions FROM pg_class WHERE oid = 'messages'::regclass") == [
            "fillfactor=90",
            "autovacuum_vacuum_scale_factor=0.05",
        ]
        commented = "SELECT count(*) FROM pg_description WHERE objoid = %s::regclass AND objsubid > 0"
        assert one(conn, "SELECT obj_description('messages'::regclass)") is not None
        assert one(conn, commented, "messages") == 2
        assert one(conn, commented, "usage_logs") == 2


def test_a_view_binds_messages_by_oid_with_the_rights_of_its_reader(atlas):
    with atlas.connect() as conn:
        assert one(conn, "SELECT reloptions FROM pg_class WHERE oid = 'active_messages'::regclass") == [
            "security_invoker=true"
        ]


@pytest.mark.parametrize(
    ("trap", "least"),
    [
        ("created_at IS NULL", 3),
        ("created_at = 'infinity'", 1),
        ("created_at < '2000-01-01+00'", 2),
        ("created_at >= '2023-01-01+00' AND created_at < '2024-01-01+00'", 3),
        ("created_at >= '2027-01-01+00' AND isfinite(created_at)", 3),
        ("conversation_id IS NULL", 10),
        ("role = 'assistant' AND user_id IS NULL", 1_000),
        ("role = 'system'", 20),
        ("deleted_at IS NOT NULL AND deleted_by IN ('user', 'everyone')", 20),
        ("edited_at IS NOT NULL", 50),
        ("metadata::text LIKE '%1.10%'", 10),
        ("metadata::text LIKE '%1.1}%'", 10),
        ("attachments IS NULL", 10),
        ("jsonb_array_length(attachments) > 0 AND image_url IS NOT NULL", 10),
        ("content LIKE E'%\\n%'", 100),
        ("content LIKE '%\\\\N%'", 100),
        ("content LIKE '%東京%'", 100),
    ],
)
def test_messages_hold_the_rows_that_careless_copies_lose(atlas, trap, least):
    with atlas.connect() as conn:
        assert one(conn, f"SELECT count(*) FROM messages WHERE {trap}") >= least


def test_every_month_has_a_message_on_its_bound_and_one_a_microsecond_below(atlas):
    with atlas.connect() as conn:
        conn.execute("SET TimeZone = 'UTC'")
        bounds = "generate_series(timestamp '2024-01-01', '2026-11-01', '1 month') AS bound"
        found = "SELECT FROM messages WHERE created_at = %s AT TIME ZONE 'UTC'"
        at = f"SELECT count(*) FROM {bounds} WHERE EXISTS ({found})"
        assert one(conn, at % "bound") == 35
        assert one(conn, at % "(bound - interval '1 microsecond')") == 35


def test_messages_lie_in_hours_that_clocks_skip_or_repeat(atlas):
    with atlas.connect() as conn:
        local = "created_at AT TIME ZONE 'Europe/Berlin'"
        repeated = f"SELECT count(*) FROM messages WHERE {local} = '2024-10-27 02:30:00'"
        assert one(conn, repeated) == 2
        assert one(conn, "SELECT count(*) FROM messages WHERE created_at = '2024-03-31 01:00:00+00'") == 1


def test_content_has_a_realistic_length(atlas):
    with atlas.connect() as conn:
        assert 150 < one(conn, "SELECT avg(octet_length(content)) FROM messages") < 300


def test_one_instant_stamps_the_history_of_usage_logs(atlas):
    with atlas.connect() as conn:
        stamped, share = conn.execute(
            "SELECT created_at, count(*)::float8 / 5000 FROM usage_logs GROUP BY 1 ORDER BY 2 DESC LIMIT 1"
        ).fetchone()
        assert 0.97 < share < 1
        later = "SELECT count(*), count(DISTINCT created_at) FROM usage_logs WHERE created_at > %s"
        count, distinct = conn.execute(later, (stamped,)).fetchone()
        assert count == distinct > 20
        assert one(conn, "SELECT count(*) FROM usage_logs WHERE created_at IS NULL") >= 3
        assert one(conn, "SELECT count(*) FROM usage_logs WHERE user_id IS NULL") > 100
        assert one(conn, "SELECT count(*) FROM usage_logs WHERE estimated_cost IS NULL") > 50


def test_nothing_of_the_making_is_left(atlas):
    with atlas.connect() as conn:
        assert rows(
            conn,
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1",
        ) == ["auth", "public"]


def test_the_stale_partition_takes_the_name_of_the_next_month(empty):
    with empty.connect() as conn:
        demo.build(conn, messages=1_000, usage_logs=1_000, variant="stale_partition")
        for schema in ("public", "partitions"):
            assert len(columns(conn, f"{schema}.messages_2026_11")) == 7


def test_the_abandoned_attempt_lies_there_empty(empty):
    with empty.connect() as conn:
        demo.build(conn, messages=1_000, usage_logs=1_000, variant="abandoned")
        assert len(columns(conn, "messages_partitioned")) == 7
        names = rows(conn, "SELECT inhrelid::regclass::text FROM pg_inherits"
                     " WHERE inhparent = 'messages_partitioned'::regclass ORDER BY 1")  # fmt: skip
        assert (len(names), names[0], names[-1]) == (36, "messages_2024_01", "messages_2026_12")
        assert one(conn, "SELECT count(*) FROM messages_partitioned") == 0


def test_it_is_built_into_an_empty_database_only(atlas):
    with atlas.connect() as conn:
        with pytest.raises(AtlasError, match="not empty"):
            demo.build(conn, messages=2_000, usage_logs=3_000)
        assert one(conn, "SELECT count(*) FROM messages") == 4_000


def test_it_is_not_built_inside_somebodys_transaction(empty):
    with empty.connect() as conn:
        conn.execute("SELECT 1")
        with pytest.raises(AtlasError, match="inside a transaction"):
            demo.build(conn, messages=2_000, usage_logs=3_000)


@pytest.mark.parametrize("wrong", [{"messages": 10}, {"usage_logs": 0}, {"variant": "other"}])
def test_an_impossible_recipe_is_refused_before_anything_is_made(empty, wrong):
    with empty.connect() as conn:
        with pytest.raises(AtlasError):
            demo.build(conn, **{"messages": 2_000, "usage_logs": 3_000, **wrong})
        assert one(conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'auth'") == 0


def test_a_database_knows_the_recipe_it_was_built_from(empty):
    with empty.connect() as conn:
        assert demo.recipe_of(conn) is None
        conn.commit()
        demo.build(conn, messages=1_000, usage_logs=1_500, seed=3)
        assert demo.recipe_of(conn) == demo.Recipe(1_000, 1_500, 3)
        conn.execute(f"COMMENT ON DATABASE \"{conn.info.dbname}\" IS 'atlas_ops demo not json'")
        assert demo.recipe_of(conn) is None


def test_a_service_leads_to_the_clone(service, atlas):
    with psycopg.connect(service=service) as conn:
        assert one(conn, "SELECT count(*) FROM messages") == 4_000
        assert one(conn, "SELECT current_user::text") == "postgres"
