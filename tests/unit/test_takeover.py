"""What closes and opens a copy that follows nothing: the statements, and for which copies there are any. No database."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from atlas_ops import takeover
from atlas_ops.model import OnlineCopy, Relation, Server, Snapshot, Table
from atlas_ops.plan import Effect
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec
from tests.unit.test_incoming import REACTIONS, relation

AT = ("public", "messages_partitioned")
SERVER = Server(**dict.fromkeys(Server.__dataclass_fields__, 0))  # type: ignore[arg-type]


def spec(**keys: Any) -> TableSpec:
    common = {
        "table": "messages",
        "partition_key": "created_at",
        "from": "2024-01-01",
        "copy": "by_partition",
        "cut_over": "side_by_side",
    }
    [found] = tables_from([{**common, **keys}])
    return found


def table(*, closed: bool) -> Relation:
    values = dict.fromkeys(Table.__dataclass_fields__, "x")
    return Relation(Table(**{**values, "closed": closed}), ())  # type: ignore[arg-type]


def snapshot(*, closed: bool = True, **fields: Any) -> Snapshot:
    return Snapshot(SERVER, relation(REACTIONS), table(closed=closed), **{"registered": True, "ready": True, **fields})


def test_the_guards_are_always_on() -> None:
    closed = takeover.closed(AT)
    assert closed == [
        'CREATE TRIGGER "atlas_ops_closed" BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON "public"."messages_partitioned" FOR EACH STATEMENT '
        "EXECUTE FUNCTION atlas_ops.refuse_application()",
        'ALTER TABLE "public"."messages_partitioned" ENABLE ALWAYS TRIGGER "atlas_ops_closed"',
    ]
    referred = takeover.as_referred(AT, relation(REACTIONS))
    assert referred[0].startswith('CREATE TRIGGER "atlas_ops_referred" BEFORE TRUNCATE ON')
    assert referred[0].endswith(
        "atlas_ops.refuse_truncate('foreign keys refused it on the table that it was copied from')"
    )
    assert takeover.as_referred(AT, relation()) == []


def test_it_is_opened_and_closed_and_neither_twice() -> None:
    [opens] = takeover.open_steps(spec(), snapshot())
    assert opens.statements == ('DROP TRIGGER IF EXISTS "atlas_ops_closed" ON "public"."messages_partitioned"',)
    [closes] = takeover.close_steps(spec(), snapshot(closed=False))
    assert closes.statements == tuple(takeover.closed(AT))
    assert {opens.effect, closes.effect} == {Effect.CHANGES}
    assert takeover.open_steps(spec(), snapshot(closed=False)) == takeover.close_steps(spec(), snapshot()) == ()


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ({"copy": "online"}, {}),
        ({"copy": "single_transaction"}, {}),
        ({}, {"registered": False}),
        ({}, {"ready": False}),
        ({}, {"online": OnlineCopy("original", False, True, None, None, {}, True, 0, 0)}),
    ],
)
def test_no_other_copy_is_opened_or_closed(keys: dict[str, Any], fields: dict[str, Any]) -> None:
    for closed in (True, False):
        found = snapshot(closed=closed, **fields)
        assert takeover.open_steps(spec(**keys), found) == takeover.close_steps(spec(**keys), found) == ()
    assert not takeover.serves(spec(), replace(snapshot(), partitioned=None))


def test_what_stops_it_is_said_with_its_cure() -> None:
    assert list(takeover.checks(spec(), snapshot())) == []
    assert [check.name for check in takeover.checks(spec(cut_over="swap"), snapshot(ready=False))] == ["copy", "whole"]
