"""The command line's end of the operator's door, before something that is no broker."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import zmq

from broker.operator_client import OperatorClient, OperatorError


@pytest.mark.parametrize("answer", [b"hello?", b"\x05", b"\x90"], ids=["no msgpack", "a number", "an array"])
def test_what_answers_and_is_no_broker_is_named(tmp_path: Path, answer: bytes) -> None:
    """By its path; and the client can be closed, with nothing left open, as after a good answer."""
    path = tmp_path / "door"
    with zmq.Context() as context, context.socket(zmq.REP) as stranger:
        stranger.bind(f"ipc://{path}")
        answering = threading.Thread(target=lambda: stranger.recv() and stranger.send(answer), daemon=True)
        answering.start()
        with OperatorClient(path) as client, pytest.raises(OperatorError, match=f"what answers at {path} is no broker"):
            client.ask("pause")
        answering.join(20)
    assert client._context.closed
