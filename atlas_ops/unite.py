"""Live and archived rows in one view, where the DBA asks for it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from psycopg import sql

from atlas_ops import definition
from atlas_ops.definition import name, plainly, raw, text
from atlas_ops.model import Snapshot
from atlas_ops.partitions import partitioned_table
from atlas_ops.plan import Effect, Step
from atlas_ops.spec import TableSpec


def mark(spec: TableSpec) -> str:
    """The comment of a view that unites live and archived rows."""
    return f"atlas_ops: live and archived rows of {text(name(spec.schema, spec.name))}"


def unite(
    spec: TableSpec,
    snapshot: Snapshot,
    view: tuple[str, str],
    aside: Mapping[tuple[str, str], Collection[tuple[str, str]]],
    *,
    replaces: bool,
) -> Step:
    """A view over the partitioned table and the tables that stand beside it, each with its (column, type)s; `replaces`: one of ours has the name."""
    relation = partitioned_table(snapshot)
    assert relation is not None
    at, columns = name(*view), relation.columns
    live = sql.SQL("SELECT {} FROM {}").format(
        definition.names(column.name for column in columns), name(relation.table.schema, relation.table.name)
    )
    parts = [live]
    for where, each in aside.items():
        listed = sql.SQL(", ").join(
            name(column.name)
            if (column.name, column.type) in each
            else sql.SQL("NULL::{} AS {}").format(raw(column.type), name(column.name))
            for column in columns
        )
        parts.append(sql.SQL("SELECT {} FROM {}").format(listed, name(*where)))
    roles = sql.SQL(", ").join([sql.SQL("PUBLIC"), *(name(role) for role in snapshot.closed_to)])
    return Step(
        name=f"unite live and archived rows in {plainly(*view)}",
        statements=(
            *([text(sql.SQL("DROP VIEW {}").format(at))] if replaces else []),
            text(
                sql.SQL("CREATE VIEW {} WITH (security_invoker = true) AS {}").format(
                    at, sql.SQL(" UNION ALL ").join(parts)
                )
            ),
            text(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(at, roles)),
            text(sql.SQL("COMMENT ON VIEW {} IS {}").format(at, sql.Literal(mark(spec)))),
        ),
        lock="ACCESS SHARE",
        on=plainly(relation.table.schema, relation.table.name),
        why=f"Reads {relation.table.name} and {len(aside)} months beside it, with the rights of whoever asks. No role of the application "
        "has any on it.",
        effect=Effect.CHANGES if replaces else Effect.ADDS,
    )
