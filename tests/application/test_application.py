"""The application does not notice the migration: every call site gives the same results before it and at each stage of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from application.conftest import STAGES, Stages
from application.script import Application, played

from atlas_ops.report import Severity

REFUSED = {
    "upsert of another's": "42501", "react to none": "23503", "react as another": "42501", "report none": "23503",
    "log of another": "42501", "log as anon": "42501", "log a wrong tier": "23514", "log without a time": "23502",
    "into another's": "42501", "as anon": "42501", "a role there is none": "23514", "without content": "23502",
    "an id that is taken": "23505", "a conversation there is none": "23503", "deleted by nobody": "23514",
}  # fmt: skip
EMPTY = {
    "reactions of a page as authenticated", "reactions of a page as service_role", "insert unless there", "edit another's", "edit as anon",
    "delete another's", "another's page", "delete as anon",
}  # fmt: skip


@pytest.mark.parametrize("stages", ["registry", "composite"], indirect=True)
def test_every_call_site_gives_the_same_at_every_stage(each_stage: Iterator[tuple[str, Any]], stages: Stages) -> None:
    _, db = next(each_stage)
    expected, contents, _ = played(db.conninfo)
    assert {result["site"]: result["refused"] for result in expected if "refused" in result} == REFUSED
    assert {result["site"] for result in expected if result.get("count") == 0} == EMPTY, (
        "a script that asks for nothing proves nothing"
    )
    for stage, db in each_stage:
        # the conflict target is what the application has to change; see below
        found, left, _ = played(db.conninfo, upsert_on="id, created_at" if stage == "cut over" else "id")
        assert [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]] == [], stage
        assert left == contents, stage
        stages.in_step(db)


def test_a_life_with_the_migration_in_it_is_the_same_life(server: Any, template: str, stages: Stages) -> None:
    """The application runs between the stages too: what it wrote before each of them is there after it."""
    plain, migrated = server.clone(template), server.clone(template)
    names, others = None, None
    try:
        for number, stage in enumerate(STAGES, 1):
            stages.to(stage, migrated)
            upsert_on = "id, created_at" if stage == "cut over" else "id"
            expected, contents, names = played(plain.conninfo, number=number, names=names)
            found, left, others = played(migrated.conninfo, number=number, names=others, upsert_on=upsert_on)
            assert [pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1]] == [], stage
            assert left == contents, stage
            if stage != "plain":
                stages.in_step(migrated)
    finally:
        server.drop(plain)
        server.drop(migrated)


def test_what_postgresql_cannot_is_foretold_with_its_cure(
    each_stage: Iterator[tuple[str, Any]], stages: Stages
) -> None:
    """What the application has to change: preflight says it of the plain database, and after the cut-over it is so."""
    _, plain = next(each_stage)
    told = {(check.table, check.name): check for check in stages.ops.checks(plain, stages.specs[0])}
    assert told["messages", "uniqueness"].severity is Severity.WARN
    assert "ON CONFLICT (id) finds no such constraint any more" in told["messages", "uniqueness"].why
    assert "ON CONFLICT (id, created_at)" in told["messages", "uniqueness"].cure
    assert told["messages", "key to be NULL"].severity is Severity.WARN
    assert (
        "23502" in told["messages", "key to be NULL"].why and "DEFAULT now()" in told["messages", "key to be NULL"].cure
    )
    assert "fire for INSERT and DELETE" in told["messages", "triggers"].why
    next(each_stage)
    _, db = next(each_stage)
    with Application(db.conninfo) as application:
        application.people()
        application.upserts()
        assert {result.get("refused") for result in application.results if result["site"].startswith("upsert")} == {
            "42P10"
        }
        application.ask(
            "without a time",
            "INSERT INTO messages (role, content, created_at) VALUES ('user', 'x', NULL)",
            role="service_role",
        )
        assert application.results[-1]["refused"] == "23502"
