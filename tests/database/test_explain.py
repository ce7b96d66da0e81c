"""Both tables are asked the same; what is told of it is true and holds nobody's data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest

from atlas_ops import (
    advice,
    alternatives,
    catalog,
    comparison,
    database,
    division,
    execute,
    explain,
    measure,
    migration,
    queryplan,
    workload,
)
from atlas_ops.comparison import QueryResult
from atlas_ops.errors import AtlasError
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec
from atlas_ops.workload import Query

AS_OF = date(2026, 11, 23)
ATLAS = Path(__file__).parents[2] / "parameters" / "workloads" / "atlas.yml"
PERIOD = {"from": "2024-01-01", "until": "2027-01-01"}
MESSAGES, USAGE_LOGS = tables_from(
    [
        {"table": "messages", "partition_key": "created_at", "null_keys": "set_aside", **PERIOD},
        {"table": "usage_logs", "partition_key": "timestamp", **PERIOD},
    ]
)


@dataclass(frozen=True)
class Migrated:
    """A database with both partitioned tables filled. Measuring changes nothing in it, so tests share one."""

    where: database.Session
    conninfo: str

    def value(self, query: str) -> Any:
        with psycopg.connect(self.conninfo) as conn:
            row = conn.execute(query).fetchone()
        assert row is not None
        return row[0]

    def ask(self, sql: str, pairs: int = 1, **keys: Any) -> QueryResult:
        query = Query(name="asked", description="a test asks", table="messages", sql=sql, **keys)
        [result] = measure.workload(self.where, MESSAGES, [query], pairs)
        return result


@pytest.fixture(scope="module")
def migrated(server: Any, template: str) -> Iterator[Migrated]:
    clone = server.clone(template)
    where = database.Session("test", clone.conninfo, "explain_analysis")
    for number, spec in enumerate((MESSAGES, USAGE_LOGS)):
        with database.connect(where) as conn:
            snapshot = catalog.snapshot(conn, spec, division.names_needed(spec, AS_OF))
        plan = migration.plan_migration(spec, snapshot, AS_OF, install=number == 0)
        assert execute.execute(where, plan, plan.digest)
    yield Migrated(where, clone.conninfo)
    server.drop(clone)


@pytest.fixture(scope="module")
def results(migrated: Migrated) -> list[QueryResult]:
    """The shipped workload, measured."""
    read = workload.load(ATLAS)
    return [r for spec in (MESSAGES, USAGE_LOGS) for r in measure.workload(migrated.where, spec, read.queries)]


def partitions(migrated: Migrated, table: str = "messages") -> int:
    return int(migrated.value(f"SELECT count(*) FROM pg_inherits WHERE inhparent = '{table}_partitioned'::regclass"))


# the application's queries


def test_every_query_of_the_application_is_measured_on_both_tables(results: list[QueryResult]) -> None:
    assert [r.name for r in results if r.verdict == "failed"] == []
    assert len(results) == 16
    assert all(r.timing and r.timing.pairs >= 20 for r in results)
    assert all(len(r.original.runs_ms) == len(r.partitioned.runs_ms) >= 20 for r in results)
    assert all(r.original.figures and r.original.figures.total_ms > 0 for r in results)
    assert all(r.timing and 0 < r.timing.low <= r.timing.ratio <= r.timing.high for r in results)
    assert all(r.same_rows for r in results)


def test_which_queries_are_pruned(results: list[QueryResult], migrated: Migrated) -> None:
    there = partitions(migrated)
    touched = {name: n for name, n, total in explain.touched_rows(results) if total == there}
    assert {name for name, n in touched.items() if n == there} == {
        "history_page", "history_page_as_user", "model_context", "pull", "one_message", "search",
        "conversation_count", "edit", "soft_delete",
    }  # fmt: skip
    assert [touched[name] for name in ("today", "insert", "upsert")] == [1, 1, 1]
    assert all(1 < touched[name] < there / 2 for name in ("monthly_count", "delta_sync", "new_since", "cooldown"))
    assert next(r for r in results if r.name == "today").as_expected is True


def test_both_tables_answer_alike(results: list[QueryResult]) -> None:
    reads = [(r.name, r.original.figures, r.partitioned.figures) for r in results if not r.query.writes]
    assert all(before and after and before.rows == after.rows for _, before, after in reads)
    assert sum(before.rows > 0 for _, before, _ in reads if before) >= 9


def test_it_is_told_in_a_sentence_in_charts_and_in_tables(results: list[QueryResult]) -> None:
    assert " of 16 queries faster, " in explain.verdict_sentence(results)
    assert len(explain.ratio_rows(results)) == len(explain.overview(results)) == 16
    plan = explain.plan_table(next(r for r in results if r.name == "history_page"), "partitioned")
    assert any("messages_2024_01 … " in str(row[1]) for row in plan.rows)
    assert len(plan) < 20
    json.dumps(explain.figures(results))


def test_no_value_of_a_user_is_told(results: list[QueryResult], migrated: Migrated) -> None:
    with psycopg.connect(migrated.conninfo) as conn:
        conn.execute("SET TimeZone = 'UTC'; SET search_path = public")
        secrets: set[str] = set()
        for result in results:
            bound = conn.execute(str(result.query.bindings).replace("{table}", result.query.table).encode()).fetchone()
            for value in bound or ():
                secrets |= {str(v) for v in value} if isinstance(value, list) else {str(value)}
    secrets = {s.removesuffix("+00:00") for s in secrets} - {
        "chat_message",
        "login",
    }  # events are words of the application
    assert len(secrets) > 5
    told = (
        repr(results)
        + json.dumps(explain.plans(results))
        + repr(explain.pruning(results).rows)
        + repr(explain.reasons(results).rows)
        + repr(explain.rewrites(results).rows)
        + json.dumps(explain.figures(results))
        + repr(explain.overview(results))
        + explain.overview(results)._repr_html_()
    )
    for result in results:
        for side in ("original", "partitioned", "generic"):
            table = explain.plan_table(result, side)
            told += repr(table) + table._repr_html_() + repr(table.rows)
    assert [s for s in secrets if s in told] == []


# pruning


def test_a_month_prunes_to_one_partition(migrated: Migrated) -> None:
    result = migrated.ask(
        "SELECT date_trunc('month', created_at) AS month, count(*) FROM {table}"
        " WHERE created_at >= '2025-03-01 00:00+00' AND created_at < '2025-04-01 00:00+00' GROUP BY 1",
        expects={"prunes_to": 1},
    )
    assert explain.touched_rows([result]) == [("asked", 1, partitions(migrated))]
    assert result.as_expected is True
    assert "Reads 1 of" in advice.why(result)


def test_no_bound_on_the_key_reads_all(migrated: Migrated) -> None:
    result = migrated.ask("SELECT count(*) FROM {table} WHERE role = 'user'", expects={"prunes_to": 1})
    there = partitions(migrated)
    assert explain.touched_rows([result]) == [("asked", there, there)]
    assert result.as_expected is False
    assert f"Reads all {there} partitions: created_at is not bounded. Expected were at most 1." in advice.why(result)


def test_pruning_at_run_time_counts(migrated: Migrated) -> None:
    result = migrated.ask("SELECT count(*) FROM {table} WHERE created_at = (SELECT timestamptz '2025-03-05 00:00+00')")
    assert result.partitioned.figures is not None
    assert result.partitioned.figures.touched == 1
    assert result.partitioned.figures.never_executed == partitions(migrated) - 1


# generic plans, locks, several values, what is missing


def test_a_generic_plan_drops_partitions_as_it_starts(migrated: Migrated) -> None:
    result = migrated.ask(
        "SELECT count(*) FROM {table} WHERE created_at >= %(since)s AND created_at < %(until)s",
        bindings="SELECT timestamptz '2025-03-01 00:00+00' AS since, timestamptz '2025-04-01 00:00+00' AS until",
    )
    own, generic = result.partitioned.figures, result.generic and result.generic.side.figures
    assert own
    assert generic
    there = partitions(migrated)
    assert (own.planned, own.touched, own.removed) == (1, 1, 0)
    assert (generic.planned, generic.touched, generic.removed) == (there, 1, there - 1)
    assert f"A generic plan drops {there - 1} of its {there} partitions as it starts." in advice.why(result)
    if migrated.value("SELECT current_setting('server_version_num')::int >= 160000"):
        planned = migrated.value(
            "EXPLAIN (GENERIC_PLAN, FORMAT JSON) SELECT count(*) FROM messages_partitioned"
            " WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz"
        )
        assert json.dumps(planned).count('"Seq Scan"') + json.dumps(planned).count('"Index Only Scan"') == there


def test_a_generic_plan_takes_values_that_are_hard_to_write(migrated: Migrated) -> None:
    result = migrated.ask(
        "SELECT id FROM {table} WHERE created_at < %(forever)s AND %(nothing)s IS NULL AND content <> %(text)s AND id = ANY(%(ids)s)"
        " AND content <> 'a %(text)s $1' AND %(text)s LIKE 'a''b%'",
        bindings="SELECT 'infinity'::timestamptz AS forever, NULL::int AS nothing, E'a''b\\\\%(x)s $1 {table}' AS text,"
        " ARRAY[id] AS ids FROM {table} WHERE isfinite(created_at) ORDER BY id LIMIT 1",
    )
    assert result.generic
    assert result.generic.side.figures, result.generic.side.failure
    assert result.generic.side.figures.rows == 1


def test_what_was_prepared_is_forgotten(migrated: Migrated) -> None:
    two = [Query(name=f"q{n}", description="d", table="messages", sql="SELECT count(*) FROM {table}") for n in (1, 2)]
    found = measure.workload(migrated.where, MESSAGES, two, 1)
    assert [r.generic and r.generic.side.failure for r in found] == [None, None]


def test_every_row_of_the_bindings_is_asked(migrated: Migrated) -> None:
    result = migrated.ask(
        "SELECT count(*) FROM {table} WHERE created_at < %(until)s",
        pairs=8,
        bindings="SELECT timestamptz '2024-02-01 00:00+00' + n * interval '1 year' AS until FROM generate_series(0, 1) AS n",
    )
    there = partitions(migrated)
    assert result.partitioned.figures
    assert result.timing
    assert result.timing.pairs == 8
    assert 13 <= result.partitioned.figures.touched < there, "the most of either"


def test_locks_are_counted(migrated: Migrated) -> None:
    result = migrated.ask("SELECT count(*) FROM {table} WHERE role = 'user'")
    assert result.partitioned.locks > partitions(migrated)
    assert 0 < result.original.locks < 20
    one = migrated.ask("SELECT count(*) FROM {table} WHERE created_at = '2025-03-05 00:00+00'")
    assert one.partitioned.locks < 20


def test_answers_that_differ_are_told(migrated: Migrated) -> None:
    result = migrated.ask("SELECT tableoid::regclass::text FROM {table} ORDER BY id LIMIT 3")
    assert result.same_rows is False
    assert advice.why(result).startswith("Not the same answer from both tables")


def test_a_cast_of_the_key_reads_all(migrated: Migrated) -> None:
    result = migrated.ask("SELECT count(*) FROM {table} WHERE created_at::date = '2025-03-05'")
    assert advice.why(result).startswith(f"Reads all {partitions(migrated)} partitions: created_at is ")


def test_a_partition_without_the_index_of_the_others_is_pointed_out(server: Any, template: str) -> None:
    clone = server.clone(template)
    where = database.Session("test", clone.conninfo, "explain_analysis")
    with clone.connect(autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE messages_partitioned (LIKE messages INCLUDING DEFAULTS) PARTITION BY RANGE (created_at);"
            "SET TimeZone = 'UTC'"
        )
        for month in range(1, 6):
            conn.execute(
                f"CREATE TABLE m_{month} PARTITION OF messages_partitioned"
                f" FOR VALUES FROM ('2025-0{month}-01') TO ('2025-0{month + 1}-01');"
                f"INSERT INTO m_{month} (id, conversation_id, role, content, created_at)"
                f" SELECT gen_random_uuid(), gen_random_uuid(), 'user', repeat('x', 200), '2025-0{month}-05' FROM generate_series(1, 3000)"
            )
            if month != 3:
                conn.execute(f"CREATE INDEX ON m_{month} (conversation_id)")
        conn.execute("ANALYZE messages_partitioned")
    query = Query(
        name="asked",
        description="a test asks",
        table="messages",
        sql="SELECT * FROM {table} WHERE conversation_id = %(conversation)s",
        bindings="SELECT gen_random_uuid() AS conversation",
    )
    [result] = measure.workload(where, MESSAGES, [query], 1)
    assert result.partitioned.unindexed == ("m_3",)
    assert "m_3 is read row by row: it lacks the index that the others have." in advice.why(result)
    assert "Create the missing index on m_3" in advice.what_to_do(result)
    server.drop(clone)


def test_a_rewritten_statement_is_measured_beside_the_first(migrated: Migrated) -> None:
    values = "SELECT id, created_at FROM {table} WHERE isfinite(created_at) ORDER BY id LIMIT 2"
    result = migrated.ask(
        "SELECT content FROM {table} WHERE id = %(id)s",
        pairs=20,
        bindings=values,
        sql_rewritten="SELECT content FROM {table} WHERE id = %(id)s AND created_at = %(created_at)s",
    )
    rewritten, derived = result.rewrites[:2]
    assert (rewritten.name, derived.name) == ("sql_rewritten", "send_created_at")
    assert rewritten.side.figures
    assert rewritten.side.figures.touched == 1
    assert rewritten.holds
    assert result.rewrite in (rewritten, derived), "at forty partitions instead of one"
    assert derived.holds
    wrong = migrated.ask(
        "SELECT content FROM {table} WHERE id = %(id)s",
        bindings=values,
        sql_rewritten="SELECT content FROM {table} WHERE id = %(id)s AND created_at > %(created_at)s",
    )
    assert wrong.rewrites[0].same_rows is False
    assert wrong.rewrite is not wrong.rewrites[0]


def test_a_rewrite_that_rows_of_the_data_speak_against_is_no_way(migrated: Migrated) -> None:
    """The demo holds messages that are older than their conversation: clients set the time."""
    result = migrated.ask(
        "SELECT count(*) FROM {table} WHERE conversation_id = %(conversation)s",
        bindings="SELECT id AS conversation FROM conversations ORDER BY id LIMIT 1",
    )
    found = {each.name: each.counterexamples for each in result.rewrites}
    older = migrated.value(
        "SELECT count(*) FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE m.created_at < c.created_at"
    )
    assert found["bound_by_conversations"] == found["send_conversations"] == older > 0
    assert result.rewrite is None
    assert (
        f"bound_by_conversations is no way: {older:,} rows of the data would be answered otherwise."
        in advice.what_to_do(result)
    )


def test_the_index_that_lets_a_page_stop_early_is_named(results: list[QueryResult]) -> None:
    found = {r.name: r.index for r in results}
    assert found["history_page"].endswith('"messages_partitioned" ("conversation_id", "created_at" DESC)')
    assert found["model_context"] == "", "the partial index of the original serves it"


def test_what_the_text_tells_is_what_is_measured(results: list[QueryResult], migrated: Migrated) -> None:
    read = workload.load(ATLAS)
    foreseen = {
        each.query.name: each
        for spec in (MESSAGES, USAGE_LOGS)
        for each in alternatives.foreseen(migrated.where, spec, read.queries, division.periods(spec, AS_OF))
    }
    assert set(foreseen) == {r.name for r in results}
    for result in results:
        after = result.partitioned.figures
        assert after
        assert foreseen[result.name].partitions == after.planned, result.name
        assert foreseen[result.name].there == after.partitions


def test_what_cannot_be_read_is_foreseen_as_unknown(migrated: Migrated) -> None:
    queries = [
        Query(name="broken", description="d", table="messages", sql="SELEC FROM {table} WHERE"),
        Query(name="unbound", description="d", table="messages", sql="SELECT 1 FROM {table} WHERE created_at > %(b)s", bindings="SELECT 1 AS a"),
        Query(name="forever", description="d", table="messages", sql="SELECT 1 FROM {table} WHERE created_at > %(b)s",
              bindings="SELECT 'infinity'::timestamptz AS b"),
        Query(name="fails", description="d", table="messages", sql="SELECT 1 FROM {table} WHERE created_at > %(b)s::timestamptz",
              bindings="SELECT 'no time' AS b"),
    ]  # fmt: skip
    found = alternatives.foreseen(migrated.where, MESSAGES, queries, division.periods(MESSAGES, AS_OF))
    assert [each.foresight.reads for each in found] == ["unknown", "some", "some", "some"]
    assert [found[place].partitions for place in (0, 1, 3)] == [None, None, None]
    explain.foreseen_table(found)
    json.dumps(explain.foreseen_figures(found))


def test_a_cold_run_says_where_it_cannot_be_had(migrated: Migrated) -> None:
    query = Query(name="asked", description="a test asks", table="messages", sql="SELECT count(*) FROM {table}")
    with pytest.raises(AtlasError, match="Shared buffers cannot be emptied here"):
        measure.workload(migrated.where, MESSAGES, [query], 1, cold=True)


# writes


def test_writes_leave_nothing(migrated: Migrated) -> None:
    def state() -> Any:
        digests = " + ".join(
            f"(SELECT sum(hash_record_extended(t, 0)::numeric) + count(*) FROM {name} AS t)"
            for name in ("messages", "messages_partitioned", "conversations")
        )
        return migrated.value(f"SELECT {digests}")

    before = state()
    written = [query for query in workload.load(ATLAS).queries if query.writes]
    results = measure.workload(migrated.where, MESSAGES, written, pairs=2)
    assert [r.verdict == "failed" for r in results] == [False] * 4
    assert all(r.original.figures and r.original.figures.wal_bytes > 0 for r in results)
    assert migrated.ask("DELETE FROM {table}", writes=True).verdict != "failed"
    assert state() == before


def test_a_query_that_writes_must_say_so(migrated: Migrated) -> None:
    result = migrated.ask("WITH gone AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM gone")
    assert result.original.failure
    assert (result.original.failure.sqlstate, result.partitioned.failure) == ("25006", result.original.failure)


def test_merge_is_measured_though_its_plan_is_printed_as_no_json(migrated: Migrated) -> None:
    """PostgreSQL 15 and 18 print the counts of a MERGE with several target tables into the list of those tables."""
    merge = (
        "MERGE INTO {table} AS m USING (SELECT %(id)s AS id, %(at)s AS at) AS sent ON m.id = sent.id AND m.created_at = sent.at "
        "WHEN MATCHED THEN UPDATE SET content = 'sent again, rolled back' "
        "WHEN NOT MATCHED THEN INSERT (id, role, content, created_at) VALUES (sent.id, 'user', 'x', sent.at)"
    )
    by_id = merge.replace(" AND m.created_at = sent.at", "")
    bindings = "SELECT id, created_at AS at FROM {table} WHERE isfinite(created_at) ORDER BY id LIMIT 2"
    [all_read, pruned] = [migrated.ask(sql, writes=True, bindings=bindings) for sql in (by_id, merge)]
    for result in (all_read, pruned):
        assert (result.original.failure, result.partitioned.failure) == (None, None)
        assert result.same_rows is True
    assert all_read.partitioned.figures and pruned.partitioned.figures
    assert (all_read.partitioned.figures.touched, pruned.partitioned.figures.touched) == (partitions(migrated), 1)
    assert migrated.value("SELECT count(*) FROM messages_partitioned WHERE content = 'sent again, rolled back'") == 0


# failures are lines


def test_on_conflict_without_the_key_fails_on_the_partitioned_table_alone(migrated: Migrated) -> None:
    result = migrated.ask(
        "INSERT INTO {table} (id, role, content) VALUES (gen_random_uuid(), 'user', 'x') ON CONFLICT (id) DO NOTHING",
        writes=True,
    )
    assert result.original.figures is not None
    assert result.partitioned.failure is not None
    assert result.partitioned.failure.sqlstate == "42P10"
    assert (result.verdict, explain.ratio_rows([result])) == ("failed", [])
    assert "(42P10)" in repr(explain.reasons([result]).rows)


@pytest.mark.parametrize(
    ("keys", "state", "what"),
    [
        ({"sql": "SELECT creatd_at FROM {table}"}, "42703", 'column "creatd_at" does not exist'),
        ({"sql": "SELEC FROM {table}"}, "42601", "syntax error"),
        ({"sql": "SELECT content::uuid FROM {table}"}, "22P02", "InvalidTextRepresentation."),
        ({"sql": "SELECT 1 FROM {table}", "role": "nobody_here"}, "22023", "the role is not there"),
        ({"sql": "SELECT 1 FROM {table} WHERE id = %(b)s", "bindings": "SELECT 1 AS a"}, "", "bindings has no column b"),
        ({"sql": "SELECT 1 FROM {table}", "bindings": "SELECT 1 AS a WHERE false"}, "", "bindings found no row"),
        ({"sql": "SELECT 1 FROM {table}", "bindings": "SELECT id FROM {table}"}, "", "bindings found more than 10 rows"),
        ({"sql": "SELECT 1 FROM {table}", "bindings": "SELECT content::int FROM {table}"}, "22P02", "bindings: "),
        ({"sql": "SELECT 1 FROM {table}", "bindings": "DELETE FROM {table} RETURNING id"}, "42601", "bindings: "),
        ({"sql": "SELECT 1 FROM {table}", "bindings": "SELECT 1 AS a) AS b --"}, "42601", "bindings: "),
    ],
)  # fmt: skip
def test_a_failure_is_told_in_our_words(migrated: Migrated, keys: dict[str, Any], state: str, what: str) -> None:
    result = migrated.ask(**keys)
    for failure in (result.original.failure, result.partitioned.failure):
        assert failure is not None
        assert failure.sqlstate == state
        assert what in failure.what
    assert "last week" not in repr(result)


def test_a_plan_that_is_no_json_is_a_failure_with_a_cure(migrated: Migrated, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server prints wrong in another place than the one that is known: here the known one, unmended."""
    monkeypatch.setattr(queryplan, "_OF_MERGE", re.compile("(never)"))
    result = migrated.ask(
        "MERGE INTO {table} AS m USING (VALUES (1)) AS sent (n) ON m.content = 'of nobody' WHEN MATCHED THEN DELETE",
        writes=True,
    )
    assert result.original.figures is not None
    assert result.partitioned.failure == comparison.Failure(measure.NO_PLAN)
    assert "On the partitioned table: the server's EXPLAIN (FORMAT JSON) is no JSON" in advice.why(result)
    assert "sql_partitioned" in advice.what_to_do(result)
    assert migrated.ask("SELECT count(*) FROM {table}").verdict != "failed", "the connection goes on"


def test_a_query_that_runs_away_is_ended_and_the_next_is_measured(migrated: Migrated) -> None:
    def query(name: str, sql: str) -> Query:
        return Query(name=name, description="d", table="messages", sql=sql)

    found = measure.workload(
        replace(migrated.where, statement_timeout_ms=300),
        MESSAGES,
        [query("slow", "SELECT pg_sleep(30) FROM {table} LIMIT 1"), query("quick", "SELECT count(*) FROM {table}")],
        pairs=1,
    )
    assert [r.verdict == "failed" for r in found] == [True, False]
    assert found[0].original.failure is not None
    assert found[0].original.failure.sqlstate == "57014"


def test_a_lost_connection_stops(migrated: Migrated) -> None:
    with pytest.raises(AtlasError, match="Measuring asked"):
        migrated.ask("SELECT pg_terminate_backend(pg_backend_pid()) FROM {table} LIMIT 1")


def test_without_a_partitioned_table(migrated: Migrated) -> None:
    missing, plain = tables_from(
        [{"table": t, "partitioned_table": p, "partition_key": "created_at", **PERIOD} for t, p in
         (("messages", "not_there"), ("usage_logs", "conversations"))]
    )  # fmt: skip
    for spec in (missing, plain):
        with pytest.raises(AtlasError, match="has no partitions"):
            measure.workload(migrated.where, spec, [])


@pytest.mark.parametrize("pairs", [0, -1, 101])
def test_how_often_is_bounded(migrated: Migrated, pairs: int) -> None:
    with pytest.raises(AtlasError, match="pairs is"):
        migrated.ask("SELECT 1 FROM {table}", pairs=pairs)


# roles, parameters, names


def test_row_security_counts_for_a_role(migrated: Migrated) -> None:
    def rows(claims: str) -> tuple[float, float]:
        result = migrated.ask(
            "SELECT id FROM {table} WHERE conversation_id = %(conversation)s",
            bindings='SELECT id AS conversation, user_id AS "user" FROM conversations ORDER BY id LIMIT 1',
            role="authenticated",
            claims=claims,
        )
        assert result.original.figures, advice.why(result)
        assert result.partitioned.figures, advice.why(result)
        return result.original.figures.rows, result.partitioned.figures.rows

    own = rows("json_build_object('sub', %(user)s)")
    assert own[0] == own[1] > 0
    assert rows("json_build_object('sub', gen_random_uuid())") == (0, 0)


def test_parameters_keep_value_and_type(migrated: Migrated) -> None:
    result = migrated.ask(
        "SELECT id FROM {table} WHERE created_at < %(forever)s AND id = ANY(%(ids)s) AND %(nothing)s IS NULL"
        " AND content <> %(text)s AND content NOT LIKE '%{}%s%' AND (%(ids)s)[1] = id AND %(five)s % 3 = 2",
        bindings="SELECT 'infinity'::timestamptz AS forever, ARRAY[id, id] AS ids, NULL::int AS nothing, 5 AS five,"
        " E'a''b\\\\%(x)s {table}' AS text FROM {table} WHERE isfinite(created_at) ORDER BY id LIMIT 1",
    )
    assert result.verdict != "failed", advice.why(result)
    assert result.original.figures is not None
    assert result.original.figures.rows == 1


def test_one_statement_and_no_second() -> None:
    with pytest.raises(ValueError, match="more than one statement"):
        Query(name="a", description="d", table="messages", sql="SELECT 1 FROM {table}; COMMIT")


def test_hostile_names(empty: Any) -> None:
    table, half = 'we\'ird %s {table} "q"', 'we\'ird %(a)s; -- "h"'
    spec: TableSpec
    [spec] = tables_from(
        [{"table": '"' + table.replace('"', '""') + '"', "partitioned_table": '"' + half.replace('"', '""') + '"',
          "partition_key": '"the ""key\'"', **PERIOD}]
    )  # fmt: skip
    original, partitioned = database.identifier("public", table), database.identifier("public", half)
    with empty.connect(autocommit=True) as conn:
        conn.execute(f'CREATE TABLE {original} (id int, "the ""key\'" timestamptz)'.encode())
        conn.execute(f'CREATE TABLE {partitioned} (LIKE {original}) PARTITION BY RANGE ("the ""key\'")'.encode())
        for month in (1, 2):
            conn.execute(
                f'CREATE TABLE "o\'clock {month}" PARTITION OF {partitioned}'
                f" FOR VALUES FROM ('2024-0{month}-01 00:00+00') TO ('2024-0{month + 1}-01 00:00+00')".encode()
            )
    query = Query(
        name="a",
        description="d",
        table=spec.table,
        sql='SELECT id FROM {table} WHERE "the ""key\'" >= %(day)s',
        bindings="SELECT timestamptz '2024-02-03 00:00+00' AS day",
    )
    where = database.Session("test", empty.conninfo, "explain_analysis")
    [result] = measure.workload(where, spec, [query], pairs=1)
    assert explain.touched_rows([result]) == [("a", 1, 2)]
    assert result.partitioned.figures is not None
    assert result.partitioned.figures.bounds_key
    assert explain.plan_table(result, "partitioned").rows[0][1] == "o'clock 2"
