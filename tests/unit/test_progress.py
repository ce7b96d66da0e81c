"""Progress where there is no notebook: lines, throttled, with a rate and the time left."""

from __future__ import annotations

import io

import pytest

from atlas_ops.progress import Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_are_throttled_and_the_last_one_is_kept():
    clock, stream = Clock(), io.StringIO()
    with Progress("messages", stream=stream, clock=clock) as progress:
        progress(0, 1000, "2024-01")
        for done in range(100, 1000, 100):
            clock.now += 0.2
            progress(done, 1000, "2024-01")
        clock.now += 0.2
        progress(1000, 1000, "2024-02")
    assert stream.getvalue().splitlines() == [
        "messages: 0 %, 0 of 1,000 rows (2024-01)",
        "messages: 30 %, 300 of 1,000 rows, 500 rows/s, 1.4 s left (2024-01)",
        "messages: 60 %, 600 of 1,000 rows, 500 rows/s, 800 ms left (2024-01)",
        "messages: 90 %, 900 of 1,000 rows, 500 rows/s, 200 ms left (2024-01)",
        "messages: 100 %, 1,000 of 1,000 rows, 500 rows/s (2024-02)",
        "messages: 100 %, 1,000 of 1,000 rows, 500 rows/s, done after 2.0 s",
    ]


def test_a_resumed_step_does_not_count_what_was_done_before():
    clock, stream = Clock(), io.StringIO()
    progress = Progress("messages", stream=stream, clock=clock)
    progress(900, 1000)
    clock.now = 10
    progress(950, 1000)
    assert stream.getvalue().splitlines()[-1] == "messages: 95 %, 950 of 1,000 rows, 5 rows/s, 10.0 s left"


def test_advancing_adds_up_and_needs_no_total():
    clock, stream = Clock(), io.StringIO()
    with Progress("archive", unit="files", stream=stream, clock=clock) as progress:
        for _ in range(3):
            clock.now += 1
            progress.advance(2, "a")
    assert stream.getvalue().splitlines()[-1] == "archive: 6 files, 2 files/s, done after 3.0 s"


def test_a_step_that_breaks_off_says_where():
    stream = io.StringIO()
    with pytest.raises(ValueError, match="lost"), Progress("messages", 10, stream=stream) as progress:
        progress.advance(4)
        raise ValueError("lost")
    assert "40 %, 4 of 10 rows" in stream.getvalue().splitlines()[-1]
    assert "stopped after" in stream.getvalue().splitlines()[-1]


def test_nothing_to_do_shows_nothing(capsys):
    with Progress("messages"):
        pass
    assert capsys.readouterr() == ("", "")


def test_without_a_notebook_it_goes_to_stderr(capsys):
    Progress("messages")(1, 2)
    assert capsys.readouterr() == ("", "messages: 50 %, 1 of 2 rows\n")
