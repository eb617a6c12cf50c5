"""The task functions of the demo: the four jobs that queues are used for, on real input.

The broker loads this module (`python -m broker --tasks demo.tasks`); producers submit its functions. Each is a plain
function that can be called without a queue, and each may run twice and leave what one run leaves. When a task cannot do
its work it raises: `NeverRetry` if it never will, `RetryAfter` if it knows when, any other exception if it does not.
"""

from __future__ import annotations

import ast
import smtplib
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

from demo.results import FileResult, PackageResult, Results, put_bytes
from worker_host import Backoff, NeverRetry, RetryAfter, current_task, task

SENDER = "turnstile@example.org"


@task
def measure_file(out: str, directory: str, path: str) -> None:
    """Count what is in one Python file. A file that does not parse today does not parse tomorrow: `NeverRetry`."""
    try:
        source = (Path(directory) / path).read_bytes()
    except FileNotFoundError as error:
        raise NeverRetry(f"{path}: the file is gone") from error
    lines = source.splitlines()
    try:
        tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError) as error:
        reason = _why(error)
        # First the result, then the failure: if the worker dies between the two, the task runs again and says the same.
        Results(out).put_file(FileResult(path, len(source), len(lines), error=reason))
        raise NeverRetry(f"{path}: {reason}") from error

    definitions = [node for node in _statements(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    spans = [((node.end_lineno or node.lineno) - node.lineno + 1, node.name) for node in definitions]
    longest, longest_name = max(spans, default=(0, ""))
    Results(out).put_file(
        FileResult(
            path=path,
            size_bytes=len(source),
            lines=len(lines),
            blank=sum(not line.strip() for line in lines),
            functions=len(definitions),
            documented=sum(ast.get_docstring(node, clean=False) is not None for node in definitions),
            classes=sum(isinstance(node, ast.ClassDef) for node in _statements(tree)),
            longest=longest,
            longest_name=longest_name,
        )
    )


@task(retries=100)
def aggregate_package(out: str, package: str, files: int) -> None:
    """Add up one package of `files` files. While some are not measured yet there is a true reason to come back."""
    results = Results(out)
    found = results.files_of(package)
    if len(found) < files:
        # It asks more and more rarely: each attempt reads what is there, and costs a worker that time.
        wait_s = min(0.25 * 2.0 ** current_task().attempt, 2.0)
        raise RetryAfter(wait_s, f"{package}: {len(found)} of {files} files are measured")
    parsed = [result for result in found if not result.error]
    longest = max(parsed, key=lambda result: result.longest, default=None)
    results.put_package(
        PackageResult(
            package=package,
            files=len(found),
            lines=sum(result.lines for result in parsed),
            functions=sum(result.functions for result in parsed),
            documented=sum(result.documented for result in parsed),
            classes=sum(result.classes for result in parsed),
            longest=longest.longest if longest else 0,
            longest_name=f"{longest.path}: {longest.longest_name}" if longest and longest.longest else "",
            file_lines=[result.lines for result in parsed],
            unparsable=[[result.path, result.error] for result in found if result.error],
        )
    )


@task
def write_report(out: str, directory: str, ledger: dict[str, int]) -> None:
    """Draw and write the page `report.html`. `ledger`: the broker's, as it was when the report was ordered."""
    # Here and not above: it takes a second to import what draws, and only the worker that draws should pay for it.
    from demo.report import page

    packages = Results(out).packages()
    if not packages:
        raise RetryAfter(1.0, "no package is aggregated yet")
    put_bytes(Path(out) / "report.html", page(directory, packages, ledger).encode())


@task(retries=5, backoff=Backoff(first_s=0.5, max_s=30.0))
def mail_report(out: str, host: str, port: int, recipient: str) -> None:
    """Send the report by SMTP. A server that says "not now" (4xx) is asked again later, one that says "no" (5xx) never.

    At-least-once holds for mail too: if the worker dies between sending and saying so, the mail is sent twice. Both
    have the same Message-ID, made from the task's id, by which the reader's side can tell.
    """
    running = current_task()
    message = EmailMessage()
    message["Subject"] = "The report that you asked for"
    message["From"], message["To"] = SENDER, recipient
    message["Message-ID"] = f"<{running.id}@example.org>"
    message["X-Turnstile-Attempt"] = str(running.attempt)
    message.set_content("It is attached: open report.html in a browser.\n")
    report = (Path(out) / "report.html").read_text(encoding="utf-8")
    message.add_attachment(report, subtype="html", filename="report.html")
    # To name ourselves spares a look-up of this machine's name, which takes seconds where there is no network.
    with smtplib.SMTP(host, port, local_hostname="localhost", timeout=10) as server:
        try:
            server.send_message(message)
        except smtplib.SMTPRecipientsRefused as refused:
            code, text = refused.recipients[recipient]
            if code >= 500:
                raise NeverRetry(f"{recipient}: {code} {text.decode(errors='replace')}") from refused
            raise


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement below `tree`. `ast.walk` would visit every expression too, at ten times the cost."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, block, None)
            if isinstance(inner, list):  # of a lambda or a conditional expression it is one expression
                waiting += inner


def _why(error: Exception) -> str:
    """The reason in one line, as the parser gives it."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    return str(error) or type(error).__name__
