"""Plans the export of months and the proof of it. Pure.

An export reads only: in one snapshot the server counts and hashes the rows, pg_dump writes them, and COPY writes them for Parquet. A proof
restores both files into temporary tables, piece by piece, which nobody else can see and which a killed run takes along, and compares. Each is
a plan with a digest of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql

from atlas_ops import bounds, contents, definition, manifest, parquet
from atlas_ops.contents import Contents
from atlas_ops.definition import name, names, plainly, raw, text
from atlas_ops.errors import AtlasError
from atlas_ops.manifest import FORMS, Export, Form, Kept, Month, Named, Purpose
from atlas_ops.model import Column, OwnType, Relation, Server
from atlas_ops.parquet import Field
from atlas_ops.plan import Plan, Step, plan_for
from atlas_ops.spec import TableSpec

STAGE = "plan_archive"
TEMPORARY, COUNTED = "atlas_ops_restored", "atlas_ops_counted"  # of the session that proves
PIECES_FIT = "SET LOCAL temp_buffers = '32MB'"
"""A piece of `execute.PIECE_BYTES` with its row headers: it is counted and hashed where it is, and no disk needs room for the month."""
DUMP_OPTIONS = ("--format=custom", "--encoding=UTF8", "--strict-names")


@dataclass(frozen=True, slots=True)
class Job:
    """One month to export: all that is known of it before it is read."""

    table: str  # as the specification writes it
    url: str  # archive_to
    place: str  # the table's folder in it
    schema: str
    partition: str
    bound: str
    key: str
    purpose: Purpose
    columns: tuple[Column, ...]
    comment: str | None = None
    storage_parameters: tuple[str, ...] = ()
    indexes: tuple[Named, ...] = ()
    statistics: tuple[Named, ...] = ()
    types: tuple[str, ...] = ()
    rows: int = 0  # estimated, for the progress shown
    workers: int = 2
    bytes: int = 0
    fresh: bool = False  # files that are there already are written anew

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its columns, as they are stored if every time lies in the calendar."""
        return parquet.fields_of(self.columns)

    @property
    def copied(self) -> str:
        """The COPY that feeds Parquet."""
        return text(
            sql.SQL("COPY {} ({}) TO STDOUT (FORMAT csv)").format(
                name(self.schema, self.partition), names(field.name for field in self.fields)
            )
        )

    @property
    def figures(self) -> sql.Composed:
        """The query of its contents."""
        return contents.figures_query(self.schema, self.partition, self.columns, self.key, self.bound)

    def exported(self, found: Contents, files: dict[Form, Kept]) -> Export:
        """What the manifest will say of it."""
        return Export(
            schema=self.schema, partition=self.partition, bound=self.bound, key=self.key, purpose=self.purpose,
            fields=parquet.fields_of(self.columns, found.beyond), rows=found.rows, content=found.content,
            lowest=found.lowest, highest=found.highest, files=files, comment=self.comment, types=self.types,
            storage_parameters=self.storage_parameters, indexes=self.indexes, statistics=self.statistics,
        )  # fmt: skip


def where_to(spec: TableSpec) -> str:
    """The folder or bucket of the specification. Raises AtlasError where it names none."""
    if spec.archive_to is None:
        raise AtlasError(
            what=f"There is nowhere to export {spec.table} to.",
            why="The specification has no archive_to.",
            next="Write archive_to: and a folder, or s3://bucket/prefix, into the parameters file.",
        )
    return spec.archive_to


def place_of(spec: TableSpec, server: Server) -> str:
    """The table's folder in archive_to."""
    return manifest.place(server.system_identifier, server.database, spec.schema, spec.name)


def job(
    spec: TableSpec,
    server: Server,
    relation: Relation,
    types: Sequence[OwnType],
    *,
    bound: str,
    purpose: Purpose,
    comment: str | None,
    fresh: bool,
) -> Job:
    """The job of one partition, from what the catalogs say of it. Raises AtlasError where it cannot be exported."""
    table = relation.table
    if table.kind != "r":
        raise AtlasError(
            what=f"{table.schema}.{table.name} holds no rows itself.",
            why="It is a foreign table: its rows lie elsewhere."
            if table.kind == "f"
            else "It is partitioned in its turn.",
            next="Leave it out of `partitions`"
            + ("." if table.kind == "f" else ", and name a table file for the level below it."),
        )
    return Job(
        table=spec.table,
        url=where_to(spec),
        place=place_of(spec, server),
        schema=table.schema,
        partition=table.name,
        bound=bound,
        key=spec.partition_key,
        purpose=purpose,
        columns=relation.columns,
        comment=comment,
        storage_parameters=table.storage_parameters,
        indexes=tuple(
            Named(plan.of, plan.made_of) for plan in definition.index_plans(relation, spec.partition_key, ()) if plan.of
        ),
        statistics=tuple(Named(each.name, each.columns) for each in relation.statistics),
        types=tuple(each.definition for each in types),
        rows=max(table.estimated_rows, 0),
        workers=spec.workers,
        bytes=table.bytes,
        fresh=fresh,
    )


def plan_export(spec: TableSpec, server: Server, jobs: Iterable[Job]) -> Plan:
    """A step a month. It is run by `export`, not by `execute`: nothing in the database is written."""
    steps = [
        Step(
            name=f"export {each.partition}",
            statements=(text(each.figures), each.copied, _command(each)),
            lock="ACCESS SHARE",
            on=plainly(each.schema, each.partition),
            why="One snapshot, read three times: counted and hashed by the server, by pg_dump, and by COPY for Parquet.",
            weight=2 * each.rows,
        )
        for each in jobs
    ]
    return plan_for(STAGE, spec, server, steps, f"{spec.table}: {len(steps)} to export.", workers=spec.workers)


def dump_arguments(schema: str, partition: str) -> list[str]:
    """What pg_dump is asked for, but for the connection. In its patterns a quoted name stands for itself."""
    quoted = text(name(schema, partition))
    return [*DUMP_OPTIONS, f"--table={quoted}"]


def _command(job: Job) -> str:
    told = " ".join(["pg_dump", *dump_arguments(job.schema, job.partition)])
    stem = manifest.stem(job.partition, 0, 0).rpartition(".")[0]
    return f"-- {told} > {job.url}/{job.place}/{stem}.<digest of the content>.dump[.zst]".replace("\n", " ")


def plan_prove(spec: TableSpec, server: Server, found: Iterable[Month], url: str, *, elsewhere: bool = False) -> Plan:
    """Two steps a month, side by side: each form into a temporary table, compared there, gone at the end.

    `server` is the one that proves. `elsewhere`: it is not the one the rows come from, and types that it may not have are text there.
    """
    steps = [_proof(month, form, url, elsewhere) for month in found for form in FORMS]
    return plan_for(STAGE, spec, server, steps, f"{spec.table}: {len(steps) // 2} to prove.", workers=spec.workers)


def _proof(month: Month, form: Form, url: str, elsewhere: bool) -> Step:
    export = month.export
    kept = export.files[form]
    table, counted = sql.Identifier("pg_temp", TEMPORARY), sql.Identifier("pg_temp", COUNTED)
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(name(field.name), sql.SQL("text" if elsewhere and not _anywhere(field) else field.type))
        for field in export.fields
    )
    sums = contents.sums(table, export.fields)
    whole = sql.SQL("SELECT sum(rows) AS rows, sum(content) AS content FROM {}").format(counted)
    same = contents.same_statement(
        whole, export.rows, export.content,
        what=f"What was restored of {export.partition} from its {form}",
        cure='Nothing was dropped. Export the month again: how = "export", and its name in partitions.',
    )  # fmt: skip
    return Step(
        name=f"prove {export.partition} by its {form}",
        statements=(
            PIECES_FIT,
            text(sql.SQL("CREATE TEMPORARY TABLE {} ({}) ON COMMIT DROP").format(sql.Identifier(TEMPORARY), columns)),
            text(
                sql.SQL("CREATE TEMPORARY TABLE {} (rows bigint, content numeric) ON COMMIT DROP").format(
                    sql.Identifier(COUNTED)
                )
            ),
            load_statement(table, export.fields, form),
            same,
        ),
        lock="none",
        on="a temporary table of this session, gone at the end",
        why="A file is worth what can be restored from it: as many rows, with the same digest that the server computed before the export.",
        lane=f"{export.partition} {form}",
        weight=export.rows,
        feed=feed_name(url, kept),
        piecewise=(
            text(sql.SQL("INSERT INTO {} (rows, content) {}").format(counted, sums)),
            text(sql.SQL("TRUNCATE {}").format(table)),
        ),
    )


def _anywhere(field: Field) -> bool:
    """A type that every server has: not those of a database's own, nor xml, with which a server may not have been built."""
    return field.builtin and not field.type.startswith("xml")


def load_statement(table: sql.Identifier, fields: Sequence[Field], form: Form) -> str:
    """The COPY that takes what `feeds` reads from a file: text as pg_restore writes it, or CSV."""
    options = sql.SQL("" if form == "dump" else " (FORMAT csv)")
    return text(sql.SQL("COPY {} ({}) FROM STDIN{}").format(table, names(field.name for field in fields), options))


def feed_name(url: str, kept: Kept) -> str:
    """The feed of a file, named by its content: a plan that was read arms no other file."""
    return f"{url}: {kept.name}, SHA-256 {kept.sha256}"


def refuse_others(job: Job, found: Contents) -> None:
    """Raises AtlasError where the table holds rows that are not of its month."""
    if found.outside:
        looked = sql.SQL("SELECT count(*) FROM {} WHERE ({}) IS NOT TRUE;")
        condition = raw(bounds.condition(job.bound, text(name(job.key))))
        raise AtlasError(
            what=f"{found.outside:,} rows of {plainly(job.schema, job.partition)} are not of its month.",
            why=f"Their {job.key} lies outside of {job.bound}: somebody has written to it since it was detached. Brought back, they would not fit.",
            next="Move them where they belong, then run again: "
            + text(looked.format(name(job.schema, job.partition), condition)),
        )


def as_body(value: Export | manifest.Proof) -> dict[str, Any]:
    """The body of a manifest's line: JSON types only."""
    return asdict(value)
