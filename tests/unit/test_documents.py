"""`docs/protocol.md` says what the broker does: every example, table and limit of it is held against the program."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from broker import protocol
from broker.operator import OperatorOp, TaskOutcome
from broker.protocol import (
    ADVICE,
    MAX_IN_FLIGHT,
    TASK_FIELDS,
    Op,
    Reason,
    Retry,
    decode_request,
    decode_task,
    pack,
    page_of,
    tasks_of,
)
from broker.retries import DeathReason
from broker.settings import Settings
from broker.states import State
from tests.documents import Page, codes, notation, numbers
from tests.still_broker import FAILURE, StillBroker, wire
from worker_host import Backoff, task
from worker_host.attempt import MAX_ERROR, MAX_TRACE, failure_of
from worker_host.contract import Failure

PAGE = Page("protocol.md")
EXAMPLES = {one.kind: one for one in PAGE.examples()}


@task(retries=1, backoff=Backoff(5.0, 5.0, 0.0))
def send_email(to: str) -> None:
    """The task function of the page's examples. Never called."""


def email(task_id: str = "order-17", **options: object) -> bytes:
    """The page's task, under this id."""
    return wire(task_id, "send_email", "ada@example.org", **options)


def names(title: str, column: str = "field") -> list[str]:
    """The names that a table lists in its first column."""
    return [name for row in PAGE.table(title, column) for name in codes(row[column])]


def types(title: str) -> dict[str, str]:
    """Each field of a table, with its type."""
    return {name: row["type"] for row in PAGE.table(title, "field") for name in codes(row["field"])}


def limit(rule: str) -> str:
    """The right side of a row of the table of values."""
    (row,) = [row for row in PAGE.table("Values", "rule") if row["rule"] == rule]
    return row["limit"]


# --- examples --------------------------------------------------------------------------------------------------------


def test_no_example_is_left_out() -> None:
    """Each fenced block of bytes has the text of what it is right before it."""
    assert PAGE.fences() == ["task", "request", "reply", "verdict"] == list(EXAMPLES)


@pytest.mark.parametrize("kind", EXAMPLES)
def test_example_is_what_the_text_beside_it_says(kind: str) -> None:
    """The bytes decode to the value in the text; `that` is the task above."""
    example = EXAMPLES[kind]
    assert msgpack.unpackb(example.data) == notation(example.text, that=EXAMPLES["task"].data)


def test_example_task_and_request_are_accepted() -> None:
    """The broker takes the page's request, byte for byte, and runs the page's task."""
    still = StillBroker(send_email)
    reply = still.ask_bytes(EXAMPLES["request"].data)
    assert reply == msgpack.unpackb(EXAMPLES["reply"].data)
    lease = still.take()
    assert lease.wire == EXAMPLES["task"].data
    assert lease.open() == ("send_email", ["ada@example.org"], {})


def test_length_of_the_example_is_the_one_in_the_text() -> None:
    """The bin in the request has as many bytes as the text says."""
    assert f"a bin of {len(EXAMPLES['task'].data)} bytes" in PAGE.text
    assert tasks_of(decode_request(EXAMPLES["request"].data, 65_536)) == [EXAMPLES["task"].data]


def test_example_rejection_is_a_real_one_without_its_detail() -> None:
    """A real rejection for want of room has the example's fields and codes, and a detail."""
    still = StillBroker(send_email, capacity=1)
    _, verdict = still.submit(email("other"), email())
    example = msgpack.unpackb(EXAMPLES["verdict"].data)
    assert verdict.keys() - example.keys() == {"detail"}
    assert {**verdict, "retry_after": 0.25, "detail": None} == {**example, "detail": None}


# --- codes -----------------------------------------------------------------------------------------------------------


def test_reasons_are_those_of_the_table() -> None:
    """Each reason with its advice, in the order of the program, and none more or less."""
    rows = PAGE.table("Reasons", "reason")
    assert [codes(row["reason"]) for row in rows] == [[reason.value] for reason in Reason]
    assert [codes(row["`retry`"]) for row in rows] == [[ADVICE[reason].value] for reason in Reason]


def test_ops_are_those_of_the_page() -> None:
    """The table of requests lists every op, and each has its section."""
    (row,) = [row for row in PAGE.table("Every request", "field") if row["field"] == "`op`"]
    assert codes(row["meaning"]) == [op.value for op in Op]
    assert all(PAGE.section(op.value) for op in Op)


def test_advice_is_that_of_the_page() -> None:
    """Each word that tells a producer what to do."""
    assert names("Every reply", "`retry`") == [retry.value for retry in Retry]


def test_states_are_those_of_the_page() -> None:
    """Every state that a task can be seen in, in the table and in the sum of the ledger."""
    states = {state.value for state in State} - {"new"}
    assert set(names("status", "state")) == states
    (total, parts) = re.search(r"`(\w+) = ([\w +]+)`", PAGE.section("stats")).groups()  # type: ignore[union-attr]
    assert total == "accepted"
    assert set(parts.split(" + ")) == states


def test_reasons_of_death_are_those_of_the_page() -> None:
    """Why a task is dead."""
    (row,) = [row for row in PAGE.table("dead", "field") if row["field"] == "`reason`"]
    assert codes(row["meaning"]) == [reason.value for reason in DeathReason]


def test_ops_and_outcomes_of_the_operator_are_those_of_the_page() -> None:
    """Each op, with what it is asked with; each outcome, of which some are states."""
    title = "The operator's door"
    assert names(title, "op") == [op.value for op in OperatorOp]
    states = {state.value for state in State} - {State.NEW, State.READY, State.DELAYED}
    assert set(names(title, "outcome")) == {outcome.value for outcome in TaskOutcome} | states
    assert f"an array of 1 to {protocol.MAX_TASKS:,} task ids" in " ".join(PAGE.section(title).split())


# --- limits ----------------------------------------------------------------------------------------------------------


def test_limits_are_the_constants() -> None:
    """Each number in the table of values is the program's."""
    assert numbers(limit("nesting of arguments")) == [protocol.MAX_NESTING]
    assert numbers(limit("arrays and maps")) == [protocol.MAX_CONTAINERS]
    assert numbers(limit("request, in bytes")) == [protocol.DEFAULT_MESSAGE_BYTES] == [Settings("x").message_bytes]
    assert numbers(limit("tasks in a request")) == [1, protocol.MAX_TASKS]
    assert numbers(limit("task name")) == [1, protocol.MAX_NAME]
    least, most = numbers(limit("task id"))[:2]
    assert not protocol.TASK_ID.fullmatch("a" * (least - 1))
    assert protocol.TASK_ID.fullmatch("a" * most)
    assert not protocol.TASK_ID.fullmatch("a" * (most + 1))


def test_alphabet_of_ids_is_that_of_the_page() -> None:
    """Of all characters up to U+FFFF, an id may have those of the page, and begin with a letter or digit."""
    written = codes(limit("task id"))[0].split()
    alphabet = {chr(code) for part in written for code in range(ord(part[0]), ord(part[-1]) + 1)}
    everything = [chr(code) for code in range(0xFFFF)]
    assert {one for one in everything if protocol.TASK_ID.fullmatch("a" + one)} == alphabet
    assert {one for one in everything if protocol.TASK_ID.fullmatch(one)} == {one for one in alphabet if one.isalnum()}


def test_numbers_in_the_text_are_the_constants() -> None:
    """Limits that are said in sentences."""
    assert f"at most **{MAX_IN_FLIGHT}** requests in flight" in PAGE.text
    assert f"has at most {protocol.MAX_DETAIL} characters" in PAGE.text
    assert f"str of at most {protocol.MAX_TAG_BYTES} bytes" in PAGE.text
    assert f"this page is `{protocol.VERSION}`" in PAGE.text
    assert f"(`remember_ids`, {Settings('x').remember_ids:,} by default)" in PAGE.text
    assert f"`{protocol.DEFAULT_ENDPOINT}` unless it was told otherwise" in PAGE.text
    assert f"cut at {MAX_ERROR} characters" in PAGE.text
    assert f"at most {MAX_TRACE:,} characters" in PAGE.text


def test_page_of_dead_letters_has_the_documented_limits() -> None:
    """Limit and offset, their bounds and defaults."""
    least, most, default, offset = numbers(PAGE.section("dead").split("→")[0].partition("limit")[2])
    assert page_of({}) == (default, offset)
    assert page_of({"limit": least}) == (least, offset)
    assert page_of({"limit": most}) == (most, offset)
    assert most == protocol.MAX_DEAD_LISTED


def test_replies_are_no_larger_than_the_page_says() -> None:
    """The longest verdict and the longest dead letter, with every text at its limit."""
    per_task, per_letter = numbers(re.search(r"up to about (.*?) of\s+a\s+`dead`", PAGE.text, re.DOTALL)[1])  # type: ignore[index]
    still = StillBroker(send_email)
    (verdict,) = still.submit(wire("x" * 64, "\U0001f600" * 128))
    assert len(verdict["detail"]) == protocol.MAX_DETAIL
    assert len(pack(verdict)) <= per_task
    still.submit(email("x" * 64, retries=0))
    try:
        raise ValueError("\U0001f600" * 5_000)
    except ValueError as error:
        still.run(failure_of(error))
    (letter,) = still.ask("dead")["dead"]
    assert len(pack(letter)) <= per_letter


# --- fields ----------------------------------------------------------------------------------------------------------

#: What a documented type looks like in a reply.
LOOKS: dict[str, Callable[[object], bool]] = {
    "str": lambda value: type(value) is str,
    "uint": lambda value: type(value) is int and value >= 0,
    "float": lambda value: type(value) is float,
    "bool": lambda value: type(value) is bool,
    "map of uint": lambda value: type(value) is dict and all(type(one) is int and one >= 0 for one in value.values()),
    "map": lambda value: type(value) is dict,
    "array of maps": lambda value: type(value) is list and all(type(one) is dict for one in value),
}


def assert_as_documented(title: str, given: dict[str, Any], *, all_of_them: bool = True) -> None:
    """The map has the fields of that section's table, of the documented types."""
    documented = types(title)
    assert set(given) <= set(documented)
    assert not all_of_them or set(given) == set(documented)
    for name, value in given.items():
        assert LOOKS[documented[name]](value), f"{title}: {name} is {value!r}, documented as {documented[name]}"


def test_fields_of_a_task_are_those_of_the_page() -> None:
    """Names, defaults and bounds."""
    rows = {codes(row["field"])[0]: row for row in PAGE.table("submit", "field") if "default" in row}
    assert set(rows) == TASK_FIELDS
    task_message = decode_task(pack({"id": "a", "name": "n"}))
    assert (rows["args"]["default"], rows["kwargs"]["default"]) == (
        f"`{task_message.args}`",
        f"`{task_message.kwargs}`",
    )
    assert numbers(rows["delay_s"]["default"]) == [task_message.delay_s]
    assert (rows["expires_s"]["default"], task_message.expires_s) == ("never", None)
    assert numbers(rows["retries"]["type"]) == [0, protocol.MAX_RETRIES]
    assert numbers(rows["delay_s"]["type"]) == [0, protocol.MAX_SECONDS]
    assert numbers(rows["expires_s"]["type"]) == [0, protocol.MAX_SECONDS]
    required = {name for name, row in rows.items() if row["default"] == "required"}
    assert required == {"id", "name"}


def test_fields_of_a_verdict_are_those_of_the_page() -> None:
    """Accepted, duplicate, refused for good and for now: each field where the page says, and all of them together."""
    documented = [row for row in _tables_of_submit() if "there when" in row]
    still = StillBroker(send_email, capacity=1)
    accepted, duplicate, never, later, nameless = still.submit(
        email("a"), email("a"), wire("b", "nope"), email("c"), b"\xc1"
    )
    always = {codes(row["field"])[0] for row in documented if row["there when"] == "always"}
    assert accepted.keys() == always
    assert duplicate.keys() == always | {"duplicate", "state"}
    assert never.keys() == always | {"reason", "retry", "detail"}
    assert later.keys() == always | {"reason", "retry", "detail", "retry_after"}
    assert nameless["id"] is None
    everything = accepted.keys() | duplicate.keys() | never.keys() | later.keys()
    assert everything == {codes(row["field"])[0] for row in documented}


def _tables_of_submit() -> list[dict[str, str]]:
    lines = PAGE.section("submit").splitlines()
    (head,) = [index for index, line in enumerate(lines) if "there when" in line]
    columns = [cell.strip() for cell in lines[head].strip("|").split("|")]
    rows = []
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(dict(zip(columns, (cell.strip() for cell in line.strip("|").split("|")), strict=True)))
    return rows


def test_fields_of_a_status_are_those_of_the_page() -> None:
    """A delayed task has all of them, a ready one no due time, an ended one its state alone."""
    still = StillBroker(send_email)
    still.submit(email("a"), email("b"), email("c"))
    still.run(FAILURE)
    still.run()
    delayed, ready, ended = (still.ask("status", id=name)["task"] for name in ("a", "c", "b"))
    assert_as_documented("status", delayed)
    assert_as_documented("status", ready, all_of_them=False)
    assert (delayed.keys() - ready.keys(), ready.keys() - ended.keys()) == ({"due_in_s"}, {"attempt"})


def test_fields_of_the_stats_are_those_of_the_page() -> None:
    """Each with its type, at the start and after something has happened."""
    still = StillBroker(send_email)
    for task_id in ("a", "b"):
        stats = still.ask("stats")["stats"]
        assert_as_documented("stats", stats)
        assert set(stats["ledger"]) == {"accepted", *names("status", "state")}
        still.submit(email(task_id), email(task_id), b"")
        still.run(FAILURE)
    assert set(stats["rejected"]) <= {reason.value for reason in Reason}


def test_fields_of_a_dead_letter_are_those_of_the_page() -> None:
    """Each with its type; and the reply around it."""
    still = StillBroker(send_email)
    still.submit(email())
    still.run(Failure("E", "trace", final=True))
    reply = still.ask("dead")
    assert reply.keys() == {"v", "dead", "total"}
    assert_as_documented("dead", reply["dead"][0])


def test_reply_to_ping_is_that_of_the_page() -> None:
    """Its fields, and those of its limits."""
    (_, documented) = re.findall(r"`(\{v: 1.*?\})`", PAGE.section("ping"))
    words = set(re.findall(r"(\w+):", documented))
    reply = StillBroker().ask("ping")
    assert reply.keys() | reply["limits"].keys() == words


# --- behaviour -------------------------------------------------------------------------------------------------------


def _serving() -> StillBroker:
    still = StillBroker(send_email, capacity=2)
    still.submit(email("known"))
    return still


def _full() -> StillBroker:
    still = _serving()
    still.submit(email("other"))
    return still


def _draining() -> StillBroker:
    still = _serving()
    still.dispatcher.drain(still.clock.monotonic() + 9.0)
    return still


@pytest.mark.parametrize(
    ("column", "build"), [("serving, room", _serving), ("serving, full", _full), ("draining", _draining)]
)
def test_request_in_each_state_is_answered_as_in_the_table(column: str, build: Callable[[], StillBroker]) -> None:
    """A new task, a resend, a conflict, and each question, while serving, full and draining."""
    sent = {
        "`submit`, new id": email("new"),
        "`submit`, known id, same bytes": email("known"),
        "`submit`, known id, other bytes": wire("known", "send_email", "bob@example.org"),
    }
    rows = {row[""]: row[column] for row in PAGE.table("Request and broker state", "")}
    for row, packed in sent.items():
        (verdict,) = build().submit(packed)
        word, *code = re.sub("[`,]", "", rows.pop(row)).split()
        said = verdict.get("reason") or ("duplicate" if verdict.get("duplicate") else None)
        assert (verdict["verdict"], [said] if said else []) == (word, code)
    ((questions, answer),) = rows.items()
    assert answer == "answered"
    for op in codes(questions):
        assert "error" not in build().ask(op, **({"id": "known"} if op == "status" else {}))


def test_fields_that_the_page_does_not_name_are_ignored_in_a_request_and_refused_in_a_task() -> None:
    """So that a newer producer can speak with an older broker, and no promise is taken for given."""
    still = StillBroker(send_email)
    reply = still.ask("submit", tasks=[email("a"), email("b", priority=9)], trace_id="x", urgent=True)
    assert [verdict.get("reason") for verdict in reply["verdicts"]] == [None, "malformed"]


def test_every_public_limit_is_on_the_page() -> None:
    """A limit that a producer can run into is documented: each number of the codec is found in the text."""
    limits = {name: value for name, value in vars(protocol).items() if name.startswith("MAX_")}
    assert len(limits) >= 9
    assert [name for name, value in limits.items() if f"{int(value):,}" not in PAGE.text] == []
