"""Reads both sides of a migration and compares them, part by part, in one snapshot shared by two connections."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg

from atlas_ops import verify
from atlas_ops.database import Session, connect, translate
from atlas_ops.division import Part
from atlas_ops.model import Relation
from atlas_ops.progress import Says, silent
from atlas_ops.spec import TableSpec
from atlas_ops.verify import Difference, Figures, Keys, PartProof

WORKERS = 2


def prove(
    where: Session,
    tables: Sequence[tuple[TableSpec, Relation, Sequence[Part]]],
    progress: Says = silent,
    following: Mapping[str, str] | None = None,
) -> tuple[tuple[PartProof, ...], tuple[Difference, ...]]:
    """Every part of every table, and the rows that differ by name (at most 20 a part).

    `following`: name of a table that is kept in step → the authority; its rows that differ are looked for in its key log.
    All of it is read in one REPEATABLE READ snapshot, exported to a second connection: what is written meanwhile cannot blur it.
    The snapshot lives as long as this call, so it holds back VACUUM no longer than that.
    Raises AtlasError where a read fails.
    """
    jobs = [(spec, original, part) for spec, original, parts in tables for part in parts]
    proofs: list[PartProof] = []
    try:
        with connect(where) as first, first.transaction():
            first.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            # it idles in its transaction for as long as the others read: that is what keeps their snapshot
            first.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            exported = _one(first, "SELECT pg_export_snapshot()")[0]
            with ThreadPoolExecutor(WORKERS) as pool:
                slices = [pool.submit(_slice, where, exported, jobs[number::WORKERS]) for number in range(WORKERS)]
                for made in slices:
                    proofs += made.result()
                    progress(len(proofs), len(jobs), "compared")
            order = {(str(spec.name), part.label): number for number, (spec, _, part) in enumerate(jobs)}
            proofs.sort(key=lambda proof: order[proof.table, proof.part])
            # in the same snapshot: a drain that commits meanwhile takes keys out of the log that this snapshot still sees there
            proofs = [_looked_up(first, proof, jobs[number], following or {}) for number, proof in enumerate(proofs)]
            wrong = {(proof.table, proof.part) for proof in proofs if not proof.proven}
            differences = [
                found
                for spec, original, part in jobs
                if (spec.name, part.label) in wrong
                for found in _differences(first, spec, original, part, (following or {}).get(spec.name))
            ]
    except psycopg.Error as error:
        raise translate(error, "Comparing both tables") from None
    return tuple(proofs), tuple(differences)


def _slice(where: Session, exported: str, jobs: Sequence[tuple[TableSpec, Relation, Part]]) -> list[PartProof]:
    """Some of the parts, on a connection of their own in the exported snapshot."""
    with connect(where) as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        # a snapshot's name is the server's own; SET TRANSACTION takes no parameters
        connection.execute(psycopg.sql.SQL("SET TRANSACTION SNAPSHOT {}").format(exported))
        return [_part(connection, spec, original, part) for spec, original, part in jobs]


def _part(connection: psycopg.Connection, spec: TableSpec, original: Relation, part: Part) -> PartProof:
    started = time.perf_counter()
    sides = [
        Figures(*_whole(connection, verify.figures_query(spec, original, part, partitioned=partitioned)))
        for partitioned in (False, True)
    ]
    keys = Keys(*_one(connection, verify.keys_query(spec, original, part)))
    return PartProof(spec.name, part.label, sides[0], sides[1], keys, time.perf_counter() - started)


def _looked_up(
    connection: psycopg.Connection,
    proof: PartProof,
    job: tuple[TableSpec, Relation, Part],
    following: Mapping[str, str],
) -> PartProof:
    """A part that differs, with what the key log says of it."""
    spec, original, part = job
    if proof.same or spec.name not in following or not part.table:
        return proof
    waiting, lost = _one(connection, verify.waiting_query(spec, original, part, following[spec.name]))
    return replace(proof, waiting=waiting, lost=lost)


def _differences(
    connection: psycopg.Connection, spec: TableSpec, original: Relation, part: Part, authority: str | None
) -> list[Difference]:
    query = (
        verify.lost_query(spec, original, part, authority)
        if authority and part.table
        else verify.differences_query(spec, original, part)
    )
    found = connection.execute(query).fetchall()
    return [Difference(part.label, tuple(key), kind, tuple(columns)) for key, kind, columns in found]


def _one(connection: psycopg.Connection, query: Any) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return tuple(row)


def _whole(connection: psycopg.Connection, query: Any) -> list[int]:
    """Counts and sums as int: sum(bigint) is numeric, which arrives as Decimal."""
    return [int(value) for value in _one(connection, query)]
