"""The command line's end of the operator's door, before something that is no broker."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import zmq

from broker.operator_client import OperatorClient, OperatorError


def test_what_answers_and_is_no_broker_is_named(tmp_path: Path) -> None:
    """By its path; and the client can be closed, with nothing left open, as after a good answer."""
    path = tmp_path / "door"
    with zmq.Context() as context, context.socket(zmq.REP) as stranger:
        stranger.bind(f"ipc://{path}")
        answering = threading.Thread(target=lambda: stranger.recv() and stranger.send(b"hello?"), daemon=True)
        answering.start()
        with OperatorClient(path) as client, pytest.raises(OperatorError, match=f"what answers at {path} is no broker"):
            client.ask("pause")
        answering.join(20)
    assert client._context.closed
