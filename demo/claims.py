"""What the demo claims to have shown, each checked against what its processes left behind and said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from textwrap import shorten
from typing import Final

from demo.results import Results
from demo.sources import PLANTED
from demo.terminal import folded

#: Every accepted task is in one of these.
_STATES: Final = ("ready", "delayed", "running", "succeeded", "dead", "cancelled", "expired", "returned")
_LISTED: Final = 6  # dead letters


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is left of a run, when all its processes have ended."""

    out: Path
    expected: int  #: tasks that were to be accepted: one for each file, each package, the report, and each mail
    capacity: int
    recipients: Sequence[str]
    broker_line: str  #: the broker's report line
    mail_server: str  #: what the mail server printed
    producers: Sequence[str]  #: the file producers' last lines
    rejected: int  #: tasks that were rejected because the queue was full, counted each time
    retries: int  #: failed attempts that led to another one
    letters: Sequence[str]  #: the errors of the dead letters


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing the demo says it shows."""

    name: str
    holds: bool
    seen: str  #: what there was to see; may have several lines


def claims(evidence: Evidence) -> list[Claim]:
    """Every claim, judged."""
    return [
        _ledger(evidence),
        _rejections(evidence),
        _retried(evidence),
        _dead_letters(evidence),
        _report(evidence),
        _mail(evidence),
    ]


def numbers(line: str) -> dict[str, int]:
    """The `name=number` pairs of a line that a process printed."""
    pairs = (word.partition("=") for word in line.split())
    return {name: int(value) for name, _, value in pairs if value.isdecimal()}


def _ledger(evidence: Evidence) -> Claim:
    said = numbers(evidence.broker_line)
    accepted, ledger = said.get("accepted", 0), {state: said.get(state, 0) for state in _STATES}
    sum_text = " + ".join(f"{state} {count:,}" for state, count in ledger.items())
    ended_well = accepted == evidence.expected == ledger["succeeded"] + ledger["dead"]
    holds = accepted == sum(ledger.values()) and ended_well and "outcome=finished" in evidence.broker_line
    return Claim("ledger", holds, f"accepted {accepted:,} = {sum_text}")


def _rejections(evidence: Evidence) -> Claim:
    said = [numbers(line) for line in evidence.producers]
    submitted, accepted = (sum(one.get(name, 0) for one in said) for name in ("submitted", "accepted"))
    seen = (
        f"{evidence.rejected:,} times a producer heard that all {evidence.capacity:,} rooms were taken, and when to "
        f"come back;\nit came back: {accepted:,} of {submitted:,} files were accepted"
    )
    return Claim("rejections", evidence.rejected > 0 and submitted == accepted > 0, seen)


def _retried(evidence: Evidence) -> Claim:
    seen = f"{evidence.retries:,} failed attempts were followed by another one"
    later = [
        mail
        for mail in _mails(evidence)
        if int(mail["X-Turnstile-Attempt"]) > 1 and f"put off recipient={mail['To']}" in evidence.mail_server
    ]
    for mail in later[:1]:
        task_id = mail["Message-ID"].strip("<>").partition("@")[0]
        seen += f", such as task {task_id}:\nthe server put off the mail to {mail['To']} with a 451, "
        seen += f"and took it at attempt {mail['X-Turnstile-Attempt']}"
    return Claim("retries", evidence.retries > 0 and bool(later), seen)


def _dead_letters(evidence: Evidence) -> Claim:
    broken = [path for package in Results(str(evidence.out)).packages() for path, _ in package.unparsable]
    reasons = [letter.removeprefix("NeverRetry: ") for letter in evidence.letters]
    reasons.sort(key=lambda reason: (reason.startswith(PLANTED), reason))
    lines = [f"{len(reasons):,} files do not parse, and trying again would not help:"]
    lines += [shorten(reason, 88, placeholder=" ...") for reason in reasons[:_LISTED]]
    if len(reasons) > _LISTED:
        lines.append(f"... and {len(reasons) - _LISTED:,} more, all in the report")
    # Every dead letter is one of a file that does not parse, and every such file is a dead letter.
    holds = sorted(reason.partition(": ")[0] for reason in reasons) == sorted(broken) and bool(reasons)
    return Claim("dead letters", holds, "\n".join(lines))


def _report(evidence: Evidence) -> Claim:
    page = _page(evidence)
    whole = page.count("<svg") == 2 and page.rstrip().endswith("</html>")
    return Claim("report", whole, f"{evidence.out / 'report.html'}, of {len(page):,} characters, with two plots")


def _mail(evidence: Evidence) -> Claim:
    page = _page(evidence).splitlines()  # not the text: mail ends its lines in its own way
    arrived = [mail["To"] for mail in _mails(evidence) if page and _attachment(mail).splitlines() == page]
    seen = f"the report arrived at {', '.join(sorted(arrived)) or 'nobody'}: {evidence.out / 'mail' / 'new'}"
    return Claim("mail", sorted(arrived) == sorted(evidence.recipients), seen)


def _page(evidence: Evidence) -> str:
    path = evidence.out / "report.html"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _mails(evidence: Evidence) -> list[EmailMessage]:
    parser = BytesParser(EmailMessage, policy=policy.default)
    return [parser.parsebytes(path.read_bytes()) for path in sorted((evidence.out / "mail" / "new").glob("*.eml"))]


def _attachment(mail: EmailMessage) -> str:
    return "".join(part.get_content() for part in mail.iter_attachments())


def as_lines(judged: Sequence[Claim], columns: int) -> list[str]:
    """The claims for the terminal, of lines of at most `columns` characters, unless a path is longer."""
    lines = []
    for claim in judged:
        wrapped = [part for line in claim.seen.splitlines() for part in folded(line, columns - 20, "  ")]
        heads = [f"  {'ok' if claim.holds else 'NO'}  {claim.name:<12}  ", *[" " * 20] * len(wrapped)]
        lines += [head + line for head, line in zip(heads, wrapped, strict=False)]
    return lines
