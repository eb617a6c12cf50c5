"""A broker with an operator's door, and the command line of that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.broker_process import ROOT, BrokerProcess
from tests.e2e.conftest import StartBroker


class Operated:
    """A broker with an operator's door, and its command line."""

    def __init__(self, start_broker: StartBroker, folder: Path, *flags: str, tasks: str = "tests.jobs") -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self.path = folder / "door"
        self.broker: BrokerProcess = start_broker("--operator", str(self.path), *flags, tasks=tasks)

    def say(self, *words: str, code: int = 0) -> list[str]:
        """The lines that the command prints; its exit code is the one that is expected."""
        done = command(*words, "--operator", str(self.path))
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
        return done.stdout.splitlines() or done.stderr.splitlines()


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m broker WORDS`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "broker", *words], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the door is."""
    return tmp_path / "owner"


@pytest.fixture
def operated(start_broker: StartBroker, folder: Path) -> Operated:
    """A broker that can be operated."""
    return Operated(start_broker, folder, "--workers", "2", "--capacity", "10")
