"""The oracle: transactions and savepoints as PostgreSQL has them, and what a comparison calls by which name."""

from __future__ import annotations

from proof.oracle import Oracle, Row, compare

A, B = (Row(at=f"2024-0{month}-01 00:00:00+00", body="", amount="1.1", data=None, ratio=None) for month in (1, 2))


def test_a_transaction_is_seen_by_itself_and_kept_by_its_commit() -> None:
    oracle = Oracle({1: A, 2: A})
    oracle.begin()
    oracle.put(1, B)
    oracle.drop(2)
    assert oracle.rows() == {1: B} and oracle.committed == {1: A, 2: A}
    oracle.rollback()
    assert oracle.rows() == {1: A, 2: A}
    oracle.begin()
    oracle.drop(2)
    oracle.put(3, B)
    oracle.commit()
    assert oracle.committed == {1: A, 3: B}


def test_savepoints_nest() -> None:
    oracle = Oracle({1: A})
    oracle.begin()
    oracle.savepoint()
    oracle.put(1, B)
    oracle.savepoint()
    oracle.drop(1)
    assert oracle.get(1) is None
    oracle.rollback_to()
    assert oracle.get(1) == B
    oracle.put(2, B)
    oracle.release()
    oracle.rollback_to()
    assert oracle.rows() == {1: A}
    oracle.drop(1)
    oracle.release()
    oracle.commit()
    assert oracle.committed == {}


def counts(*found: tuple[int, Row]) -> tuple[int, int, int]:
    differences = compare(found, {1: A, 2: B})
    assert len(differences.examples) == differences.total
    return differences.missing, differences.stale, differences.resurrected


def test_what_differs_is_called_by_its_name() -> None:
    assert counts((1, A), (2, B)) == (0, 0, 0)
    assert counts((2, B)) == (1, 0, 0)
    assert counts((1, B), (2, B)) == (0, 1, 0)
    assert counts((1, A), (2, B), (3, B)) == (0, 0, 1)
    assert counts((1, A), (1, B), (2, B)) == (0, 0, 1)
    assert counts((1, A), (1, A), (2, B)) == (0, 0, 1)
    assert counts((1, B), (1, B)) == (1, 1, 1)
