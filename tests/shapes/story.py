"""The whole story of one table: copied online, proven, written to, cut over, written to, rolled back, abandoned; or refused, and untouched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from atlas_ops import cutover
from atlas_ops.definition import name, text
from atlas_ops.report import Check, Severity
from atlas_ops.spec import TableSpec
from tests.database.conftest import Operations


class Story:
    """One table on one database, told by the helpers of the database tests. `table` is written as in SQL."""

    def __init__(self, ops: Operations, db: Any, **keys: Any) -> None:
        self.ops, self.db = ops, db
        self.spec: TableSpec = ops.online(**keys)
        self.table = text(name(*self.spec.original_at))

    # -- what is there

    def rows(self, where: str = "true") -> list[str]:
        """The rows of the table that has the name now, each as text, in an order of their own."""
        with psycopg.connect(self.db.superuser_conninfo, options="-c TimeZone=UTC") as conn:
            query = f'SELECT t::text FROM {self.table} AS t WHERE {where} ORDER BY t::text COLLATE "C"'
            return [row for (row,) in conn.execute(query)]

    def catalogs(self) -> list[str]:
        """Everything that a dump would make again, without the rows; whatever the order of the objects."""
        return sorted(self.ops.dump(self.db, "--schema-only").splitlines())

    # -- what is done

    def write(self, statements: Sequence[str]) -> None:
        """As the application does it; every statement finds rows to write."""
        with psycopg.connect(self.db.conninfo, autocommit=True, options="-c TimeZone=UTC") as conn:
            for statement in statements:
                assert conn.execute(statement).rowcount > 0, statement

    def written(self, statements: Sequence[str]) -> list[str]:
        """What the table would hold after these writes; nothing is written."""
        with psycopg.connect(self.db.superuser_conninfo, options="-c TimeZone=UTC") as conn:
            for statement in statements:
                conn.execute(statement)
            query = f'SELECT t::text FROM {self.table} AS t ORDER BY t::text COLLATE "C"'
            found = [row for (row,) in conn.execute(query)]
            conn.rollback()
        return found

    def refused(self) -> tuple[Check, ...]:
        """Preflight's red checks, each with a cure; they leave the catalogs and the rows as they are."""
        before = self.catalogs(), self.rows()
        reds = tuple(check for check in self.ops.checks(self.db, self.spec) if check.severity is Severity.STOP)
        assert all(check.what and check.why and check.cure for check in reds), reds
        assert (self.catalogs(), self.rows()) == before
        return reds

    def tell(self, *chapters: Sequence[str], draw: str = "", large: bool = False) -> None:
        """The whole story with writes before the cut-over, after it, and after the roll back (as many chapters as there are given).

        `draw`: an INSERT of one row whose number the table itself gives, for every chapter. `large`: the first month is copied in batches.
        """
        ops, db, spec = self.ops, self.db, self.spec
        first, second, third = (*chapters, (), (), ())[:3]
        catalogs, rows = self.catalogs(), self.rows()
        lines = ops.follow(db, spec, {"2024-01": 10_000_000} if large else None)
        assert large == any(line.step.startswith("index ") for line in lines)
        assert ops.in_step(db, spec) == len(rows)
        assert self.rows() == rows

        self._chapter(first, draw)
        bars = [check for check in cutover.checks(*ops.placed(db, spec)) if check.severity is Severity.STOP]
        assert bars == []
        key = text(name(spec.partition_key))
        # rows without a key are not the application's any more, until the roll back brings them home
        aside = self.rows(f"{key} IS NULL") if spec.null_keys == "set_aside" else []
        rows = [row for row in self.rows() if row not in aside]
        ops.cut_over(db, spec)
        assert self.rows() == rows

        rows = self._chapter(second, draw, len(aside))
        ops.roll_back(db, spec)
        assert self.rows() == sorted([*rows, *aside], key=str.encode)

        rows = self._chapter(third, draw)
        ops.carry_out(db, cutover.plan_abandon(*ops.placed(db, spec)))
        assert self.rows() == rows
        assert self.catalogs() == catalogs

    def _chapter(self, statements: Sequence[str], draw: str, aside: int = 0) -> list[str]:
        """The writes do what they would have done to the table at the start, and whoever follows follows. `aside`: rows that it has not."""
        expected = self.written(statements)
        self.write(statements)
        assert self.rows() == expected
        if draw:
            self.write([draw])
        rows = self.rows()
        assert len(rows) == len(expected) + bool(draw)
        self.ops.drain(self.db, self.spec)
        assert self.ops.in_step(self.db, self.spec) == len(rows) + aside
        return rows
