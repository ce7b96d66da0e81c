"""What earlier attempts at partitioning the Atlas database got wrong, line by line, and the traps in its rows."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from atlas_ops import demo, verify
from atlas_ops.report import Check, Severity

BOTH = ("messages", "usage_logs")


def said(subject: Any, name: str, table: str = "messages") -> list[Check]:
    return [check for check in subject.checks() if (check.name, check.table) == (name, table)]


def as_role(subject: Any, role: str, query: str, user: str | None = None) -> list[tuple[Any, ...]]:
    """What a request of the application gets; nothing it writes stays."""
    with subject.database.connect() as conn, conn.transaction(force_rollback=True):
        claims = json.dumps({"sub": user, "role": role})
        conn.execute("SELECT set_config('request.jwt.claims', %s, true)", (claims,))
        conn.execute(f"SET LOCAL ROLE {role}")
        found: list[tuple[Any, ...]] = conn.execute(query).fetchall()
        return found


def users(subject: Any) -> list[str]:
    """The five who wrote most."""
    return [
        str(user)
        for user, _ in subject.rows(
            "SELECT user_id, count(*) FROM messages WHERE user_id IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 5"
        )
    ]


# -- what earlier attempts got wrong, in the order of the list


def test_01_the_primary_key_holds_the_partition_key_and_on_conflict_is_foretold(migrated: Any, subject: Any) -> None:
    keys = "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid IN"
    assert dict(migrated.rows(f"{keys} ('messages_partitioned'::regclass, 'usage_logs_partitioned'::regclass)")) == {
        "messages_partitioned": "PRIMARY KEY (id, created_at)",
        "usage_logs_partitioned": 'PRIMARY KEY (id, "timestamp")',
    }
    upsert = (
        "INSERT INTO messages_partitioned (id, role, content, created_at) SELECT id, role, 'again', created_at FROM "
        "partitions.messages_2025_01 LIMIT 1 ON CONFLICT ({}) DO UPDATE SET content = excluded.content"
    )
    with pytest.raises(psycopg.errors.InvalidColumnReference):
        migrated.run(upsert.format("id"))
    assert migrated.run(upsert.format("id, created_at")) == 1
    assert migrated.value("SELECT count(*) FROM messages_partitioned WHERE content = 'again'") == 1
    (told,) = said(subject, "uniqueness")
    assert (told.severity, told.what) == (Severity.WARN, "The primary key (id) becomes (id, created_at).")
    assert "ON CONFLICT (id) finds no such constraint any more" in told.why
    assert "ON CONFLICT (id, created_at)" in told.cure


def test_02_columns_go_by_name_and_no_soft_deleted_message_is_visible_again(migrated: Any) -> None:
    gaps = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'messages'::regclass AND attisdropped"
    assert migrated.value(gaps) == 2, "without the gaps a positional copy would pass"
    columns = (
        "SELECT attname, format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid), col_description(attrelid, attnum) "
        "FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum "
        "WHERE attrelid = '{}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname"
    )
    for table in BOTH:
        assert migrated.rows(columns.format(table)) == migrated.rows(columns.format(f"{table}_partitioned"))
    deleted = (
        "SELECT count(*), min(deleted_at), max(deleted_at), count(deleted_by) FROM {} "
        "WHERE deleted_at IS NOT NULL AND created_at IS NOT NULL"
    )
    original = migrated.rows(deleted.format("messages"))
    assert original[0][0] > 30
    assert migrated.rows(deleted.format("messages_partitioned")) == original


def test_03_no_row_is_lost_to_a_join_a_bound_or_a_null(migrated: Any) -> None:
    counts = (
        "SELECT count(*) FILTER (WHERE conversation_id IS NULL), count(*) FILTER (WHERE user_id IS NULL), "
        "count(*) FILTER (WHERE created_at < '2024-01-01'), "
        "count(*) FILTER (WHERE created_at >= '2027-03-01') FROM {} WHERE created_at IS NOT NULL"
    )
    ((without_conversation, without_user, before, after),) = migrated.rows(counts.format("messages"))
    assert min(without_conversation, without_user, before, after) >= 3
    assert migrated.rows(counts.format("messages_partitioned")) == [(without_conversation, without_user, before, after)]
    assert migrated.value("SELECT count(*) FROM partitions.messages_default") == before + after
    keyless = migrated.value("SELECT count(*) FROM messages WHERE created_at IS NULL")
    assert migrated.value("SELECT count(*) FROM partitions.messages_null_keys") == keyless >= 3
    assert all(proof.same for proof in migrated.prove()[0])


def test_04_no_partition_is_open_and_the_policies_hold(migrated: Any) -> None:
    partitions = [
        name
        for (name,) in migrated.rows(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'partitions'::regnamespace AND relkind = 'r'"
        )
    ]
    assert len(partitions) == 79
    closed = (
        "SELECT bool_and(relrowsecurity AND NOT EXISTS (SELECT FROM aclexplode(relacl) a WHERE a.grantee <> relowner)) "
        "FROM pg_class WHERE relnamespace = 'partitions'::regnamespace AND relkind = 'r'"
    )
    assert migrated.value(closed) is True
    for role in ("anon", "authenticated", "service_role"):
        for statement in (
            "SELECT FROM partitions.messages_2025_01",
            "DELETE FROM partitions.messages_2025_01 RETURNING 1",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                as_role(migrated, role, statement)
    query = "SELECT id::text FROM {} WHERE created_at IS NOT NULL ORDER BY 1"
    assert as_role(migrated, "anon", query.format("messages_partitioned")) == []
    for user in users(migrated):
        own = as_role(migrated, "authenticated", query.format("messages"), user)
        assert own
        assert as_role(migrated, "authenticated", query.format("messages_partitioned"), user) == own


def test_04_an_owner_rights_view_is_named(subject: Any) -> None:
    subject.run("CREATE VIEW leak AS SELECT * FROM messages")
    told = {check.what: check.severity for check in said(subject, "view")}
    assert told == {
        "public.active_messages": Severity.NOTE,
        "public.leak (runs with its owner's rights)": Severity.WARN,
    }


def test_05_everything_that_hangs_on_the_table_hangs_on_the_copy(migrated: Any, subject: Any) -> None:
    for query in (
        "SELECT polname, polcmd, polpermissive, polroles::regrole[]::text, "
        "replace(pg_get_expr(polqual, polrelid), '{0}', 'it'), replace(pg_get_expr(polwithcheck, polrelid), '{0}', 'it') "
        "FROM pg_policy WHERE polrelid = '{0}'::regclass ORDER BY 1",
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype IN ('f', 'c') AND conrelid = '{0}'::regclass ORDER BY 1",
        "SELECT tgname, tgenabled, tgtype, tgfoid FROM pg_trigger WHERE NOT tgisinternal AND tgname !~ '^atlas_ops_' AND tgrelid = '{0}'::regclass "
        "ORDER BY 1",
        "SELECT prpubid FROM pg_publication_rel WHERE prrelid = '{0}'::regclass",
        "SELECT a.grantee::regrole::text, privilege_type, is_grantable FROM pg_class, aclexplode(relacl) a "
        "WHERE oid = '{0}'::regclass ORDER BY 1, 2, 3",
        "SELECT relrowsecurity, relforcerowsecurity, relreplident FROM pg_class WHERE oid = '{0}'::regclass",
    ):
        for table in BOTH:
            assert migrated.rows(query.format(f"{table}_partitioned")) == migrated.rows(query.format(table))
    assert migrated.value("SELECT count(*) FROM pg_policy WHERE polrelid = 'messages_partitioned'::regclass") == 9
    assert [check.what for check in said(subject, "incoming foreign key")] == [
        "public.content_reports: FOREIGN KEY (reported_message_id) REFERENCES public.messages(id) ON DELETE CASCADE",
        "public.message_reactions: FOREIGN KEY (message_id) REFERENCES public.messages(id) ON DELETE CASCADE",
    ]


def test_05_an_edit_a_soft_delete_and_an_insert_hit_as_many_rows_as_before(migrated: Any) -> None:
    migrated.open()
    for user in users(migrated)[:2]:
        mine = f"user_id = '{user}' AND created_at IS NOT NULL"
        conversation = migrated.value(
            f"SELECT conversation_id FROM messages WHERE {mine} AND conversation_id IS NOT NULL LIMIT 1"
        )
        for statement in (
            f"UPDATE {{}} SET content = 'edited', edited_at = now() WHERE {mine} RETURNING 1",
            f"UPDATE {{}} SET deleted_at = now(), deleted_by = 'user' WHERE {mine} RETURNING 1",
            f"DELETE FROM {{}} WHERE {mine} RETURNING 1",
            f"INSERT INTO {{}} (user_id, conversation_id, role, content) VALUES ('{user}', '{conversation}', 'user', 'new') RETURNING 1",
        ):
            before = as_role(migrated, "authenticated", statement.format("messages"), user)
            assert len(before) >= 1
            assert as_role(migrated, "authenticated", statement.format("messages_partitioned"), user) == before


def test_06_the_copy_touches_no_conversation_and_the_trigger_lives_on(migrated: Any, subject: Any) -> None:
    stamps = "SELECT id, updated_at FROM conversations ORDER BY id"
    untouched = subject.rows(stamps)
    assert migrated.rows(stamps) == untouched
    conversation = untouched[0][0]
    migrated.run(
        "INSERT INTO messages_partitioned (conversation_id, role, content, created_at) "
        f"VALUES ('{conversation}', 'user', 'new', '2026-11-23')"
    )
    assert migrated.rows(stamps)[0][1] > untouched[0][1]
    assert migrated.rows(stamps)[1:] == untouched[1:]


def test_07_a_write_after_the_copy_is_found_by_verify(migrated: Any) -> None:
    migrated.run("INSERT INTO messages (role, content, created_at) VALUES ('user', 'late', '2026-05-05')")
    proofs, differences = migrated.prove()
    (check,) = verify.checks(migrated.spec, [proof for proof in proofs if proof.table == "messages"])
    assert (check.severity, check.what) == (Severity.STOP, "2026-05: 1 only in the original.")
    assert "written to after this part was copied" in check.why
    assert [each.kind for each in differences] == ["only in the original"]


def test_08_sizes_are_counted_names_are_no_wildcards_and_months_begin_on_the_first(migrated: Any) -> None:
    migrated.run(
        "CREATE TABLE partitions.messagesx2024_01 AS SELECT 1 AS n", "CREATE TABLE messages_2024_99 AS SELECT 1 AS n"
    )
    told = migrated.rows("SELECT partition_name, row_count FROM get_partition_sizes()")
    assert len(told) == 78
    for name, rows in told[::13]:
        assert migrated.value(f"SELECT count(*) FROM partitions.{name}") == rows
    assert sum(rows for name, rows in told if name.startswith("messages")) == migrated.value(
        "SELECT count(*) FROM messages_partitioned"
    )
    assert len({rows for _, rows in told}) > 10, "every count would be 1"
    kinds = migrated.rows(
        "SELECT DISTINCT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'partition_performance'::regclass AND attnum > 0"
    )
    assert not {kind for (kind,) in kinds} & {"anyarray", "text[]", "jsonb"}
    assert migrated.value("SELECT count(*) FROM partition_performance") == 78
    lower = "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relispartition AND relkind = 'r'"
    ranges = [bound for (bound,) in migrated.rows(lower) if bound != "DEFAULT"]
    assert len(ranges) == 76 and all(bound.count("-01 00:00:00+00'") == 2 for bound in ranges)


def test_09_the_next_months_are_made_before_they_are_needed(migrated: Any) -> None:
    last = "SELECT max(relname) FROM pg_class WHERE relispartition AND relname ~ '^messages_[0-9_]+$'"
    assert migrated.value(last) == "messages_2027_02"
    made = migrated.rows("SELECT partition_name FROM create_future_partitions('2027-02-23 12:00+00')")
    assert [name for (name,) in made] == [f"{table}_2027_0{month}" for table in BOTH for month in (3, 4, 5)]
    migrated.run(
        "INSERT INTO messages_partitioned (role, content, created_at) VALUES ('user', 'x', '2027-05-31 23:59:59+00')"
    )
    assert migrated.value("SELECT count(*) FROM partitions.messages_2027_05") == 1
    assert migrated.rows("SELECT * FROM create_future_partitions('2027-02-23 12:00+00')") == []


def test_10_bounds_do_not_follow_the_time_zone(migrated: Any, subject: Any) -> None:
    digest = subject.plan().digest
    name = subject.value("SELECT current_database()")
    subject.run(
        f"ALTER DATABASE {name} SET TimeZone = 'America/New_York'", f"ALTER DATABASE {name} SET DateStyle = 'German'"
    )
    assert subject.plan().digest == digest
    with migrated.database.connect(autocommit=True) as conn:
        conn.execute("SET TimeZone = 'Pacific/Auckland'; SET DateStyle = 'SQL, DMY'")
        conn.execute("SELECT create_future_partitions('2027-01-01 00:00+00')")
        conn.execute(
            "INSERT INTO messages_partitioned (role, content, created_at) VALUES ('user', 'x', '2026-12-31 23:59:59.999999+00')"
        )
    assert migrated.value("SELECT tableoid::regclass::text FROM messages_partitioned WHERE content = 'x'") == (
        "partitions.messages_2026_12"
    )
    assert migrated.value("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'messages_2027_04'") == (
        "FOR VALUES FROM ('2027-04-01 00:00:00+00') TO ('2027-05-01 00:00:00+00')"
    )


def test_11_each_partition_has_the_replica_identity_and_the_plan_asks_who_subscribes(
    migrated: Any, subject: Any
) -> None:
    assert migrated.rows(
        "SELECT relreplident, count(*) FROM pg_class WHERE relispartition AND relkind = 'r' AND relname ~ '^messages' GROUP BY 1"
    ) == [("f", 39)]
    migrated.run("SELECT create_future_partitions('2027-02-23')")
    assert migrated.value("SELECT relreplident FROM pg_class WHERE relname = 'messages_2027_05'") == "f"
    (told,) = said(subject, "publication")
    assert told.severity is Severity.WARN
    assert "Events of the partitioned table carry the partition's name" in told.why
    assert told.cure == "Ask who subscribes before the application moves."
    subject.run("ALTER PUBLICATION supabase_realtime SET (publish_via_partition_root = true)")
    (told,) = said(subject, "publication")
    assert "carry the partitioned table's name" in told.why


def test_12_the_sequence_serves_both_and_preflight_says_who_owns_it(migrated: Any, subject: Any) -> None:
    migrated.run("INSERT INTO usage_logs_partitioned (event, timestamp) VALUES ('one', '2026-11-23')")
    migrated.run("INSERT INTO usage_logs (event, timestamp) VALUES ('two', '2026-11-23')")
    one, two = (
        migrated.value(f"SELECT id FROM {table} WHERE event IN ('one', 'two')")
        for table in ("usage_logs_partitioned", "usage_logs")
    )
    assert two == one + 1
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match="usage_logs"):
        migrated.run("DROP TABLE usage_logs")
    (told,) = said(subject, "sequence", "usage_logs")
    assert (told.severity, told.what) == (Severity.NOTE, "public.usage_logs_id_seq belongs to public.usage_logs.id.")
    assert "cannot be dropped" in told.why


# -- the traps in the rows


def test_the_late_column_is_noticed_and_the_right_one_named(subject: Any) -> None:
    wrong = {
        "table": "public.usage_logs",
        "partition_key": "created_at",
        "from": "2024-01-01",
        "null_keys": "set_aside",
    }
    subject.specify(wrong)
    (told,) = said(subject, "dominant value", "usage_logs")
    assert told.severity is Severity.WARN
    assert told.what.endswith("% of the rows share one single created_at.") and int(told.what.split("%")[0]) > 80
    assert told.cure.startswith("Consider timestamp") and "correlation" in told.cure
    subject.specify({**wrong, "partition_key": "timestamp"})
    assert said(subject, "dominant value", "usage_logs") == []


def test_keys_that_are_missing_infinite_or_out_of_range_are_told_beforehand(subject: Any) -> None:
    keyless = subject.value("SELECT count(*) FROM messages WHERE created_at IS NULL")
    out = subject.rows(
        "SELECT count(*) FILTER (WHERE created_at < '2024-01-01'), count(*) FILTER (WHERE created_at >= '2027-03-01') FROM messages"
    )[0]
    told = {check.name: (check.severity, check.what) for check in subject.checks() if check.table == "messages"}
    assert told["null keys"] == (Severity.NOTE, f"{keyless} rows have no created_at.")
    assert told["infinite keys"] == (Severity.NOTE, "1 rows have an infinite created_at.")
    assert told["out of range"] == (
        Severity.NOTE,
        f"{out[0]} rows lie before the first partition, {out[1]} after the last.",
    )
    assert [check for check in subject.checks() if check.severity is Severity.STOP] == []


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ("stale_partition", ["The name partitions.messages_2026_11 is taken by a table."]),
        ("abandoned", ["The name public.messages_partitioned is taken by a partitioned table."]),
    ],
)
def test_leftovers_are_refused_and_the_cure_as_printed_lets_the_migration_pass(
    bare: Any, kind: Any, taken: list[str]
) -> None:
    with bare.database.connect() as conn:
        demo.build(conn, messages=1_000, usage_logs=1_000, variant=kind)
    bare.specify({"table": "messages", "partition_key": "created_at", "from": "2024-01-01", "null_keys": "set_aside"})
    relations = (
        "SELECT oid::regclass::text, relkind FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_' ORDER BY 1"
    )
    before = bare.rows(relations)
    reds = [check for check in bare.checks() if check.severity is Severity.STOP]
    assert [check.what for check in reds] == taken
    for red in reds:
        bare.run(red.sql)
    assert [check.what for check in bare.checks() if check.severity is Severity.STOP] == []
    assert len(bare.rows(relations)) == len(before)
    bare.migrate()
    assert all(proof.same for proof in bare.prove()[0])
    assert {check.name for check in bare.checks() if check.severity is Severity.WARN} >= {"same name elsewhere"}
