"""The mail server that greylists, and the task that meets it."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path

import pytest

from demo.tasks import mail_report
from worker_host import NeverRetry, running_as

_REPORT = "<!doctype html>\n<p>Grüße</p>\n.\n<p>a line with one dot is above</p>\n"


@dataclass(frozen=True)
class _Server:
    port: int
    folder: Path

    def mails(self) -> list[EmailMessage]:
        parser = BytesParser(EmailMessage, policy=policy.default)
        return [parser.parsebytes(path.read_bytes()) for path in sorted((self.folder / "new").glob("*"))]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[_Server]:
    """The real mail server, in its own process."""
    folder = tmp_path / "mail"
    command = [sys.executable, "-m", "demo.mail_server", "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("mail server ready port=")
        yield _Server(int(ready.rpartition("=")[2]), folder)
        process.terminate()
        assert process.wait(timeout=10) == 0


def _send(server: _Server, out: Path, recipient: str, task_id: str, attempt: int) -> None:
    with running_as(id=task_id, attempt=attempt):
        mail_report(str(out), "127.0.0.1", server.port, recipient)


def test_first_try_is_put_off(server: _Server, tmp_path: Path) -> None:
    """The first try of a recipient gets a 451, which the task lets through as its reason to be tried again."""
    (tmp_path / "report.html").write_text(_REPORT, encoding="utf-8")
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        _send(server, tmp_path, "ada@example.org", "t1", 1)
    assert refused.value.recipients["ada@example.org"][0] == 451
    assert server.mails() == []


def test_second_try_delivers(server: _Server, tmp_path: Path) -> None:
    """The second try delivers the report, unchanged, and says which attempt of which task it was."""
    (tmp_path / "report.html").write_text(_REPORT, encoding="utf-8")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        _send(server, tmp_path, "ada@example.org", "t1", 1)
    _send(server, tmp_path, "ada@example.org", "t1", 2)
    (mail,) = server.mails()
    (attachment,) = mail.iter_attachments()
    assert (mail["To"], mail["Message-ID"], mail["X-Turnstile-Attempt"]) == ("ada@example.org", "<t1@example.org>", "2")
    assert attachment.get_filename() == "report.html"
    assert attachment.get_content().splitlines() == _REPORT.splitlines()


def test_each_pair_is_put_off_once(server: _Server, tmp_path: Path) -> None:
    """One recipient's second try does not let in another's first."""
    (tmp_path / "report.html").write_text(_REPORT, encoding="utf-8")
    for recipient in ("ada@example.org", "grace@example.org"):
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            _send(server, tmp_path, recipient, recipient[0], 1)
        _send(server, tmp_path, recipient, recipient[0], 2)
    assert sorted(mail["To"] for mail in server.mails()) == ["ada@example.org", "grace@example.org"]


def test_the_same_mail_twice(server: _Server, tmp_path: Path) -> None:
    """A task that runs once more after it was done sends the same Message-ID, and the server keeps one mail."""
    (tmp_path / "report.html").write_text(_REPORT, encoding="utf-8")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        _send(server, tmp_path, "ada@example.org", "t1", 1)
    _send(server, tmp_path, "ada@example.org", "t1", 2)
    _send(server, tmp_path, "ada@example.org", "t1", 3)
    assert [mail["X-Turnstile-Attempt"] for mail in server.mails()] == ["3"]


def test_recipient_elsewhere(server: _Server, tmp_path: Path) -> None:
    """A permanent no of the mail server is not tried again."""
    (tmp_path / "report.html").write_text(_REPORT, encoding="utf-8")
    with pytest.raises(NeverRetry, match=r"eve@example\.com: 550 .*relaying denied"):
        _send(server, tmp_path, "eve@example.com", "t1", 1)


def test_message_id_is_no_path(server: _Server) -> None:
    """What a sender writes as Message-ID cannot lead out of the folder."""
    message = EmailMessage()
    message["Message-ID"] = "<../../../escaped@example.org>"
    with smtplib.SMTP("127.0.0.1", server.port, local_hostname="localhost", timeout=10) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.send_message(message, "eve@example.com", "ada@example.org")
        client.send_message(message, "eve@example.com", "ada@example.org")
    assert [path.name for path in (server.folder / "new").iterdir()] == ["escaped@example.org.eml"]


def test_no_mail_server(tmp_path: Path) -> None:
    """Where nobody listens, the task fails as for any other trouble on the way: it is tried again."""
    (tmp_path / "report.html").write_text(_REPORT, encoding="utf-8")
    with running_as(), pytest.raises(ConnectionRefusedError):
        mail_report(str(tmp_path), "127.0.0.1", 1, "ada@example.org")
