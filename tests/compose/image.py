"""The image, built by Compose from a copy of what is needed.

Where a registry answers, it is built as everybody builds it. Where none does, the base is a small Debian that is made
here, and packages are wheels that are fetched here: what the Dockerfile's arguments are for.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.compose.engine import compose, docker, has_image, run

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "turnstile-test"
_STOCK_BASE: Final = "python:3.13-slim"
_LOCAL_BASE: Final = "turnstile-test-base"  # kept: it takes minutes to make
_SUITE: Final = "bookworm"
_NOT_NEEDED: Final = ("var/lib/apt/lists/*", "var/cache/*", "usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*")
#: The C library of a wheel that the local base can load: glibc 2.17 to 2.36.
_PLATFORMS: Final = tuple(f"manylinux_2_{minor}_{platform.machine()}" for minor in range(17, 37))


@dataclass(frozen=True)
class Image:
    """A built image, and the folder that it was built in."""

    name: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """For Compose, so that it takes this image."""
        return {**os.environ, "TURNSTILE_IMAGE": self.name, "TURNSTILE_TESTS": str(ROOT / "tests")}


def build(folder: Path) -> Image:
    """Build the image, in this folder."""
    for name in ("Dockerfile", ".dockerignore", "docker-compose.yml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, folder)
    for name in ("broker", "worker_host", "producer", "demo"):
        shutil.copytree(ROOT / name, folder / name)
    image = Image(NAME, folder)
    arguments = []
    if not _registry_answers():
        base = _local_base()
        _fetch_wheels(base, folder / "wheels")
        arguments = ["--build-arg", f"BASE={base}", "--build-arg", "PIP_NO_INDEX=1"]
    command = [*compose(), "-f", str(folder / "docker-compose.yml"), "-p", NAME, "build", *arguments, "keys"]
    run(*command, environment=image.environment)
    return image


def _registry_answers() -> bool:
    if has_image(_STOCK_BASE):
        return True
    return subprocess.run(("docker", "pull", "-q", _STOCK_BASE), capture_output=True, check=False).returncode == 0


def _local_base() -> str:
    """A Debian with Python, made from packages; only root can."""
    if has_image(_LOCAL_BASE):
        return _LOCAL_BASE
    assert shutil.which("debootstrap"), "no registry answers, and debootstrap is not installed: a base cannot be made"
    with tempfile.TemporaryDirectory() as place:
        packages = "--include=python3,python3-venv,ca-certificates"
        run("debootstrap", "--variant=minbase", packages, _SUITE, place)
        left_out = [f"--exclude=./{path}" for path in _NOT_NEEDED]
        archive = f"{place}.tar"
        try:
            run("tar", "-C", place, *left_out, "-cf", archive, ".")
            docker("import", archive, _LOCAL_BASE)
        finally:
            Path(archive).unlink(missing_ok=True)
    return _LOCAL_BASE


def _fetch_wheels(base: str, folder: Path) -> None:
    """What the project needs, for the base's Python."""
    version = docker("run", "--rm", base, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["demo"],
    ]
    platforms = [word for one in _PLATFORMS for word in ("--platform", one)]
    where = ["--dest", str(folder), "--only-binary=:all:", "--python-version", version, *platforms]
    run(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *where, *needed)
