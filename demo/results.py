"""What the tasks of the demo leave behind: one JSON file for each source file and one for each package.

A task may run more than once (at-least-once delivery), so a result has a name that depends on the work alone, and is
put in place in one step. A second run writes the same file again, and nobody ever reads half of one. Knows no queue.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileResult:
    """What one source file holds. `error` says why it does not parse; the counts are 0 then."""

    path: str  #: below the directory that was read
    size_bytes: int
    lines: int
    blank: int = 0  #: lines of white space only
    functions: int = 0  #: methods and nested functions too
    documented: int = 0  #: so many of them have a docstring
    classes: int = 0
    longest: int = 0  #: lines of the longest function, without its decorators
    longest_name: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class PackageResult:
    """The sums over one package's files."""

    package: str
    files: int
    lines: int
    functions: int
    documented: int
    classes: int
    longest: int  #: lines of the longest function
    longest_name: str  #: path and name of it
    file_lines: list[int] = field(default_factory=list)  #: lines of each file that parses
    unparsable: list[list[str]] = field(default_factory=list)  #: [path, reason] of each file that does not


class Results:
    """The result files below one folder, which is made when the first one is written."""

    def __init__(self, folder: str) -> None:
        self._files = Path(folder) / "results"
        self._packages = Path(folder) / "packages"

    def put_file(self, result: FileResult) -> None:
        """Keep the result of one source file, in place of an earlier one."""
        _put(self._files / f"{result.path}.json", asdict(result))

    def put_package(self, result: PackageResult) -> None:
        """Keep the result of one package, in place of an earlier one."""
        _put(self._packages / f"{result.package}.json", asdict(result))

    def files_of(self, package: str) -> list[FileResult]:
        """The results of the package's files that are there so far, by path."""
        found = self._files.glob("*.json") if package == SINGLE_MODULES else (self._files / package).rglob("*.json")
        return [FileResult(**json.loads(path.read_bytes())) for path in sorted(found)]

    def packages(self) -> list[PackageResult]:
        """The results of all packages that are there so far, the largest first."""
        found = [PackageResult(**json.loads(path.read_bytes())) for path in self._packages.glob("*.json")]
        return sorted(found, key=lambda result: (-result.lines, result.package))


#: The package of the files that lie directly in the directory.
SINGLE_MODULES = "(single modules)"


def package_of(path: str) -> str:
    """The package that a source file belongs to: the first part of its path."""
    first, slash, _ = path.partition("/")
    return first if slash else SINGLE_MODULES


def put_bytes(path: Path, content: bytes) -> None:
    """Write a file durably and in one step: whoever reads it finds the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each writer: two runs of one task may overlap, when a lost worker was not quite dead.
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _put(path: Path, content: object) -> None:
    put_bytes(path, json.dumps(content, indent=1).encode())
