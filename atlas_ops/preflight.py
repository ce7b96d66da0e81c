"""Decides whether a table can be partitioned as specified, and says beforehand what will be different. Pure.

Red checks stop the migration; each names its cure, with the SQL where there is one. The order is the one a DBA would ask in:
can it be done at all, will a row be lost, what will the application notice, what will it cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date

from psycopg import sql

from atlas_ops import bounds, cutover, division, incoming, installation, key_checks, repoint
from atlas_ops.definition import fit, indexed_by, name, plainly, text
from atlas_ops.model import KeyFacts, Relation, Snapshot, Taken
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

OLDEST_VERSION = 150000
LEFTOVERS = "leftovers"  # the schema that the SQL of a cure moves things to
UNVALIDATED_SINCE = 180000  # foreign keys of partitioned tables may be NOT VALID
MANY_PARTITIONS = 1_000  # an unpruned read of as many took 168 ms and 2,004 locks (measured on PostgreSQL 15)
OLD_TRANSACTION_S = 60.0
SPACE_FACTOR = 1.2  # heap and indexes once more, and their WAL before it is recycled


def checks(
    spec: TableSpec,
    snapshot: Snapshot,
    as_of: date,
    facts: KeyFacts | None = None,
    counts: Mapping[str, int] | None = None,
) -> tuple[Check, ...]:
    """Every finding for one table. Without `facts` and `counts` (reads of the whole table) those that the catalogs alone can tell."""
    if cutover.turned(snapshot):
        return (
            _check(
                Severity.NOTE, spec, "cut over", "The application uses the partitioned table.",
                "What preflight asks was answered before the cut-over.", "04 Inspect partitions tells how it is; 10 Roll back is the way back.",
            ),
        )  # fmt: skip
    found = list(_possible(spec, snapshot))
    if any(check.severity is Severity.STOP for check in found):
        return tuple(found)
    original = snapshot.original
    assert original is not None  # _possible stops without it
    found += _names(spec, snapshot, as_of)
    found += _names_of_indexes(spec, snapshot, original, as_of)
    found += _rights(spec, snapshot, original)
    found += key_checks.uniqueness(spec, original)
    if facts is not None:
        found += key_checks.values(spec, original, facts)
    if counts is not None:
        found += key_checks.out_of_range(spec, original, as_of, counts)
    found += _relations(spec, original, snapshot.server.version)
    found += _own_rules(spec, original)
    found += _following(spec, snapshot)
    found += _cost(spec, snapshot, original, as_of)
    return tuple(found)


def _check(
    severity: Severity, spec: TableSpec, check: str, what: str, why: str = "", cure: str = "", query: str = ""
) -> Check:
    return Check(severity, spec.name, check, what, why, cure, query)


def _regclass(spec: TableSpec) -> str:
    """The table as a literal of type regclass."""
    return text(sql.SQL("{}::regclass").format(sql.Literal(text(name(spec.schema, spec.name)))))


# -- can it be done at all


def _possible(spec: TableSpec, snapshot: Snapshot) -> Iterator[Check]:
    server, original = snapshot.server, snapshot.original
    if server.version < OLDEST_VERSION:
        yield _check(
            Severity.STOP, spec, "version", f"The server is PostgreSQL {server.version_text}.",
            "Security-invoker views and triggers on partitioned tables need 15.", "Upgrade the server first.",
        )  # fmt: skip
    if original is None:
        yield _check(
            Severity.STOP, spec, "table", f"There is no table {spec.table}.",
            f"The database {server.database} has no relation of that name in schema {spec.schema}.",
            "Correct `table` in the specification.",
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema');",
        )  # fmt: skip
        return
    other_kind = list(_kind(spec, original))
    if other_kind:
        yield from other_kind  # a view has no primary key either: one red line is enough
        return
    yield from _key_column(spec, original)
    if original.primary_key is None:
        yield _check(
            Severity.STOP, spec, "primary key", f"{spec.table} has no primary key.",
            "Without it a row cannot be told from its copy: nothing could be verified.",
            "Add one: find or make a unique, NOT NULL column, build its index concurrently, then ALTER TABLE ... ADD PRIMARY KEY USING INDEX.",
            f"SELECT indexrelid::regclass FROM pg_index WHERE indrelid = {_regclass(spec)} AND indisunique AND indpred IS NULL;",
        )  # fmt: skip
    for constraint in original.constraints:
        if constraint.kind == "x" or "WITHOUT OVERLAPS" in constraint.definition:
            yield _check(
                Severity.STOP, spec, "exclusion constraint", f"{constraint.name}: {constraint.definition}",
                "An exclusion constraint cannot hold across partitions, and the copy would silently lack it.",
                "Replace it by a rule that holds within a partition, or leave this table as it is.",
            )  # fmt: skip
        if constraint.kind in "cn" and " NO INHERIT" in constraint.definition.rpartition(")")[2]:
            yield _check(
                Severity.STOP, spec, "constraint", f"{constraint.name}: {constraint.definition}",
                "PostgreSQL refuses NO INHERIT on a partitioned table, whose rows all lie in its partitions.",
                "Make the constraint again without NO INHERIT.",
                f"ALTER TABLE {spec.table} DROP CONSTRAINT {text(name(constraint.name))}; -- then ADD CONSTRAINT without NO INHERIT",
            )  # fmt: skip
    for trigger in original.triggers:
        if trigger.row_level and trigger.transition_tables:
            yield _check(
                Severity.STOP, spec, "trigger", f"{trigger.name} is a row trigger with transition tables.",
                "PostgreSQL refuses those on partitions.", "Rewrite it as a statement trigger.",
            )  # fmt: skip


def _kind(spec: TableSpec, original: Relation) -> Iterator[Check]:
    table = original.table
    problem = {
        table.kind == "p": (
            "is partitioned already",
            "There is nothing to migrate: 04 Inspect partitions and 08 Plan archive serve it as it is, with this specification.",
        ),
        table.kind not in "rp": ("is no table", "Name the table behind the view."),
        table.is_partition: ("is a partition of another table", "Name the partitioned table."),
        table.has_children and table.kind == "r": (
            "has inheritance children",
            "Bring the children's rows home first.",
        ),
        table.persistence != "p": ("is unlogged or temporary", f"ALTER TABLE {spec.table} SET LOGGED;"),
    }.get(True)
    if problem:
        what, cure = problem
        yield _check(
            Severity.STOP,
            spec,
            "table",
            f"{spec.table} {what}.",
            "Only an ordinary, logged table can be migrated.",
            cure,
        )


def _key_column(spec: TableSpec, original: Relation) -> Iterator[Check]:
    key = original.column(spec.partition_key)
    candidates = [
        column.name
        for column in original.columns
        if column.base_type in bounds.KEY_TYPES and column.type_kind == "b" and not column.generated
    ]
    cure = (
        f"Name one of: {', '.join(candidates)}." if candidates else "This table has no column of time to partition by."
    )
    if key is None:
        yield _check(
            Severity.STOP, spec, "partition key", f"{spec.table} has no column {spec.partition_key}.",
            "The specification names it as the partition key.", cure,
        )  # fmt: skip
    elif key.base_type not in bounds.KEY_TYPES or key.type_kind != "b":
        yield _check(
            Severity.STOP, spec, "partition key", f"{spec.partition_key} is of type {key.type}.",
            "Partitions by time need a key of type date, timestamp or timestamp with time zone.", cure,
        )  # fmt: skip
    elif key.generated:
        yield _check(
            Severity.STOP, spec, "partition key", f"{spec.partition_key} is a generated column.",
            "PostgreSQL refuses generated columns in a partition key.", cure,
        )  # fmt: skip


# -- names and rights


def _names(spec: TableSpec, snapshot: Snapshot, as_of: date) -> Iterator[Check]:
    ours = {(partition.schema, partition.name) for partition in snapshot.partitions}
    if snapshot.online is not None:
        ours.add((spec.partition_schema, spec.key_log_name))
    partitions = set(division.names_needed(spec, as_of)) - {spec.partitioned_name, spec.name}
    for taken in snapshot.taken:
        place = (taken.schema, taken.name)
        if place in ours:
            continue
        if place == (spec.partitioned_schema, spec.partitioned_name) and not snapshot.registered:
            already = "It is partitioned already: 04 Inspect partitions and 08 Plan archive serve it as it is. "
            others = taken.kind == "partitioned table"
            yield _taken(spec, taken, f"{already if others else ''}The partitioned table would get this name.")
        elif taken.schema == spec.partition_schema and taken.name in partitions:
            yield _taken(
                spec,
                taken,
                "A partition would get this name; CREATE TABLE IF NOT EXISTS would skip it silently, and inserts would fail later.",
            )
        elif taken.schema == spec.partition_schema and taken.name == spec.name:
            yield _taken(spec, taken, "The partitioned table is built under this name before it is renamed.")
        elif taken.schema == "public" and taken.name in installation.INSTALLED_NAMES:
            if "atlas_ops" not in (taken.comment or ""):
                yield _taken(spec, taken, "A function or view of ours is installed under this name with the migration.")
        elif taken.name in partitions:
            yield _check(
                Severity.WARN, spec, "same name elsewhere", f"{taken.schema}.{taken.name} is there already ({taken.kind}).",
                "It does not stand in the way, but a list of tables by name shows both: it looks like an abandoned attempt"
                + (f" (a partition of {taken.partition_of})." if taken.partition_of else "."),
                "Look whether anything uses it; drop it when nothing does.",
                f"SELECT * FROM pg_stat_user_tables WHERE schemaname = {text(sql.Literal(taken.schema))} AND relname = {text(sql.Literal(taken.name))};",
            )  # fmt: skip


def _names_of_indexes(spec: TableSpec, snapshot: Snapshot, original: Relation, as_of: date) -> Iterator[Check]:
    """Names that come after the tables' own: of their indexes, of the way to the closed schema and back, and what the original takes there."""
    swaps = spec.copy == "online" and spec.cut_over == "swap"
    tables = [one for one in division.names_needed(spec, as_of) if one not in (spec.name, spec.partitioned_name)]
    inside = {*tables, *division.index_names(spec, original, tables)}
    if snapshot.partitioned is None:  # later they are our own
        beside = division.index_names(spec, original, [spec.partitioned_name])
        away = {(taken.schema, taken.name) for taken in snapshot.taken} - {(spec.schema, spec.name)}
        for taken in snapshot.taken:
            place = (taken.schema, taken.name)
            if (taken.schema, taken.index_of) in away:
                continue  # it goes where its table goes, which is told to go
            if place == (spec.schema, spec.retired_name) and swaps:
                yield _taken(spec, taken, "At the cut-over the original has this name on its way to the closed schema.")
            elif (
                place == (spec.partition_schema, spec.partitioned_name)
                and spec.partition_schema != spec.partitioned_schema
            ):
                yield _taken(spec, taken, "The partitioned table has this name on its way out of the closed schema.")
            elif (taken.schema == spec.partition_schema and taken.name in inside.difference(tables)) or (
                taken.schema in (spec.partitioned_schema, spec.partition_schema) and taken.name in beside
            ):
                yield _taken(spec, taken, "An index, or the sequence of an identity, would get this name.")
    for index in original.indexes if swaps else ():
        if index.name in inside and not (
            snapshot.partitioned is None and index.name == spec.retired_name
        ):  # told above
            other = text(name(fit(f"{index.name[:40]}_of_{spec.name}")))
            yield _check(
                Severity.STOP, spec, "name taken", f"Index {index.name} of {spec.table} has the name of a relation of ours.",
                f"At the cut-over the original takes its indexes to {spec.partition_schema}, where that name is taken.", "Rename it.",
                f"ALTER INDEX {text(name(spec.schema, index.name))} RENAME TO {other};",
            )  # fmt: skip


def _taken(spec: TableSpec, taken: Taken, why: str) -> Check:
    at, kind = text(name(taken.schema, taken.name)), {"type": "TYPE", "function": "FUNCTION"}.get(taken.kind, "TABLE")
    away = f"CREATE SCHEMA IF NOT EXISTS {LEFTOVERS};\nALTER {kind} {at} SET SCHEMA {LEFTOVERS};"
    return _check(
        Severity.STOP, spec, "name taken", f"The name {taken.schema}.{taken.name} is taken by {'an' if taken.kind[0] in 'aeiou' else 'a'} {taken.kind}.", why,
        "Look what it is; move it away, or drop it when nothing uses it. A mere RENAME would leave the names of its indexes taken. "
        f"Or name another partitioned_table or partition_schema for {spec.name}.",
        f"ALTER INDEX {at} RENAME TO {text(name(fit(taken.name + '_stale')))};" if taken.kind.endswith("index") else away,
    )  # fmt: skip


def _rights(spec: TableSpec, snapshot: Snapshot, original: Relation) -> Iterator[Check]:
    server, table, room = snapshot.server, original.table, snapshot.partition_schema
    role = text(name(server.role))
    if not table.may_own:
        yield _check(
            Severity.STOP, spec, "rights", f"Role {server.role} does not own {spec.table} ({table.owner} does).",
            "Only the owner reads every row and may give the copy the same owner.",
            "Connect as the owner, or become a member of it.", f"GRANT {text(name(table.owner))} TO {role};",
        )  # fmt: skip
    if not table.may_select:
        yield _check(
            Severity.STOP, spec, "rights", f"Role {server.role} may not read {spec.table}.", "Every row must be read.",
            "Grant it.", f"GRANT SELECT ON {spec.table} TO {role};",
        )  # fmt: skip
    if table.row_security and not server.bypasses_row_security and (not table.may_own or table.force_row_security):
        yield _check(
            Severity.STOP, spec, "row security", f"Row security applies to role {server.role} on {spec.table}.",
            "A policy would hide rows from the copy, and they would be lost without a word.",
            "Connect as a role with BYPASSRLS, or as the owner where row security is not forced.", f"ALTER ROLE {role} BYPASSRLS;",
        )  # fmt: skip
    for fk in original.constraints:
        if not fk.may_reference:
            yield _check(
                Severity.STOP, spec, "rights", f"Role {server.role} may not make foreign keys to {fk.referenced}.",
                f"The copy needs {fk.name} as the original has it.", "Grant it.", f"GRANT REFERENCES ON {fk.referenced} TO {role};",
            )  # fmt: skip
    yield from _rights_to_install(spec, snapshot)
    if room is None:
        return
    if not room.may_create or not room.may_own:
        yield _check(
            Severity.STOP, spec, "rights",
            f"Role {server.role} may not {'use' if room.exists else 'create'} the schema {spec.partition_schema} as its own.",
            "The partitions lie there, closed to the application.", "Grant it, or name another partition_schema.",
            f"GRANT CREATE ON DATABASE {text(name(server.database))} TO {role};",
        )  # fmt: skip
    if not room.may_create_target:
        yield _check(
            Severity.STOP, spec, "rights", f"Role {server.role} may not create tables in schema {spec.partitioned_schema}.",
            "The partitioned table is to lie there.", "Grant it.",
            f"GRANT CREATE ON SCHEMA {text(name(spec.partitioned_schema))} TO {role};",
        )  # fmt: skip
    if room.open_to and room.foreign_relations:
        yield _check(
            Severity.STOP, spec, "open schema",
            f"The schema {spec.partition_schema} is open to {', '.join(room.open_to)} and holds {room.foreign_relations} relations that are not ours.",
            "A partition in a schema the application reaches bypasses the policies of the partitioned table; closing this schema could "
            "break what else lies in it.",
            "Name a schema of its own as partition_schema, such as partitions.",
        )  # fmt: skip


def _rights_to_install(spec: TableSpec, snapshot: Snapshot) -> Iterator[Check]:
    server, role = snapshot.server, text(name(snapshot.server.role))
    installed = {found.name for found in snapshot.installed}
    wanted = [
        (server.may_create_schema or "atlas_ops" in installed, f"DATABASE {text(name(server.database))}"),
        (server.may_create_in_public or installed.issuperset(installation.INSTALL), "SCHEMA public"),
    ]
    for allowed, place in wanted:
        if not allowed:
            yield _check(
                Severity.STOP, spec, "rights", f"Role {server.role} lacks CREATE on {place.lower()}.",
                "Sizes, health and future partitions become objects of the database: a schema atlas_ops, two functions and a view in public.",
                "Grant it.", f"GRANT CREATE ON {place} TO {role};",
            )  # fmt: skip


# -- what hangs on it


def _own_rules(spec: TableSpec, original: Relation) -> Iterator[Check]:
    for rule in (binding for binding in original.bindings if binding.kind == "own rule"):
        yield _check(
            Severity.STOP, spec, "rule", f"Rule {plainly(rule.member)} is on it.",
            "A rule rewrites statements, and would rewrite those that keep the two tables in step too: it is not carried over.",
            "Let a trigger do what the rule does (triggers are carried over), then drop the rule.",
            text(sql.SQL("DROP RULE {} ON {};").format(name(rule.member), name(spec.schema, spec.name))),
        )  # fmt: skip


def _relations(spec: TableSpec, original: Relation, version: int) -> Iterator[Check]:
    for reference in original.references if spec.copy != "online" or spec.cut_over != "swap" else ():
        yield _check(
            Severity.WARN, spec, "incoming foreign key", f"{reference.table}: {reference.definition}",
            "It goes on pointing at the original. It cannot point at the partitioned table with this column alone: there is no unique key on it.",
            "Side by side it keeps working as long as the original is kept; the cut-over must settle it.",
        )  # fmt: skip
    outgoing = [fk for fk in original.constraints if fk.kind == "f"]
    if outgoing:
        yield _check(
            Severity.NOTE, spec, "foreign keys", ", ".join(f"{fk.name} to {fk.referenced}" for fk in outgoing),
            "Made on the copy too; each attached partition takes ACCESS EXCLUSIVE on the referenced table for a few milliseconds.",
        )  # fmt: skip
    unvalidated = [constraint.name for constraint in original.constraints if not constraint.validated]
    checks = any(constraint.kind == "c" and not constraint.validated for constraint in original.constraints)
    refused = checks or (version < UNVALIDATED_SINCE and any(not fk.validated for fk in outgoing))
    if unvalidated:
        yield _check(
            Severity.STOP if refused else Severity.WARN, spec, "unvalidated", f"Not validated on the original: {', '.join(unvalidated)}.",
            "The copy checks every row against every CHECK: one that does not satisfy it would stop the copy half-way. And before PostgreSQL 18 a "
            "partitioned table cannot carry an unvalidated foreign key.",
            "Validate them first.",
            "\n".join(f"ALTER TABLE {spec.table} VALIDATE CONSTRAINT {text(name(one))};" for one in unvalidated),
        )  # fmt: skip
    for column in original.columns:
        if column.sequence and column.sequence == column.default_sequence:
            yield _check(
                Severity.NOTE, spec, "sequence", f"{column.sequence} belongs to {plainly(spec.schema, spec.name, column.name)}.",
                "Both tables draw their numbers from it, so they never meet. The original cannot be dropped while the partitioned table needs it.",
                "At the cut-over it changes hands: ALTER SEQUENCE ... OWNED BY.",
            )  # fmt: skip
    if original.triggers:
        yield _check(
            Severity.NOTE, spec, "triggers", ", ".join(trigger.name for trigger in original.triggers),
            "Carried over. They do not fire while rows are copied: the copy fills tables that are not attached yet. An UPDATE that moves a row to "
            "another partition makes row triggers fire for INSERT and DELETE as well.",
        )  # fmt: skip
    if original.policies:
        yield _check(
            Severity.NOTE, spec, "policies", f"{len(original.policies)} policies, row security {'on' if original.table.row_security else 'OFF'}.",
            "Carried over one by one, redundant ones included: none is judged unasked.",
        )  # fmt: skip
    if original.table.replica_identity == "i":
        yield _check(
            Severity.WARN, spec, "replica identity", "Changes are replicated by an index (REPLICA IDENTITY USING INDEX).",
            "The copy replicates by its primary key: its own indexes have other names and the partition key added.",
            "Ask who subscribes before the application moves.",
        )  # fmt: skip
    if not original.table.row_security and original.policies:
        yield _check(
            Severity.WARN, spec, "row security", "There are policies, but row security is off: they do nothing.", "", "Switch it on, if that is meant.",
            f"ALTER TABLE {spec.table} ENABLE ROW LEVEL SECURITY;",
        )  # fmt: skip
    for dependent in original.dependents:
        yield _check(
            Severity.WARN if dependent.detail else Severity.NOTE, spec, dependent.kind,
            f"{dependent.name}{f' ({dependent.detail})' if dependent.detail else ''}",
            "Bound to the original by OID: it goes on reading the original." if dependent.binds == "oid" else
            "Names the table in its text: it goes on with whatever has that name.",
        )  # fmt: skip
    for publication in original.publications:
        owned = publication.may_own or spec.publications == "leave" or publication.all_tables
        if publication.narrowed and spec.publications == "carry":
            yield _check(
                Severity.STOP, spec, "publication", f"Publication {publication.name} carries some rows or columns of it only.",
                "PostgreSQL refuses WHERE and column lists for a partitioned table while publish_via_partition_root is off.",
                "Ask who subscribes, then switch it on, or set publications: leave.",
                f"ALTER PUBLICATION {text(name(publication.name))} SET (publish_via_partition_root = true);",
            )  # fmt: skip
        yield _check(
            Severity.WARN if owned else Severity.STOP, spec, "publication", f"In publication {publication.name}.",
            "Events of the partitioned table carry the "
            + ("partitioned table's name." if publication.via_root else "partition's name (publish_via_partition_root is off): a subscriber that filters by name sees none.")
            + ("" if owned else " This role does not own the publication and cannot add the copy."),
            "Ask who subscribes before the application moves." if owned else "Connect as its owner, or set publications: leave.",
        )  # fmt: skip


# -- the online copy


def _following(spec: TableSpec, snapshot: Snapshot) -> Iterator[Check]:
    if spec.copy != "online":
        if spec.copy == "by_partition":
            yield _check(
                Severity.WARN, spec, "writes", "copy: by_partition does not follow what the application writes meanwhile.",
                "And a row that was deleted from the original, but not yet from the copy, can refuse a DELETE of what it refers to.",
                "Stop the writers while it runs and until the application has moved, or use copy: online.",
            )  # fmt: skip
            if spec.cut_over == "swap":
                yield _check(
                    Severity.WARN, spec, "cut over", "06 exchanges no names where the copy follows nothing.",
                    "The application's roles may only read the copy until 06 opens it, and that takes another cut_over.",
                    "cut_over: side_by_side, and the application moves to the new name itself; or copy: online.",
                )  # fmt: skip
        return
    if snapshot.online is not None and not snapshot.online.captured and division.copied(snapshot):
        yield _check(
            Severity.STOP, spec, "capture", f"The capture of {spec.table} is not there, or does not always fire.",
            "It was switched off, or somebody dropped its triggers: what was written since is in no log, and the copy cannot be trusted.",
            'Remove the copy (10 Roll back with how = "abandon"), then begin again.',
        )  # fmt: skip
    if spec.cut_over == "swap" and snapshot.original is not None:
        said = incoming.checks(spec, snapshot.original, snapshot.server.version, snapshot.taken, snapshot.aside)
        bound = [
            check
            for check in repoint.checks(spec, snapshot.original)
            if check.name not in ("publication", "own rule")  # see _relations
        ]
        for check in (*bound, *said):
            # it does not stand in the way of the copy
            severity = Severity.WARN if check.severity is Severity.STOP else check.severity
            yield replace(
                check,
                severity=severity,
                why=f"It stops the cut-over. {check.why}" if severity is Severity.WARN else check.why,
            )
    if not snapshot.server.sees_activity:
        yield _check(
            Severity.WARN, spec, "who blocks", f"Role {snapshot.server.role} does not see what other sessions do.",
            "Neither can the copy wait for old snapshots, nor the cut-over say who stands in its way.",
            "Grant it.", f"GRANT pg_read_all_stats TO {text(name(snapshot.server.role))};",
        )  # fmt: skip


# -- what it costs


def _cost(spec: TableSpec, snapshot: Snapshot, original: Relation, as_of: date) -> Iterator[Check]:
    table = original.table
    count = len(division.periods(spec, as_of)) + spec.default_partition
    yield _check(
        Severity.NOTE, spec, "space", f"{table.bytes / 1e6:,.1f} MB on disk; free at least {table.bytes * SPACE_FACTOR / 1e6:,.1f} MB before you start.",
        "Both tables stand side by side until the original is dropped.", "See the free space on the server's disk: SQL cannot tell.",
        f"SELECT pg_size_pretty(pg_total_relation_size({_regclass(spec)}));",
    )  # fmt: skip
    locks = count * (1 + sum(index.valid for index in original.indexes) + len(spec.indexes))
    if count > MANY_PARTITIONS or locks > snapshot.server.max_locks:
        yield _check(
            Severity.WARN, spec, "many partitions", f"{count:,} partitions; a query that prunes none takes up to {locks:,} locks of {snapshot.server.max_locks:,} there are.",
            "Planning and locking grow with the partitions a query touches.", f"A longer period than {spec.every}, or more max_locks_per_transaction.",
        )  # fmt: skip
    if not indexed_by(original, spec.partition_key):
        yield _check(
            Severity.WARN, spec, "no index on the key", f"No index of {spec.table} begins with {spec.partition_key}.",
            f"Each of the {count} parts is copied by reading the whole table once.", "Harmless on a small table; on a big one it decides the time.",
            f"CREATE INDEX CONCURRENTLY ON {text(name(spec.schema, spec.name))} ({text(name(spec.partition_key))});",
        )  # fmt: skip
    invalid = [index.name for index in original.indexes if not index.valid]
    if invalid:
        yield _check(
            Severity.WARN, spec, "invalid index", ", ".join(invalid), "A CREATE INDEX CONCURRENTLY that failed; it is not carried over.",
            "Drop or rebuild it.", "\n".join(f"REINDEX INDEX CONCURRENTLY {text(name(spec.schema, one))};" for one in invalid),
        )  # fmt: skip
    for transaction in snapshot.transactions:
        if transaction.seconds > OLD_TRANSACTION_S or (transaction.holds or "") in (
            "AccessExclusiveLock",
            "ExclusiveLock",
        ):
            yield _check(
                Severity.WARN, spec, "long transaction",
                f"Process {transaction.pid} ({transaction.role}, {transaction.application or 'no name'}, {transaction.state}) for {transaction.seconds:,.0f} s.",
                "It holds back VACUUM, and its locks can make a step wait until lock_timeout.",
                "Let it end, or end it when you know what it is.", f"SELECT pg_terminate_backend({transaction.pid});",
            )  # fmt: skip
    edges = bounds.periods(spec.every, spec.from_, spec.until) if spec.until else ()
    yield _check(
        Severity.OK, spec, "range", f"{count - spec.default_partition} partitions by {spec.every}, from {spec.from_} on"
        + (f" ({len(edges)} as specified{' and as the rows ask' if spec.out_of_range == 'extend' else ''}, the rest to stay {spec.ahead} ahead of {as_of})." if edges else "."),
    )  # fmt: skip
