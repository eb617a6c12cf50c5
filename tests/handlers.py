"""Whether the tests have gone every way through what the product does about faults; `make cover`.

From the syntax of a file, and what coverage.py saw of it in all processes of a test run, it says what was not seen of

- an `except`: that it was entered; that every statement in it was executed, and every branch in it taken every way;
- a `finally`: the same, and that it was gone through with an exception under way, and without one;
- a `with contextlib.suppress(…)`: that it was entered, and that it was left in the middle.

A `# pragma: no cover`, or `no branch`, is a gap too.

What coverage.py knows is which line followed which. So it cannot be told whether the last statement that is guarded
raised or not, where the next line is the same in both cases. That is so of a `suppress` around one statement, or with
something else that is entered in its own line, and of a `finally` that is followed by nothing, or has a `return` in
what it guards. Where nothing else was seen to raise, those are counted, as *untold*. Nor can it be told which of the
exceptions that a clause names was met, nor whether a branch within one line (`a if b else c`, `and`, `or`) went both
ways.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import coverage

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("broker", "producer", "worker_host")
_OUT: Final = -1  # of a function
_PRAGMA: Final = re.compile(r"#.*pragma:\s*no\s*(cover|branch)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Seen:
    """What coverage.py saw of one file."""

    missing: frozenset[int]  #: first lines of statements that were not executed
    partial: frozenset[int]  #: lines of branches that were not taken every way
    arcs: frozenset[tuple[int, int]]  #: line → next line; below 0: a function's beginning, or end


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler, and what was not seen of it."""

    line: int
    kind: str  #: `except`, `finally`, `suppress`, or `pragma`
    gaps: tuple[str, ...] = ()
    untold: bool = False  #: something that cannot be told


def handlers_of(source: str, seen: Seen) -> list[Handler]:
    """The handlers in a file."""
    file = _File(source, seen)
    found = [Handler(n, "pragma", (text,)) for n, line in enumerate(source.splitlines(), 1) for text in _pragmas(line)]
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ExceptHandler):
            found.append(Handler(node.lineno, "except", tuple(file.gaps_in(node.body))))
        elif isinstance(node, ast.Try) and node.finalbody:
            found.append(file.finally_of(node))
        elif isinstance(node, ast.With) and any(_is_suppress(item.context_expr) for item in node.items):
            found.append(file.suppress_of(node))
    return sorted(found, key=lambda one: one.line)


def _pragmas(line: str) -> Iterator[str]:
    if _PRAGMA.search(line):
        yield "it hides what is not covered"


def _is_suppress(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress"


class _File:
    """The syntax of a file, and what was seen of it."""

    def __init__(self, source: str, seen: Seen) -> None:
        self.tree = ast.parse(source)
        self._seen = seen
        self._parents = {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}
        # Statements of several lines are known by their first one; `walk` comes to the inner ones later.
        first: dict[int, int] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.stmt, ast.ExceptHandler)):
                first.update(dict.fromkeys(_span(node), node.lineno))
        self._arcs = {(first.get(a, a), first.get(b, b)) for a, b in seen.arcs}

    def gaps_in(self, body: list[ast.stmt]) -> Iterator[str]:
        """What was not seen of these statements."""
        if body[0].lineno in self._seen.missing:
            yield "never entered"
            return
        lines = _lines(body)
        if missing := sorted(lines & self._seen.missing):
            yield f"not executed: {_listed(missing)}"
        if partial := sorted(lines & self._seen.partial):
            yield f"a branch not taken every way: {_listed(partial)}"

    def finally_of(self, node: ast.Try) -> Handler:
        """What was seen of a `finally`."""
        line, lines = node.finalbody[0].lineno, _lines(node.finalbody)
        gaps = list(self.gaps_in(node.finalbody))
        if gaps == ["never entered"]:
            return Handler(line, "finally", tuple(gaps))
        entries = {a for a, b in self._arcs if b == line and a not in lines}
        exits = {b for a, b in self._arcs if a in lines and b not in lines}
        guarded = [*node.body, *node.orelse, *(one for handler in node.handlers for one in handler.body)]
        ends = (node.orelse or node.body)[-1:] + [handler.body[-1] for handler in node.handlers]
        leaving = set(_last_lines(ends)) | _jumps(guarded)
        onward, is_shared = self._onward(node, _jumps(guarded))
        went_on = {b for b in exits if b == onward or (onward == _OUT and b < 0)}
        raised = bool(entries - leaving) or (bool(went_on) and not is_shared)
        passed = bool(exits - went_on)
        untold = is_shared and bool(went_on) and bool(entries & leaving)
        if not raised and not untold:
            gaps.append("never with an exception under way")
        if not passed and not untold:
            gaps.append("never without an exception under way")
        return Handler(line, "finally", tuple(gaps), untold=untold and not (raised and passed))

    def suppress_of(self, node: ast.With) -> Handler:
        """What was seen of a block whose exceptions are suppressed."""
        gaps = list(self.gaps_in(node.body))
        before = _lines(node.body) - set(_last_lines(node.body[-1:]))
        was_left = any((line, node.lineno) in self._arcs for line in before)
        # What follows it in its own line is guarded too.
        untold = not before or not _is_suppress(node.items[-1].context_expr)
        if not gaps and not was_left and not untold:
            gaps.append("never left in the middle")
        return Handler(node.lineno, "suppress", tuple(gaps), untold=untold and not was_left)

    def _onward(self, node: ast.Try, jumps: set[int]) -> tuple[int, bool]:
        """The line where an exception goes on to, and whether what is none may go there as well."""
        inner: ast.AST = node
        is_last = True
        while not isinstance(outer := self._parents[inner], (ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)):
            if isinstance(outer, ast.Try) and outer.handlers and inner in outer.body:
                return outer.handlers[0].lineno, False
            if isinstance(outer, ast.With):
                return outer.lineno, bool(jumps) or (is_last and _is_last(inner, outer))
            if isinstance(outer, ast.Try) and outer.finalbody and inner not in outer.finalbody:
                return outer.finalbody[0].lineno, bool(jumps) or (is_last and _is_last(inner, outer))
            is_last = is_last and _is_last(inner, outer)
            inner = outer
        return _OUT, bool(jumps) or (is_last and _is_last(inner, outer))


def _is_last(inner: ast.AST, outer: ast.AST) -> bool:
    """Whether what follows `inner` is what follows `outer`."""
    blocks = [getattr(outer, name, [])[-1:] for name in ("body", "orelse", "handlers")]
    return not isinstance(outer, (ast.For, ast.While)) and any(inner in block for block in blocks)


def _span(node: ast.stmt | ast.ExceptHandler) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _lines(body: Iterable[ast.stmt]) -> frozenset[int]:
    """The first lines of all statements in `body`, at any depth."""
    inner = [node for one in body for node in ast.walk(one)]
    return frozenset(node.lineno for node in inner if isinstance(node, (ast.stmt, ast.ExceptHandler)))


def _last_lines(ends: Iterable[ast.stmt]) -> Iterator[int]:
    """The lines after which these statements may be over, without an exception."""
    for one in ends:
        if not isinstance(one, ast.Raise):
            yield one.lineno
        for name in ("body", "orelse", "finalbody"):
            yield from _last_lines(getattr(one, name, [])[-1:])
        for handler in getattr(one, "handlers", []):
            yield from _last_lines(handler.body[-1:])


def _jumps(body: Iterable[ast.AST], *, in_loop: bool = False) -> set[int]:
    """The lines of what leads out of these statements: `return`, and the `break` of a loop around them."""
    lines: set[int] = set()
    for node in body:
        if isinstance(node, ast.Return) or (isinstance(node, (ast.Break, ast.Continue)) and not in_loop):
            lines.add(node.lineno)
        lines |= _jumps(ast.iter_child_nodes(node), in_loop=in_loop or isinstance(node, (ast.For, ast.While)))
    return lines


def _listed(lines: Iterable[int]) -> str:
    return "line " + ", ".join(map(str, lines))


def seen_of(path: Path, measured: coverage.Coverage) -> Seen:
    """What a finished measurement saw of a file."""
    _, _, _, missing, _ = measured.analysis2(str(path))
    partial = [line for line, (ways, taken) in measured.branch_stats(str(path)).items() if taken < ways]
    return Seen(frozenset(missing), frozenset(partial), frozenset(measured.get_data().arcs(str(path)) or ()))


def main() -> int:
    """Print every gap; 1 if there is any."""
    measured = coverage.Coverage(config_file=str(ROOT / "pyproject.toml"))
    measured.load()
    kinds: Counter[str] = Counter()
    with_gaps = untold = 0
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for one in handlers_of(path.read_text(), seen_of(path, measured)):
            kinds[one.kind] += 1
            with_gaps += bool(one.gaps)
            untold += one.untold
            if one.gaps:
                print(f"{path.relative_to(ROOT)}:{one.line} {one.kind}: {'; '.join(one.gaps)}")
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"{sum(kinds.values())} handlers ({counts}); with gaps: {with_gaps}; untold: {untold}")
    return int(with_gaps > 0)


if __name__ == "__main__":
    sys.exit(main())
