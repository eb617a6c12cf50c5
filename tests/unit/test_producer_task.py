"""Tasks as a producer describes them: ids, names, copies, and what a type checker is told."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

import producer
from broker.protocol import TASK_ID
from producer import AsyncProducer, BadTask, Limits, NoReply, Producer, Task, TurnstileError, new_id
from producer.batch import Batch
from producer.dialogue import Dialogue
from producer.policy import Policy
from worker_host import task


@task(name="mail.send", retries=1)
def send(to: str, copies: int = 1) -> None:
    """A task function."""


def undecorated(to: str) -> None:
    """No task function."""


def test_new_ids_fit_the_protocol_and_are_small() -> None:
    """10,000 of them: all different, each of the protocol's alphabet, each of 64 bytes in memory."""
    ids = {new_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(TASK_ID.fullmatch(one) for one in ids)
    assert {sys.getsizeof(one) for one in ids} == {sys.getsizeof("x" * 15)}


def test_every_position_of_an_id_is_random() -> None:
    """At least 64 bits: 14 places of 64 characters, and a first one of 62, which all occur."""
    columns = list(zip(*(new_id() for _ in range(10_000)), strict=True))
    assert [len(set(column)) for column in columns] == [62] + [64] * 14


def test_an_id_that_would_begin_with_punctuation_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The protocol wants a letter or digit first."""
    draws = iter([b"\xff" * 12, b"\xfb" * 12, b"\x00" * 12])  # "/", "+" and "A" in base64
    monkeypatch.setattr(os, "urandom", lambda _: next(draws))
    assert new_id() == "A" * 15


def test_a_task_is_made_of_a_name_or_of_a_decorated_function() -> None:
    """A function stands for the name that it was declared under, which need not be its own."""
    by_function, by_name = Task.of(send, "ada", copies=2), Task.of("mail.send", "ada", copies=2)
    assert (by_function.name, by_function.args, by_function.kwargs) == ("mail.send", ("ada",), {"copies": 2})
    assert by_function.but(id=by_name.id) == by_name
    assert by_function.id != by_name.id
    assert (by_name.retries, by_name.delay_s, by_name.expires_s) == (None, None, None)


def test_arguments_may_have_any_name() -> None:
    """Also those that the producer's own methods use."""
    assert Task.of("noop", what=1, self=2, cls=3, task=4).kwargs == {"what": 1, "self": 2, "cls": 3, "task": 4}


@pytest.mark.parametrize("what", [undecorated, print, lambda: None])
def test_a_function_without_declaration_is_no_task(what: Callable[..., object]) -> None:
    """The error tells what to do."""
    with pytest.raises(BadTask, match=r"is no task function: decorate it with @task"):
        Task.of(what)


def test_a_changed_copy_leaves_the_task_as_it_was() -> None:
    """`but` changes what is named, and nothing else; None takes a field back."""
    first = Task.of("noop", 1)
    second = first.but(retries=3, delay_s=1.5, expires_s=60)
    assert (first.retries, second.retries, second.delay_s, second.expires_s) == (None, 3, 1.5, 60)
    assert second.but(retries=None, delay_s=None, expires_s=None) == first
    assert second.but(id="other").id == "other"


def test_a_task_is_frozen() -> None:
    """Nobody changes it on its way."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Task.of("noop").name = "other"  # type: ignore[misc]


def test_every_public_name_is_listed_and_there() -> None:
    """`__all__` is sorted, holds all public classes of the package, and nothing that is not there."""
    assert producer.__all__ == sorted(
        set(producer.__all__), key=lambda name: (not name.isupper(), name[0].islower(), name)
    )
    assert all(hasattr(producer, name) for name in producer.__all__)
    classes = {name for name, value in vars(producer).items() if isinstance(value, type)}
    assert classes <= set(producer.__all__)


def all_errors(of: type[TurnstileError] = TurnstileError) -> list[type[TurnstileError]]:
    """The tree, flat."""
    return [of, *(below for one in of.__subclasses__() for below in all_errors(one))]


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    """Every error is public, has its place in the drawing, and is local or remote."""
    drawing = sys.modules["producer.errors"].__doc__ or ""
    for error in all_errors():
        assert error.__name__ in producer.__all__
        assert error.__name__ in drawing
        if error is not TurnstileError:
            assert issubclass(error, producer.LocalFault) != issubclass(error, producer.RemoteFault)


@pytest.mark.parametrize("kind", all_errors())
def test_errors_cross_process_boundaries(kind: type[TurnstileError]) -> None:
    """A worker process of the caller's pool can raise them: they are pickled with all they carry."""
    error: Any = kind("what happened")
    error.unknown_ids = ("a", "b")
    error.verdicts = [producer.Accepted("a"), None]
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(copy), copy.args, vars(copy)) == (kind, ("what happened",), vars(error))
    assert str(copy) == str(error)


def test_a_task_takes_no_further_arguments() -> None:
    """Dropped without a word, they would be missed when it runs."""
    given: Any = Task("noop", (1,))
    calls: list[Callable[[], object]] = [
        lambda: Producer().submit(given, 2),
        lambda: asyncio.run(AsyncProducer().submit(given, retries=3)),
    ]
    for call in calls:
        with pytest.raises(BadTask, match=r"a Task has its arguments: make another one with Task\.of"):
            call()


@pytest.mark.parametrize(("one", "words"), [(send, "a function is no Task"), ("noop", "a str is no Task")])
def test_what_is_no_task_is_named_in_a_batch(one: Any, words: str) -> None:
    """By its place; the message says how to make it one."""
    dialogue = Dialogue("tcp://127.0.0.1:1", Policy("reject", 5.0, 1.0))
    batch = Batch([Task("noop"), one], dialogue, Limits(message_bytes=65_536, tasks=1_000))
    asked = batch.next_ask()
    assert asked is not None
    batch.abandon(NoReply("nobody is there"))
    with pytest.raises(BadTask, match=rf"^task number 1 \(from 0\) of the batch: {words}: .* Task\.of\(\.\.\.\)"):
        batch.result()


@pytest.mark.parametrize(("asked", "words"), [(Task("noop"), "Task: say task.id"), (17, "int"), (b"x", "bytes")])
def test_status_is_asked_by_the_id(asked: Any, words: str) -> None:
    """Nothing else is taken for one, and nothing is sent."""
    dialogue = Dialogue("tcp://127.0.0.1:1", Policy("reject", 5.0, 1.0))
    with pytest.raises(BadTask, match=f"^a task is asked for by its id, a str; not {words}$"):
        next(dialogue.status(asked))
