"""The container engine of this machine, as its command lines offer it: docker, and either Compose."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

#: Nothing here takes a fraction of it; who waits so long, hangs.
_LONGEST_S: Final = 600


def run(*words: str, environment: Mapping[str, str] | None = None) -> str:
    """What the command prints; `AssertionError` with all that it said, if it fails."""
    done = subprocess.run(
        words, capture_output=True, text=True, errors="replace", timeout=_LONGEST_S, check=False, env=environment
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


def docker(*words: str) -> str:
    """`docker …`."""
    return run("docker", *words)


@functools.cache
def compose() -> tuple[str, ...]:
    """How Compose is called here: v2 is a command of docker's, 1.29 a program of its own."""
    is_plugin = subprocess.run(("docker", "compose", "version"), capture_output=True, check=False).returncode == 0
    return ("docker", "compose") if is_plugin else ("docker-compose",)


def inspect(container: str) -> dict[str, Any]:
    """All that the engine knows of a container."""
    (found,) = json.loads(docker("inspect", container))
    assert isinstance(found, dict)
    return found


def log(container: str) -> str:
    """What it wrote to standard output."""
    return docker("logs", container)


def copy(container: str, path: str, to: Path) -> Path:
    """A copy of what a folder of the container holds, whether it runs or not."""
    docker("cp", f"{container}:{path}/.", str(to))
    return to


def has_image(name: str) -> bool:
    """Whether it is on this machine."""
    return bool(docker("image", "ls", "--quiet", name))
