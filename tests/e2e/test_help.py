"""What each program prints about itself fits a terminal of 80 columns."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from broker.commands import COMMANDS
from tests.e2e.broker_process import ROOT

_OPERATOR = ["dead", *(f"dead {verb}" for verb in ("list", "show", "requeue", "discard")), "cancel", "pause", "resume"]
_KEYS = ["keys", "keys create", "keys list", "keys revoke"]
_PRODUCER = ["submit", "submit-many", "stats", "health", "status", "dead", "ping"]
_PROGRAMS = [
    *(f"broker {words}".strip() for words in ("", *_OPERATOR, *_KEYS)),
    *(f"producer {words}".strip() for words in ("", *_PRODUCER)),
    *(f"demo{part}" for part in ("", ".produce_files", ".produce_report", ".produce_mail", ".mail_server")),
    "benchmarks",
    "benchmarks.picture",
]


def printed(*command: str) -> str:
    """What a command prints in such a terminal."""
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("program", _PROGRAMS)
def test_help_fits_the_terminal(program: str) -> None:
    """No line is wider than 79, and its first one says what is typed."""
    text = printed(sys.executable, "-m", *program.split(), "--help")
    assert text.startswith(f"usage: python -m {program}")
    assert [line for line in text.splitlines() if len(line) > 79] == []


def test_states_and_targets_fit_the_terminal() -> None:
    """The life of a task, and what `make` alone lists."""
    for text in (printed(sys.executable, "-m", "broker", "--states"), printed("make", "--no-print-directory")):
        assert text
        assert [line for line in text.splitlines() if len(line) > 79] == []


def test_help_of_the_broker_names_every_command_at_the_top() -> None:
    """Before the settings, which fill two screens."""
    top, _, _ = printed(sys.executable, "-m", "broker", "--help").partition("--tasks MODULES  ")
    assert sorted(re.findall(r"^  (\w+) ", top, re.MULTILINE)) == sorted(COMMANDS)
