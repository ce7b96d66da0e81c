"""Plans how a month comes back: from either file of the archive or from its quarantine, attached again or left aside. Pure.

A month is restored in one transaction: its table as the partitioned table asks for it today, its rows, the comparison with the digest of the
export, its indexes, its mark. A killed run leaves the table whole or not at all. ATTACH then reads no row of it: a CHECK proves the bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from psycopg import sql

from atlas_ops import bounds, contents, definition, exports, registry
from atlas_ops.archive import BEFORE
from atlas_ops.definition import name, plainly, raw, text
from atlas_ops.division import BOUND_CHECK
from atlas_ops.manifest import Export, Form, Month, Named
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.partitions import attached, partitioned_table, qualified
from atlas_ops.plan import Effect, Step
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec

STAGE = "restore_archive"
SMALL_BYTES = 8 << 20  # of a default partition that ATTACH may read: some tens of milliseconds
NOT_HERE = "atlas_ops_not_"  # how the CHECK of the default partition is called that spares ATTACH this

Place = Literal["attach", "aside"]
Source = Literal["dump", "parquet", "there"]
"""`there`: the table stands beside the partitioned table: it was detached and not dropped, or restored and left aside."""


@dataclass(frozen=True, slots=True)
class Back:
    """A month that is to come back, and how."""

    partition: str  # the name it had
    schema: str
    table: str  # the name it has once it is restored
    bound: str
    source: Source
    place: Place
    before: str | None  # the comment it had as a partition
    month: Month | None  # None: it is there, and was never exported
    columns: tuple[tuple[str, str], ...] = ()  # (name, type) of a table that is there
    foreign_keys: tuple[str, ...] = ()  # of a table that is there
    attached_checks: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()  # names of its indexes and statistics that other relations have by now

    def named(self, each: Iterable[Named]) -> dict[str, str]:
        """The names that they get back, by what they are made of; none beside the month itself. A name that is taken gets an ending."""
        if self.table != self.partition:
            return {}
        return {one.is_: definition.fit(f"{one.name}_restored") if one.name in self.taken else one.name for one in each}


def mark(spec: TableSpec) -> str:
    """How the comment of a table starts that was restored and is not attached."""
    return f"atlas_ops: restored rows of {text(name(spec.schema, spec.name))} "


def told(spec: TableSpec, partition: Partition) -> tuple[str, str | None]:
    """The bound and the comment before, from the mark of a restored table."""
    bound, _, rest = (partition.comment or "").removeprefix(mark(spec)).partition(", restored from ")
    _, split, before = rest.partition(BEFORE)
    return bound, before if split else None


# whether it fits


def checks(spec: TableSpec, snapshot: Snapshot, one: Back, late: int) -> Iterator[Check]:
    """What would make the way back fail, before anything is done."""
    relation = partitioned_table(snapshot)
    if one.place == "aside":
        return
    if relation is None or not bounds.parse_bound(one.bound).readable:
        yield _red(spec, one, f"{one.partition} cannot be attached.", "Its bound is no range of time, or there is no partitioned table.",
                   'Leave it aside: place = "aside".')  # fmt: skip
        return
    taken = [
        partition.name
        for partition, bound in attached(snapshot)
        if bound.readable and overlap(bound, bounds.parse_bound(one.bound))
    ]
    if taken:
        yield _red(spec, one, f"{taken[0]} holds the range of {one.partition} already.", "Two partitions cannot hold the same range.",
                   'Leave it aside: place = "aside".')  # fmt: skip
    if late:
        looked = sql.SQL("SELECT count(*) FROM {} WHERE {};").format(
            name(*spec.partitioned_at), raw(bounds.condition(one.bound, text(name(spec.partition_key))))
        )
        yield _red(spec, one, f"{late:,} rows of the range of {one.partition} lie in the default partition.",
                   "They arrived after it had left, and ATTACH refuses while another partition holds rows of the range.",
                   "Restore the month aside, move these rows into it, then attach it. They are told by: " + text(looked))  # fmt: skip
    different = _different(relation, one)
    if different:
        yield _red(spec, one, f"{relation.table.name} has other columns than {one.partition} had: {', '.join(different)}.",
                   "A column was added without a default, dropped, renamed, or has another type since the month left.",
                   'Leave it aside: place = "aside". Then INSERT ... SELECT what you need.')  # fmt: skip


def _different(relation: Relation, one: Back) -> list[str]:
    """The columns that stand in the way: of a table that is there every difference, of a file what it has more or cannot fill."""
    if one.source == "there" or one.month is None:
        now = {(column.name, column.type) for column in relation.columns}
        return sorted({column for column, _ in now.symmetric_difference(one.columns)})
    fields = one.month.export.fields
    return [field.name for field in fields if not _has(relation, field.name, field.type)] + _unfilled(
        relation, one.month.export
    )


def _unfilled(relation: Relation, export: Export) -> list[str]:
    """Columns that are newer than the export and take no NULL."""
    known = {field.name for field in export.fields}
    return [
        column.name
        for column in relation.columns
        if column.name not in known
        and column.not_null
        and column.default is None
        and not column.identity
        and not column.generated
    ]


def overlap(one: bounds.Bound, other: bounds.Bound) -> bool:
    """Whether two ranges share an instant; a default partition is no range."""
    if any(each.is_default or not each.readable for each in (one, other)):
        return False
    return (one.lower is None or other.upper is None or one.lower < other.upper) and (
        other.lower is None or one.upper is None or other.lower < one.upper
    )


def _red(spec: TableSpec, one: Back, what: str, why: str, cure: str) -> Check:
    return Check(Severity.STOP, spec.table, f"restore {one.partition}", what, why, cure)


def _has(relation: Relation, column: str, type_: str) -> bool:
    found = relation.column(column)
    return found is not None and found.type == type_


def fits(relation: Relation | None, export: Export) -> bool:
    """Whether the partitioned table can be the model of the restored one: not of rows without a key, which it does not take."""
    return (
        relation is not None
        and export.bound != ""
        and all(_has(relation, field.name, field.type) for field in export.fields)
        and not _unfilled(relation, export)
    )


# the steps


def steps(
    spec: TableSpec, snapshot: Snapshot, one: Back, url: str, united: Sequence[tuple[str, str]] = ()
) -> Iterator[Step]:
    """The way back of one month. `united`: our views that read its table, which would show its rows twice."""
    relation = partitioned_table(snapshot)
    if one.source != "there":
        assert one.month is not None
        yield _restore(spec, snapshot, relation, one, one.month.export, one.source, url)
    if one.place == "attach":
        assert relation is not None
        yield from _attach(spec, snapshot, relation, one, united)


def _restore(
    spec: TableSpec, snapshot: Snapshot, relation: Relation | None, one: Back, export: Export, form: Form, url: str
) -> Step:
    at = (one.schema, one.table)
    alike = relation is not None and fits(relation, export)
    made = (
        _like(spec, snapshot, relation, one, export)
        if relation is not None and alike
        else [*_plain(at, export), *definition.closing(*at, snapshot.closed_to)]
    )
    after = _indexes(spec, relation, one, export) if relation is not None and alike else []
    same = contents.same_statement(
        contents.sums(name(*at), export.fields), export.rows, export.content, what=f"What was restored of {one.partition} from its {form}",
        cure=f"Nothing was kept. Try the other form: form = \"{'parquet' if form == 'dump' else 'dump'}\".",
    )  # fmt: skip
    line = one.month.line.number if one.month else 0
    comment = f"{mark(spec)}{one.bound}, restored from its {form}, line {line} of the manifest"
    if export.comment:
        comment += f"{BEFORE}{export.comment}"
    kept = export.files[form]
    return Step(
        name=f"restore {one.table} from its {form}",
        statements=(
            *made,
            exports.load_statement(name(*at), export.fields, form),
            same,
            *after,
            *definition.comment(*at, comment),
            text(sql.SQL("ANALYZE {}").format(name(*at))),
        ),
        lock="ACCESS SHARE",
        on=plainly(relation.table.schema, relation.table.name)
        if relation is not None and alike
        else "nothing the application uses",
        why="Its rows are compared with the digest that the server computed before the export; if they differ, nothing of it stays. "
        + (
            ""
            if alike
            else "It is a table of its own, without indexes: "
            + (
                "the partitioned table has other columns by now."
                if export.bound
                else "the partitioned table takes no row without a key."
            )
        ),
        weight=export.rows,
        feed=exports.feed_name(url, kept),
    )


def _like(spec: TableSpec, snapshot: Snapshot, relation: Relation, one: Back, export: Export) -> list[str]:
    """The table as a partition of today's partitioned table, with the names and storage of its own."""
    model = replace(relation, table=replace(relation.table, storage_parameters=export.storage_parameters))
    at, table = (one.schema, one.table), relation.table
    named = one.named(export.statistics)
    statements = [definition.like(*at, table.schema, table.name, model)]
    statements += definition.closing(*at, snapshot.closed_to)
    statements += definition.column_settings(*at, model)
    statements += definition.statistics(*at, model, one.table, snapshot.server.role, named)
    if table.owner != snapshot.server.role:
        statements.append(text(sql.SQL("ALTER TABLE {} OWNER TO {}").format(name(*at), name(table.owner))))
    if bounds.parse_bound(one.bound).readable and not bounds.parse_bound(one.bound).is_default:
        statements.append(_bound_check(spec, one))
    return statements


def _plain(at: tuple[str, str], export: Export) -> list[str]:
    columns = sql.SQL(", ").join(sql.SQL("{} {}").format(name(field.name), raw(field.type)) for field in export.fields)
    return [text(sql.SQL("CREATE TABLE {} ({})").format(name(*at), columns))]


def _indexes(spec: TableSpec, relation: Relation, one: Back, export: Export) -> list[str]:
    """Those of the partitioned table, so that ATTACH builds none; each by the name that it had."""
    named = {definition.unquoted(made_of): called for made_of, called in one.named(export.indexes).items()}
    plans = [
        replace(plan, named=named.get(definition.unquoted(plan.made_of), ""))
        for plan in definition.index_plans(relation, spec.partition_key, ())
    ]
    at = one.schema, one.table
    made = [statement for plan in plans for statement in plan.statements(*at)]
    return [*made, *definition.replica_identity(*at, relation, plans)]


def _bound_check(spec: TableSpec, one: Back) -> str:
    condition = bounds.condition(one.bound, text(name(spec.partition_key)))
    return text(
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({})").format(
            name(one.schema, one.table), name(BOUND_CHECK), raw(condition)
        )
    )


def _attach(
    spec: TableSpec, snapshot: Snapshot, relation: Relation, one: Back, united: Sequence[tuple[str, str]]
) -> Iterator[Step]:
    table, target = name(one.schema, one.table), name(relation.table.schema, relation.table.name)
    if one.source == "there" and BOUND_CHECK not in one.attached_checks:
        yield Step(
            name=f"check the bound of {one.table}",
            statements=(_bound_check(spec, one),),
            lock="ACCESS EXCLUSIVE",
            on=f"{plainly(one.schema, one.table)}, which nobody uses",
            why="It reads the detached table once, so that ATTACH need not.",
            effect=Effect.CHANGES,
        )
    yield from _foreign_keys(relation, one)
    default = next((each for each, bound in attached(snapshot) if bound.is_default), None)
    checked = default is not None and default.kind == "r" and default.heap_bytes > SMALL_BYTES
    if default is not None and checked:
        yield from _not_in_default(spec, default, one)
    statements = [text(sql.SQL("DROP VIEW {}").format(name(*view))) for view in united]
    if snapshot.keeps_keys and relation.primary_key is not None:
        statements += registry.take_back(spec, relation.primary_key.columns, table, one.partition)
    statements += [
        text(sql.SQL("ALTER TABLE {} ATTACH PARTITION {} {}").format(target, table, raw(one.bound))),
        text(sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(table, name(BOUND_CHECK))),
        text(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(one.before))),
    ]
    if default is not None and checked:
        statements.append(_drop_check(default, one))
    referenced = sorted({key.referenced for key in relation.constraints if key.kind == "f" and key.referenced})
    on = [*referenced, *([qualified(default)] if default is not None else [])]
    yield Step(
        name=f"attach {one.table}",
        statements=tuple(statements),
        lock="ACCESS EXCLUSIVE" if on else "SHARE UPDATE EXCLUSIVE",
        on=", ".join([*on, *([f"SHARE UPDATE EXCLUSIVE on {text(target)}"] if on else [text(target)])]),
        why="The CHECK proves the bound, so no row of it is read."
        + (
            " The default partition is small enough to be looked through."
            if default is not None and not checked
            else ""
        )
        + (" A view of ours that would show its rows twice goes." if united else ""),
        effect=Effect.CHANGES,
    )
    yield Step(
        name=f"vacuum {one.table}",
        statements=(text(sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(table)),),
        lock="SHARE UPDATE EXCLUSIVE",
        on=plainly(one.schema, one.table),
        why="Sets the visibility map and the statistics.",
        autocommit=True,
    )


def _foreign_keys(relation: Relation, one: Back) -> Iterator[Step]:
    """Those of the partitioned table, checked before ATTACH, which else would read every row under its locks."""
    table = name(one.schema, one.table)
    keys = [key for key in relation.constraints if key.kind == "f" and key.name not in one.foreign_keys]
    if not keys:
        return
    referenced = ", ".join(sorted({key.referenced for key in keys if key.referenced}))
    add, validate = (
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID"),
        sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}"),
    )
    yield Step(
        name=f"foreign keys of {one.table}",
        statements=tuple(
            text(add.format(table, name(key.name), raw(key.definition.removesuffix(" NOT VALID")))) for key in keys
        ),
        lock="SHARE ROW EXCLUSIVE",
        on=referenced,
        why="NOT VALID reads no row, so the referenced tables are locked for a moment only.",
        effect=Effect.CHANGES,
    )
    yield Step(
        name=f"check foreign keys of {one.table}",
        statements=tuple(text(validate.format(table, name(key.name))) for key in keys if key.validated),
        lock="ROW SHARE",
        on=referenced,
        why="Every row is checked here, without blocking a writer. A row whose referenced row is gone since stops it (23503): leave the month "
        "aside, or delete such rows from it first.",
    )


def _not_in_default(spec: TableSpec, default: Partition, one: Back) -> Iterator[Step]:
    """A CHECK on the default partition, so that ATTACH need not read it under ACCESS EXCLUSIVE."""
    table, check = name(default.schema, default.name), name(_check_name(one))
    outside = raw(f"NOT ({bounds.condition(one.bound, text(name(spec.partition_key)))})")
    yield Step(
        name=f"keep {one.table} out of {default.name}",
        statements=(
            text(sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(table, check)),
            text(sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({}) NOT VALID").format(table, check, outside)),
        ),
        lock="ACCESS EXCLUSIVE",
        on=qualified(default),
        why="NOT VALID reads no row. Until the month is attached a row of its range is refused. If the run ends before that, run again, or: "
        + _drop_check(default, one) + ".",
        effect=Effect.CHANGES,
    )  # fmt: skip
    yield Step(
        name=f"look through {default.name}",
        statements=(text(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, check)),),
        lock="SHARE UPDATE EXCLUSIVE",
        on=qualified(default),
        why="Reads the default partition once, without blocking anybody.",
    )


def _check_name(one: Back) -> str:
    return definition.fit(NOT_HERE + one.table)


def _drop_check(default: Partition, one: Back) -> str:
    return text(
        sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(
            name(default.schema, default.name), name(_check_name(one))
        )
    )
