"""After each stage: nothing is possible that was not possible before, and everything that was still is, with the same rows.

What is new and carries the application's rights on purpose (the partitioned table, before it takes the original's place) gives no more than
the original gives; everything else that is new gives nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archives.road import Road
from security import attack
from security.attack import DENIED, Battlefield, Outcome, Outcomes, Who

from atlas_ops import cutover
from atlas_ops.errors import AtlasError
from atlas_ops.model import Snapshot
from atlas_ops.plan import Plan
from atlas_ops.settings import tables_from
from atlas_ops.spec import TableSpec

COMMON = {"from": "2024-01-01", "until": "2027-01-01", "every": "year", "ahead": 1, "copy": "online"}
TABLES = [
    {
        **COMMON,
        "table": "public.messages",
        "partition_key": "created_at",
        "null_keys": "set_aside",
        "incoming_foreign_keys": "registry",
    },
    {**COMMON, "table": "public.usage_logs", "partition_key": "timestamp"},
]
# As a host may have it, and what the exchange makes anew although somebody has closed it.
HOSTILE = (
    *(
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO PUBLIC, anon, authenticated, service_role, authenticator"
        for kind in ("TABLES", "FUNCTIONS", "SEQUENCES", "SCHEMAS", "TYPES")
    ),
    "CREATE MATERIALIZED VIEW public.by_user AS SELECT user_id, count(*) AS n FROM public.messages WHERE created_at IS NOT NULL GROUP BY 1",
    "CREATE VIEW public.every_message AS SELECT * FROM public.messages WHERE created_at IS NOT NULL",
    "CREATE FUNCTION public.loud(m public.messages) RETURNS text LANGUAGE sql SET search_path = '' RETURN upper(m.content)",
    "CREATE FUNCTION public.latest() RETURNS SETOF public.messages LANGUAGE sql SECURITY DEFINER SET search_path = '' "
    "BEGIN ATOMIC SELECT * FROM public.messages ORDER BY created_at DESC NULLS LAST LIMIT 3; END",
    *(
        f"REVOKE ALL ON {what} FROM PUBLIC, anon, authenticated, authenticator"
        for what in (
            "public.by_user",
            "public.every_message",
            "FUNCTION public.loud(public.messages)",
            "FUNCTION public.latest()",
            "public.usage_logs",
            "SEQUENCE public.usage_logs_id_seq",
        )
    ),
    "GRANT SELECT (id, event, user_id), INSERT (event, user_id), UPDATE (event) ON public.usage_logs TO authenticated",
    "ALTER TABLE public.usage_logs FORCE ROW LEVEL SECURITY",
)

REFUSED_TRUNCATE = {"55006", "0A000", DENIED}
NO_TABLE = {"42809", "55000"}  # what a view refuses before it asks for rights
WITHOUT_KEYS = {"UPDATE all", "DELETE all"}  # with rows that are set aside at the cut-over


class War:
    """One database, attacked before anything is done and after each stage."""

    def __init__(self, db: Any, now: Any, *tables: dict[str, Any]) -> None:
        self.db, self.now, self.specs = db, now, tables_from(list(tables or TABLES))
        self.in_use = False  # the application may write the partitioned table by its own name
        people = attack.people(db)
        self.people = people
        self.attackers = [Who(role, str(people["me"]) if role == "authenticated" else None) for role in attack.ROLES]
        self.field: Battlefield
        self.before = self.campaign()
        self.known = {f"{each.schema}.{each.name}" for each in self.field.relations}
        self.known |= {each.signature for each in self.field.functions}
        self.known |= {each.schema for each in (*self.field.relations, *self.field.functions)}
        self.allowed = self.privileges()

    def campaign(self) -> dict[str, Outcomes]:
        self.field = attack.survey(self.db, self.people)
        return {str(who): attack.attack(self.db, self.field, who) for who in self.attackers}

    def campaigned(self, *names: str) -> list[Any]:
        """Relations of public as they are now, by name."""
        relations = attack.survey(self.db, self.people).relations
        return [each for each in relations if each.schema == "public" and each.name in names]

    def privileges(self) -> dict[str, set[str]]:
        with self.db.connect() as conn:
            return {role: attack.privileges(conn, role) for role in attack.ROLES}

    def stage(self, name: str, *, whole: bool = True) -> None:
        """`whole`: all rows are where the application looks for them."""
        found = [
            f"{who}: {object_} {verb} {outcome} {said}"
            for who, outcomes in self.campaign().items()
            for (object_, verb), outcome in outcomes.items()
            if (said := self.judged(who, object_, verb, outcome, whole))
        ]
        found += self.gained()
        for role in ("authenticated", "service_role"):
            found += attack.let_in(self.db, self.field, role)
        found += attack.given_all(self.db, self.field, "authenticated")  # service_role has BYPASSRLS
        for who in self.attackers:
            found += attack.let_go(self.db, self.field, who)
        assert not found, "\n".join([f"after {name}", *found])

    def judged(self, who: str, object_: str, verb: str, outcome: Outcome, whole: bool) -> str:
        """What is wrong with an outcome; '' where nothing is."""
        before, original = self.before[who], object_.removesuffix("_partitioned")
        if object_ in self.known and (object_, verb) in before:
            return self.as_before(before[object_, verb], verb, outcome, whole)
        if object_ != original and original in self.known:
            return self.beside(before[original, verb], verb, outcome, whole)
        if outcome.done:
            return "is new, and possible"
        views = {f"{each.schema}.{each.name}" for each in self.field.relations if each.kind == "v"}
        closed = outcome.sqlstate == DENIED or (object_ in views and outcome.sqlstate in NO_TABLE)
        return "" if closed else "is new, and refused for no lack of a right"

    def as_before(self, before: Outcome, verb: str, outcome: Outcome, whole: bool) -> str:
        """What was there before, by the name that it had."""
        if outcome.done and not before.done:
            return f"was refused before ({before.sqlstate})"
        if before.done and not outcome.done:
            # Told by preflight: no key could be logged for the rows that it takes, and a registry is not emptied. With CASCADE from a
            # table that it refers to it would reach each partition, on which nobody has a right.
            return (
                "" if "TRUNCATE" in verb and outcome.sqlstate in REFUSED_TRUNCATE else f"was possible before ({before})"
            )
        same = outcome.rows == before.rows and outcome.digest == before.digest
        return "" if same or not outcome.done or not whole or verb in WITHOUT_KEYS else f"was {before}"

    def beside(self, original: Outcome, verb: str, outcome: Outcome, whole: bool) -> str:
        """The partitioned table beside the original: it gives no more than this does, and while it is not in use it is only read."""
        if outcome.done and not original.done:
            return f"is refused on the original ({original.sqlstate})"
        if not outcome.done:
            lost = self.in_use and original.done and "TRUNCATE" not in verb
            return f"is not possible, the original gives {original}" if lost else ""
        if not self.in_use and not verb.startswith(("SELECT", "see", "LIKE")):
            return "wrote to what is not in use" if outcome.rows or "TRUNCATE" in verb else ""
        if verb in WITHOUT_KEYS:
            return ""
        same = outcome.rows == original.rows and outcome.digest == original.digest
        return "" if same or not whole else f"the original gives {original}"

    def gained(self) -> Iterator[str]:
        """Privileges by the catalogs that nobody had before; those on the partitioned table are the original's, those on a column of ours
        its table's."""
        ours = {f"{each.schema}.{each.name}.{column}" for each in self.field.relations for column in each.ours}
        for role, held in self.privileges().items():
            for one in sorted(held - self.allowed[role]):
                column, _, privilege = one.partition(": ")
                if column in ours and f"{column.rpartition('.')[0]}: {privilege}" in self.allowed[role]:
                    continue
                if one.replace("_partitioned", "", 1) not in self.allowed[role]:
                    yield f"{role} gained {one}"
            for one in sorted(self.allowed[role] - held):
                yield f"{role} lost {one}"

    def cut_over(self, db: Any, spec: TableSpec) -> None:
        self.exchange(db, spec, lambda found, snapshot: cutover.plan_cut_over(found, snapshot, self.now.as_of))

    def roll_back(self, db: Any, spec: TableSpec) -> None:
        self.exchange(db, spec, cutover.plan_roll_back)

    def exchange(self, db: Any, spec: TableSpec, planned: Callable[[TableSpec, Snapshot], Plan]) -> None:
        """And then what takes longer than an exchange may: a second plan fills the materialized views."""
        assert self.now.bars(db, spec) == []
        while (plan := planned(*self.now.placed(db, spec))).steps:
            self.now.carry_out(db, plan)

    def each(self, what: Callable[[Any, TableSpec], Any]) -> None:
        for spec in self.specs:
            what(self.db, spec)


@pytest.mark.parametrize("hostile", [False, True], ids=["as Supabase has it", "hostile default privileges"])
def test_nothing_that_was_closed_is_open_after_any_stage(atlas: Any, now: Any, hostile: bool) -> None:
    if hostile:
        now.run(atlas, *HOSTILE)
    war = War(atlas, now)
    war.each(now.follow)
    war.stage("apply")
    future = "SELECT count(*) FROM public.create_future_partitions('{}-02-15')"
    assert now.value(atlas, future.format(2027)) > 0
    war.stage("create_future_partitions")
    war.each(war.cut_over)
    war.stage("the cut-over")
    assert now.value(atlas, future.format(2028)) > 0
    war.stage("create_future_partitions after the cut-over")
    by_hand(war)
    war.each(war.roll_back)
    war.stage("the roll-back")
    war.each(lambda db, spec: now.carry_out(db, cutover.plan_abandon(*now.placed(db, spec))))
    war.stage("the copy was abandoned")
    war.each(now.follow)
    war.each(war.cut_over)
    war.each(lambda db, spec: now.carry_out(db, cutover.plan_retire(*now.placed(db, spec))))
    war.stage("the retired table was dropped")


def test_what_somebody_opens_is_found(atlas: Any, now: Any) -> None:
    """The attacks themselves: one hole of each kind, and each is told."""
    war = War(atlas, now, TABLES[1])
    war.each(now.follow)
    now.run(
        atlas,
        "GRANT SELECT ON partitions.usage_logs_2024 TO authenticated",
        "GRANT EXECUTE ON FUNCTION atlas_ops.create_partition(text, text, timestamptz) TO authenticated",
        "GRANT EXECUTE ON FUNCTION public.create_future_partitions(timestamptz) TO anon",
        "ANALYZE partitions.usage_logs_2025",
        "ALTER TABLE partitions.usage_logs_2025 DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE public.usage_logs_partitioned DISABLE ROW LEVEL SECURITY",
    )
    with pytest.raises(AssertionError) as found:
        war.stage("somebody opened it")
    for told in (
        "authenticated, let into the schema: SELECT partitions.usage_logs_2024 ",
        "authenticated, let into the schema: EXECUTE with arguments atlas_ops.create_partition(text,text,timestamp with time zone) ",
        "anon gained public.create_future_partitions(as_of timestamp with time zone): EXECUTE",
        "authenticated, with all privileges: SELECT partitions.usage_logs_2025 ",
        "authenticated, with all privileges: pg_stats tells of ",
        "authenticated: public.usage_logs_partitioned see foreign ",
    ):
        assert told in str(found.value), told


COMPOSITE = {**TABLES[0], "incoming_foreign_keys": "composite"}
FOLLOWS_NOTHING = {"cut_over": "side_by_side", "incoming_foreign_keys": "refuse"}
# What a composite foreign key cannot serve, and the user who attacks has reacted to his message.
READY = (
    "DELETE FROM message_reactions WHERE message_id IN (SELECT id FROM messages WHERE created_at IS NULL)",
    "DELETE FROM content_reports WHERE reported_message_id IN (SELECT id FROM messages WHERE created_at IS NULL)",
    "INSERT INTO message_reactions (message_id, user_id, emoji) VALUES ('{own}', '{me}', 'mine'), ('{own}', '{them}', 'theirs')",
    "INSERT INTO content_reports (reporter_id, reported_message_id, report_reason) VALUES ('{me}', '{own}', 'mine')",
)


def test_a_composite_key_opens_no_table_that_refers(atlas: Any, now: Any) -> None:
    """The column that it adds is as open as its table; what is written there is the row's that is referred to, whoever writes."""
    people = attack.people(atlas)
    now.run(atlas, *HOSTILE, *(statement.format(**people) for statement in READY))
    war = War(atlas, now, COMPOSITE)
    war.each(now.follow)
    war.each(war.cut_over)
    assert [each.ours for each in war.campaigned("content_reports", "message_reactions")] == [
        ["reported_message_created_at"],
        ["message_created_at"],
    ]
    war.stage("the cut-over")
    war.each(war.roll_back)
    war.stage("the roll-back")  # the column is there, and no foreign key checks it
    war.each(lambda db, spec: now.carry_out(db, cutover.plan_switch_off(*now.placed(db, spec))))
    war.stage("the kill switch")  # the copy is stale, and as closed as while it followed
    war.each(lambda db, spec: now.carry_out(db, cutover.plan_abandon(*now.placed(db, spec))))
    war.stage("the copy was abandoned")


@pytest.mark.parametrize("copy", ["by_partition", "single_transaction"])
def test_a_copy_that_follows_nothing_is_no_way_in(atlas: Any, now: Any, copy: str) -> None:
    """By partition it is only read until 06 opens it, and again once 10 has closed it; after that, and where it is whole at once, it gives
    what the original gives, TRUNCATE aside."""
    war = War(atlas, now, *({**table, **FOLLOWS_NOTHING, "copy": copy} for table in TABLES))
    war.in_use = copy == "single_transaction"
    war.each(now.follow)
    war.stage("apply")
    if not war.in_use:
        war.each(war.cut_over)
        war.in_use = True
        war.stage("it was opened")
        with pytest.raises(AtlasError, match="the application writes to the partitioned table"):
            war.each(lambda db, spec: cutover.plan_abandon(*now.placed(db, spec)))
        war.each(war.roll_back)
        war.in_use = False
        war.stage("it was closed again")
    war.each(lambda db, spec: now.carry_out(db, cutover.plan_abandon(*now.placed(db, spec))))
    war.stage("it was abandoned")


def test_two_tables_in_step_side_by_side_are_no_way_in(atlas: Any, now: Any) -> None:
    """The guide's way, online: the copy is only read until the application moves; then it gives what the original gave, which is only read."""
    moved = {**TABLES[1], "cut_over": "side_by_side", "in_step": "to_original"}
    war = War(atlas, now, {**moved, "in_step": "to_partitioned"})
    war.each(now.follow)
    war.stage("apply")
    there, (back,) = war.specs, tables_from([moved])
    war.cut_over(atlas, back)
    war.in_use = True
    with pytest.raises(AssertionError) as closed:
        war.stage("the application moved")
    told = [line for line in str(closed.value).splitlines() if ": public." in line and not line.startswith("assert ")]
    assert told and all("sqlstate='55000'" in line and " was possible before (" in line for line in told), told
    assert {line.split(": ")[1].split(" ")[0] for line in told} == {"public.usage_logs"}
    war.roll_back(atlas, back)
    war.in_use, war.specs = False, there
    war.stage("the application moved back")
    war.each(lambda db, spec: now.carry_out(db, cutover.plan_abandon(*now.placed(db, spec))))
    war.stage("the copy was abandoned")


def test_what_leaves_and_comes_back_is_as_closed_as_what_stays(
    atlas: Any, now: Any, clusters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The year that 08 puts apart, and 11 brings back: beside the table, in a view over both, and attached again."""
    monkeypatch.setenv("ATLAS_OPS_HOME", str(clusters / "home"))
    now.run(atlas, *HOSTILE)
    keys = {**TABLES[1], "keep": 1}
    war, road = War(atlas, now, keys), Road(now, atlas, tmp_path / "archive", keys)
    war.each(now.follow)
    war.each(war.cut_over)
    [year] = road.detach()
    war.stage("the detach", whole=False)
    road.export()
    road.prove()
    war.stage("the export and its proof", whole=False)
    assert len(road.drop()) == 1
    road.restore(year, place="aside", view="public.usage_logs_all")
    assert [each.name for each in war.campaigned("usage_logs_all")] == ["usage_logs_all"]
    war.stage("it was restored beside the table, in a view with it", whole=False)
    road.restore(year)
    assert year in road.attached() and not war.campaigned("usage_logs_all")
    war.stage("it was attached again")


def by_hand(war: War) -> None:
    """A partition that somebody detaches, or even takes out of the closed schema, is as closed as it was."""
    places = [("messages", "partitions.messages_2025"), ("usage_logs", "partitions.usage_logs_2025")]
    bounds = {
        part: war.now.value(
            war.db, f"SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = '{part}'::regclass"
        )
        for _, part in places
    }
    for table, part in places:
        war.now.run(war.db, f"ALTER TABLE {table} DETACH PARTITION {part}")
    war.stage("a partition was detached by hand", whole=False)
    for _, part in places:
        war.now.run(war.db, f"ALTER TABLE {part} SET SCHEMA public")
    war.stage("and moved into an exposed schema", whole=False)
    for table, part in places:
        name = part.removeprefix("partitions.")
        war.now.run(
            war.db,
            f"ALTER TABLE public.{name} SET SCHEMA partitions",
            f"ALTER TABLE {table} ATTACH PARTITION {part} {bounds[part]}",
        )
    war.stage("and attached again")
