"""The demo's producers, more of them than there is work, against a broker that others started, behind a closed door."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from broker.keys import KeyFolder
from tests.e2e.broker_process import ROOT
from tests.e2e.conftest import StartBroker

FILES = 20


def produce(module: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A producer of the demo, to its end; it knows the way from its environment."""
    command = [sys.executable, "-m", f"demo.{module}", *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=100, env={**os.environ, **environment}
    )


@pytest.fixture
def way(start_broker: StartBroker, tmp_path: Path) -> dict[str, str]:
    """The environment that leads through the closed door of a broker."""
    keys = KeyFolder(tmp_path / "keys")
    keys.create("demo", if_missing=False)
    broker = start_broker("--keys", str(keys.path), tasks="demo.tasks")
    return {
        "TURNSTILE_ENDPOINT": broker.endpoint,
        "TURNSTILE_KEY": str(keys.secret_of("demo")),
        "TURNSTILE_BROKER_KEY": str(keys.path / "broker.public"),
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Some files to measure."""
    for number in range(FILES):
        path = tmp_path / "tree" / "package" / f"m{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"def f():\n    return {number}\n", encoding="utf-8")
    return tmp_path / "tree"


def test_each_file_is_one_task_whoever_submits_it(way: dict[str, str], tree: Path, tmp_path: Path) -> None:
    """A second producer of the same files hears that all are there already; the report is made of each file once."""
    words = ["--out", str(tmp_path / "out"), str(tree)]
    first, second = (produce("produce_files", *words, **way) for _ in range(2))
    assert (first.stdout, first.returncode) == (f"submitted={FILES} accepted={FILES} duplicates=0\n", 0), first.stderr
    assert (second.stdout, second.returncode) == (f"submitted={FILES} accepted={FILES} duplicates={FILES}\n", 0)
    report = produce("produce_report", *words, **way)
    assert (report.stdout, report.returncode) == ("submitted=2 succeeded=2\n", 0), report.stderr
    assert len(list((tmp_path / "out" / "results").rglob("*.json"))) == FILES


def test_another_folder_for_the_results_is_other_work(way: dict[str, str], tree: Path, tmp_path: Path) -> None:
    """The same files, for somebody else: measured again."""
    for out in "one", "two":
        done = produce("produce_files", "--out", str(tmp_path / out), str(tree), **way)
        assert done.stdout.endswith("duplicates=0\n"), done.stderr


@pytest.mark.parametrize("module", ["produce_files", "produce_report", "produce_mail"])
def test_one_key_alone_is_refused(module: str, tmp_path: Path) -> None:
    """Without the broker's public key the secret one would be of no use: said, and nothing is sent."""
    words = ["--smtp-port", "1", "ada@example.org"] if module == "produce_mail" else ["--files", "1"]
    done = produce(module, "--endpoint", "tcp://127.0.0.1:1", "--key", str(tmp_path / "k"), *words)
    assert done.returncode == 1
    assert done.stderr.startswith("--key and --broker-key go together")
