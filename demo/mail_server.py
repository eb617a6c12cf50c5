"""A mail server that greylists: `python -m demo.mail_server --folder DIRECTORY`, a process of its own.

Greylisting is a real defence against spam: the first try of each (sender, recipient) is put off with a temporary 451,
and a sender that tries again is let in. To whoever sends mail from a queue it is a true reason to retry.
Listens on this machine alone, unless told otherwise, and is the last stop for mail to example.org: what it takes, it
keeps as files in `DIRECTORY/new`. Mail to anywhere else gets a permanent 550.
"""

# ruff: noqa: T201 - a command line prints

from __future__ import annotations

import argparse
import asyncio
import re
import signal
from email import message_from_bytes
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope

from demo.results import put_bytes


class Greylist:
    """What the SMTP protocol of aiosmtpd asks for each recipient and each message."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: set[tuple[str | None, str]] = set()

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self, _server: object, _session: object, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Refuse what is not for us; put off the first try of a pair, let in every later one."""
        if not address.endswith("@example.org"):
            return "550 5.7.1 relaying denied: mail to example.org only"
        pair = (envelope.mail_from, address)
        if pair not in self._known:
            self._known.add(pair)
            print(f"put off recipient={address}", flush=True)
            return "451 4.7.1 greylisted: try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: object, _session: object, envelope: Envelope) -> str:  # noqa: N802
        """Keep the message under its Message-ID, so that the same mail sent twice is one file."""
        content = envelope.content
        assert isinstance(content, bytes)  # noqa: S101 - not text: we did not ask aiosmtpd to decode it
        message_id = str(message_from_bytes(content)["Message-ID"])
        # The id is the sender's word, and becomes a file's name.
        name = re.sub(r"[^A-Za-z0-9@._-]", "", message_id).lstrip(".")[:100] or "no-id"
        put_bytes(self._folder / "new" / f"{name}.eml", content)
        print(f"took message={name}", flush=True)
        return "250 2.0.0 OK"


async def serve(folder: Path, host: str, port: int, until: asyncio.Event) -> None:
    """Serve on `port` (0: any free one) until the event; prints one line when it can be connected to."""
    greylist = Greylist(folder)
    loop = asyncio.get_running_loop()

    def protocol() -> Any:
        return SMTP(greylist, hostname="localhost")

    server = await loop.create_server(protocol, host, port)
    print(f"mail server ready port={server.sockets[0].getsockname()[1]}", flush=True)
    await until.wait()
    server.close()


async def _main(folder: Path, host: str, port: int) -> None:
    until = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, until.set)
    await serve(folder, host, port, until)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m demo.mail_server",
        description="A mail server for one machine that puts off every first try.",
    )
    parser.add_argument("--folder", type=Path, required=True, help="messages are kept in its folder 'new'")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="where to listen there (default: any free port)")
    options = parser.parse_args()
    asyncio.run(_main(options.folder, options.host, options.port))
