"""`python -m producer` as a shell sees it: what it prints, where, and its exit code. Real brokers, and fakes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.commands import OF_PRODUCERS
from tests.integration.test_producer_delivery import accepting, free_endpoint, rejecting
from tests.integration.test_producer_fake_broker import FakeBroker, lose, one_after_another
from tests.integration.test_producer_real_broker import ROOT, WAIT_S, RunningBroker, broker, witness
from tests.witness import notes

__all__ = ["broker", "witness"]  # fixtures


class Said:
    """What one run of the command line came to."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr
        assert "Traceback" not in self.err, self.err

    @property
    def error(self) -> str:
        """Its one line of error."""
        assert self.out == ""
        assert self.err.startswith("turnstile: ")
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("turnstile: ").rstrip()


def command(endpoint: str | None, *words: str) -> list[str]:
    """The command line."""
    where = () if endpoint is None else ("--endpoint", endpoint)
    return [sys.executable, "-m", "producer", *where, *words]


def say(endpoint: str | None, *words: str, environment: dict[str, str] | None = None, **more: Any) -> Said:
    """Run the command line to its end."""
    done = subprocess.run(
        command(endpoint, *words),
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        **more,
    )
    return Said(done)


def test_submit_and_status(broker: RunningBroker, witness: str) -> None:
    """Accepted: exit 0 and one line. The same id again: a duplicate. The task ran with the arguments given."""
    words = ("submit", "record", witness, "plain text", "17", '{"a": [null]}', "--id", "cli-1", "--retries", "2")
    said = say(broker.endpoint, *words)
    assert (said.code, said.out, said.err) == (0, "accepted id=cli-1\n", "")
    said = say(broker.endpoint, *words)
    assert said.code == 0
    assert said.out.startswith("accepted id=cli-1 duplicate state=")
    for _ in range(200):
        if (said := say(broker.endpoint, "status", "cli-1")).out == "succeeded id=cli-1\n":
            break
    assert said.code == 0
    (event,) = notes(witness)
    assert event["values"] == ["plain text", 17, {"a": [None]}]


def test_the_endpoint_can_be_in_the_environment(broker: RunningBroker) -> None:
    """`TURNSTILE_ENDPOINT`; a flag wins."""
    said = say(None, "ping", environment={"TURNSTILE_ENDPOINT": broker.endpoint})
    assert said.code == 0
    assert re.fullmatch(r"turnstile/\S+ phase=serving message_bytes=4096 tasks=1000 in \d+\.\d ms\n", said.out)
    said = say(broker.endpoint, "ping", environment={"TURNSTILE_ENDPOINT": "nonsense"})
    assert said.code == 0


def test_a_rejection_is_exit_1_and_tells_why(broker: RunningBroker) -> None:
    """On standard output, since it is the answer."""
    said = say(broker.endpoint, "submit", "noob")
    assert (said.code, said.err) == (1, "")
    assert re.fullmatch(r"rejected id=\S+ reason=unknown_task retry=never: .*'noop'\?\n", said.out)
    said = say(broker.endpoint, "submit", "sleep", "--kwarg", "second=1")
    assert said.code == 1
    assert "reason=bad_arguments" in said.out


def test_status_of_a_task_that_failed_or_is_unknown_is_exit_1(broker: RunningBroker, witness: str) -> None:
    """A script can ask by the exit code alone."""
    said = say(broker.endpoint, "status", "never-was")
    assert (said.code, said.out) == (1, "unknown id=never-was: never accepted, or forgotten\n")
    assert say(broker.endpoint, "status", "never-was", "--json").out == "null\n"
    say(broker.endpoint, "submit", "gives_up", witness, "--id", "cli-dead")
    for _ in range(200):
        if (said := say(broker.endpoint, "status", "cli-dead")).out == "dead id=cli-dead\n":
            break
    assert said.code == 1
    said = say(broker.endpoint, "status", "cli-dead", "--json")
    assert (said.code, json.loads(said.out)["state"]) == (1, "dead")


def test_dead_letters_and_figures_for_people_and_for_programs(broker: RunningBroker, witness: str) -> None:
    """Tables, and with `--json` one JSON object."""
    say(broker.endpoint, "submit", "gives_up", witness, "--id", "cli-letter")
    for _ in range(200):
        if "cli-letter" in (said := say(broker.endpoint, "dead", "--limit", "50")).out:
            break
    assert said.code == 0
    assert "never_retry after 1 attempt" in said.out
    assert "Traceback" not in said.out
    page = json.loads(say(broker.endpoint, "dead", "--json", "--limit", "1").out)
    assert page["letters"][0]["name"] == "gives_up"
    assert page["total"] >= 1
    assert say(broker.endpoint, "dead", "--offset", "1000").out.startswith("no dead letters here; ")
    assert json.loads(say(broker.endpoint, "stats", "--json").out)["ledger"]["dead"] >= 1
    assert re.search(r"^ledger\n  accepted +[\d,]+$", say(broker.endpoint, "stats").out, re.MULTILINE)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("submit",),
        ("nonsense",),
        ("submit", "noop", "--retries", "x"),
        ("submit", "noop", "--retries", "101"),
        ("submit", "noop", "--delay", "-1"),
        ("submit", "noop", "--id", "no id"),
        ("submit", "noop", "18446744073709551616"),
        ("submit", "noop", "--kwarg", "x"),
        ("submit", "noop", "x" * 5_000),
        ("submit-many", "/nonexistent/file"),
        ("status", "no id"),
        ("status", "\udcff"),
        ("dead", "--limit", "0"),
        ("dead", "--limit", "9" * 20),
        ("--timeout", "0", "ping"),
        ("--endpoint", "nonsense", "ping"),
    ],
)
def test_words_that_mean_nothing_are_exit_2_and_one_line(broker: RunningBroker, words: tuple[str, ...]) -> None:
    """Nothing is submitted; the line says what is wrong."""
    said = say(None, *words, environment={"TURNSTILE_ENDPOINT": broker.endpoint})
    assert said.error
    assert said.code == 2


def test_what_is_missing_is_named_and_no_more() -> None:
    """A task may have no arguments."""
    said = say(None, "submit")
    assert said.error == "the following arguments are required: name (see python -m producer submit --help)"


def test_commands_that_brokers_send_here_are_those_that_there_are() -> None:
    """Who asks the broker's program for one of them is sent here, and finds it."""
    text = say(None, "--help").out
    there = set(re.findall(r"^    ([a-z-]+) ", text, re.MULTILINE))
    assert there >= OF_PRODUCERS
    assert there - OF_PRODUCERS == {"dead"}  # which the broker's program has, too


def test_way_to_the_broker_may_follow_the_command(broker: RunningBroker) -> None:
    """Whoever comes to think of it there; the last one counts, as ever."""
    for words in (("ping",), ("stats", "--json"), ("status", "never-was", "--json"), ("submit", "noop", "x")):
        there = ("--endpoint", broker.endpoint, "--timeout", "20")
        said = say(None, *words, *there, environment={"TURNSTILE_ENDPOINT": "nonsense"})
        assert (said.code, said.err) == (1 if "status" in words else 0, "")
    assert say("nonsense", "ping", "--endpoint", broker.endpoint).code == 0
    assert say(broker.endpoint, "ping", environment={"TURNSTILE_ENDPOINT": "nonsense"}).code == 0
    assert "go together" in say(broker.endpoint, "ping", "--key", "ada.secret").error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("submit", "noop", "--retries", "3", "17"), "unrecognized arguments: 17: arguments come before options"),
        (("submit", "noop", "--retry", "3"), "unrecognized arguments: --retry 3"),
        (("submit", "noop", "--wait", "-1"), "--wait is a number of seconds above 0, not -1.0"),
        (("--timeout", "-1", "ping"), "--timeout is a number of seconds above 0, not -1.0"),
        (("ping",), "TURNSTILE_ENDPOINT: an endpoint is tcp://HOST:PORT"),
        (("--endpoint", "mistyped", "ping"), "an endpoint is tcp://HOST:PORT"),
    ],
)
def test_the_message_names_what_was_said(broker: RunningBroker, words: tuple[str, ...], message: str) -> None:
    """The option, not what it is called inside; the variable, if that is where it comes from."""
    endpoint = "nonsense" if "ping" in words and "--timeout" not in words else broker.endpoint
    said = say(None, *words, environment={"TURNSTILE_ENDPOINT": endpoint})
    assert said.code == 2
    assert said.error.startswith(message)


def test_help_lists_the_exit_codes() -> None:
    """All of them, for the whole and for what may be looked for."""
    said = say(None, "--help")
    assert said.code == 0
    for code in ("0", "1", "2", "3", "4", "130"):
        assert re.search(rf"\b{code}\s", said.out), code
    for name in ("submit", "submit-many", "stats", "status", "dead", "ping"):
        assert name in said.out
        assert say(None, name, "--help").code == 0


def test_row_6_no_broker_is_exit_3_and_says_what_to_do() -> None:
    """Within `--timeout`, also when the task would wait much longer for room."""
    endpoint = free_endpoint()
    for words in (("submit", "noop"), ("submit", "noop", "--wait", "600"), ("submit-many", "-"), ("stats",)):
        said = say(endpoint, "--timeout", "0.2", *words, input="")
        assert (said.code, endpoint in said.error, "broker running" in said.error) == (3, True, True)


def test_no_reply_is_exit_4_and_names_the_id() -> None:
    """So that it can be submitted again: with the id, that is safe."""
    with FakeBroker(one_after_another(lose)) as fake:
        said = say(fake.endpoint, "--timeout", "0.3", "submit", "noop", "--id", "cli-lost")
    assert said.code == 4
    assert "cli-lost" in said.error
    assert "same id is safe" in said.error


def test_waiting_for_room() -> None:
    """`--wait`: turned away, and accepted at the second try; without it, rejected at once."""
    with FakeBroker(one_after_another(rejecting(retry_after=0.05), accepting)) as fake:
        assert say(fake.endpoint, "submit", "noop", "--wait", "20").code == 0
    with FakeBroker(one_after_another(rejecting(retry_after=0.05), accepting)) as fake:
        said = say(fake.endpoint, "submit", "noop")
        assert (said.code, "retry_after=0.050" in said.out) == (1, True)


def lines(count: int, **fields: Any) -> str:
    """Lines of tasks."""
    return "".join(
        json.dumps({"name": "noop", "id": f"many-{n}-{os.urandom(4).hex()}", **fields}) + "\n" for n in range(count)
    )


def test_many_tasks_from_a_file_and_from_a_pipe(broker: RunningBroker, tmp_path: Path) -> None:
    """One summary line on standard output; the same file again is all duplicates."""
    path = tmp_path / "tasks.jsonl"
    path.write_text(lines(350))
    said = say(broker.endpoint, "submit-many", str(path))
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("accepted=350 duplicates=0 rejected=0 bad_lines=0 seconds=")
    with path.open() as file:
        said = say(broker.endpoint, "submit-many", "-", stdin=file)
    assert said.out.startswith("accepted=350 duplicates=350 rejected=0")
    said = say(broker.endpoint, "submit-many", "-", input=lines(3))
    assert said.out.startswith("accepted=3 ")


def test_bad_lines_are_named_and_the_others_submitted(broker: RunningBroker) -> None:
    """Exit 1: not every line was accepted."""
    text = lines(1) + "nonsense\n" + lines(1, name="noob") + lines(1, args=["x" * 5_000]) + lines(1)
    said = say(broker.endpoint, "submit-many", "-", input=text)
    assert said.code == 1
    assert said.out.startswith("accepted=2 duplicates=0 rejected=1 (unknown_task 1) bad_lines=2 seconds=")
    assert re.search(r"^line 2: not JSON", said.err, re.MULTILINE)
    assert re.search(r"^line 3: rejected id=\S+ reason=unknown_task", said.err, re.MULTILINE)
    assert re.search(r"^line 4: a task that makes a request of \d+ bytes", said.err, re.MULTILINE)


def test_when_replies_stop_coming_many_is_exit_4_with_a_summary() -> None:
    """What is known is said, and what is not is counted and named."""
    with FakeBroker(one_after_another(accepting, lose)) as fake:
        said = say(fake.endpoint, "submit-many", "-", "--wait", "0.5", input=lines(150))
    assert said.code == 4
    assert said.out.startswith("accepted=100 duplicates=0 rejected=0 bad_lines=0 without_verdict=50 ")
    assert "50 tasks are held is unknown" in said.err
    assert "and 40 more" in said.err


def begun(endpoint: str, *words: str) -> subprocess.Popen[str]:
    """The command line, at work, with pipes for all that it reads and writes."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command(endpoint, *words), cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code, and what it still says, after Ctrl-C."""
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=WAIT_S)
    return process.returncode, out, errors


def test_ctrl_c_is_exit_130_with_a_summary() -> None:
    """One line, no traceback; what was settled by then is counted."""
    with FakeBroker(one_after_another(accepting, lose)) as fake:
        process = begun(fake.endpoint, "submit-many", "-")
        assert process.stdin is not None
        process.stdin.write(lines(150))
        process.stdin.close()
        process.stdin = None  # or `communicate` would close it again
        fake.next_heard()
        fake.next_heard()
        code, out, errors = interrupted(process)
    assert code == 130
    assert out.startswith("accepted=100 duplicates=0 rejected=0 bad_lines=0 without_verdict=50 ")
    assert errors == "what has no verdict yet may have been accepted\nturnstile: interrupted\n"


def test_ctrl_c_before_a_task_was_read_leaves_none_in_doubt() -> None:
    """It waits for its input, of which one line was no task: nothing may have been accepted."""
    with FakeBroker(one_after_another(accepting)) as fake:
        process = begun(fake.endpoint, "submit-many", "-")
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("no task\n")
        process.stdin.flush()
        assert process.stderr.readline().startswith("line 1: ")
        code, out, errors = interrupted(process)
    assert (code, errors) == (130, "turnstile: interrupted\n")
    assert out.startswith("accepted=0 duplicates=0 rejected=0 bad_lines=1 seconds=")


def test_ctrl_c_in_a_submit_names_the_task_that_may_be_in() -> None:
    """With its id it can be asked for, and submitted again."""
    with FakeBroker(one_after_another(lose)) as fake:
        process = begun(fake.endpoint, "submit", "noop", "--id", "cli-1", "--wait", "600")
        assert fake.next_heard().ids == ["cli-1"]
        told = interrupted(process)
    assert told == (130, "", "whether task cli-1 was accepted is unknown\nturnstile: interrupted\n")


def test_ctrl_c_in_a_question_is_nothing_but_that() -> None:
    """Nothing was submitted, so nothing is unknown."""
    with FakeBroker(one_after_another(lose)) as fake:
        process = begun(fake.endpoint, "--timeout", "600", "stats")
        fake.next_heard()
        assert interrupted(process) == (130, "", "turnstile: interrupted\n")


def test_a_reader_that_goes_away_is_no_error(broker: RunningBroker) -> None:
    """As in `python -m producer dead | head -1`."""
    process = subprocess.Popen(
        command(broker.endpoint, "stats"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait(WAIT_S) == 0


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """(our end, the program's end) of a terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_on_a_terminal_there_is_a_bar_while_it_lasts(
    broker: RunningBroker, terminal: tuple[int, int], tmp_path: Path
) -> None:
    """It counts on standard error, and is gone when the summary comes."""
    ours, theirs = terminal
    path = tmp_path / "tasks.jsonl"
    path.write_text(lines(2_000))
    process = subprocess.Popen(
        command(broker.endpoint, "submit-many", str(path)), cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert out.startswith("accepted=2000 ")
    assert re.search(rb"\r\[[#.]{24}\] +\d+%  accepted [\d,]+  rejected 0  waiting [\d,]+  [\d,]+/s", shown)
    assert re.search(rb"\r +\r$", shown)
