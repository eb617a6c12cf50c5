"""The demo's own check is checked: each claim is judged false when what it claims is not so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest

from demo.claims import Evidence, as_lines, claims
from demo.results import PackageResult, Results

_PAGE = "<!doctype html>\n<svg></svg><svg></svg></html>\n"
_LINE = (
    "turnstile stopped outcome=finished accepted=9 ready=0 delayed=0 running=0 succeeded=8 dead=1 cancelled=0 "
    "expired=0 returned=0 busy_workers=0"
)


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Of a run that showed everything."""
    tmp_path /= "a-folder-with-hyphens"
    Results(str(tmp_path)).put_package(
        PackageResult("p", 1, 0, 0, 0, 0, 0, "", unparsable=[["p/odd.py", "line 1: no"]])
    )
    (tmp_path / "report.html").write_text(_PAGE, encoding="utf-8")
    (tmp_path / "mail" / "new").mkdir(parents=True)
    _put_mail(tmp_path, attempt=2, page=_PAGE)
    return Evidence(
        out=tmp_path,
        expected=9,
        capacity=5,
        recipients=["ada@example.org"],
        broker_line=_LINE,
        mail_server="put off recipient=ada@example.org\ntook message=t1@example.org",
        producers=["submitted=3 accepted=3", "submitted=2 accepted=2"],
        rejected=4,
        retries=1,
        letters=["NeverRetry: p/odd.py: line 1: no"],
    )


def _put_mail(out: Path, *, attempt: int, page: str) -> None:
    mail = EmailMessage()
    mail["To"], mail["Message-ID"], mail["X-Turnstile-Attempt"] = "ada@example.org", "<t1@example.org>", str(attempt)
    mail.set_content("Attached.")
    mail.add_attachment(page, subtype="html", filename="report.html")
    (out / "mail" / "new" / "t1.eml").write_bytes(mail.as_bytes())


def _failing(evidence: Evidence) -> list[str]:
    return [claim.name for claim in claims(evidence) if not claim.holds]


def test_all_claims_hold(evidence: Evidence) -> None:
    """A run that showed everything passes, and its lines say so."""
    assert _failing(evidence) == []
    text = "\n".join(as_lines(claims(evidence), 100))
    assert "accepted 9 = ready 0 + delayed 0 + running 0 + succeeded 8 + dead 1" in text
    assert "4 times" in text
    assert "task t1" in text
    assert "p/odd.py: line 1: no" in text
    assert text.count("  ok  ") == 6
    assert all(len(line) <= 100 or str(evidence.out) in line for line in text.splitlines())


@pytest.mark.parametrize("columns", [50, 60, 70, 80])
def test_a_path_is_not_cut(evidence: Evidence, columns: int) -> None:
    """Neither at a hyphen nor, if it is longer than a line, in its midst: it can be copied from the terminal."""
    lines = as_lines(claims(evidence), columns)
    assert any(str(evidence.out / "report.html") in line for line in lines)


@pytest.mark.parametrize(
    ("spoil", "claim"),
    [
        (lambda e: replace(e, broker_line=_LINE.replace("succeeded=8", "succeeded=7")), "ledger"),
        (lambda e: replace(e, broker_line=_LINE.replace("succeeded=8", "succeeded=7 returned=1")), "ledger"),
        (lambda e: replace(e, broker_line=_LINE.replace("finished", "deadline")), "ledger"),
        (lambda e: replace(e, broker_line=""), "ledger"),
        (lambda e: replace(e, expected=10), "ledger"),
        (lambda e: replace(e, rejected=0), "rejections"),
        (lambda e: replace(e, producers=["submitted=5 accepted=4"]), "rejections"),
        (lambda e: replace(e, producers=[""]), "rejections"),
        (lambda e: replace(e, retries=0), "retries"),
        (lambda e: replace(e, mail_server="took message=t1@example.org"), "retries"),
        (lambda e: replace(e, letters=[]), "dead letters"),
        (lambda e: replace(e, letters=["NeverRetry: p/other.py: line 1: no"]), "dead letters"),
        (lambda e: replace(e, letters=[*e.letters, "KeyError: 'x'"]), "dead letters"),
        (lambda e: replace(e, recipients=["ada@example.org", "grace@example.org"]), "mail"),
    ],
)
def test_a_claim_that_does_not_hold(evidence: Evidence, spoil: Callable[[Evidence], Evidence], claim: str) -> None:
    """One thing that was not shown fails its own claim, and no other."""
    assert _failing(spoil(evidence)) == [claim]


def test_mail_at_the_first_attempt(evidence: Evidence) -> None:
    """A mail that went out at once is no retry."""
    _put_mail(evidence.out, attempt=1, page=_PAGE)
    assert _failing(evidence) == ["retries"]


def test_mail_with_another_report(evidence: Evidence) -> None:
    """A mail that does not carry this report is not the mail."""
    _put_mail(evidence.out, attempt=2, page="<p>another</p>\n")
    assert _failing(evidence) == ["mail"]


def test_half_a_report(evidence: Evidence) -> None:
    """A page that ends early is no report, even if it was mailed as it is."""
    half = _PAGE[:40]
    (evidence.out / "report.html").write_text(half, encoding="utf-8")
    _put_mail(evidence.out, attempt=2, page=half)
    assert _failing(evidence) == ["report"]


def test_no_report(evidence: Evidence) -> None:
    """Without a report neither the report nor its mail is there."""
    (evidence.out / "report.html").unlink()
    assert _failing(evidence) == ["report", "mail"]
