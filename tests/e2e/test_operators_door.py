"""The operator's door: where it is, who can use it, and what is said where there is none."""

from __future__ import annotations

import contextlib
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.operator_client import NoBrokerError, OperatorClient, OperatorError
from broker.settings import operator_path
from producer import Producer
from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.operated import Operated, command, folder, operated
from tests.e2e.raw import Raw
from tests.faults.stops import stopped

__all__ = ["folder", "operated"]  # the fixtures


def test_door_is_its_owners_alone(operated: Operated, connect: Connect) -> None:
    """The socket and its folder; producers get no further than to be told that there is no such request."""
    assert stat.S_IMODE(operated.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(operated.path.parent.stat().st_mode) == 0o700
    raw = connect(operated.broker)
    for op in ("pause", "cancel", "requeue", "discard", "letter"):
        assert raw.ask(op, ids=["a"], id="a")["error"]["reason"] == "unknown_request"


def test_operators_door_answers_what_producers_ask(operated: Operated) -> None:
    """Health and figures without a key, for a health check beside the broker."""
    with Producer(f"ipc://{operated.path}") as producer:
        assert producer.health()["state"] == "ok"
        assert producer.submit("noop").accepted


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o701, 0o777])
def test_folder_that_others_can_enter_is_refused(start_broker: StartBroker, folder: Path, mode: int) -> None:
    """With the command that mends it; nothing is bound."""
    folder.mkdir()
    folder.chmod(mode)
    broker = start_broker("--operator", str(folder / "door"))
    assert broker.exit_code() == 2
    assert f"chmod 700 {folder}" in broker.output
    assert list(folder.iterdir()) == []


def test_usual_door_is_found_by_the_endpoint(start_broker: StartBroker, connect: Connect, tmp_path: Path) -> None:
    """By flag or environment; a broker on another port is not taken for it."""
    endpoint, state = f"ipc://{tmp_path}/door", {"XDG_STATE_HOME": str(tmp_path / "s")}
    broker = start_broker("--endpoint", endpoint, environment=state)
    with Raw(broker.endpoint) as raw:
        raw.ask("ping")
    assert command("pause", "--endpoint", endpoint, **state).returncode == 0
    assert command("resume", TURNSTILE_ENDPOINT=endpoint, **state).returncode == 0
    elsewhere = command("pause", "--endpoint", "tcp://127.0.0.1:1", **state)
    assert elsewhere.returncode == 9
    assert "is one running" in elsewhere.stderr
    unfindable = command("pause", "--endpoint", "tcp://127.0.0.1:0", **state)
    assert (unfindable.returncode, "--operator PATH is required" in unfindable.stderr) == (2, True)
    assert broker.stop() == 0
    assert "paused by its operator" in broker.output


def a_file_for_a_folder(folder: Path, endpoint: str) -> None:
    """Where the folder should be."""
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")


def a_file_for_the_socket(folder: Path, endpoint: str) -> None:
    """Where the socket should be."""
    folder.mkdir(parents=True, mode=0o700)
    door = operator_path("auto", endpoint, {"XDG_STATE_HOME": str(folder.parent.parent)})
    assert door is not None
    door.write_text("a file")


def a_folder_for_everybody(folder: Path, endpoint: str) -> None:
    """That others can enter."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)


@pytest.mark.parametrize("spoil", [a_file_for_a_folder, a_file_for_the_socket, a_folder_for_everybody])
def test_usual_door_that_cannot_be_degrades_the_broker(
    start_broker: StartBroker, connect: Connect, tmp_path: Path, spoil: Callable[[Path, str], None]
) -> None:
    """It serves, and its health tells what is wrong, and how to mend it; what was in the way is as it was."""
    endpoint = f"ipc://{tmp_path}/door"
    spoil(tmp_path / "state" / "turnstile" / "operator", endpoint)
    broker = start_broker("--endpoint", endpoint, environment={"XDG_STATE_HOME": str(tmp_path / "state")})
    raw = connect(broker)
    (reason,) = raw.stats()["health"]["reasons"]
    assert reason["reason"] == "no_operator_door"
    assert "--operator" in reason["detail"]
    assert raw.submit("noop")["verdict"] == "accepted"
    assert broker.stop() == 0


def test_door_that_was_asked_for_and_cannot_be_ends_the_broker(start_broker: StartBroker, folder: Path) -> None:
    """With a line that names the setting; what is there stays, and the endpoint is free again."""
    folder.mkdir(mode=0o700)
    (folder / "door").write_text("a file")
    endpoint = f"ipc://{folder}/endpoint"
    broker = start_broker("--endpoint", endpoint, "--operator", str(folder / "door"))
    assert broker.exit_code() == 2
    assert "turnstile: --operator: " in broker.output
    assert (folder / "door").read_text() == "a file"
    assert not (folder / "endpoint").exists()


def test_row_17_a_second_broker_does_not_take_the_door(start_broker: StartBroker, operated: Operated) -> None:
    """Exit code 4, and the first one still answers."""
    second = start_broker("--operator", str(operated.path))
    assert (second.exit_code(), "another broker holds" in second.output) == (4, True)
    assert operated.say("resume") == ["resumed"]


def test_a_killed_brokers_door_is_bound_anew(start_broker: StartBroker, folder: Path, operated: Operated) -> None:
    """What it left behind answers nobody; the successor takes its place."""
    operated.broker.signal(signal.SIGKILL)
    operated.broker.exit_code()
    assert stat.S_ISSOCK(operated.path.stat().st_mode)
    (line,) = Operated(start_broker, folder).say("resume")
    assert line == "resumed"


def test_a_stopped_broker_is_told_from_none(operated: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a socket and nobody answers: the error says that what was asked may still be done."""
    monkeypatch.setattr("broker.operator_client._PATIENCE_MS", 300)
    with (
        stopped(operated.broker.pid),
        OperatorClient(operated.path) as client,
        pytest.raises(NoBrokerError, match="may still be done"),
    ):
        client.ask("resume")
    assert operated.say("resume") == ["resumed"]


def test_refusal_of_the_broker_is_shown(operated: Operated) -> None:
    """An id that cannot be one."""
    (line,) = operated.say("cancel", "no good", code=2)
    assert "not a task id" in line
    with OperatorClient(operated.path) as client, pytest.raises(OperatorError, match="no op"):
        client.ask("nonsense")


@pytest.mark.parametrize("words", [["dead"], ["dead", "requeue"], ["dead", "requeue", "a", "--all"], ["cancel"]])
def test_words_that_mean_nothing_are_refused(words: list[str]) -> None:
    """On one line, with exit code 2."""
    done = command(*words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_floods_at_the_producers_door_do_not_keep_the_operator_out(operated: Operated) -> None:
    """Each wait of the loop looks at both doors."""
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(Raw(operated.broker.endpoint)) for _ in range(20)]
        for raw in raws:
            raw.socket.send(b"\xc1")
        with OperatorClient(operated.path) as client:
            for _ in range(100):
                for raw in raws:
                    raw.socket.recv()
                    raw.socket.send(b"\xc1")
                assert client.ask("resume") == {"v": 1, "paused": False}
