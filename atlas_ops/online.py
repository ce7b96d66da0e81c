"""Keeps the copy in step with the table that the application writes: capture, fence, drain. Pure; the protocol and why it loses nothing.

Every changed row appends its key to the *key log*, in the writer's own transaction. A drain takes keys out of the log and makes the rows of
the copy like those of the source, whatever they are by then. So in any one snapshot a row that differs has its key in the log, whoever
wrote it and at whichever isolation level: a drain reads the source no earlier than the log rows it takes, and a newer write leaves a newer
log row. Triggers that write the row itself into the copy cannot promise that: under REPEATABLE READ they do not see what was copied since.

Both directions use one log: before the cut-over the original is the source and the partitioned table follows, afterwards the other way round.
Whoever follows has no live foreign key and no live trigger of the user: a stale row must not refuse, or repeat, what the application does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from atlas_ops import sqlfile
from atlas_ops.definition import fit, insertable, name, names, raw, text
from atlas_ops.model import Column, Relation
from atlas_ops.spec import ExchangedSpec, TableSpec

CAPTURE = "atlas_ops_capture"
NO_TRUNCATE = "atlas_ops_no_truncate"
FOLLOWS = "atlas_ops_follows"
GUARD = "atlas_ops_guard"
ORIGINAL, PARTITIONED = "original", "partitioned"  # authority: the table that the application writes
DRAIN_ROWS = 10_000  # keys of one transaction of a drain: some tenths of a second
STATE = "atlas_ops.online_copy"

# The log is deleted from while it is written. VACUUM that gives its end back to the file system would lock it against every writer.
LOG_STORAGE = (
    "autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = -1, "
    "vacuum_truncate = off"
)


def key_columns(spec: TableSpec, original: Relation) -> tuple[str, ...]:
    """What names a row on both sides: the primary key and the partition key."""
    primary = primary_columns(original)
    return (*primary, *([spec.partition_key] if spec.partition_key not in primary else []))


def primary_columns(original: Relation) -> tuple[str, ...]:
    """The columns of the original's primary key."""
    return original.primary_key.columns if original.primary_key else ()


def projection(spec: TableSpec, column: str) -> str:
    """What the copy holds of a column of the original: itself, or for the key the value that stands in for NULL."""
    own = text(name(column))
    value = spec.null_value
    return f"coalesce({own}, ({value}))" if value and column == spec.partition_key else own


# -- the key log and what writes it


def log(spec: TableSpec) -> sql.Identifier:
    """The key log, in the closed schema."""
    return name(spec.partition_schema, spec.key_log_name)


def capture_name(spec: TableSpec) -> sql.Identifier:
    """The trigger function that writes it."""
    return name(spec.partition_schema, fit(f"{spec.name}_capture"))


def log_objects(spec: TableSpec, original: Relation, closing: Sequence[str]) -> list[str]:
    """The log (logged: a crash must not empty it; without index or sequence: the cheapest to append to) and its trigger function.

    `closing`: the roles that lose what default privileges give them.
    """
    keys = key_columns(spec, original)
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(name(column.name), raw(column.type))
        for key in keys
        for column in original.columns
        if column.name == key
    )
    roles = sql.SQL(", ").join([sql.SQL("PUBLIC"), *map(sql.Identifier, closing)])
    old, new = (sql.SQL(", ").join(name(row, key) for key in keys) for row in ("old", "new"))
    function = sqlfile.template(
        "capture_function",
        function=capture_name(spec),
        log=log(spec),
        old=old,
        new=new,
        same=_identical("old", "new", keys),
    )
    return [
        text(sql.SQL("CREATE TABLE {} ({}) WITH ({})").format(log(spec), columns, raw(LOG_STORAGE))),
        text(sql.SQL("REVOKE ALL ON TABLE {} FROM {}").format(log(spec), roles)),
        text(sql.SQL("ALTER TABLE {} ENABLE ROW LEVEL SECURITY").format(log(spec))),
        # a publication FOR ALL TABLES refuses a DELETE from a table that does not say what identifies a row
        text(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(log(spec))),
        text(sql.SQL("COMMENT ON TABLE {} IS {}").format(log(spec), sql.Literal("atlas_ops: keys of changed rows"))),
        text(function),
        text(sql.SQL("REVOKE ALL ON FUNCTION {}() FROM {}").format(capture_name(spec), roles)),
    ]


def set_aside(spec: TableSpec) -> sql.Identifier:
    """The table of the rows without a key, in the closed schema."""
    return name(spec.partition_schema, spec.null_keys_name)


def drop_log(spec: TableSpec) -> list[str]:
    """The log and its trigger function, once no trigger uses it."""
    return [
        text(sql.SQL("DROP TABLE IF EXISTS {}").format(log(spec))),
        text(sql.SQL("DROP FUNCTION IF EXISTS {}()").format(capture_name(spec))),
    ]


def capture(spec: TableSpec, table: tuple[str, str]) -> list[str]:
    """The capture on a table. ALWAYS: a session in replica role (logical replication, a restore) writes rows too."""
    at = name(*table)
    create = "CREATE TRIGGER {} {} ON {} FOR EACH {} EXECUTE FUNCTION {}()"
    refuse = name("atlas_ops", "refuse_truncate")
    return [
        text(
            sql.SQL(create).format(
                name(CAPTURE), raw("AFTER INSERT OR UPDATE OR DELETE"), at, raw("ROW"), capture_name(spec)
            )
        ),
        _always(table, CAPTURE),
        text(sql.SQL(create).format(name(NO_TRUNCATE), raw("BEFORE TRUNCATE"), at, raw("STATEMENT"), refuse)),
        _always(table, NO_TRUNCATE),
    ]


def release(table: tuple[str, str]) -> list[str]:
    """The capture off again."""
    return [drop_trigger(table, CAPTURE), drop_trigger(table, NO_TRUNCATE)]


def drop_trigger(table: tuple[str, str], trigger: str) -> str:
    """DROP TRIGGER IF EXISTS."""
    return text(sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(name(trigger), name(*table)))


def follows(table: tuple[str, str]) -> list[str]:
    """A table that only follows refuses to be written by anybody but the drain."""
    create = sql.SQL(
        "CREATE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {} FOR EACH STATEMENT "
        "EXECUTE FUNCTION atlas_ops.refuse_write()"
    ).format(name(FOLLOWS), name(*table))
    return [text(create), _always(table, FOLLOWS)]


def _always(table: tuple[str, str], trigger: str) -> str:
    """A session in replica role fires no other trigger."""
    return text(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(name(*table), name(trigger)))


def guard(spec: TableSpec, table: tuple[str, str]) -> list[str]:
    """The guard on the table that is used from now on: 40001 for a snapshot that does not see the last drain, whose transaction is known
    only when this runs."""
    create = text(
        sql.SQL("CREATE TRIGGER {} BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH STATEMENT ").format(
            name(GUARD), name(*table)
        )
    )
    install = text(
        sqlfile.filled(
            "DO $do$ BEGIN EXECUTE {create} || format({end}, (SELECT drained_xid FROM {state} WHERE {row})); END $do$",
            create=sql.Literal(create),
            end=sql.Literal("EXECUTE FUNCTION atlas_ops.refuse_old_snapshot(%L)"),
            state=raw(STATE),
            row=_row(spec),
        )
    )
    return [install, _always(table, GUARD)]


# -- the state


def _row(spec: TableSpec) -> sql.Composed:
    return sql.SQL("schema_name = {} AND table_name = {}").format(sql.Literal(spec.schema), sql.Literal(spec.name))


def remember(spec: TableSpec) -> str:
    """The state of a copy that begins."""
    return text(
        sql.SQL("INSERT INTO {} (schema_name, table_name) VALUES ({}, {})").format(
            raw(STATE), sql.Literal(spec.schema), sql.Literal(spec.name)
        )
    )


def set_state(spec: TableSpec, changes: str) -> str:
    """`changes`: assignments of the state's columns."""
    return text(sql.SQL("UPDATE {} SET {} WHERE {}").format(raw(STATE), raw(changes), _row(spec)))


def forget(spec: TableSpec) -> str:
    """The state is gone: nothing follows any more."""
    return text(sql.SQL("DELETE FROM {} WHERE {}").format(raw(STATE), _row(spec)))


def fence(spec: TableSpec, authority: str, *, shared: bool = False, in_step: bool = False) -> str:
    """Lock the state and see that it is still as the plan supposes: `shared` for copies of several partitions side by side."""
    return text(
        sqlfile.template(
            "fence",
            schema=sql.Literal(spec.schema),
            table=sql.Literal(spec.name),
            authority=sql.Literal(authority),
            exchanged=sql.Literal(isinstance(spec, ExchangedSpec)),
            condition=raw("AND in_step" if in_step else ""),
            strength=raw("SHARE" if shared else "UPDATE"),
        )
    )


# -- the drain

# The guard of what follows lets it pass. A temporary table has no statistics: left alone the planner may read whole tables for a few keys, so only
# nested loops remain. (Not enable_seqscan = off: before 18 its penalty on the temporary table hides every real cost.) Nothing is compiled.
_SETTINGS = (
    "SELECT set_config('atlas_ops.writes', 'allowed', true), set_config('jit', 'off', true), "
    "set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true)"
)


@dataclass(frozen=True, slots=True)
class _Side:
    """A table as the drain sees it: `t` follows, `s` is the source, both with the partition key that the copy has."""

    table: sql.Composable
    rows: sql.Composable


class Drain:
    """The statements of one pass, in the direction that `authority` tells. `more`: statements of others to be run on the batch."""

    def __init__(self, spec: TableSpec, original: Relation, authority: str, more: Sequence[str] = ()) -> None:
        self.spec, self.original, self.authority, self.more = spec, original, authority, tuple(more)
        self.keys, self.primary = key_columns(spec, original), primary_columns(original)
        self.columns = [column.name for column in insertable(original)]
        self.batch = batch_table(spec)
        projected = sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(raw(projection(spec, column)), name(column))
            for column in dict.fromkeys((*self.columns, *self.keys))
        )
        own_key = sql.SQL("{} IS NULL AS atlas_ops_keyless").format(name(spec.partition_key))
        original_table, partitioned_table = name(*spec.original_at), name(*spec.partitioned_at)
        self.original_side = _Side(
            original_table, sql.SQL("(SELECT {}, {} FROM {})").format(projected, own_key, original_table)
        )
        self.partitioned_side = _Side(partitioned_table, partitioned_table)

    def statements(self, limit: int = DRAIN_ROWS) -> tuple[str, ...]:
        """One transaction; the last statement answers whether another should follow. `limit` 0: all there is, and none follows."""
        moves = self._to_partitioned() if self.authority == ORIGINAL else self._to_original()
        return (
            fence(self.spec, self.authority, in_step=True),
            _SETTINGS,
            self._temporary(),
            self._take(limit),
            *moves,
            *self.more,
            text(
                sqlfile.template(
                    "drain_done",
                    log=log(self.spec),
                    schema=sql.Literal(self.spec.schema),
                    table=sql.Literal(self.spec.name),
                )
            ),
            text(
                sql.SQL("SELECT count(*) >= {} FROM (SELECT FROM {} LIMIT {}) AS waiting").format(
                    sql.Literal(limit), log(self.spec), sql.Literal(limit)
                )
            )
            if limit
            else "SELECT false",
        )

    def _temporary(self) -> str:
        columns = sql.SQL(", ").join(
            sql.SQL("{} {}").format(name(column.name), raw(column.type)) for column in self._key_types()
        )
        return text(
            sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS {} ({}) ON COMMIT DELETE ROWS").format(
                sql.Identifier(_batch_name(self.spec)), columns
            )
        )

    def _key_types(self) -> list[Column]:
        return [column for key in self.keys for column in self.original.columns if column.name == key]

    def _take(self, limit: int) -> str:
        return text(
            sqlfile.template(
                "drain_take",
                log=log(self.spec),
                batch=self.batch,
                keys=names(self.keys),
                limit=sql.SQL(" LIMIT {}").format(sql.Literal(limit)) if limit else sql.SQL(""),
            )
        )

    def _to_partitioned(self) -> list[str]:
        """By primary key and partition key, so that one partition is looked at; rows without a key by the specification."""
        keyed = _same("t", "b", self.keys), _same("s", "b", self.keys)
        source = self.original_side
        # with a value in the place of NULL a row of the copy may stand for a row without a key, whose key was the same once
        moves = self._replace(
            self.partitioned_side, source if self.spec.null_value else _Side(source.table, source.table), *keyed
        )
        keyless = name("b", self.spec.partition_key) + sql.SQL(" IS NULL")
        by_primary = sql.SQL("{} AND {} AND s.atlas_ops_keyless").format(keyless, _same("s", "b", self.primary))
        if self.spec.null_keys == "set_aside":
            aside = set_aside(self.spec)
            there = sql.SQL("{} AND {}").format(keyless, _same("t", "b", self.primary))
            moves += self._replace(_Side(aside, aside), source, there, by_primary)
        elif self.spec.null_value:
            key = self.spec.partition_key
            there = sql.SQL("{} AND {}").format(keyless, _same("t", "b", self.primary))
            exact = sql.SQL("{} AND {} = {}").format(there, name("t", key), name("s", key))
            # a row that has a key by now stays, if it is the same: its own key may have left the log already
            moves += self._replace(
                self.partitioned_side, source, there, by_primary, exact, _same("s", "b", self.primary)
            )
        else:
            moves.append(self._refuse_keyless())
        return moves

    def _to_original(self) -> list[str]:
        """By primary key alone in the original, where it is unique; its rows without a key follow the table where they were set aside."""
        keyed = _same("s", "b", self.keys)
        there, same_primary = _same("t", "b", self.primary), _same("s", "t", self.primary)
        if self.spec.null_keys != "set_aside":
            return self._replace(self.original_side, self.partitioned_side, there, keyed, there, same_primary)
        key, aside = self.spec.partition_key, set_aside(self.spec)
        moves = self._replace(
            self.original_side,
            _Side(aside, aside),
            sql.SQL("{} AND {} IS NULL").format(there, name("t", key)),
            sql.SQL("{} IS NULL AND {}").format(name("b", key), _same("s", "b", self.primary)),
            there,
            same_primary,
            compared=_identical("s", "t", self.columns),
        )
        removable = sql.SQL("{} AND {} IS NOT NULL").format(there, name("t", key))
        return moves + self._replace(self.original_side, self.partitioned_side, removable, keyed, there, same_primary)

    def _replace(
        self,
        target: _Side,
        source: _Side,
        target_condition: sql.Composable,
        source_condition: sql.Composable,
        exact: sql.Composable | None = None,
        kept_condition: sql.Composable | None = None,
        compared: sql.Composable | None = None,
    ) -> list[str]:
        """What follows is made like the source for the keys taken.

        `target_condition`: the rows of the target (t) that a key (b) may stand for; `source_condition`: the row of the source (s);
        `exact`: the row of the target that stands for just this row of the source; `kept_condition`: the rows of the source that a
        row of the target may be the same as, and then stays; `compared`: when it is, if not as usual.
        """
        to_original = self.authority == PARTITIONED
        exact = exact or target_condition
        identical = _identical("s", "t", self.columns)
        target_rows = target.rows if to_original else target.table
        # the original is deleted from under its own columns, but compared as the copy would hold it
        compared = compared or (self._identical_to_original() if to_original else identical)
        by_primary = sql.SQL("(SELECT DISTINCT {} FROM {})").format(names(self.primary), self.batch)
        remove = sqlfile.template(
            "drain_remove",
            target=target.table,
            batch_rows=by_primary if to_original else self.batch,
            target_condition=target_condition,
            source=source.rows,
            source_condition=kept_condition or source_condition,
            identical=compared,
        )
        insert = sqlfile.template(
            "drain_insert",
            target=target.table,
            here=target_rows,
            batch=self.batch,
            source=source.rows,
            columns=names(self.columns),
            values=sql.SQL(", ").join(name("s", column) for column in self.columns),
            source_condition=source_condition,
            target_condition=exact,
            arbitration=raw(" ON CONFLICT DO NOTHING" if self._arbitrated() else ""),
        )
        put_back = sqlfile.template(
            "drain_put_back",
            log=log(self.spec),
            keys=names(self.keys),
            batch_keys=sql.SQL(", ").join(name("b", key) for key in self.keys),
            batch=self.batch,
            source=source.rows,
            here=target_rows,
            source_condition=source_condition,
            target_condition=exact,
            identical=identical,
        )
        return [text(remove), text(insert), text(put_back)]

    def _identical_to_original(self) -> sql.Composable:
        """The row of the partitioned table (s) against that of the original (t), whose key may be given by the specification."""
        key, value = self.spec.partition_key, self.spec.null_value
        if not value:
            return sql.SQL("{} AND {}").format(_same("s", "t", [key]), _identical("s", "t", self.columns))
        # the expression is over the row's columns: they are named anew for it
        listed = names(self.columns)
        values = sql.SQL(", ").join(name("t", column) for column in self.columns)
        projected = sql.SQL(", ").join(raw(projection(self.spec, column)) for column in self.columns)
        return sql.SQL("ROW({})::record *= (SELECT ROW({})::record FROM (SELECT {}) AS o ({}))").format(
            sql.SQL(", ").join(name("s", column) for column in self.columns), projected, values, listed
        )

    def _arbitrated(self) -> bool:
        """A deferrable key cannot arbitrate."""
        return not any(one.deferrable for one in self.original.constraints if one.kind in "pu")

    def _refuse_keyless(self) -> str:
        """Rows without a key that came since preflight have no place: the drain stops, and their keys stay in the log."""
        key = self.spec.partition_key
        return text(
            sqlfile.filled(
                "DO $do$ BEGIN IF EXISTS (SELECT FROM {batch} AS b JOIN {source} AS s ON {same} WHERE {logged} IS NULL AND {key} IS NULL) THEN "
                "RAISE EXCEPTION 'rows without a partition key came, and null_keys is refuse' USING ERRCODE = 'not_null_violation', "
                "HINT = 'Say in the specification what becomes of them: null_keys: set_aside, or a value.'; END IF; END $do$",
                batch=self.batch,
                source=self.original_side.table,
                same=_same("s", "b", self.primary),
                logged=name("b", key),
                key=name("s", key),
            )
        )


def _batch_name(spec: TableSpec) -> str:
    return fit(f"{spec.name}_batch")


def batch_table(spec: TableSpec) -> sql.Identifier:
    """The keys of one pass, as a temporary table with the columns of the log."""
    return name("pg_temp", _batch_name(spec))


def _same(one: str, other: str, columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(name(one, column), name(other, column)) for column in columns
    )


def _identical(one: str, other: str, columns: Sequence[str]) -> sql.Composed:
    """The same images (manual: composite type comparison), so 1.0 is not 1.00; ::record keeps the parser from comparing by column."""
    rows = (
        sql.SQL("ROW({})::record").format(sql.SQL(", ").join(name(alias, column) for column in columns))
        for alias in (one, other)
    )
    return sql.SQL(" *= ").join(rows)
