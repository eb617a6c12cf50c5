"""`python -m producer` with standard streams that are closed, full, or read by nobody: what is done stays the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_producer_command_line import command, lines, say
from tests.integration.test_producer_delivery import accepting
from tests.integration.test_producer_fake_broker import FakeBroker, one_after_another
from tests.integration.test_producer_real_broker import ROOT, WAIT_S, RunningBroker, broker, witness

__all__ = ["broker", "witness"]  # fixtures


@pytest.fixture
def left() -> Iterator[int]:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def redirected(redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a shell does with this behind it."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


@pytest.mark.parametrize(("words", "code"), [(("submit", "noop"), 0), (("submit", "noob"), 1), (("--help",), 0)])
def test_a_reader_who_has_gone_does_not_change_the_exit_code(
    broker: RunningBroker, left: int, words: tuple[str, ...], code: int
) -> None:
    """As in `submit … | true`: rejected stays rejected, and nothing is complained of."""
    done = subprocess.run(
        command(broker.endpoint, *words), cwd=ROOT, stdout=left, stderr=subprocess.PIPE, timeout=WAIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_reader_who_has_gone_does_not_end_a_batch(left: int, tmp_path: Path) -> None:
    """As in `submit-many … 2>&1 | head -3`: each task is submitted, however many lines are to be complained of."""
    path = tmp_path / "tasks.jsonl"
    path.write_text("nonsense\n" * 30 + lines(250))
    with FakeBroker(one_after_another(accepting)) as fake:
        done = subprocess.run(
            command(fake.endpoint, "submit-many", str(path)),
            cwd=ROOT, stdout=left, stderr=left, timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert sum(len(heard.ids) for heard in fake.all_heard()) == 250
    assert done.returncode == 1  # for the lines that are no tasks


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("words", "code"), [(("submit", "noop"), 0), (("submit", "noob"), 1), (("nonsense",), 2)])
def test_a_stream_that_is_closed_is_done_without(
    broker: RunningBroker, redirection: str, words: tuple[str, ...], code: int
) -> None:
    """What is on the other one is what would be there anyway."""
    done = redirected(redirection, *command(broker.endpoint, *words))
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert (done.stderr != "") == (code == 2 and redirection == ">&-")
    assert (done.stdout != "") == (code != 2 and redirection == "2>&-")


@pytest.mark.parametrize(("name", "code"), [("noop", 0), ("noob", 1)])
def test_an_answer_that_there_is_no_room_for_is_told_of(broker: RunningBroker, name: str, code: int) -> None:
    """A full disk, say: the exit code tells of the task, and a line of the disk."""
    done = redirected(">/dev/full", *command(broker.endpoint, "submit", name))
    assert done.stderr == "turnstile: the answer cannot be written: No space left on device\n"
    assert done.returncode == code
    done = redirected("2>/dev/full", *command(broker.endpoint, "nonsense"))
    assert (done.returncode, done.stdout) == (2, "")


def test_a_batch_without_a_standard_input_says_so(broker: RunningBroker) -> None:
    """It is no file of the name `-`."""
    done = redirected("<&-", *command(broker.endpoint, "submit-many", "-"))
    assert done.returncode == 2
    assert done.stderr == "turnstile: cannot read -: there is no standard input\n"


def test_a_file_that_fails_while_it_is_read_is_named_with_what_became_of_its_tasks(broker: RunningBroker) -> None:
    """A summary, and an error in a line."""
    said = say(broker.endpoint, "submit-many", "/proc/self/mem")
    assert said.code == 2
    assert said.out.startswith("accepted=0 duplicates=0 rejected=0 bad_lines=0 ")
    assert said.err.endswith("the file cannot be read on: Input/output error\n")
    assert said.err.count("\n") == 1
