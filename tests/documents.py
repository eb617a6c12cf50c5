"""Reads a document's tables and examples, so that tests can hold the program to them.

It knows nothing of the program.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DOCS: Final = Path(__file__).parents[1] / "docs"
_FENCE: Final = re.compile(r"(?P<before>(?:[^\n]+\n)+)\n```(?P<kind>\w+)\n(?P<hex>[0-9a-f\s]+)```")
_CODE: Final = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Example:
    """A hexadecimal example, and the text beside it that says what it is."""

    kind: str
    text: str
    data: bytes


class Page:
    """One Markdown document."""

    def __init__(self, name: str) -> None:
        self.text = (DOCS / name).read_text(encoding="utf-8")

    def examples(self) -> list[Example]:
        """All hexadecimal examples, in order; their text is the first map in the paragraph right before."""
        found = []
        for one in _FENCE.finditer(self.text):
            (text, *_) = [code for code in codes(one["before"]) if code.startswith("{")]
            found.append(Example(one["kind"], text, bytes.fromhex(one["hex"])))
        return found

    def fences(self) -> list[str]:
        """The kind of each fenced block, in order."""
        return re.findall(r"^```(\w+)$", self.text, re.MULTILINE)

    def section(self, title: str) -> str:
        """The text under this heading, up to the next one of its rank or above; AssertionError if there is none."""
        match = re.search(rf"^(#+) {re.escape(title)}\n", self.text, re.MULTILINE)
        assert match, f"no section is called {title!r}"
        rest = self.text[match.end() :]
        end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest

    def table(self, title: str, first_column: str) -> list[dict[str, str]]:
        """The rows of the table in this section whose first column has this head, each by its columns' heads."""
        lines = self.section(title).splitlines()
        for index, line in enumerate(lines):
            heads = _cells(line)
            if heads[:1] == [first_column] and lines[index + 1].startswith("|---"):
                rows = []
                for row in lines[index + 2 :]:
                    if not row.startswith("|"):
                        break
                    rows.append(dict(zip(heads, _cells(row), strict=True)))
                return rows
        raise AssertionError(f"section {title!r} has no table of {first_column!r}")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []


def codes(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return _CODE.findall(cell)


def numbers(cell: str) -> list[int]:
    """The whole numbers in a cell, in their order; 65,536 is one."""
    return [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", cell)]


def notation(text: str, **names: object) -> Any:
    """The value that `{v: 1, op: "ping"}` stands for; a bare word on a value's place is one of `names`."""
    quoted = re.sub(r"([{,]\s*)(\w+):", r'\1"\2":', text)
    for name, value in names.items():
        quoted = re.sub(rf"\b{name}\b", repr(value).replace("\\", r"\\"), quoted)
    return ast.literal_eval(quoted)
