"""What `registry` and `composite` know alike: the keys of a table, and the DDL of objects that are the owner's alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from psycopg import sql

from atlas_ops import online, sqlfile
from atlas_ops.definition import name, names, plainly, raw, text
from atlas_ops.model import Column, Reference, Relation
from atlas_ops.plan import Step
from atlas_ops.spec import TableSpec

MARK = "atlas_ops: "
FIRST = "000_atlas_ops_"  # how an AFTER trigger begins that must have acted before any other sees the row
LAST = "zzz_atlas_ops_"  # how a BEFORE trigger begins that must see what all others have made of the row


def primary(original: Relation) -> tuple[str, ...]:
    """The columns of the primary key."""
    assert original.primary_key is not None, "preflight refuses a table without one"
    return original.primary_key.columns


def with_key(spec: TableSpec, original: Relation) -> tuple[str, ...]:
    """The columns of the primary key and the partition key."""
    return (*primary(original), spec.partition_key)


def key_column(spec: TableSpec, original: Relation) -> Column:
    """The partition key."""
    column = original.column(spec.partition_key)
    assert column is not None, "preflight refuses a specification whose key is missing"
    return column


def table(spec: TableSpec) -> sql.Identifier:
    """The name that the application uses: the original's before the cut-over, the partitioned table's after it."""
    return name(spec.schema, spec.name)


def said(spec: TableSpec) -> str:
    """The same, for people."""
    return plainly(spec.schema, spec.name)


def referring(reference: Reference) -> sql.Identifier:
    """The table that refers."""
    return name(reference.schema, reference.name)


def mark(spec: TableSpec) -> str:
    """The comment by which a table of ours is known."""
    return f"{MARK}keys of {text(table(spec))}"


def value(spec: TableSpec) -> sql.SQL:
    """The partition key of a row as its copy holds it."""
    return raw(online.projection(spec, spec.partition_key))


def current(spec: TableSpec, original: Relation) -> sql.Composed:
    """A query for the keys of all rows, as their copy holds them."""
    return sql.SQL("SELECT {}, {} AS {} FROM {}").format(
        names(primary(original)), value(spec), name(spec.partition_key), table(spec)
    )


def of(row: str, columns: Iterable[str]) -> sql.Composed:
    """Columns of NEW, OLD or an alias."""
    return sql.SQL(", ").join(sql.SQL("{}.{}").format(raw(row), name(column)) for column in columns)


def equal(one: str, columns: Sequence[str], other: str, others: Sequence[str]) -> sql.Composed:
    """`one.a = other.b AND ...`"""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(of(one, [a]), of(other, [b])) for a, b in zip(columns, others, strict=True)
    )


def not_logged(log: sql.Identifier, original: Relation, alias: str) -> sql.Composed:
    """A condition: the log does not name the row."""
    columns = primary(original)
    return sql.SQL("NOT EXISTS (SELECT FROM {} AS l WHERE {})").format(log, equal("l", columns, alias, columns))


def closed(spec: TableSpec, original: Relation, at: sql.Identifier) -> list[str]:
    """The owner's alone, and marked as ours: the schema lets nobody in, nobody has a privilege, row security lets nobody see."""
    return [
        _revoked("TABLE", "class", "rel", at, ""),
        text(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(at)),
        text(sql.SQL("COMMENT ON TABLE {} IS {}").format(at, sql.Literal(mark(spec)))),
        text(sql.SQL("ALTER TABLE {} OWNER TO {}").format(at, name(original.table.owner))),
    ]


def _revoked(kind: str, catalog: str, prefix: str, at: sql.Identifier, arguments: str) -> str:
    """What default privileges gave on a table or a function is taken away again."""
    spoken = text(at) + arguments
    return text(
        sql.SQL("DO {}").format(
            dollars(
                sqlfile.template(
                    "revoke_all",
                    catalog=raw(f"pg_{catalog}"),
                    acl=raw(f"{prefix}acl"),
                    owner=raw(f"{prefix}owner"),
                    kind=sql.Literal("r" if kind == "TABLE" else "f"),
                    oid=sql.SQL("{}::{}").format(
                        sql.Literal(spoken), raw("regclass" if kind == "TABLE" else "regprocedure")
                    ),
                    revoke=sql.Literal(f"REVOKE ALL ON {kind} {spoken} FROM "),
                )
            )
        )
    )


def drop_marked(spec: TableSpec, at: sql.Identifier) -> str:
    """DROP TABLE, where it is ours."""
    body = sql.SQL("BEGIN IF obj_description(to_regclass({}), 'pg_class') = {} THEN DROP TABLE {}; END IF; END").format(
        sql.Literal(text(at)), sql.Literal(mark(spec)), at
    )
    return text(sql.SQL("DO {}").format(dollars(body)))


def function(at: sql.Identifier, body: sql.Composable, original: Relation) -> list[str]:
    """A trigger function with the rights of the table's owner, whoever writes."""
    create = sql.SQL(
        "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS {}"
    )
    return [
        text(create.format(at, dollars(body))),
        _revoked("FUNCTION", "proc", "pro", at, "()"),
        text(sql.SQL("ALTER FUNCTION {}() OWNER TO {}").format(at, name(original.table.owner))),
    ]


def trigger(own: str, events: sql.Composable, at: sql.Identifier, rest: sql.Composable, calls: sql.Identifier) -> str:
    """CREATE TRIGGER; `rest` is what stands between the table and EXECUTE."""
    create = sql.SQL("CREATE OR REPLACE TRIGGER {} {} ON {} FOR EACH {} EXECUTE FUNCTION {}()")
    return text(create.format(name(own), events, at, rest, calls))


def switch(state: str, at: sql.Identifier, *triggers: str) -> str:
    """DISABLE, or ENABLE ALWAYS: under session_replication_role = replica too.

    There a unique index is kept, so the registry is, and the actions of foreign keys rest, so those of the registry's do.
    """
    switched = sql.SQL(", ").join(sql.SQL("{} TRIGGER {}").format(raw(state), name(one)) for one in triggers)
    return text(sql.SQL("ALTER TABLE {} {}").format(at, switched))


def dollars(body: sql.Composable) -> sql.Composed:
    """Between dollar quotes that no name in the body can end."""
    return sqlfile.filled("$function$\n{body}\n$function$", body=raw(text(body).strip()))


def vacuum(at: sql.Identifier, spoken: str) -> Step:
    """Statistics, and the space of what was rewritten."""
    return Step(
        name=f"vacuum {spoken}",
        statements=(text(sql.SQL("VACUUM (ANALYZE, SKIP_LOCKED) {}").format(at)),),
        lock="SHARE UPDATE EXCLUSIVE",
        on=spoken,
        why="Statistics, and the space of what was rewritten. Skipped where autovacuum is at it.",
        autocommit=True,
    )
