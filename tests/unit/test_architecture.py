"""The house's rules, on the real tree; and each on a small tree that breaks it, so that a silent rule is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.architecture import (
    PACKAGES,
    PURE_CORE,
    ZMQ_OWNERS,
    Sources,
    arrows_against_the_wind,
    cycles,
    hands_on_the_process,
    impurities,
    sources,
    strangers_at_sockets,
    too_long,
    unexplained,
)

TREE = sources(*PACKAGES)
Rule = Callable[[Sources], list[str]]


@pytest.mark.parametrize(
    "rule",
    [arrows_against_the_wind, impurities, strangers_at_sockets, cycles, too_long, hands_on_the_process, unexplained],
)
def test_real_tree_keeps_the_rule(rule: Rule) -> None:
    """No violation in any package."""
    assert rule(TREE) == []


def test_tests_and_benchmarks_are_short_and_explained_too() -> None:
    """No module over 400 lines anywhere, and none without a docstring."""
    others = sources("tests", "benchmarks")
    assert too_long(others) == []
    assert unexplained(others) == []


def test_real_tree_is_there() -> None:
    """The rules look at the modules they name: a renamed one does not slip away."""
    assert set(PACKAGES) <= set(TREE) | {name.partition(".")[0] for name in TREE}
    assert set(TREE) >= PURE_CORE
    assert set(TREE) >= ZMQ_OWNERS


@pytest.mark.parametrize(
    ("module", "source", "violation"),
    [
        ("producer.x", "from broker.queue import MemoryQueue", "broker.queue"),
        ("producer.x", "import broker.settings", "broker.settings"),
        ("producer.x", "import broker", "broker"),
        ("producer.x", "def f():\n    from worker_host.tasks import DECLARATION", "worker_host.tasks"),
        ("worker_host.x", "import msgpack", "msgpack"),
        ("worker_host.x", "from broker.protocol import unpack", "broker.protocol"),
        ("worker_host.x", "if TYPE_CHECKING:\n    from broker.queue import Lease", "broker.queue"),
        ("broker.door", "from worker_host.threads import ThreadHost", "worker_host.threads"),
        ("broker.admission", "from worker_host.signature import Signature", "worker_host.signature"),
        ("broker.x", "from producer import Producer", "producer"),
        ("broker.x", "import demo.tasks", "demo.tasks"),
        ("demo.x", "from broker.queue import MemoryQueue", "broker.queue"),
        ("demo.x", "from producer.channel import Channel", "producer.channel"),
    ],
)
def test_arrow_against_the_wind_is_seen(module: str, source: str, violation: str) -> None:
    """An import that points the wrong way, wherever it hides."""
    assert arrows_against_the_wind({module: source}) == [f"{module} imports {violation}"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("producer.x", "from broker.protocol import pack"),
        ("worker_host.x", "import asyncio\nfrom worker_host.tasks import task"),
        ("broker.supervisor", "from worker_host.threads import ThreadHost"),
        ("broker.admission", "from worker_host.tasks import TaskFunction"),
        ("broker.x", "import msgpack"),
        ("demo.x", "from producer import Producer\nfrom worker_host import task"),
    ],
)
def test_arrow_with_the_wind_is_passed(module: str, source: str) -> None:
    """The imports that the house is built on."""
    assert arrows_against_the_wind({module: source}) == []


@pytest.mark.parametrize(
    "source",
    ["import threading", "from time import monotonic", "def f():\n    import random", "import os.path", "import zmq"],
)
def test_impurity_of_the_core_is_seen(source: str) -> None:
    """A clock, a thread or a socket in the pure core; elsewhere it is no violation."""
    assert len(impurities({"broker.queue": source})) == 1
    assert impurities({"broker.supervisor": source}) == []


def test_stranger_at_a_socket_is_seen() -> None:
    """`zmq` in a module that owns no socket, also by its asyncio part."""
    assert strangers_at_sockets({"broker.queue": "import zmq"}) == ["broker.queue imports zmq"]
    assert strangers_at_sockets({"producer.batch": "from zmq.asyncio import Context"}) == ["producer.batch imports zmq"]
    assert strangers_at_sockets({"broker.door": "import zmq"}) == []


def test_cycle_is_seen() -> None:
    """A circle of two, of three, through a package, or hidden in a function; but no circle of types alone."""
    assert cycles({"a": "import b", "b": "import a"}) == ["a → b → a"]
    assert cycles({"a": "import b", "b": "import c", "c": "def f():\n    import a"}) == ["a → b → c → a"]
    assert cycles({"p": "from p.a import x", "p.a": "from p import x"}) == ["p → p.a → p"]
    assert cycles({"p": "", "p.a": "from . import b", "p.b": "from .a import x"}) == ["p.a → p.b → p.a"]
    assert cycles({"a": "import b", "b": "if TYPE_CHECKING:\n    import a"}) == []
    assert cycles({"a": "import b\nimport c", "b": "import c", "c": ""}) == []


def test_long_module_is_seen() -> None:
    """At 401 lines."""
    assert too_long({"a": "\n" * 400, "b": "\n" * 401}) == ["b has 401 lines"]


@pytest.mark.parametrize(
    "source",
    ["import os\nx = os.environ['X']", "import os\nos.getenv('X')", "import sys\nsys.exit(1)",
     "import sys\nprint(sys.argv)",
     "import os\ndef f():\n    os._exit(1)", "from sys import exit", "from os import environ as e"],
)  # fmt: skip
def test_hand_on_the_process_is_seen(source: str) -> None:
    """The environment, the arguments or an exit, in a module that is no program."""
    assert len(hands_on_the_process({"broker.door": source})) == 1
    assert hands_on_the_process({"broker.__main__": source}) == []


def test_entry_block_of_a_script_may_exit() -> None:
    """What stands under `if __name__ == "__main__"` is the program, the rest of the module is not."""
    block = 'if __name__ == "__main__":\n    sys.exit(main())'
    assert hands_on_the_process({"demo.x": block}) == []
    assert hands_on_the_process({"demo.x": "sys.exit(0)\n" + block}) == ["demo.x uses sys.exit"]


def test_unexplained_module_is_seen() -> None:
    """Code without a docstring; an empty file has nothing to explain."""
    assert unexplained({"a": "x = 1", "b": '"""Why."""\nx = 1', "c": "\n"}) == ["a"]
