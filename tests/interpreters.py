"""Prints the path of each CPython from 3.11 that is found here, one a version, without the running one's version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_PROBE = "import sys; print(sys.implementation.name, *sys.version_info[:2])"


def found() -> dict[tuple[int, int], str]:
    """(major, minor) → path of an interpreter that really starts."""
    named = [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"  # its shims may lead nowhere
    interpreters: dict[tuple[int, int], str] = {}
    for path in [*filter(None, named), *map(str, sorted(pyenv.glob("3.1[1-9].*/bin/python")))]:
        try:
            answer = subprocess.run([path, "-c", _PROBE], capture_output=True, text=True, timeout=20, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        name, major, minor = answer.stdout.split()
        if name == "cpython":
            interpreters.setdefault((int(major), int(minor)), path)
    return interpreters


if __name__ == "__main__":
    for version, path in sorted(found().items()):
        if (3, 11) <= version != sys.version_info[:2]:
            print(path)
