"""The commands of the README and of the tour do what the text beside them says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.broker_process import BrokerProcess
from tests.e2e.conftest import StartBroker
from tests.e2e.raw import Raw

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TOUR = (ROOT / "docs" / "tour.md").read_text()
PACKAGES = ("broker", "producer", "worker_host")


def typed(command: str, broker: BrokerProcess, folder: Path) -> str:
    """What a command of the documents prints, when it is typed in `folder` with the broker that the test started."""
    command = command.replace(".venv/bin/python", sys.executable)
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env={
            **os.environ,
            "TURNSTILE_ENDPOINT": broker.endpoint,
            "TURNSTILE_OPERATOR": str(folder / "door"),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def read_on_the_tour() -> set[str]:
    """The files of the code that it names."""
    return set(re.findall(r"`((?:broker|producer|worker_host)/\w+\.py)`", TOUR))


def stop_of_the_tour(number: int) -> list[str]:
    """The commands for the second terminal at that stop, a line each."""
    section = re.search(rf"^## {number}\. .*?(?=^## |\Z)", TOUR, re.MULTILINE | re.DOTALL)
    assert section is not None
    blocks: list[str] = re.findall(r"```terminal-2\n(.*?)```", section[0], re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.fixture
def lessons(start_broker: StartBroker, tmp_path: Path) -> BrokerProcess:
    """The broker of the tour's first terminal."""
    block = re.search(r"```terminal-1\n\S+ -m broker --tasks (\S+) (.*)\n```", TOUR)
    assert block is not None
    return start_broker(*block[2].split(), "--operator", str(tmp_path / "door"), tasks=block[1])


def test_the_readme_works_as_typed(start_broker: StartBroker, tmp_path: Path) -> None:
    """The module, the broker, the command line and the producer scripts of the README, as they stand there."""
    module, *scripts = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "jobs.py").write_text(module)
    assert ".venv/bin/python -m broker --tasks jobs " in README
    broker = start_broker(tasks="jobs", environment={"PYTHONPATH": f"{ROOT}:{tmp_path}"})
    (submit,) = re.findall(r"^    (\S+ -m producer submit .*?)  +#", README, re.MULTILINE)
    assert "accepted" in typed(submit, broker, tmp_path)
    for script in scripts:
        script = script.replace("Producer(", f"Producer({broker.endpoint!r}, ").replace("delay_s=5", "delay_s=0.5")
        (tmp_path / "script.py").write_text(script)
        assert typed(".venv/bin/python script.py", broker, tmp_path) == ""
    with Raw(broker.endpoint) as raw:
        raw.wait_for(succeeded=5)
    assert broker.output.count("HELLO Ada") == 2
    assert all(broker.output.count(f"hello {name}") == 1 for name in ("Ada", "Bob", "Eve"))
    assert "succeeded" in typed(".venv/bin/python -m producer stats", broker, tmp_path)


def test_every_promise_of_the_tour_has_its_test() -> None:
    """Each test and each file that the tour names exists."""
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TOUR):
        assert f"def {name}" in (ROOT / path).read_text(), f"{path}::{name}"
    assert all((ROOT / path).exists() for path in read_on_the_tour())


def test_the_tour_is_as_long_as_it_says() -> None:
    """Its files, and all of the code, have about as many lines as tour and README say."""
    everything = {str(path.relative_to(ROOT)) for folder in PACKAGES for path in (ROOT / folder).glob("*.py")}
    assert read_on_the_tour() <= everything
    read, total = (
        sum(len((ROOT / path).read_text().splitlines()) for path in paths) for paths in (read_on_the_tour(), everything)
    )
    said = re.search(r"([\d,]+) lines of the\s+code's ([\d,]+)", TOUR)
    assert said is not None
    assert f"names, {said[1]} lines," in README
    assert [int(number.replace(",", "")) for number in said.groups()] == pytest.approx([read, total], rel=0.05)


def test_stop_1_producer_and_consumer(lessons: BrokerProcess, tmp_path: Path) -> None:
    """A submitted greeting is accepted, and appears in the broker's terminal."""
    (greet,) = stop_of_the_tour(1)
    assert "accepted" in typed(greet, lessons, tmp_path)
    with Raw(lessons.endpoint) as raw:
        raw.wait_for(succeeded=1)
    assert "hello, Ada" in lessons.output


def test_stop_2_workers(lessons: BrokerProcess, tmp_path: Path) -> None:
    """Two naps keep both workers busy."""
    *naps, stats = stop_of_the_tour(2)
    for nap in naps:
        typed(nap, lessons, tmp_path)
    assert re.search(r"running\s+2", typed(stats, lessons, tmp_path))


def test_stop_3_retry(lessons: BrokerProcess, tmp_path: Path) -> None:
    """Three attempts are seen in the broker's terminal, and the task has succeeded."""
    submit, status = stop_of_the_tour(3)
    typed(submit, lessons, tmp_path)
    with Raw(lessons.endpoint) as raw:
        raw.wait_for(succeeded=1)
    assert "succeeded" in typed(status, lessons, tmp_path)
    assert re.findall(r"attempt (\d) of third-time-lucky", lessons.output) == ["1", "2", "3"]


def test_stop_4_failure(lessons: BrokerProcess, tmp_path: Path) -> None:
    """The dead letter tells why; requeued by the operator, the task dies once more."""
    submit, dead, requeue = stop_of_the_tour(4)
    typed(submit, lessons, tmp_path)
    with Raw(lessons.endpoint) as raw:
        raw.wait_for(dead=1)
        assert "no such customer" in typed(dead, lessons, tmp_path)
        assert typed(requeue, lessons, tmp_path) == "order-17: requeued\n"
        assert raw.wait_for(dead=1)["requeued"] == 1
    assert "order-17" in typed(".venv/bin/python -m broker dead list", lessons, tmp_path)


def test_stop_5_delivery(lessons: BrokerProcess, tmp_path: Path) -> None:
    """The second submit is a duplicate, and there is one greeting."""
    first, second = stop_of_the_tour(5)
    assert "duplicate" not in typed(first, lessons, tmp_path)
    assert "duplicate" in typed(second, lessons, tmp_path)
    with Raw(lessons.endpoint) as raw:
        raw.wait_for(succeeded=1)
    assert lessons.output.count("hello, Ada") == 1


def test_stop_6_backpressure(lessons: BrokerProcess, tmp_path: Path) -> None:
    """Of six naps four are accepted; two are rejected, with the seconds to wait: a guess, and more when asked again."""
    (naps,) = stop_of_the_tour(6)
    said = typed(naps.replace("nap 5", "nap 30"), lessons, tmp_path)  # longer, so that none ends on a slow machine
    assert len(re.findall(r"\baccepted\b", said)) == 4
    assert len(re.findall(r"\brejected\b.*\bfull\b", said)) == 2
    guess, second, *later = map(float, re.findall(r"retry_after=([\d.]+)", said + typed(naps, lessons, tmp_path)))
    assert guess == 0.1 <= second  # the guess once more, where a tenth of a second has not passed since
    assert len(later) == 6
    assert all(one > guess for one in later)
    assert second < later[-1]


def test_stop_9_limits(lessons: BrokerProcess, start_broker: StartBroker, tmp_path: Path) -> None:
    """A crash in a child host ends in a dead letter; after a kill of the broker nobody knows the task."""
    crash, dead, nap, kill, status = stop_of_the_tour(9)
    typed(crash, lessons, tmp_path)
    with Raw(lessons.endpoint) as raw:
        raw.wait_for(dead=1)
    assert "crashed after 2 attempts" in typed(dead, lessons, tmp_path)
    assert lessons.says("killed by SIGSEGV")
    typed(nap, lessons, tmp_path)
    pattern = re.search(r"pgrep -f '(.+)'", kill)
    assert pattern is not None
    broker, *children = [psutil.Process(lessons.pid), *psutil.Process(lessons.pid).children()]
    assert pattern[1] in " ".join(broker.cmdline())
    assert not any(pattern[1] in " ".join(child.cmdline()) for child in children)
    endpoint = lessons.endpoint
    lessons.end()
    again = start_broker("--endpoint", endpoint, tasks="demo.lessons")
    assert "unknown" in typed(status, again, tmp_path)
