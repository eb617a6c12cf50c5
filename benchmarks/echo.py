"""The yardstick: the least that a REP server in Python can do. Unpacks each request, packs a reply like a broker's."""

from __future__ import annotations

import msgpack
import zmq


def main() -> None:
    """Serve until killed; prints its endpoint first."""
    socket = zmq.Context().socket(zmq.REP)
    socket.bind("tcp://127.0.0.1:0")
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"), flush=True)
    reply = {"v": 1, "verdicts": [{"id": "abcdefghijklmno", "verdict": "accepted"}]}
    while True:
        msgpack.unpackb(socket.recv())
        socket.send(msgpack.packb(reply))


if __name__ == "__main__":
    main()
