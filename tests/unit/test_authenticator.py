"""Who is let in at a closed door: what is answered, and what is told of it. Row S15."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn

import pytest
import zmq

import broker.authenticator
from broker.authenticator import Authenticator
from broker.keys import KeyFolder
from tests.faults.seams import PlantedError
from tests.unit.test_keys import keys, raw

__all__ = ["keys"]  # a fixture


class TestAnswers:
    """The authenticator's answers, without a socket."""

    @staticmethod
    def ask(keys: KeyFolder, *frames: bytes) -> list[bytes]:
        """One question."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            return Authenticator(context, keys).answer(list(frames))
        finally:
            context.term()

    def test_known_key_is_let_in(self, keys: KeyFolder) -> None:
        """200, with the question's id."""
        answer = self.ask(keys, b"1.0", b"7", b"turnstile", b"127.0.0.1", b"", b"CURVE", raw(keys, "ada"))
        assert answer == [b"1.0", b"7", b"200", b"OK", b"", b""]

    @pytest.mark.parametrize(
        "frames",
        [
            (b"1.0", b"7", b"turnstile", b"127.0.0.1", b"", b"CURVE", b"k" * 32),
            (b"1.0", b"7", b"other", b"127.0.0.1", b"", b"CURVE", b"<ada>"),
            (b"1.0", b"7", b"turnstile", b"127.0.0.1", b"", b"NULL"),
            (b"1.0", b"7", b"turnstile", b"127.0.0.1", b"", b"PLAIN", b"ada", b"<ada>"),
            (b"2.0", b"7", b"turnstile", b"127.0.0.1", b"", b"CURVE", b"<ada>"),
            (b"1.0", b"7"),
        ],
    )
    def test_everything_else_is_not(self, keys: KeyFolder, frames: tuple[bytes, ...]) -> None:
        """Another key, domain, mechanism or version, or half a question: 400."""
        known = raw(keys, "ada")
        answer = self.ask(keys, *(known if frame == b"<ada>" else frame for frame in frames))
        assert answer[1:3] == [b"7", b"400"]

    @pytest.mark.parametrize("content", ["no key", "#" * 40], ids=["no Z85", "more than 32 bits"])
    def test_s15_a_list_that_cannot_be_read_lets_nobody_in(self, keys: KeyFolder, content: str) -> None:
        """Fail closed: one file that is no key, and even ada waits until it is mended."""
        known = raw(keys, "ada")
        (keys.producers / "bob.public").write_text(content)
        answer = self.ask(keys, b"1.0", b"7", b"turnstile", b"127.0.0.1", b"", b"CURVE", known)
        assert answer[1:3] == [b"7", b"500"]


class Question:
    """A socket of the authenticator's: asks nothing sensible, and notes that it was closed."""

    closed = False

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def recv_multipart(self) -> NoReturn:
        """Nothing comes."""
        raise self._error

    def close(self) -> None:
        """Note it."""
        self.closed = True


@pytest.mark.parametrize(("error", "told"), [(zmq.ContextTerminated(), 0), (PlantedError(), 1)])
def test_s15_authenticator_that_ends_closes_its_socket_and_tells_of_a_fault(
    caplog: pytest.LogCaptureFixture, error: BaseException, told: int
) -> None:
    """An open socket would keep the broker from ending. That its context ends is no fault."""
    authenticator = object.__new__(Authenticator)
    question = authenticator._socket = Question(error)  # type: ignore[assignment]
    authenticator._run()
    assert question.closed
    assert [one.message for one in caplog.records] == [
        "the authenticator failed: no producer can connect any more"
    ] * told
    assert [one.reason for one in authenticator.troubles()] == ["authenticator_failed"] * told


def test_s15_authenticator_whose_fault_cannot_be_told_closes_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else goes wrong, its broker can end."""
    authenticator = object.__new__(Authenticator)
    question = authenticator._socket = Question(ZeroDivisionError())  # type: ignore[assignment]
    monkeypatch.setattr(broker.authenticator, "_log", None)
    with pytest.raises(AttributeError):
        authenticator._run()
    assert question.closed


class Silence(Question):
    """A socket of the authenticator's at which nobody asks; something happens each time that is waited for."""

    def __init__(self, events: Iterable[Callable[[], object]]) -> None:
        super().__init__(zmq.ContextTerminated())
        self._events = iter(events)

    def poll(self, timeout: int) -> int:
        """The next event."""
        assert timeout > 0
        next(self._events)()
        return 0


def test_s15_trouble_with_the_list_is_looked_at_again(keys: KeyFolder) -> None:
    """Nobody may come for long once nobody is let in. What is told is what was found last; nothing once it is mended.

    Whoever asks for it reads no file: only the authenticator waits for one.
    """
    authenticator = object.__new__(Authenticator)
    authenticator._keys = keys
    question = [b"1.0", b"7", b"turnstile", b"127.0.0.1", b"", b"CURVE", raw(keys, "ada")]
    bob, cy, away = keys.producers / "bob.public", keys.producers / "cy.public", keys.path / "away"

    def told(*words: str) -> None:
        assert [one.reason for one in authenticator.troubles()] == ["keys_unreadable"] * len(words)
        assert all(word in one.detail for word, one in zip(words, authenticator.troubles(), strict=True))

    def unreadable() -> None:
        told("bob.public holds no key")
        bob.unlink()
        cy.mkdir()
        told("bob.public holds no key")  # no file was read for that

    def gone() -> None:
        told("cy.public cannot be read")
        cy.rmdir()
        keys.producers.rename(away)

    def mended() -> None:
        told("producers")
        away.rename(keys.producers)

    told()
    bob.write_text("no key")
    assert authenticator.answer(question)[2] == b"500"
    silence = authenticator._socket = Silence([unreadable, gone, mended])  # type: ignore[assignment]
    authenticator._run()
    assert silence.closed
    told()
    assert authenticator.answer(question)[2] == b"200"
