"""One run of the compose file: a project of its own, whose containers, network and volumes go when it ends."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.compose.engine import compose, copy, docker, inspect, log, run
from tests.compose.image import Image

WITNESSED: Final = Path(__file__).with_name("witnessed.yml")
_PATIENCE_S: Final = 120.0  # what waits so long, hangs
_numbers = itertools.count(1)


class Stack:
    """A project of Compose. `overrides` are files that are read after the product's own; `words` are what they ask."""

    def __init__(self, image: Image, *overrides: Path, **words: str) -> None:
        self.image = image
        self.project = f"turnstile-test-{os.getpid()}-{next(_numbers)}"
        self._environment = {**image.environment, **words}
        files = [image.folder / "docker-compose.yml", *overrides]
        self._command = [*compose(), "-p", self.project, *(word for file in files for word in ("-f", str(file)))]

    def compose(self, *words: str) -> str:
        """`docker compose …`, of this project."""
        return run(*self._command, *words, environment=self._environment)

    def up(self, *words: str) -> None:
        """Start these services, and what they depend on; returns when all of them have been started."""
        self.compose("up", "--detach", "--no-build", *words)

    def down(self) -> None:
        """Leave nothing of it."""
        self.compose("down", "--volumes", "--timeout", "0")

    def containers(self, service: str) -> list[str]:
        """Ids of its containers, running or not, in the order of their numbers."""
        label = "label=com.docker.compose"
        found = docker(
            "ps", "--all", "--quiet", "--no-trunc",
            "--filter", f"{label}.project={self.project}", "--filter", f"{label}.service={service}",
        ).split()  # fmt: skip
        return sorted(
            found, key=lambda one: int(inspect(one)["Config"]["Labels"]["com.docker.compose.container-number"])
        )

    def container(self, service: str) -> str:
        """The id of its only container."""
        (found,) = self.containers(service)
        return found

    @property
    def broker(self) -> str:
        """Its container."""
        return self.container("broker")

    @property
    def network(self) -> str:
        """The network that all of them share."""
        return f"{self.project}_default"

    def stats(self) -> dict[str, Any]:
        """What the broker says, asked in its own container."""
        found = json.loads(docker("exec", self.broker, "turnstile-producer", "stats", "--json"))
        assert isinstance(found, dict)
        return found

    def reports(self) -> list[dict[str, int | str]]:
        """The report lines of all lives of the broker, as maps; numbers as numbers."""
        lines = re.findall(r"^turnstile stopped (.*)$", log(self.broker), re.MULTILINE)
        words = [dict(word.split("=", 1) for word in line.split()) for line in lines]
        return [{key: int(value) if value.isdigit() else value for key, value in one.items()} for one in words]

    def stop_broker(self) -> int:
        """`docker stop`, with the grace that the file gives; its exit code."""
        docker("stop", self.broker)
        return exit_code(self.broker)

    def history(self, folder: Path) -> Path:
        """What the witnesses in the containers wrote so far, copied to the folder."""
        return copy(self.broker, "/reports", folder)


def exit_code(container: str) -> int:
    """When it has ended."""
    return int(docker("wait", container))


def is_healthy(container: str) -> bool:
    """By its health check."""
    return bool(inspect(container)["State"]["Health"]["Status"] == "healthy")


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for it; `AssertionError` if it never comes."""
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)
