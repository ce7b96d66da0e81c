"""The load itself: clean on a table that nobody touches, and blind to nothing that happens to one."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from proof import kills
from proof.load import APP, RC, RR, SER, Client, Dice, Load
from proof.oracle import Row
from proof.proxy import Proxy
from psycopg.conninfo import make_conninfo


def test_a_plain_table_under_all_clients_is_clean(ground: Any, options: Any) -> None:
    with Load(ground.place, options.seed) as load:
        load.start()
        time.sleep(options.seconds)
        middle = load.verdict()
        assert middle.clean, middle
        time.sleep(options.seconds)
        verdict = load.stop()
    assert verdict.clean, verdict
    assert verdict.tally.committed > middle.tally.committed > len(load.clients)
    done = set(verdict.tally.statements)
    assert {
        "INSERT",
        "UPDATE at",
        "UPDATE id",
        "DELETE",
        "ON CONFLICT",
        "MERGE",
        "COPY",
        "item_put",
        "rollback to",
    } <= done
    assert {"EXECUTE item_update", "SELECT all", "DELETE, INSERT"} <= done


@pytest.fixture
def load(ground: Any, options: Any) -> Iterator[Load]:
    """Three clients to be led by hand."""
    with Load(ground.place, options.seed, [RC, RR, SER]) as made:
        for client in made.clients:
            client.fill(10)
        yield made


@pytest.fixture
def led(load: Load) -> Client:
    return load.clients[0]


def tamper(ground: Any, statement: str) -> None:
    with ground.place.connect() as conn:
        conn.execute(statement)


TAMPERED = [
    ("DELETE FROM item WHERE id = {id}", "missing"),
    ("UPDATE item SET body = 'another' WHERE id = {id}", "stale"),
    ("UPDATE item SET amount = 1.1 WHERE id = {id}", "stale"),
    ("UPDATE item SET ratio = '-0' WHERE id = {id}", "stale"),
    ("""UPDATE item SET data = '{{"n": 1.5}}' WHERE id = {id}""", "stale"),
    ("UPDATE item SET at = at + interval '1 microsecond' WHERE id = {id}", "stale"),
    ("INSERT INTO item (id, at) VALUES ({id} + 100, now())", "resurrected"),
]


@pytest.mark.parametrize(("statement", "kind"), TAMPERED)
def test_every_loss_is_seen_at_the_end_and_by_a_reader(
    ground: Any, load: Load, led: Client, statement: str, kind: str
) -> None:
    with led.transaction():
        led.update(led.first, Row(at="2024-01-15 00:00:00+00", body=None, amount="1.10", data='{"n": 1.50}', ratio="0"))
    assert load.verdict().clean
    tamper(ground, statement.format(id=led.first))
    verdict = load.verdict()
    assert (verdict.losses, getattr(verdict.lost, kind)) == (1, 1), verdict
    assert not verdict.tally.misread
    with led.transaction():
        led.read_all()
        led.read([led.first, led.first + 100], lock=True)
        led.read([led.first + 1])
    verdict = load.verdict()
    assert verdict.tally.misread == {f"RC: {kind}": 2}, verdict
    assert verdict.tally.miswritten == {} and not verdict.clean


def test_a_row_that_no_client_ever_touched_is_watched_as_well(ground: Any, load: Load) -> None:
    tamper(ground, "DELETE FROM item WHERE id = 7")
    assert load.verdict().lost.missing == 1


def test_an_id_that_is_there_twice_is_seen(ground: Any, load: Load, led: Client) -> None:
    tamper(ground, "ALTER TABLE item DROP CONSTRAINT item_pkey")
    tamper(ground, f"INSERT INTO item SELECT id, at + interval '31 days' FROM item WHERE id = {led.first}")
    verdict = load.verdict()
    assert (verdict.lost.resurrected, verdict.losses) == (1, 1), verdict


@pytest.mark.parametrize("verb", ["update", "update_prepared", "delete", "move", "drop_by_function"])
def test_a_write_that_hits_nothing_is_seen_at_once_and_at_the_end(ground: Any, load: Load, verb: str) -> None:
    client = load.clients[1]  # keeps its prepared statements
    tamper(ground, f"DELETE FROM item WHERE id = {client.first}")
    row = client.oracle.get(client.first)
    arguments = {
        "delete": ([client.first],),
        "move": (client.first, "2024-01-15 00:00:00+00"),
        "drop_by_function": (client.first,),
    }
    with client.transaction():
        getattr(client, verb)(*arguments.get(verb, (client.first, row)))
    verdict = load.verdict()
    assert verdict.tally.miswritten.total() == 1
    assert verdict.lost.missing == (0 if verb in {"delete", "drop_by_function"} else 1)


def test_what_was_rolled_back_is_not_expected(load: Load, led: Client) -> None:
    with led.transaction(undo=True):
        led.delete([led.first])
        led.read([led.first])
    with led.transaction():
        with led.savepoint(undo=True):
            led.delete([led.first, led.first + 1])
            with led.savepoint(undo=False):
                led.rename(led.first + 2, led.first + 100)
            led.read_all()
        with led.savepoint(undo=False):
            led.move(led.first + 3, "infinity")
            with led.savepoint(undo=True):
                led.undo_by_function(led.first + 3, "-infinity")
                led.delete([led.first + 3])
        led.read_all()
    verdict = load.verdict()
    assert verdict.clean, verdict


def test_an_error_that_an_application_must_not_get_is_told(ground: Any, load: Load) -> None:
    rc, rr, _ = load.clients
    tamper(
        ground,
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = '40001'; END $$",
    )
    tamper(ground, "CREATE TRIGGER no BEFORE DELETE ON item FOR EACH STATEMENT EXECUTE FUNCTION no()")
    for client in (rc, rr):
        with pytest.raises(psycopg.errors.SerializationFailure), client.transaction():
            client.delete([client.first])
    verdict = load.verdict()
    assert verdict.tally.allowed == {"RR: DELETE: 40001": 1}
    assert verdict.tally.refused == {"RC: DELETE: 40001": 1}
    assert verdict.losses == 0 and not verdict.clean
    tamper(ground, f"REVOKE SELECT ON item FROM {APP}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege), rr.single():
        rr.delete([rr.first])
    assert load.verdict().tally.refused["RR: DELETE: 42501"] == 1


def test_a_connection_may_be_lost_only_when_we_end_it(ground: Any, load: Load, led: Client) -> None:
    def end() -> None:
        [pid] = kills.backends(ground.place, "proof client 0")
        kills.end_backend(ground.place, pid)

    led.begin()
    led.delete([led.first])
    with load.disturbance():
        end()
    with pytest.raises(psycopg.OperationalError):
        led.delete([led.first + 1])
    assert load.verdict().clean
    with pytest.raises(psycopg.OperationalError), led.transaction():
        led.delete([led.first])
        end()
        led.read_all()
    verdict = load.verdict()
    assert verdict.tally.refused.total() == 1 and verdict.losses == 0, verdict


@pytest.mark.parametrize("reaches", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_a_lost_reply_is_settled_by_the_marker(
    ground: Any, options: Any, proxy: Proxy, *, reaches: bool, alone: bool
) -> None:
    place = ground.place
    behind = type(place)(make_conninfo(proxy.conninfo, user="supabase_admin"), place.months, place.rows)
    with Load(behind, options.seed, [RC]) as load, load.disturbance():
        [client] = load.clients
        client.fill(10)
        proxy.lose(reaches=reaches, statement=re.compile(rb"^WITH mark|\bCOMMIT\b|\0WITH mark"))
        with pytest.raises(psycopg.OperationalError):
            if alone:
                with client.single():
                    client.put_by_function(client.first, client.dice.row())
            else:
                with client.transaction():
                    client.delete([client.first])
        assert proxy.lost.is_set()
        verdict = load.verdict()
        assert verdict.clean and verdict.tally.settled == 1, verdict
        assert verdict.tally.committed == 1 + reaches


def test_the_longest_stall_of_a_window_is_that_of_a_statement_in_it(ground: Any, load: Load) -> None:
    first, second, _ = load.clients
    with psycopg.connect(ground.place.superuser) as conn:
        conn.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")

        def read(client: Client) -> None:
            with client.transaction():
                client.read_all()

        with load.window() as window:
            held = threading.Thread(target=read, args=(first,))
            held.start()
            time.sleep(0.3)
            conn.rollback()
            held.join()
    assert 200 <= window.longest_ms < 3_000 and window.what == "RC SELECT all"
    with load.window() as later:
        read(second)
    assert later.longest_ms < 200
    assert 200 <= load.verdict().tally.longest_ms < 3_000


def test_a_statement_that_is_still_stalled_counts(ground: Any, load: Load, led: Client) -> None:
    with psycopg.connect(ground.place.superuser) as conn:
        conn.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        stalled = threading.Thread(target=led.one)
        with load.window() as window:
            while led.under_way is None or time.perf_counter() - led.under_way[0] < 0.2:
                if not stalled.is_alive():
                    stalled = threading.Thread(target=led.one)
                    stalled.start()
                time.sleep(0.01)
        assert window.longest_ms >= 200
        conn.rollback()
        stalled.join()


def test_the_same_seed_gives_the_same_content(ground: Any) -> None:
    rows = [[Dice(random.Random(seed), ground.place.months).row() for _ in range(50)] for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]


def test_a_client_that_cannot_go_on_is_told(ground: Any, options: Any) -> None:
    with Load(ground.place, options.seed, [RC]) as load:
        load.start(0)
        load.clients[0].one = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        time.sleep(0.1)
        with pytest.raises(ZeroDivisionError):
            load.pause()
