"""The house's rules about its own source, as functions from source texts to violations. They read, and import nothing.

Each takes `{module name: source}` and gives one line for every violation, so that a rule can be shown a violation as
easily as the real tree.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("broker", "worker_host", "producer", "demo")
MOST_LINES: Final = 400

#: These decide; time, chance and ids are handed to them.
PURE_CORE: Final = frozenset(
    f"broker.{name}"
    for name in (
        "protocol", "states", "ledger", "queue", "records", "retries", "pressure", "admission", "answers",
        "dead_letters", "operator", "settings", "health", "window",
    )
)  # fmt: skip
IMPURE: Final = frozenset({
    "asyncio", "concurrent", "datetime", "multiprocessing", "os", "random", "secrets", "select", "selectors", "signal",
    "socket", "subprocess", "sys", "tempfile", "threading", "time", "uuid", "zmq",
})  # fmt: skip
#: Modules that are started as a process, beside every `__main__`.
PROGRAMS: Final = frozenset({"broker.child"})
COMPOSITION_ROOT: Final = frozenset({"broker.supervisor", "broker.__main__", "broker.child"})
#: What any part of the broker may know of the host: the edge between them, and the declarations of task functions.
HOSTS_EDGE: Final = frozenset({"worker_host.contract", "worker_host.tasks"})
#: Those that own a socket or a context, or must tell its errors from others.
ZMQ_OWNERS: Final = frozenset(
    {"broker.door", "broker.authenticator", "broker.keys", "broker.operator_client", "broker.__main__"}
    | {f"producer.{name}" for name in ("channel", "line", "async_line", "pool", "producer")}
)
#: What belongs to a process, not to a module in it.
OF_THE_PROCESS: Final = frozenset({"os.environ", "os.getenv", "sys.argv", "sys.exit", "os._exit"})

Sources = Mapping[str, str]


@dataclass(frozen=True)
class Import:
    """One import of one module, wherever it stands in the source."""

    by: str
    of: str
    for_types_only: bool  #: under `if TYPE_CHECKING`: it never happens

    @property
    def package(self) -> str:
        """The top of what is imported."""
        return self.of.partition(".")[0]


def sources(*folders: str) -> dict[str, str]:
    """The real tree: every module of these folders, by its dotted name; a package's `__init__` by the package's."""
    found = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def imports(tree: Sources) -> Iterator[Import]:
    """All imports, also those inside functions."""
    for by, source in tree.items():
        parsed = ast.parse(source)
        never = {id(inner) for node in ast.walk(parsed) if _is_type_checking(node) for inner in ast.walk(node)}
        for node in ast.walk(parsed):
            for of in _imported(node, by, tree):
                yield Import(by, of, id(node) in never)


def _imported(node: ast.AST, by: str, tree: Sources) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = by.split(".")[: -node.level] if by in tree else []
            base = ".".join([*above, base] if base else above)
        for alias in node.names:
            submodule = f"{base}.{alias.name}"
            yield submodule if submodule in tree else base


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def arrows_against_the_wind(tree: Sources) -> list[str]:
    """Imports across packages that point the wrong way."""
    return [f"{one.by} imports {one.of}" for one in imports(tree) if not _may_import(one)]


def _may_import(one: Import) -> bool:
    home, there = one.by.partition(".")[0], one.package
    if home == there or there not in PACKAGES:
        return home != "worker_host" or there == home or there in sys.stdlib_module_names
    if home == "broker":
        return there == "worker_host" and (one.by in COMPOSITION_ROOT or one.of in HOSTS_EDGE)
    if home == "producer":
        return one.of == "broker.protocol"
    return home == "demo" and one.of in {"producer", "worker_host"}  # as any user: what the packages offer, no module


def impurities(tree: Sources) -> list[str]:
    """What the pure core imports of clocks, chance, threads, sockets and the system."""
    return [
        f"{one.by} imports {one.of}"
        for one in imports(tree)
        if one.by in PURE_CORE and one.package in IMPURE and not one.for_types_only
    ]


def strangers_at_sockets(tree: Sources) -> list[str]:
    """Modules that import `zmq` and own no socket."""
    return sorted(
        {f"{one.by} imports zmq" for one in imports(tree) if one.package == "zmq" and one.by not in ZMQ_OWNERS}
    )


def cycles(tree: Sources) -> list[str]:
    """Modules that import each other in a circle, one line for each circle."""
    edges: dict[str, set[str]] = {name: set() for name in tree}
    for one in imports(tree):
        if one.of in tree and not one.for_types_only:
            edges[one.by].add(one.of)
    found: list[str] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append(" → ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for of in sorted(edges[name]):
                visit(of, [*path, name])
            done.add(name)

    for name in sorted(tree):
        visit(name, [])
    return found


def too_long(tree: Sources) -> list[str]:
    """Modules that ask for a split."""
    lengths = {name: len(source.splitlines()) for name, source in tree.items()}
    return [f"{name} has {length} lines" for name, length in lengths.items() if length > MOST_LINES]


def hands_on_the_process(tree: Sources) -> list[str]:
    """Uses of the environment, the arguments and exits outside of a program's entry: `__main__`, module or block."""
    found = []
    for name, source in tree.items():
        if name.endswith(".__main__") or name in PROGRAMS:
            continue
        parsed = ast.parse(source)
        entry = {id(inner) for node in parsed.body if _is_main_block(node) for inner in ast.walk(node)}
        for node in ast.walk(parsed):
            if id(node) not in entry:
                found += [f"{name} uses {used}" for used in _of_the_process(node)]
    return found


def _is_main_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _of_the_process(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute):
        return [used] if (used := ast.unparse(node)) in OF_THE_PROCESS else []
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [used for alias in node.names if (used := f"{node.module}.{alias.name}") in OF_THE_PROCESS]
    return []


def unexplained(tree: Sources) -> list[str]:
    """Modules that do not open with a docstring, though they have something to say."""
    return [name for name, source in tree.items() if source.strip() and not ast.get_docstring(ast.parse(source))]
