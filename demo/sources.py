"""Which files the demo works on: the Python files of a directory tree, and two broken ones that it writes itself."""

from __future__ import annotations

import os
import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from demo.results import package_of

#: The folder, and so the package, of the files that are broken on purpose. The report says so.
PLANTED = "planted_by_the_demo"
_PLANTED_FILES = {
    "invalid_syntax.py": b"# Written by the demo: not valid syntax, on purpose.\ndef turnstile(:\n    pass\n",
    "not_utf8.py": b"# Written by the demo: not UTF-8, on purpose.\ngreeting = 'gr\xfc\xdf dich'\n",
}


@dataclass(frozen=True, slots=True)
class Source:
    """One file to be measured."""

    directory: str
    path: str  #: below the directory, with slashes


def standard_library() -> Path:
    """The running interpreter's own standard library: thousands of real files, on every machine."""
    return Path(sysconfig.get_path("stdlib"))


def plant(folder: Path) -> Path:
    """Write the broken files below `folder`: a tree without a mistake should have a dead letter to show too."""
    for name, content in _PLANTED_FILES.items():
        path = folder / PLANTED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def sources(directories: list[Path], at_most: int | None = None) -> list[Source]:
    """The Python files of the directories, in an order that is the same each time.

    At most `at_most` of each directory, spread over it evenly. Installed packages and hidden folders are left out.
    """
    found: list[Source] = []
    for directory in directories:
        paths = sorted(_paths(directory))
        step = max(1.0, len(paths) / at_most) if at_most else 1.0
        found += [Source(str(directory), paths[int(i * step)]) for i in range(int(len(paths) / step))]
    return found


def packages(files: list[Source]) -> dict[str, int]:
    """How many of the files each package has."""
    return dict(Counter(package_of(file.path) for file in files))


def _paths(directory: Path) -> list[str]:
    found = []
    for folder, below, names in os.walk(directory):
        below[:] = [name for name in below if name not in {"__pycache__", "site-packages"} and not name.startswith(".")]
        found += [(Path(folder) / name).relative_to(directory).as_posix() for name in names if name.endswith(".py")]
    return found
