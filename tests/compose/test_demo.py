"""`docker compose up`: the demo, from first start to last line, in containers that can do little else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.engine import copy, docker, inspect, log, run
from tests.compose.image import Image
from tests.compose.stack import Stack, exit_code, is_healthy, until

SERVICES = ("keys", "broker", "mail", "files", "report", "mailing", "ledger")


def numbers(text: str) -> dict[str, int]:
    """The `name=number` pairs of a line."""
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", text)}


def ledger_of(text: str) -> dict[str, int]:
    """The ledger in what `stats` prints."""
    section = text.partition("ledger\n")[2].partition("retries")[0]
    return {name: int(number.replace(",", "")) for name, number in re.findall(r"(\w+) +([\d,]+)", section)}


def balances(ledger: dict[str, int]) -> bool:
    """Every accepted task is in one state."""
    return ledger["accepted"] == sum(number for name, number in ledger.items() if name != "accepted") > 0


def each_file_is_one_task(stack: Stack, producers: int) -> None:
    """All producers had all files accepted; the broker has them once, beside the sums, the report and two mails.

    What was told of a task the second time is `duplicate`, to its only producer too, whose reply came late.
    """
    said = [numbers(log(one)) for one in stack.containers("files")]
    assert len(said) == producers
    (files,) = {one["submitted"] for one in said}
    assert {one["accepted"] for one in said} == {files}
    assert sum(one["duplicates"] for one in said) >= files * (producers - 1) > 0
    sums_and_report = numbers(log(stack.container("report")))["succeeded"]
    assert ledger_of(log(stack.container("ledger")))["accepted"] == files + sums_and_report + 2


@pytest.fixture(scope="module")
def demo(image: Image) -> Iterator[Stack]:
    """The demo, at its end: all has been done, and the broker and the mail server are still there."""
    stack = Stack(image)
    try:
        stack.up()
        assert exit_code(stack.container("ledger")) == 0
        yield stack
    finally:
        stack.down()


def test_demo_ends_well_with_a_ledger_that_balances(demo: Stack) -> None:
    """Every producer has done what it was to do; nothing is held any more, and no task came to an odd end."""
    for service in set(SERVICES) - {"broker", "mail"}:
        assert [exit_code(one) for one in demo.containers(service)] == [0] * (2 if service == "files" else 1), service
    ledger = ledger_of(log(demo.container("ledger")))
    assert balances(ledger)
    assert ledger["accepted"] == ledger["succeeded"] + ledger["dead"]


def test_two_producers_submit_the_same_files_and_each_is_measured_once(demo: Stack) -> None:
    """What one submitted is `duplicate` for the other; the ledger has each file once, and the rest."""
    each_file_is_one_task(demo, producers=2)


def test_report_and_mail_are_there(demo: Stack, tmp_path: Path) -> None:
    """A page with two plots, in the volume; and in two mails, which were put off at first."""
    reports = copy(demo.broker, "/reports", tmp_path)
    assert (reports / "report.html").read_text(encoding="utf-8").count("<svg") == 2
    assert len(list((reports / "mail" / "new").glob("*.eml"))) == 2
    assert log(demo.container("mail")).count("put off recipient=") == 2


def test_containers_can_do_little(demo: Stack) -> None:
    """No root, no capability, no way to get one, a read-only root file system; the broker's memory is bound."""
    for service in SERVICES:
        for container in demo.containers(service):
            found = inspect(container)
            host = found["HostConfig"]
            assert found["Config"]["User"] == "turnstile"
            assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
            assert host["SecurityOpt"] == ["no-new-privileges:true"]
            assert host["PortBindings"] in ({}, None)
    host = inspect(demo.broker)["HostConfig"]
    assert (host["Memory"], host["RestartPolicy"]["Name"]) == (512 * 2**20, "unless-stopped")


def test_a_process_inside_has_no_more_than_that(demo: Stack) -> None:
    """The kernel's word, and a try."""
    tried = "id -u; grep -E '^(CapBnd|CapEff|NoNewPrivs)' /proc/self/status; touch /here || touch /tmp/t && echo tmp"
    seen = docker("exec", demo.broker, "sh", "-c", tried).split()
    assert seen == ["10001", "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1", "tmp"]


def test_image_has_nothing_but_what_runs(image: Image) -> None:
    """No compiler, and in the environment no installer."""
    found = "for one in gcc cc g++ c++ clang make; do command -v $one; done; ls /turnstile/bin"
    programs = docker("run", "--rm", image.name, "sh", "-c", found).split()
    assert {"turnstile-broker", "turnstile-producer"} <= set(programs)
    assert not {one for one in programs if "/" in one or one.startswith("pip")}


def test_a_producer_has_its_own_key_and_no_other(demo: Stack) -> None:
    """Two files, read-only: its secret key, which nobody else can read, and the broker's public one."""
    seen = demo.compose(
        "run", "--rm", "-T", "files", "sh", "-c", "stat -c '%n %a %u' /keys/*; touch /keys/x || echo no"
    )
    assert seen.split("\n")[:3] == ["/keys/broker.public 644 10001", "/keys/demo.secret 600 10001", "no"]


def test_door_is_closed_to_who_has_no_key(demo: Stack, image: Image) -> None:
    """On the same network, and not let in: the same words with a key are answered."""
    words = ["turnstile-producer", "--timeout", "3", "--endpoint", "tcp://broker:5555", "ping"]
    assert demo.compose("run", "--rm", "-T", "files", *words).startswith("turnstile/")
    stranger = ["docker", "run", "--rm", "--network", demo.network, image.name]
    with pytest.raises(AssertionError, match=r"turnstile: "):
        run(*stranger, *words)


def test_operator_acts_from_inside(stack: Stack) -> None:
    """Without a key or a flag: a pause is seen in the health, and taken back."""
    stack.up("broker")
    until(lambda: is_healthy(stack.broker), "it answers")
    docker("exec", stack.broker, "turnstile-broker", "pause")
    assert stack.stats()["health"]["state"] == "degraded"
    docker("exec", stack.broker, "turnstile-broker", "resume")
    assert stack.stats()["health"]["state"] == "ok"


def test_ten_producers_and_a_broker_that_drains(stack: Stack) -> None:
    """`--scale files=10`: ten submit every file, each is measured once. Then SIGTERM: exit code 0, and a last line that
    balances."""
    stack.up("--scale", "files=10")
    assert exit_code(stack.container("ledger")) == 0
    each_file_is_one_task(stack, producers=10)
    assert stack.stop_broker() == 0
    (report,) = stack.reports()
    assert report.pop("outcome") == "finished"
    assert report["accepted"] == int(report["succeeded"]) + int(report["dead"]) > 0


def test_second_start_finds_the_keys_of_the_first(stack: Stack) -> None:
    """They are made once: who holds a copy is let in after a restart of everything."""
    stack.up("broker")
    keys = docker("exec", stack.broker, "cat", "/keys/broker.public", "/keys/producers/demo.public")
    stack.compose("down", "--timeout", "20")
    stack.up("broker")
    assert docker("exec", stack.broker, "cat", "/keys/broker.public", "/keys/producers/demo.public") == keys


def test_a_broker_that_is_killed_comes_back(stack: Stack, image: Image) -> None:
    """Killed by the machine, and not by an operator: it is started again, and is healthy."""
    stack.up("broker")
    pid = inspect(stack.broker)["State"]["Pid"]
    kill = ["python", "-c", f"import os; os.kill({pid}, 9)"]
    docker("run", "--rm", "--pid", "host", "--user", "0", image.name, *kill)
    until(lambda: inspect(stack.broker)["RestartCount"] == 1, "the broker is started again")
    until(lambda: is_healthy(stack.broker), "it is healthy")
