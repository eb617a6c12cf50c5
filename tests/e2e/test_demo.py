"""The demo as a newcomer runs it: one command, real processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

_DEMO = [sys.executable, "-m", "demo"]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_DEMO, *arguments], capture_output=True, text=True, timeout=100, check=False)


def test_demo(tmp_path: Path) -> None:
    """It ends by itself with exit code 0, and shows a rejection, a retry, a dead letter, a report and mail."""
    out = tmp_path / "out"
    done = _run("--files", "150", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    text = " ".join(done.stdout.split())

    ledger = re.search(r"ok ledger accepted (\d+) = ([a-z0-9 +]+?) ok rejections (\d+) times", text)
    assert ledger is not None, text
    accepted, turned_away = int(ledger[1]), int(ledger[3])
    states = {state: int(count) for state, count in re.findall(r"([a-z]+) (\d+)", ledger[2])}
    assert accepted == sum(states.values()) == states["succeeded"] + states["dead"]
    assert states["dead"] >= 2  # the planted ones at least
    packages = list((out / "packages").glob("*.json"))
    assert accepted == 152 + len(packages) + 1 + 2  # 150 files and 2 planted ones, the sums, the report, 2 mails
    assert turned_away >= 1

    assert re.search(r"ok retries \d+ failed .* put off the mail to \w+@example.org with a 451, and took it at", text)
    assert "planted_by_the_demo/invalid_syntax.py: line 2: invalid syntax" in text
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "planted_by_the_demo/not_utf8.py" in page
    assert len(list((out / "mail" / "new").glob("*.eml"))) == 2


def test_what_is_not_shown_is_not_claimed(tmp_path: Path) -> None:
    """With room for every task nobody is rejected; the demo says that it did not show that, and exits with 1."""
    done = _run("--files", "20", "--capacity", "1000", "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert done.stderr.startswith("demo: not as claimed: rejections;")


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    """It makes its folder anew, but never one that it did not make."""
    (tmp_path / "thesis.txt").write_text("three years of work", encoding="utf-8")
    done = _run("--files", "5", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "no demo made it" in done.stderr
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "three years of work"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_ends_all_processes(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM or a closed terminal: every process of the demo ends with it, and what it made stays."""
    out = tmp_path / "out"
    # Work for half a minute, whatever standard library the interpreter has: all producers are still at it.
    for package in range(20):
        (tmp_path / "tree" / f"p{package}").mkdir(parents=True)
        for module in range(100):
            path = tmp_path / "tree" / f"p{package}" / f"m{module}.py"
            path.write_text("def f(a):\n    return [a, a + 1]\n\n\n" * 400, encoding="utf-8")
    with subprocess.Popen(
        [*_DEMO, "--directory", str(tmp_path / "tree"), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        while "have ended" not in (line := demo.stdout.readline()) or " 0 of " in line:
            assert line, "the demo ended before it was interrupted"
        children = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert errors.strip().startswith("demo: interrupted; its processes have ended")
    assert len(children) >= 5  # the broker, the mail server, three producers
    assert psutil.wait_procs(children, timeout=0)[1] == []
    assert any((out / "results").rglob("*.json"))
