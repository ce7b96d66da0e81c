"""The DDL that makes one table like another: pure, from a `Relation` as the catalogs tell it to a list of statements.

Every definition that PostgreSQL can print (an index from USING on, a foreign key, a policy's expression) is taken as printed;
nothing is parsed or searched for. A table is built in the closed schema *under the original's own name*, because an expression that
PostgreSQL prints may call the table by its name (`... WHERE c.id = messages.conversation_id`), and only then is it renamed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from atlas_ops.model import Column, Grant, Policy, Relation, Trigger

PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
SCHEMA_MARK = "atlas_ops: partitions, closed to the roles of the application"
NAME_BYTES = 63  # NAMEDATALEN - 1; longer names are cut silently by the server


def text(query: sql.Composable) -> str:
    """A composed query as text; needs no connection."""
    return query.as_string(None)


def name(*parts: str) -> sql.Identifier:
    """A qualified identifier."""
    return sql.Identifier(*parts)


def names(columns: Iterable[str]) -> sql.Composed:
    """Identifiers, separated by commas."""
    return sql.SQL(", ").join(sql.Identifier(column) for column in columns)


def raw(definition: str) -> sql.SQL:
    """A definition as PostgreSQL printed it: already quoted and qualified by the server."""
    return sql.SQL(definition)


def fit(identifier: str) -> str:
    """The name itself, or where it is over 63 bytes its beginning with eight digits of its hash: never cut to a twin by the server."""
    if len(identifier.encode()) <= NAME_BYTES:
        return identifier
    mark = hashlib.sha256(identifier.encode()).hexdigest()[:8]
    head = identifier.encode()[: NAME_BYTES - len(mark) - 1].decode(errors="ignore")
    return f"{head}_{mark}"


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """An index of the partitioned table: `suffix` completes the name on whichever table it is made.

    A `constraint` is the text after ADD CONSTRAINT name; otherwise `tail` is the index definition from USING on. `of`: the index of the
    original that it stands for, or empty. `named`: the name it has whatever the table is called, or empty.
    """

    suffix: str
    constraint: str = ""
    tail: str = ""
    unique: bool = False
    of: str = ""
    tablespace: str | None = None
    column_settings: tuple[str, ...] = ()
    named: str = ""

    @property
    def made_of(self) -> str:
        """What tells it from others of the same table."""
        return self.constraint or ("UNIQUE " if self.unique else "") + self.tail

    def name_on(self, table: str) -> str:
        """The name on that table, at most 63 bytes."""
        return self.named or fit(f"{table}_{self.suffix}")

    def statements(self, schema: str, table: str, named_after: str | None = None) -> list[str]:
        """The DDL that makes it on `schema.table`; `named_after`: the name the table will have once it is renamed."""
        made = self._statement(schema, table, named_after)
        at = name(schema, self.name_on(named_after or table))
        settings = [
            text(sql.SQL("ALTER INDEX {} ALTER COLUMN {}").format(at, raw(one))) for one in self.column_settings
        ]
        if not self.tablespace:
            return [made, *settings]
        # ahead of what may follow it (WHERE, DEFERRABLE) the clause has no place that could be told from the printed definition
        default = "SET LOCAL default_tablespace = {}"
        return [
            text(sql.SQL(default).format(name(self.tablespace))),
            made,
            text(sql.SQL(default).format(raw("DEFAULT"))),
            *settings,
        ]

    def _statement(self, schema: str, table: str, named_after: str | None) -> str:
        own = sql.Identifier(self.name_on(named_after or table))
        if self.constraint:
            return text(
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(name(schema, table), own, raw(self.constraint))
            )
        unique = sql.SQL("UNIQUE " if self.unique else "")
        return text(sql.SQL("CREATE {}INDEX {} ON {} {}").format(unique, own, name(schema, table), raw(self.tail)))


def index_plans(original: Relation, key: str, wanted: Sequence[Sequence[str]]) -> tuple[IndexPlan, ...]:
    """The indexes of the partitioned table: primary key and unique constraints with the partition key, the table's own, the wanted.

    An index that the specification wants is left out where the table has the same one already. Invalid indexes are left behind.
    """
    plans: list[IndexPlan] = []
    used: set[str] = set()

    made = {index.name: index for index in original.indexes}

    def add(
        columns: Sequence[str], ending: str, constraint: str = "", tail: str = "", unique: bool = False, of: str = ""
    ) -> None:
        stem = suffix = "_".join([*columns, ending]) if ending != "pkey" else ending
        number = 0
        while suffix in used:
            number += 1
            suffix = f"{stem}{number}"
        used.add(suffix)
        was = made.get(of)
        settings = was.column_settings if was else ()
        plans.append(IndexPlan(suffix, constraint, tail, unique, of, was.tablespace if was else None, settings))

    for constraint in original.constraints:
        if constraint.kind in "pu":
            definition = with_key(constraint.definition, constraint.columns, key)
            ending = "pkey" if constraint.kind == "p" else "key"
            add(constraint.columns, ending, constraint=definition, of=constraint.name)
    have: set[tuple[tuple[str, ...], str]] = set()
    for index in original.indexes:
        if index.constraint or not index.valid:
            continue
        tail = with_key(index.tail, index.columns, key) if index.unique else index.tail
        add(index.columns, "key_idx" if index.unique else "idx", tail=tail, unique=index.unique, of=index.name)
        have.add((index.columns, unquoted(index.tail)))
    for columns in wanted:
        tail = text(sql.SQL("USING btree ({})").format(names(columns)))
        if (tuple(columns), unquoted(tail)) not in have:
            add(columns, "idx", tail=tail)
    return tuple(plans)


def keyed(original: Relation) -> dict[str, tuple[tuple[str, ...], bool]]:
    """(columns, whether they are unique) of every index and constraint, by its name."""
    made = {constraint.name: (constraint.columns, True) for constraint in original.constraints}
    return made | {index.name: (index.columns, index.unique) for index in original.indexes}


def with_key(definition: str, columns: Sequence[str], key: str) -> str:
    """A unique definition as PostgreSQL prints it, with the partition key as its last column where it does not hold it yet.

    What follows the columns (INCLUDE, NULLS NOT DISTINCT, DEFERRABLE) stays. The list is found by its columns' names; where it holds
    expressions the definition is returned as it is: preflight refuses it, and so would the server.
    """
    if key in columns:
        return definition
    listed = ", ".join(rf"(?:{re.escape(column)}|{re.escape(text(name(column)))})(?: [^,()]*)?" for column in columns)
    found = re.fullmatch(rf"([\w ]+\({listed})(\).*)", definition, re.DOTALL)
    return f"{found[1]}, {text(name(key))}{found[2]}" if found else definition


def unquoted(tail: str) -> str:
    """For comparing: PostgreSQL prints a name in quotes only where it must, psycopg always."""
    return tail.replace('"', "")


def indexed_by(original: Relation, key: str) -> bool:
    """Whether a whole index begins with the partition key, so that a month can be found without reading everything."""
    return any(
        index.valid and index.columns[:1] == (key,) and " WHERE " not in index.tail for index in original.indexes
    )


def plainly(*parts: str) -> str:
    """A qualified name for people: in quotes only where SQL needs them."""
    return ".".join(part if PLAIN.fullmatch(part) else text(name(part)) for part in parts)


def like(schema: str, table: str, model_schema: str, model: str, original: Relation) -> str:
    """CREATE TABLE like `model`, without indexes, statistics and identity: a table that can become a partition. Storage as of the original."""
    parameters = original.table.storage_parameters
    options = raw(f" WITH ({', '.join(parameters)})") if parameters else sql.SQL("")
    return text(
        sql.SQL(
            "CREATE TABLE {} (LIKE {} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE "
            "INCLUDING COMPRESSION){}{}"
        ).format(name(schema, table), name(model_schema, model), options, _tablespace(original))
    )


def _tablespace(original: Relation) -> sql.Composable:
    where = original.table.tablespace
    return sql.SQL(" TABLESPACE {}").format(name(where)) if where else sql.SQL("")


def like_partitioned(schema: str, table: str, original: Relation, key: str) -> str:
    """CREATE TABLE ... PARTITION BY RANGE with everything LIKE can take over.

    Indexes come separately, with the key added, statistics with their targets, and identities: their sequences would take the names of
    the original's.
    """
    source = original.table
    return text(
        sql.SQL(
            "CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES EXCLUDING IDENTITY EXCLUDING STATISTICS) "
            "PARTITION BY RANGE ({}){}"
        ).format(name(schema, table), name(source.schema, source.name), name(key), _tablespace(original))
    )


def column_settings(schema: str, table: str, original: Relation) -> list[str]:
    """Statistics targets and options of columns, which LIKE leaves out."""
    at = name(schema, table)
    return [
        text(sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET {}").format(at, name(column.name), raw(setting)))
        for column in original.columns
        for setting in (
            *([f"STATISTICS {column.statistics_target}"] if column.statistics_target is not None else []),
            *([f"({', '.join(column.options)})"] if column.options else []),
        )
    ]


def statistics(
    schema: str, table: str, original: Relation, named_after: str, role: str, named: Mapping[str, str] | None = None
) -> list[str]:
    """Extended statistics, with their targets, owners and comments. LIKE would name them by itself, and leave their targets out.

    `role`: who runs this, and owns what it makes. `named`: what they are on → the name they are to have.
    """
    statements = []
    for made in original.statistics:
        at = name(schema, (named or {}).get(made.columns) or fit(f"{named_after}_{made.name}"))
        kinds = raw(f" ({', '.join(made.kinds)})" if made.kinds else "")
        create = sql.SQL("CREATE STATISTICS {}{} ON {} FROM {}")
        statements.append(text(create.format(at, kinds, raw(made.columns), name(schema, table))))
        if made.target is not None:
            statements.append(text(sql.SQL("ALTER STATISTICS {} SET STATISTICS {}").format(at, raw(str(made.target)))))
        if made.comment is not None:
            statements.append(text(sql.SQL("COMMENT ON STATISTICS {} IS {}").format(at, sql.Literal(made.comment))))
        if made.owner != role:
            statements.append(text(sql.SQL("ALTER STATISTICS {} OWNER TO {}").format(at, name(made.owner))))
    return statements


def identities(schema: str, table: str, original: Relation, named_after: str) -> list[str]:
    """The identity columns of the original, each with a sequence of its own that is named after the table's later name."""
    return [
        text(
            sql.SQL("ALTER TABLE {} ALTER COLUMN {} ADD GENERATED {} AS IDENTITY (SEQUENCE NAME {} {})").format(
                name(schema, table),
                name(column.name),
                sql.SQL("ALWAYS" if column.identity == "a" else "BY DEFAULT"),
                name(schema, fit(f"{named_after}_{column.name}_seq")),
                raw(column.identity_options),
            )
        )
        for column in original.columns
        if column.identity
    ]


def closing(schema: str, table: str, closed_to: Sequence[str]) -> list[str]:
    """REVOKE ALL from PUBLIC and every role of the application, and row security on: nobody but the owner gets in."""
    at = name(schema, table)
    return [
        text(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(at, _roles(closed_to))),
        text(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(at)),
    ]


def closed_schema(schema: str, closed_to: Sequence[str], open_to: Sequence[str] = ()) -> list[str]:
    """The schema of the partitions, without USAGE for anybody but its owner and `open_to`, who are to own tables in it."""
    return [
        text(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(name(schema))),
        text(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(name(schema), _roles(closed_to))),
        *(text(sql.SQL("GRANT USAGE, CREATE ON SCHEMA {} TO {}").format(name(schema), name(role))) for role in open_to),
    ]


def _roles(roles: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join([sql.SQL("PUBLIC"), *(sql.Identifier(role) for role in roles)])


def replica_identity(
    schema: str, table: str, original: Relation, indexes: Sequence[IndexPlan], named_after: str | None = None
) -> list[str]:
    """What identifies a row to a subscriber, once the indexes are there; partitions do not inherit it. DEFAULT needs no statement."""
    kind: sql.Composable | None = {"f": sql.SQL("FULL"), "n": sql.SQL("NOTHING")}.get(original.table.replica_identity)
    by = next((index.name for index in original.indexes if index.replica_identity), None)
    for plan in indexes:
        if by is not None and plan.of == by:
            kind = sql.SQL("USING INDEX {}").format(name(plan.name_on(named_after or table)))
    return [text(sql.SQL("ALTER TABLE {} REPLICA IDENTITY {}").format(name(schema, table), kind))] if kind else []


def foreign_keys(schema: str, table: str, original: Relation) -> list[str]:
    """The foreign keys of the original, on a table without rows."""
    return [
        text(
            sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                name(schema, table), name(fk.name), raw(fk.definition)
            )
        )
        for fk in original.constraints
        if fk.kind == "f"
    ]


def policies(schema: str, table: str, original: Relation) -> list[str]:
    """Row security flags and every policy, redundant ones included: what was closed stays closed, what was open stays open."""
    at = name(schema, table)
    statements = []
    if original.table.row_security:
        statements.append(text(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(at)))
    if original.table.force_row_security:
        statements.append(text(sql.SQL("ALTER TABLE {} FORCE ROW LEVEL SECURITY").format(at)))
    return statements + [_policy(at, policy) for policy in original.policies]


def _policy(at: sql.Composable, policy: Policy) -> str:
    roles = sql.SQL(", ").join(sql.Identifier(role) for role in policy.roles) if policy.roles else sql.SQL("PUBLIC")
    statement = sql.SQL("CREATE POLICY {} ON {} AS {} FOR {} TO {}").format(
        name(policy.name),
        at,
        sql.SQL("PERMISSIVE" if policy.permissive else "RESTRICTIVE"),
        raw(policy.command),
        roles,
    )
    if policy.using is not None:
        statement += sql.SQL(" USING ({})").format(raw(policy.using))
    if policy.check is not None:
        statement += sql.SQL(" WITH CHECK ({})").format(raw(policy.check))
    return text(statement)


def triggers(schema: str, table: str, original: Relation) -> list[str]:
    """The user's triggers, with their enabled state."""
    at = name(schema, table)
    return [statement for trigger in original.triggers for statement in _trigger(at, trigger)]


def _trigger(at: sql.Composable, trigger: Trigger) -> list[str]:
    kind = sql.SQL("CONSTRAINT TRIGGER" if trigger.constraint else "TRIGGER")
    create = sql.SQL("CREATE {} {} {} ON {} {}").format(
        kind, name(trigger.name), raw(trigger.head), at, raw(trigger.tail)
    )
    state = {"D": "DISABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}.get(trigger.enabled)
    if state is None:
        return [text(create)]
    return [
        text(create),
        text(sql.SQL("ALTER TABLE {} {} TRIGGER {}").format(at, sql.SQL(state), name(trigger.name))),
    ]


def switch_triggers(table: sql.Composable, triggers: Sequence[Trigger]) -> tuple[list[str], list[str]]:
    """Statements that switch the triggers of a table off, and those that give each its own state back."""
    states = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}
    live = [trigger for trigger in triggers if trigger.enabled in states]
    alter = sql.SQL("ALTER TABLE {} {} TRIGGER {}")
    off = [text(alter.format(table, sql.SQL("DISABLE"), name(trigger.name))) for trigger in live]
    on = [text(alter.format(table, raw(states[trigger.enabled]), name(trigger.name))) for trigger in live]
    return off, on


def grants(schema: str, table: str, original: Relation) -> list[str]:
    """The privileges of the original, by role and by column, with their grant options."""
    at = name(schema, table)
    grouped: dict[tuple[str | None, bool, str | None], list[str]] = {}
    for grant in original.grants:
        grouped.setdefault((grant.grantee, grant.grantable, grant.column), []).append(grant.privilege)
    return [
        _grant(at, Grant(grantee, "", grantable, column), privileges)
        for (grantee, grantable, column), privileges in grouped.items()
    ]


def _grant(at: sql.Composable, to: Grant, privileges: Sequence[str]) -> str:
    column = sql.SQL(" ({})").format(name(to.column)) if to.column else sql.SQL("")
    listed = sql.SQL(", ").join(sql.SQL("{}{}").format(raw(privilege), column) for privilege in privileges)
    return text(
        sql.SQL("GRANT {} ON TABLE {} TO {}{}").format(
            listed,
            at,
            name(to.grantee) if to.grantee else sql.SQL("PUBLIC"),
            sql.SQL(" WITH GRANT OPTION" if to.grantable else ""),
        )
    )


def comment(schema: str, table: str, content: str | None) -> list[str]:
    """COMMENT ON TABLE, where there is one. (Those of columns are taken over by LIKE.)"""
    if content is None:
        return []
    return [text(sql.SQL("COMMENT ON TABLE {} IS {}").format(name(schema, table), sql.Literal(content)))]


def insertable(original: Relation) -> tuple[Column, ...]:
    """The columns a copy names: all but generated ones, which the server computes again."""
    return tuple(column for column in original.columns if not column.generated)
