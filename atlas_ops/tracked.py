"""Reads pg_stat_statements, and asks the server which types the parameters of a statement have. Nothing is executed but the reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.rows import class_row

from atlas_ops import catalog, skeleton, sqlfile, statements
from atlas_ops.database import Session, connect, identifier
from atlas_ops.errors import AtlasError
from atlas_ops.model import Column, Constraint, Index, StatementsView, Table, TrackedStatement
from atlas_ops.queryplan import without_literals
from atlas_ops.skeleton import Typed
from atlas_ops.spec import TableSpec
from atlas_ops.statements import Found, Statement, Tracked
from atlas_ops.workload import LONGEST_SQL

MOST = 1_000
"""Statements that are read of those that name the table: the ones that took most time."""
_TEXT_OID = 25
_NO_TYPE = "42P18"  # indeterminate_datatype


def read(connection: psycopg.Connection, spec: TableSpec) -> Tracked:
    """What pg_stat_statements knows of the table's name, and the shape of the table.

    A missing extension, and a view that refuses, are told in the result. Raises AtlasError where a read fails otherwise, and where there is no
    such table.
    """
    with catalog.reading(connection, f"Reading pg_stat_statements for {spec.table}"):
        (view,) = catalog.rows(connection, "statements_view", StatementsView, schema=spec.schema, name=spec.name)
        tables = catalog.rows(connection, "table", Table, schema=spec.schema, name=spec.name)
        if not tables:
            raise AtlasError(
                what=f"There is no table {spec.table}.",
                why="The parameters file names it.",
                next="Correct the name in the parameters file.",
            )
        oid = tables[0].oid
        refused, rows = _rows(connection, spec, view)
        return Tracked(
            spec,
            view,
            refused,
            rows,
            catalog.rows(connection, "columns", Column, oid=oid),
            catalog.rows(connection, "indexes", Index, oid=oid),
            catalog.rows(connection, "constraints", Constraint, oid=oid),
        )


def _rows(
    connection: psycopg.Connection, spec: TableSpec, view: StatementsView
) -> tuple[str, tuple[TrackedStatement, ...]]:
    """The SQLSTATE with which the view refused, or its rows."""
    if view.schema is None:
        return "", ()
    info = sql.SQL("(SELECT stats_reset FROM {})").format(sql.Identifier(view.schema, "pg_stat_statements_info"))
    query = sqlfile.template(
        "statements",
        view=sql.Identifier(view.schema, "pg_stat_statements"),
        total=sql.Identifier("total_exec_time" if view.has_exec_time else "total_time"),
        since=info if view.has_info else sql.SQL("NULL::timestamptz"),
        needle=sql.Literal(spec.name.replace('"', '""')),
        longest=sql.Literal(LONGEST_SQL),
        most=sql.Literal(MOST),
    )
    try:
        with connection.transaction(), connection.cursor(row_factory=class_row(TrackedStatement)) as cursor:
            return "", tuple(cursor.execute(query).fetchall())
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InsufficientPrivilege) as error:
        return str(error.sqlstate), ()


def workload(where: Session, specs: Sequence[TableSpec]) -> str:
    """The skeleton of a workload file for these tables. Raises AtlasError where pg_stat_statements cannot tell, or knows nothing."""
    with closing(connect(where)) as connection:
        parts = [_part(connection, read(connection, spec)) for spec in specs]
    if not any(typed for _, _, typed in parts):
        raise AtlasError(
            what=f"pg_stat_statements knows no statement on {', '.join(spec.table for spec in specs)}.",
            why=" ".join(dict.fromkeys(statements.nothing_found(tracked, found) for tracked, found, _ in parts)),
            next="Let the application run for a while, or write the workload by hand: parameters/workloads/atlas.yml is an example.",
        )
    return skeleton.workload_file([(tracked, typed) for tracked, _, typed in parts])


def _part(connection: psycopg.Connection, tracked: Tracked) -> tuple[Tracked, Found, tuple[Typed, ...]]:
    stop = statements.trouble(tracked)
    if stop is not None:
        raise stop
    found = statements.found(tracked)
    return tracked, found, tuple(typed(connection, tracked.spec, one) for one in found.statements)


def typed(connection: psycopg.Connection, spec: TableSpec, statement: Statement) -> Typed:
    """The statement with the types of its parameters, or with the server's words against it. The server parses it, and runs nothing."""
    if statement.asked.verb in ("copy", "truncate"):
        return Typed(statement, refused=f"{statement.asked.verb.upper()} has no plan to measure")
    text = statement.asked.text(identifier(spec.schema, spec.name), "${}".format)
    highest = max((slot.number for slot in statement.asked.slots), default=0)
    given = [0] * highest  # 0: the server is to find out
    while True:
        told = _described(connection, spec, text, given)
        if not isinstance(told, _Refused):
            return Typed(statement, types=tuple(_type_name(connection, oid) for oid in told))
        # json_build_object($1) takes anything: an untyped literal was text there
        found = re.search(r"\$(\d+)", told.message) if told.sqlstate == _NO_TYPE else None
        if found is None or given[int(found[1]) - 1]:
            return Typed(statement, refused=f"{told.sqlstate} {without_literals(told.message)}")
        given[int(found[1]) - 1] = _TEXT_OID


@dataclass(frozen=True, slots=True)
class _Refused:
    """What the server says against a statement."""

    sqlstate: str
    message: str


def _described(
    connection: psycopg.Connection, spec: TableSpec, text: str, given: Sequence[int]
) -> tuple[int, ...] | _Refused:
    """The types of the parameters. By the extended protocol, which takes one statement and no second."""
    path = ", ".join(dict.fromkeys((identifier(spec.schema), identifier("public"))))
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('search_path', %s, true)", (path,))
        prepared = connection.pgconn.prepare(b"", text.encode(), given)
        if prepared.status != ExecStatus.COMMAND_OK:
            fields = (DiagnosticField.SQLSTATE, DiagnosticField.MESSAGE_PRIMARY)
            return _Refused(*((prepared.error_field(field) or b"").decode(errors="replace") for field in fields))
        described = connection.pgconn.describe_prepared(b"")
        return tuple(described.param_type(number) for number in range(described.nparams))


def _type_name(connection: psycopg.Connection, oid: int) -> str:
    row = connection.execute("SELECT format_type(%s::oid, NULL)", (oid,)).fetchone()
    assert row is not None
    return str(row[0])
