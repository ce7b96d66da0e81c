"""Each lint is provoked by a real object, and what is made here gives no cause for one, before and after the cut-over."""

from __future__ import annotations

from typing import Any

import pytest

from atlas_ops import catalog, cutover, database, lints
from atlas_ops.report import Check, Severity
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec
from tests.database.conftest import MESSAGES, USAGE_LOGS

ONLINE = {"copy": "online", "every": "year"}
TABLES = [{**MESSAGES, **ONLINE, "incoming_foreign_keys": "registry"}, {**USAGE_LOGS, **ONLINE}]


def told(now: Any, db: Any, spec: TableSpec) -> tuple[Check, ...]:
    found, snapshot = now.placed(db, spec)
    with database.connect(now.session(db)) as conn:
        return lints.checks(found, snapshot, catalog.lints(conn, found, snapshot))


def by(checks: tuple[Check, ...], severity: Severity) -> dict[str, str]:
    return {check.name: check.what for check in checks if check.severity is severity}


# What the Atlas database has today, by its own design: notes at every stage.
TODAY = {
    "messages": {"0003_auth_rls_initplan", "0006_multiple_permissive_policies", "0011_function_search_path_mutable"},
    "usage_logs": {"0003_auth_rls_initplan", "0006_multiple_permissive_policies"},
}


def test_what_was_made_here_is_clean_at_every_stage_and_what_the_original_has_is_a_note(atlas: Any, now: Any) -> None:
    now.run(
        atlas,
        *(
            f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO PUBLIC, anon, authenticated, service_role"
            for kind in ("TABLES", "FUNCTIONS", "SEQUENCES", "SCHEMAS")
        ),
    )
    specs = tables_from(TABLES)

    def look(stage: str) -> None:
        for spec in specs:
            found = told(now, atlas, spec)
            assert by(found, Severity.STOP) == {}, stage
            assert set(by(found, Severity.NOTE)) == TODAY[spec.name], stage
            assert {check.name for check in found} == set(lints.WORDS)

    look("before anything")
    for stage in (now.follow, now.cut_over, now.roll_back, now.cut_over):
        for spec in specs:
            stage(atlas, spec)
        now.value(atlas, "SELECT count(*) FROM public.create_future_partitions('2027-06-01')")
        look(stage.__name__)
    for spec in specs:
        now.carry_out(atlas, cutover.plan_retire(*now.placed(atlas, spec)))
    look("plan_retire")


PROVOKED = {
    "0001_unindexed_foreign_keys": ["ALTER TABLE {t} ADD COLUMN other int REFERENCES topic"],
    "0003_auth_rls_initplan": [
        "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON {t} USING (body = current_setting('app.body', true))",
    ],
    "0004_no_primary_key": ["ALTER TABLE {t} DROP CONSTRAINT note_pkey"],
    "0006_multiple_permissive_policies": [
        "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON {t} USING (true)",
        "CREATE POLICY q ON {t} FOR SELECT TO authenticated USING (id > 0)",
    ],
    "0007_policy_exists_rls_disabled": ["CREATE POLICY p ON {t} USING (true)"],
    "0008_rls_enabled_no_policy": ["ALTER TABLE {t} ENABLE ROW LEVEL SECURITY"],
    "0009_duplicate_index": ["CREATE INDEX again ON {t} (at)"],
    "0010_security_definer_view": ["CREATE VIEW seen AS SELECT id FROM {t}"],
    "0011_function_search_path_mutable": [
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER t AFTER INSERT ON {t} EXECUTE FUNCTION f()",
    ],
    "0013_rls_disabled_in_public": ["ALTER TABLE {t} DISABLE ROW LEVEL SECURITY"],
    "0028_anon_security_definer_function_executable": [
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER t AFTER INSERT ON {t} EXECUTE FUNCTION f()",
    ],
}
PROVOKED["0029_authenticated_security_definer_function_executable"] = PROVOKED[
    "0028_anon_security_definer_function_executable"
]

NOTE = (
    "CREATE TABLE topic (id int PRIMARY KEY)",
    "CREATE TABLE note (id bigint PRIMARY KEY, at timestamptz NOT NULL, topic int REFERENCES topic, body text)",
    "CREATE INDEX ON note (topic, body)",
    "CREATE INDEX ON note (at)",
    "GRANT USAGE ON SCHEMA public TO anon, authenticated",
)


def test_a_plain_table_is_told_of_row_security_alone(empty: Any, ops: Any) -> None:
    ops.run(empty, *NOTE)
    assert set(by(told(ops, empty, ops.online()), Severity.NOTE)) == {"0013_rls_disabled_in_public"}


@pytest.mark.parametrize("lint", list(PROVOKED))
def test_each_lint_is_provoked_on_an_original_and_is_a_note(empty: Any, ops: Any, lint: str) -> None:
    ops.run(empty, *NOTE, *(statement.format(t="note") for statement in PROVOKED[lint]))
    found = told(ops, empty, ops.online())
    assert by(found, Severity.STOP) == {}
    assert lint in by(found, Severity.NOTE)


OURS = {
    "0007_policy_exists_rls_disabled": [
        "ALTER TABLE partitions.note_2024_01 DISABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON partitions.note_2024_01 USING (true)",
    ],
    "0009_duplicate_index": ["CREATE INDEX again ON partitions.note_2024_01 (at)"],
    "0010_security_definer_view": ["ALTER VIEW partition_performance RESET (security_invoker)"],
    "0011_function_search_path_mutable": ["ALTER FUNCTION create_future_partitions RESET search_path"],
    "0013_rls_disabled_in_public": [
        "GRANT USAGE ON SCHEMA partitions TO anon",
        "ALTER TABLE partitions.note_key_log DISABLE ROW LEVEL SECURITY",
    ],
    "0028_anon_security_definer_function_executable": ["GRANT EXECUTE ON FUNCTION partitions.note_capture TO anon"],
    "0029_authenticated_security_definer_function_executable": [
        "GRANT EXECUTE ON FUNCTION partitions.note_capture TO PUBLIC"
    ],
}


@pytest.mark.parametrize("lint", list(OURS))
def test_a_lint_on_what_was_made_here_is_red(following: Any, ops: Any, lint: str) -> None:
    spec = ops.online()
    assert by(told(ops, following, spec), Severity.STOP) == {}
    ops.run(following, *OURS[lint])
    assert lint in by(told(ops, following, spec), Severity.STOP)


def test_what_the_owner_adds_to_the_table_in_use_stays_a_note(following: Any, ops: Any) -> None:
    spec = ops.online()
    ops.cut_over(following, spec)
    ops.run(following, "CREATE INDEX again ON note (at)", "CREATE POLICY p ON note USING (true)")
    found = told(ops, following, spec)
    assert by(found, Severity.STOP) == {}
    assert "public.note" in by(found, Severity.NOTE)["0009_duplicate_index"]
    assert "0007_policy_exists_rls_disabled" in by(found, Severity.NOTE)


def test_a_set_that_others_made_is_noted_and_not_red(empty: Any, ops: Any) -> None:
    ops.run(
        empty,
        *NOTE,
        "CREATE TABLE note_partitioned (id bigint, at timestamptz, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)",
        "CREATE TABLE note_p1 PARTITION OF note_partitioned FOR VALUES FROM ('2024-01-01') TO ('2024-02-01')",
    )
    found = told(ops, empty, ops.online())
    assert by(found, Severity.STOP) == {}
    assert by(found, Severity.NOTE) == {"0013_rls_disabled_in_public": "public.note, public.note_p1."}
