"""What a partitioned copy is made of: the closed table, its parts with their rows, indexes and foreign keys, and what makes it whole. Pure.

A part stands beside the table that it will belong to until its rows are there, and a CHECK then spares ATTACH its scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from psycopg import sql

from atlas_ops import definition, online, takeover
from atlas_ops.definition import IndexPlan, name, plainly, text
from atlas_ops.division import BOUND_CHECK, SET_ASIDE, Part, mark_prefix, parts, periods
from atlas_ops.model import Partition, Relation, Snapshot
from atlas_ops.plan import Effect, Step
from atlas_ops.spec import TableSpec

ANALYZE_ONLY_SINCE = 180000  # ANALYZE ONLY leaves the partitions out (release notes of 18)


class Copy:
    """The statements and steps for one table; holds nothing but what it was given. `migration` puts them in order."""

    def __init__(
        self,
        spec: TableSpec,
        snapshot: Snapshot,
        original: Relation,
        as_of: date,
        rows: Mapping[str, int],
    ) -> None:
        key = original.column(spec.partition_key)
        assert key is not None, "preflight refuses a specification whose key is missing"
        self.spec, self.snapshot, self.original, self.key, self.rows = spec, snapshot, original, key, rows
        self.covers_until = periods(spec, as_of)[-1].upper.date()
        self.parts = tuple(part for part in parts(spec, key.base_type, as_of) if part.table)
        self.indexes = definition.index_plans(original, spec.partition_key, spec.indexes)
        self.have = {
            partition.name: partition for partition in snapshot.partitions if partition.schema == spec.partition_schema
        }
        self.built_at = (spec.partition_schema, spec.name)  # until it is renamed
        self.source = text(name(*spec.original_at))
        self.target = text(name(*spec.partitioned_at))
        # for people; the statements above and below quote every name
        self.source_said = plainly(*spec.original_at)
        self.target_said = plainly(*spec.partitioned_at)

    def _indexed(self, part: Part) -> list[str]:
        """What makes a filled table whole: its indexes, its mark, its statistics."""
        return [
            *self._indexes(part),
            *definition.comment(self.spec.partition_schema, part.table, self._mark(part)),
            text(sql.SQL("ANALYZE {}").format(definition.raw(self._qualified(part)))),
        ]

    # -- building the empty partitioned table

    def _build(self, more: Sequence[str]) -> Step:
        return Step(
            name=f"build {self.target_said}",
            statements=tuple(self._build_statements(more)),
            lock="SHARE ROW EXCLUSIVE" if self._referenced() else "ACCESS SHARE",
            on=self._referenced() or self.source_said,
            why="The empty partitioned table with all that the original has; foreign keys check no row yet. It is built under the "
            "original's name in the closed schema, so that expressions which name the table still resolve, then renamed.",
        )

    def _build_statements(self, more: Sequence[str]) -> list[str]:
        spec, original, at = self.spec, self.original, self.built_at
        statements = definition.closed_schema(spec.partition_schema, self.snapshot.closed_to, self._other_owner())
        if self.snapshot.partition_schema is None or not self.snapshot.partition_schema.exists:
            mark = sql.SQL("COMMENT ON SCHEMA {} IS {}")
            statements.append(text(mark.format(name(spec.partition_schema), sql.Literal(definition.SCHEMA_MARK))))
        statements.append(definition.like_partitioned(*at, original, spec.partition_key))
        statements += definition.identities(*at, original, spec.partitioned_name)
        statements += definition.closing(*at, self.snapshot.closed_to)[:1]
        for index in self.indexes:
            statements += index.statements(*at, named_after=spec.partitioned_name)
        statements += definition.column_settings(*at, original)
        statements += definition.statistics(*at, original, spec.partitioned_name, self.snapshot.server.role)
        statements += definition.policies(*at, original)
        statements += more
        statements += definition.replica_identity(*at, original, self.indexes, spec.partitioned_name)
        statements += definition.comment(*at, original.table.comment)
        statements += self._rename()
        # the owner first: a grant to the role that runs this would merge with its ownership
        statements += self._owner(spec.partitioned_schema, spec.partitioned_name)
        statements += definition.grants(spec.partitioned_schema, spec.partitioned_name, original)
        statements.append(self._register(ready=False))
        return statements

    def _rename(self) -> list[str]:
        spec = self.spec
        moved = sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
            name(spec.partition_schema, spec.partitioned_name), name(spec.partitioned_schema)
        )
        renamed = sql.SQL("ALTER TABLE {} RENAME TO {}").format(
            name(spec.partition_schema, spec.name), name(spec.partitioned_name)
        )
        return [text(renamed), *([text(moved)] if spec.partitioned_schema != spec.partition_schema else [])]

    def _other_owner(self) -> list[str]:
        """The owner of the original, where that is not the role that runs this."""
        owner = self.original.table.owner
        return [] if owner == self.snapshot.server.role else [owner]

    def _owner(self, schema: str, table: str) -> list[str]:
        return [
            text(sql.SQL("ALTER TABLE {} OWNER TO {}").format(name(schema, table), name(owner)))
            for owner in self._other_owner()
        ]

    def _register(self, *, ready: bool) -> str:
        spec = self.spec
        values = [
            spec.partitioned_schema,
            spec.partitioned_name,
            str(spec.every),
            spec.ahead,
            spec.partition_schema,
            spec.name,
            list(self.original.table.storage_parameters),
            ready,
            spec.keep,
            spec.lock_timeout_ms,
        ]
        # where the rows reached when it was built: rows that come later do not move the ends of a copy that is under way
        extends = spec.out_of_range == "extend"
        values += [spec.from_, self.covers_until] if extends else []
        return text(
            sql.SQL(
                "INSERT INTO atlas_ops.partitioned_table (schema_name, table_name, every, ahead, partition_schema, partition_prefix, "
                "storage_parameters, ready, keep, lock_timeout_ms{}) VALUES ({}) ON CONFLICT (schema_name, table_name) DO UPDATE "
                "SET every = excluded.every, "
                "ahead = excluded.ahead, partition_schema = excluded.partition_schema, partition_prefix = excluded.partition_prefix, "
                "storage_parameters = excluded.storage_parameters, ready = excluded.ready, keep = excluded.keep, "
                "lock_timeout_ms = excluded.lock_timeout_ms"
            ).format(
                sql.SQL(", covers_from, covers_until" if extends else ""),
                sql.SQL(", ").join(sql.Literal(value) for value in values),
            )
        )

    def _foreign_keys(self, at: tuple[str, str]) -> list[str]:
        return definition.foreign_keys(*at, self.original)

    def _triggers(self, at: tuple[str, str]) -> list[str]:
        return definition.triggers(*at, self.original)

    def _closed(self) -> list[str]:
        """Nobody follows what the application would write here: it may only read until 06 opens the copy."""
        return [*takeover.closed(self.built_at), *takeover.as_referred(self.built_at, self.original)]

    def _referenced(self) -> str:
        return ", ".join(
            sorted({fk.referenced for fk in self.original.constraints if fk.kind == "f" and fk.referenced})
        )

    # -- one part: its table, its rows, its indexes

    def _fill(self, part: Part) -> Iterator[Step]:
        if self._attached(part):
            return
        lane = f"{self.spec.name} {part.label}"
        table = self._qualified(part)
        stale = self._stale(part)
        if stale or part.table not in self.have:
            yield Step(
                name=f"copy {part.table}",
                statements=(
                    *([f"DROP TABLE {table}"] if stale else []),
                    *self._table(part, False),
                    self._insert(part),
                    *self._indexed(part),
                ),
                lock="ACCESS SHARE",
                on=self.source_said,
                why="Rows first, indexes after them; the table stands beside the partitioned one and nobody can see it yet."
                + (" The one dropped is an interrupted run's, copied by other bounds." if stale else ""),
                effect=Effect.REMOVES if stale else Effect.ADDS,
                lane=lane,
                weight=self.rows.get(part.label, 0),
            )
        if part.attachable:
            yield from self._check_foreign_keys(part, lane)

    def _check_foreign_keys(self, part: Part, lane: str) -> Iterator[Step]:
        found = None if self._stale(part) else self.have.get(part.table)
        table = definition.raw(self._qualified(part))
        keys = [fk for fk in self.original.constraints if fk.kind == "f"]
        missing = [fk for fk in keys if found is None or fk.name not in found.foreign_keys]
        if missing:
            yield Step(
                name=f"foreign keys of {part.table}",
                statements=tuple(
                    text(
                        sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID").format(
                            table, name(fk.name), definition.raw(fk.definition.removesuffix(" NOT VALID"))
                        )
                    )
                    for fk in missing
                ),
                lock="SHARE ROW EXCLUSIVE",
                on=self._referenced(),
                why="NOT VALID reads no row, so the referenced tables are locked for a moment only.",
                lane=lane,
            )
        unvalidated = [
            fk for fk in keys if fk.validated and (fk in missing or (found and fk.name in found.unvalidated))
        ]
        if unvalidated:
            yield Step(
                name=f"check foreign keys of {part.table}",
                statements=(
                    self._forget_deleted(part),
                    *(
                        text(sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, name(fk.name)))
                        for fk in unvalidated
                    ),
                ),
                lock="ROW SHARE",
                on=self._referenced(),
                why="Every row is checked here, without blocking a writer, so that ATTACH need not. Rows that a cascade took from the "
                "original since they were copied go first; from here on it takes them from the copy too.",
                lane=lane,
            )

    def _forget_deleted(self, part: Part) -> str:
        """Without it a referenced row that was deleted while this part was copied would fail the check for ever."""
        primary = self.original.primary_key
        assert primary is not None, "preflight refuses a table without one"
        same = sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(name("o", column), name("p", column)) for column in primary.columns
        )
        return text(
            sql.SQL("DELETE FROM {} AS p WHERE NOT EXISTS (SELECT FROM {} AS o WHERE {} AND {})").format(
                definition.raw(self._qualified(part)),
                definition.raw(self.source),
                same,
                definition.raw(part.of_original),
            )
        )

    def _table(self, part: Part, empty: bool) -> list[str]:
        """The table of a part. With rows to come and a bound: a CHECK that spares ATTACH its scan."""
        spec, schema = self.spec, self.spec.partition_schema
        model = (spec.schema, spec.name) if not part.attachable else (spec.partitioned_schema, spec.partitioned_name)
        statements = [definition.like(schema, part.table, *model, self.original)]
        statements += definition.closing(schema, part.table, self.snapshot.closed_to)
        statements += definition.column_settings(schema, part.table, self.original)
        statements += definition.statistics(schema, part.table, self.original, part.table, self.snapshot.server.role)
        statements += self._owner(schema, part.table)
        if part.attachable and not empty:
            statements.append(
                text(
                    sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({})").format(
                        name(schema, part.table), name(BOUND_CHECK), definition.raw(part.check)
                    )
                )
            )
        return statements

    def _indexes(self, part: Part) -> list[str]:
        key = self.original.primary_key
        aside = [IndexPlan("pkey", constraint=key.definition, of=key.name)] if key else []
        if self.spec.copy == "online":  # its foreign keys come at the cut-over, and cascade
            columns = dict.fromkeys(fk.columns for fk in self.original.constraints if fk.kind == "f")
            aside += [
                IndexPlan(
                    "_".join([*each, "idx"]), tail=text(sql.SQL("USING btree ({})").format(definition.names(each)))
                )
                for each in columns
            ]
        indexes = self.indexes if part.attachable else aside
        at = self.spec.partition_schema, part.table
        made = [statement for index in indexes for statement in index.statements(*at)]
        return [*made, *definition.replica_identity(*at, self.original, indexes)]

    def _insert(self, part: Part) -> str:
        columns = [column.name for column in definition.insertable(self.original)]
        listed = sql.SQL(", ").join(
            sql.SQL(online.projection(self.spec, column)) if part.attachable else name(column) for column in columns
        )
        return text(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE {}").format(
                name(self.spec.partition_schema, part.table),
                definition.names(columns),
                listed,
                definition.raw(self.source),
                definition.raw(part.of_original),
            )
        )

    def _insert_all(self) -> str:
        """Every row that has a key, through the partitioned table."""
        columns = [column.name for column in definition.insertable(self.original)]
        key = online.projection(self.spec, self.spec.partition_key)
        # a deferrable key cannot arbitrate
        arbitrated = not any(
            constraint.deferrable for constraint in self.original.constraints if constraint.kind in "pu"
        )
        return text(
            sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} WHERE {} IS NOT NULL{}").format(
                definition.raw(self.target),
                definition.names(columns),
                sql.SQL(", ").join(sql.SQL(online.projection(self.spec, column)) for column in columns),
                definition.raw(self.source),
                definition.raw(key),
                sql.SQL(" ON CONFLICT DO NOTHING" if arbitrated else ""),
            )
        )

    # -- attaching

    def _attach(self, part: Part, referenced: str | None = None) -> Step:
        """`referenced`: the tables that foreign keys of the part refer to; None: those of the original."""
        if referenced is None:
            referenced = self._referenced()
        check = text(
            sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(
                definition.raw(self._qualified(part)), name(BOUND_CHECK)
            )
        )
        return Step(
            name=f"attach {part.table}",
            statements=(self._attach_statement(part), check),
            lock="ACCESS EXCLUSIVE" if referenced else "SHARE UPDATE EXCLUSIVE",
            on=referenced or self.target_said,
            why="The CHECK proves the bound, so no row is read: 2 to 8 ms. It goes once the bound itself stands."
            + (
                " The referenced tables are locked because the foreign key is merged into the partitioned table's."
                if referenced
                else ""
            ),
        )

    def _attach_statement(self, part: Part) -> str:
        return f"ALTER TABLE {self.target} ATTACH PARTITION {self._qualified(part)} {part.bound}"

    def _vacuum(self, part: Part) -> Step:
        return Step(
            name=f"vacuum {part.table}",
            statements=(f"VACUUM (ANALYZE, SKIP_LOCKED) {self._qualified(part)}",),
            lock="SHARE UPDATE EXCLUSIVE",
            on=plainly(self.spec.partition_schema, part.table),
            why="Sets the visibility map, without which the first index-only scans read the heap. Skipped where autovacuum is at it.",
            lane=f"{self.spec.name} {part.label}",
            autocommit=True,
        )

    # -- finishing

    def _finish_step(self, statements: Sequence[str]) -> Step:
        published = any(not publication.all_tables for publication in self.original.publications)
        return Step(
            name=f"finish {self.target_said}",
            statements=tuple(statements),
            lock="SHARE UPDATE EXCLUSIVE",
            on=self.target_said,
            why="Numbers go on where the original's stand, and future partitions are made from now on."
            + (" Publications carry it." if published else ""),
        )

    def _finish(self) -> list[str]:
        statements = []
        for column in self.original.columns:
            # once the copy is in use its own numbers count: a later run that adds months leaves them alone
            if column.identity and column.sequence and not self.snapshot.ready:
                statements.append(
                    text(
                        sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), last_value, is_called) FROM {}").format(
                            sql.Literal(self.target),
                            sql.Literal(column.name),
                            definition.raw(column.sequence),
                        )
                    )
                )
        statements += self._publications()
        statements.append(self._register(ready=True))
        return statements

    def _analyze(self) -> Step:
        """The partitions have their statistics already; before 18 there is no way to leave them out."""
        if self.snapshot.server.version >= ANALYZE_ONLY_SINCE:
            statement = f"ANALYZE (SKIP_LOCKED) ONLY {self.target}"
        else:
            statement = f"ANALYZE (SKIP_LOCKED) {self.target}"
        return Step(
            name=f"analyze {self.target_said}",
            statements=(statement,),
            lock="SHARE UPDATE EXCLUSIVE",
            on=self.target_said,
            why="The planner gets statistics of the whole: autovacuum never analyzes a partitioned table.",
            autocommit=True,
        )

    def _publications(self) -> list[str]:
        if self.spec.publications == "leave":
            return []
        have = (
            {publication.name for publication in self.snapshot.partitioned.publications}
            if self.snapshot.partitioned
            else set()
        )
        statements = []
        for publication in self.original.publications:
            if publication.all_tables or publication.name in have:
                continue
            columns = (
                sql.SQL(" ({})").format(definition.names(publication.columns)) if publication.columns else sql.SQL("")
            )
            where = (
                sql.SQL(" WHERE ({})").format(definition.raw(publication.row_filter))
                if publication.row_filter
                else sql.SQL("")
            )
            statements.append(
                text(
                    sql.SQL("ALTER PUBLICATION {} ADD TABLE {}{}{}").format(
                        name(publication.name), definition.raw(self.target), columns, where
                    )
                )
            )
        return statements

    # -- state

    def _qualified(self, part: Part) -> str:
        return text(name(self.spec.partition_schema, part.table))

    def _mark(self, part: Part) -> str:
        return mark_prefix(self.spec) + f"{part.bound or SET_ASIDE} WHERE {part.of_original}"

    def _stale(self, part: Part) -> bool:
        """An interrupted run's copy that was filled by other bounds or another expression, since a day or the specification changed."""
        found = self.have.get(part.table)
        return not self.snapshot.ready and found is not None and not found.bound and found.comment != self._mark(part)

    def _attached(self, part: Part) -> bool:
        found: Partition | None = self.have.get(part.table)
        return found is not None and (found.bound is not None or not part.attachable) and not self._stale(part)
