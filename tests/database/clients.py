"""Clients of a table in use, five hundred writes a second, and how long one of their statements took at most."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

MOMENT = 0.1
"""Seconds that a client may wait on top of lock_timeout."""


@dataclass
class Window:
    """What the clients met between its beginning and its end. Seconds."""

    stalled: float = 0.0  # the longest statement on the table, or on one that it refers to
    machine: float = (
        0.0  # the longest statement of the same time that has nothing to do with either: what the machine itself costs
    )
    done: int = 0
    seconds: float = 0.0


class Clients:
    """Five hundred writes a second and readers beside them; they go on until they are stopped."""

    STATEMENTS = (
        "INSERT INTO {table} (at, author, body) VALUES ('2024-02-05', 1 + {n} % 9, 'x')",
        "INSERT INTO {table} (at, author, body) VALUES ('2024-02-06', 1 + {n} % 9, 'x')",
        "UPDATE {table} SET body = 'y' WHERE id = {n} AND at < '2024-02-20'",
        "UPDATE author SET id = id WHERE id = 1 + {n} % 9",
    )
    READS = "SELECT count(*) FROM {table} WHERE author = {n} % 9 AND at >= '2024-02-07'"
    APART = "UPDATE apart SET n = n + 1"

    def __init__(self, conninfo: str, table: str, *more: str, rate: int = 500) -> None:
        """`more`: statements that others run besides."""
        self.conninfo, self.table, self.pause = conninfo, table, len(self.STATEMENTS) / rate
        self.stop, self.window, self.errors = threading.Event(), Window(), list[str]()
        statements = (*self.STATEMENTS, *more, self.READS, self.APART)
        self.threads = [threading.Thread(target=self._run, args=(one,)) for one in statements]

    def _run(self, statement: str) -> None:
        n, due = 0, time.perf_counter()
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            while not self.stop.is_set():
                n += 1
                began, window = time.perf_counter(), self.window
                try:
                    conn.execute(statement.format(table=self.table, n=n % 100))
                except psycopg.Error as error:
                    self.errors.append(f"{error.sqlstate} {error}")
                self._note(statement, time.perf_counter() - began, window)
                due += self.pause  # by the clock: what was late is made up for
                time.sleep(max(0.0, due - time.perf_counter()))

    def _note(self, statement: str, took: float, window: Window) -> None:
        """A statement counts for the window that it began in, and for the one that it ended in."""
        for one in {id(found): found for found in (window, self.window)}.values():
            if statement == self.APART:
                one.machine = max(one.machine, took)
            else:
                one.stalled = max(one.stalled, took)
                one.done += statement in self.STATEMENTS

    @contextmanager
    def watched(self) -> Iterator[Window]:
        """What is met in here. A client that makes up for what it was late with writes no less."""
        began, self.window = time.perf_counter(), Window()
        yield self.window
        self.window.seconds = time.perf_counter() - began
        self.window = Window()

    def __enter__(self) -> Clients:
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            conn.execute("CREATE TABLE apart (n int); INSERT INTO apart VALUES (0)")
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()


def read_for_five_seconds(conninfo: str, table: str) -> None:
    """A report that somebody runs meanwhile: it holds its locks for five seconds."""
    with psycopg.connect(conninfo) as conn:
        conn.execute(f"SELECT count(*), pg_sleep(5) FROM {table}")
