"""Who may connect to a closed door: answers libzmq's questions (ZAP, https://rfc.zeromq.org/spec/27/), one for each
connection, on a thread of its own.

It fails closed. The socket that asks enforces its domain, so that libzmq lets nobody in while nobody answers; whatever
goes wrong here is a refusal.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Final

import zmq

from broker.keys import KeyFolder, KeysError
from worker_host.contract import Trouble

_log = logging.getLogger("turnstile.broker")

DOMAIN: Final = b"turnstile"
_ENDPOINT: Final = "inproc://zeromq.zap.01"
_VERSION: Final = b"1.0"
_LET_IN: Final = (b"200", b"OK")
_NOT_KNOWN: Final = (b"400", b"this key is not on the list")
_FAULT: Final = (b"500", b"the list of keys cannot be read")
#: While nobody is let in, maybe nobody comes; so the list is looked at again without a question.
_AGAIN_MS: Final = 1_000


class Authenticator:
    """Lets in those whose public key is in the folder. Ends with its context."""

    _trouble: Trouble | None = None  # why nobody is let in, if that is so; its thread sets it, any other may read it

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: KeyFolder) -> None:
        """Answer from now on; made before the socket that asks is bound."""
        self._keys = keys
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_ENDPOINT)
        self._thread = threading.Thread(target=self._run, name="authenticator", daemon=True)
        self._thread.start()

    def troubles(self) -> list[Trouble]:
        """Why nobody is let in, if that is so, as it was found last. Any thread may ask; it waits for no file."""
        return [] if self._trouble is None else [self._trouble]

    def _run(self) -> None:
        try:
            while True:
                if self._trouble is None or self._socket.poll(_AGAIN_MS):
                    frames = self._socket.recv_multipart()
                    self._socket.send_multipart(self.answer(frames))
                else:
                    with contextlib.suppress(KeysError, OSError):  # it is noted: `troubles` tells of it
                        self._lets_in(b"")
        except zmq.ContextTerminated:
            pass  # the door is closed, and nobody will come
        # From here on nobody is let in; those who are connected stay.
        except BaseException:  # noqa: BLE001
            self._trouble = Trouble("authenticator_failed", "no producer can connect any more; the log says why")
            _log.critical("the authenticator failed: no producer can connect any more", exc_info=True)
        finally:
            self._socket.close()

    def answer(self, frames: list[bytes]) -> list[bytes]:
        """The reply to a question: whether this connection is let in. It never raises."""
        request_id = frames[1] if len(frames) > 1 else b""
        code, text = _NOT_KNOWN
        if len(frames) == 7 and frames[0] == _VERSION and frames[2] == DOMAIN and frames[5] == b"CURVE":
            try:
                if self._lets_in(frames[6]):
                    code, text = _LET_IN
            except (KeysError, OSError) as error:
                code, text = _FAULT
                _log.error("nobody is let in: %s", error)
        if code == _NOT_KNOWN[0]:
            address = frames[3].decode("ascii", "replace") if len(frames) > 3 else "?"
            _log.warning("refused a connection from %s: its key is not on the list", address)
        return [_VERSION, request_id, code, text, b"", b""]

    def _lets_in(self, key: bytes) -> bool:
        try:
            is_known = self._keys.lets_in(key)
        except (KeysError, OSError) as error:
            self._trouble = Trouble("keys_unreadable", f"nobody new is let in: {error}")
            raise
        self._trouble = None
        return is_known
