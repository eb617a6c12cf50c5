"""The log: a line is a line, and nobody who logs ever waits, or fails, for it (P1)."""

from __future__ import annotations

import logging
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.log import ALWAYS, LineLog, one_line
from tests.clock import HandClock

WAITING = 2_000  # lines
ALIKE = 20  # lines a second
OF_OTHERS = 1_000  # the same
PIPE_BYTES = 65_536


class Sink:
    """A pipe that a log writes into, and the logger in front of it."""

    def __init__(self) -> None:
        self.read_end, write_end = os.pipe()
        self.write_end: int | None = write_end
        self.clock = HandClock()
        self.log = LineLog(write_end, self.clock.monotonic)
        self.logger = logging.Logger("test")
        self.ours = logging.Logger("turnstile.test")
        for logger in (self.logger, self.ours):
            logger.addHandler(self.log)

    def text(self) -> str:
        """All that was written, once the log has finished."""
        self.log.finish(10)
        self.hang_up()
        with os.fdopen(os.dup(self.read_end), encoding="utf-8", errors="strict") as file:
            return file.read()

    def hang_up(self) -> None:
        """Close the end that is written to."""
        if self.write_end is not None:
            os.close(self.write_end)
            self.write_end = None


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A pipe with nothing in it."""
    made = Sink()
    yield made
    made.log.finish(10)
    made.hang_up()
    os.close(made.read_end)


def test_records_become_lines_in_order(sink: Sink) -> None:
    """One line each, formatted as logging does."""
    sink.logger.warning("first %s", 1)
    sink.logger.info("second %s", 2)
    assert sink.text() == "first 1\nsecond 2\n"
    assert sink.log.dropped == 0


@pytest.mark.parametrize(
    "hostile",
    ["a\nb", "a\r\nb", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x00", "\x7f", "\x9b31m", "\u2028", "\u202egnp.exe",
     "\ud800", "a\tb", "\x08\x08\x08"],
)  # fmt: skip
def test_what_comes_from_outside_is_shown_and_not_obeyed(hostile: str, sink: Sink) -> None:
    """Line breaks, terminal codes, direction marks and stray surrogates are escaped: one record stays one line."""
    sink.logger.warning("dead letter id=%s", hostile)
    text = sink.text()
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    assert text.startswith("dead letter id=")


def test_ordinary_text_is_not_touched() -> None:
    """Letters of any script, and the marks we use ourselves, are printable."""
    assert one_line("größer → 北京 'x' \\n") == "größer → 北京 'x' \\n"


@pytest.mark.parametrize("length", [3_999, 4_000, 4_001, 1_000_000])
def test_long_lines_are_cut(length: int) -> None:
    """At 4,000 characters, visibly."""
    line = one_line("x" * length)
    assert len(line) == min(length, 4_000)
    assert line.endswith("..." if length > 4_000 else "x")


def test_escapes_count_for_the_length() -> None:
    """A text that grows by its escapes is cut after they are made."""
    assert len(one_line("\n" * 4_000)) == 4_000


def test_traceback_is_part_of_the_line(sink: Sink) -> None:
    """A record with an exception is one line too."""
    try:
        raise ValueError("no\x1b[31m")
    except ValueError:
        sink.logger.exception("request failed")
    text = sink.text()
    assert text.count("\n") == 1
    assert "ValueError: no\\x1b[31m" in text


def test_flood_of_one_kind_is_cut_to_some_lines_a_second(sink: Sink) -> None:
    """Of records that differ in values alone, a few are written and the rest is counted; other kinds are not hurt."""
    for number in range(500):
        sink.ours.warning("dead letter id=%d", number)
    sink.ours.warning("something else")
    lines = sink.text().splitlines()
    assert lines[-1] == "something else"
    assert (len(lines), sink.log.dropped) == (ALIKE + 1, 500 - ALIKE)


def test_flood_is_measured_by_a_clock_that_nobody_sets(sink: Sink) -> None:
    """The wall clock, of which a record has its time, is set back by an hour: a new second is one all the same."""
    for number in range(3):
        sink.clock.advance(1.0)
        for _ in range(ALIKE):
            record = _record("turnstile.test", "dead letter")
            record.created = 1e9 - 3_600 * number
            sink.log.emit(record)
    assert len(sink.text().splitlines()) == 3 * ALIKE
    assert sink.log.dropped == 0


def test_lines_of_a_task_are_no_flood(sink: Sink) -> None:
    """A task that logs a line for each of its steps has them all, whether it formats them itself or not."""
    for number in range(OF_OTHERS // 4):
        sink.logger.warning("row %d", number)
        sink.logger.warning(f"row {number}")
    assert len(sink.text().splitlines()) == OF_OTHERS // 2
    assert sink.log.dropped == 0


def test_flood_of_a_task_is_bounded_by_its_logger(sink: Sink) -> None:
    """Far more than any reader follows is cut, however the messages were made; another logger is not hurt."""
    for number in range(OF_OTHERS + 500):
        record = logging.makeLogRecord({"name": "noisy", "msg": f"row {number}"})
        while sink.log._lines.qsize():  # so that it is not for its queue that a line is dropped
            time.sleep(0)
        sink.log.emit(record)
    sink.log.emit(logging.makeLogRecord({"name": "quiet", "msg": "one"}))
    assert sink.log.dropped == 500
    assert sink.text().splitlines()[-1] == "one"


def test_lines_of_tasks_leave_room_for_ours(sink: Sink) -> None:
    """Nobody reads: half of what may wait is the broker's, whatever the tasks log."""
    line = "x" * 3_000
    for number in range(WAITING + PIPE_BYTES // 3_000):
        sink.log.emit(_record(f"noisy.{number % 10}", f"{number} {line}"))
    dropped = sink.log.dropped
    assert dropped > 0
    sink.ours.warning("dead letter")
    assert sink.log.dropped == dropped
    received = bytearray()
    reader = threading.Thread(target=lambda: _drain(sink.read_end, received), daemon=True)
    reader.start()
    sink.log.finish(20)
    sink.hang_up()
    reader.join(20)
    assert received.endswith(b"dead letter\n")


def _record(name: str, message: str) -> logging.LogRecord:
    return logging.makeLogRecord({"name": name, "msg": message, "levelno": logging.WARNING, "levelname": "WARNING"})


def test_what_must_always_be_told_is_written_in_a_flood_too(sink: Sink) -> None:
    """A record that is marked so is written, however many of its kind there are."""
    for number in range(100):
        sink.logger.warning("returned id=%d", number, extra=ALWAYS)
    assert len(sink.text().splitlines()) == 100
    assert sink.log.dropped == 0


def test_news_in_a_flood_is_looked_at_by_nobody(sink: Sink) -> None:
    """Of news as many lines are written as of any kind, at its level; what is dropped is counted, and not formatted."""
    logging.getLogger("turnstile.broker").setLevel(logging.INFO)
    formatted: list[int] = []

    class Value:
        def __init__(self, number: int) -> None:
            self.number = number

        def __str__(self) -> str:
            formatted.append(self.number)
            return str(self.number)

    sink.log.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    try:
        for number in range(500):
            sink.log.inform("attempt failed id=%s", Value(number))
    finally:
        logging.getLogger("turnstile.broker").setLevel(logging.NOTSET)
    lines = sink.text().splitlines()
    assert lines[0] == "INFO turnstile.broker attempt failed id=0"
    assert len(lines) + sink.log.dropped == 500
    assert len(formatted) == len(lines) <= 3 * ALIKE


def test_news_below_the_level_is_no_line_that_was_dropped(sink: Sink) -> None:
    """Nobody wants to hear it."""
    logging.getLogger("turnstile.broker").setLevel(logging.WARNING)
    try:
        sink.log.inform("attempt failed id=%s", "a")
    finally:
        logging.getLogger("turnstile.broker").setLevel(logging.NOTSET)
    assert sink.text() == ""
    assert sink.log.dropped == 0


def test_many_kinds_are_written(sink: Sink) -> None:
    """A library that formats its messages itself has a kind for every record; none is taken for a flood."""
    for number in range(1_000):
        sink.logger.warning(f"kind {number}")
    assert len(sink.text().splitlines()) == 1_000


def test_many_kinds_take_no_memory() -> None:
    """What is remembered of kinds is bounded: 2,000 of them, of 4,000 characters each, leave little behind."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    log = LineLog(descriptor)
    logger = logging.Logger("test")
    logger.addHandler(log)
    tracemalloc.start()
    try:
        for number in range(2_000):
            logger.warning(f"{number}" + "x" * 4_000)
        log.finish(10)
        left_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        os.close(descriptor)
    assert left_bytes < 2_000_000


def test_stopped_reader_costs_lines_and_no_time(sink: Sink) -> None:
    """Nobody reads the pipe: it fills, lines wait, and further ones are dropped and counted; no call ever blocks."""
    line = "x" * 3_000
    count = WAITING + PIPE_BYTES // 3_000 + 1_000
    logged = threading.Event()

    def flood() -> None:
        for number in range(count):
            sink.logger.warning(f"{number} {line}")
        logged.set()

    threading.Thread(target=flood, daemon=True).start()
    assert logged.wait(20), "a logging call waits for the reader"
    assert sink.log.dropped > 0
    received = bytearray()
    reader = threading.Thread(target=lambda: _drain(sink.read_end, received), daemon=True)
    reader.start()
    sink.log.finish(20)
    sink.hang_up()
    reader.join(20)
    assert received.count(b"\n") + sink.log.dropped == count
    assert received.startswith(b"0 xxx")


def _drain(descriptor: int, into: bytearray) -> None:
    while data := os.read(descriptor, 1_000_000):
        into += data


def test_full_disk_costs_lines() -> None:
    """`/dev/full` refuses every write: the lines are counted, and the log goes on."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    log = LineLog(descriptor)
    logger = logging.Logger("test")
    logger.addHandler(log)
    for number in range(5):
        logger.warning("line %d", number)
    log.finish(10)
    os.close(descriptor)
    assert log.dropped == 5


def test_closed_pipe_costs_lines() -> None:
    """A reader that is gone is no harm either."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    log = LineLog(write_end)
    logger = logging.Logger("test")
    logger.addHandler(log)
    logger.warning("line")
    log.finish(10)
    os.close(write_end)
    assert log.dropped == 1


@pytest.mark.parametrize("message", [{"a": 1}, ["list"], {1, 2}])
def test_message_need_not_be_text(message: object, sink: Sink) -> None:
    """Whatever a task, or a library in it, logs: `logging` takes any object, so the log does."""
    sink.logger.warning(message)
    assert sink.text() == f"{message}\n"


class Nasty:
    """An object that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(("message", "values"), [("%d", ("x",)), ("%s %s", (1,)), ("%s", (Nasty(),))])
def test_record_that_cannot_be_formatted_raises_nothing(message: str, values: tuple[object, ...], sink: Sink) -> None:
    """A faulty logging call in a task does not fail the task; the log goes on."""
    sink.logger.warning(message, *values)
    sink.logger.warning("after")
    assert sink.text().splitlines()[-1] == "after"


def test_finish_gives_up_on_a_reader_that_is_stopped(tmp_path: Path) -> None:
    """The process can end although nobody reads its log: `finish` waits as long as it was told to, not longer."""
    read_end, write_end = os.pipe()
    log = LineLog(write_end)
    logger = logging.Logger("test")
    logger.addHandler(log)
    for number in range(100):
        logger.warning(f"{number} " + "x" * 3_000)
    log.finish(0.01)
    received = bytearray()
    reader = threading.Thread(target=lambda: _drain(read_end, received), daemon=True)
    reader.start()
    log.finish(10)
    os.close(write_end)
    reader.join(10)
    os.close(read_end)
    assert received.count(b"\n") == 100
