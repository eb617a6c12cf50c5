"""Which files the demo takes, and which it writes itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.results import SINGLE_MODULES
from demo.sources import PLANTED, packages, plant, sources, standard_library


def _tree(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def test_python_files_only(tmp_path: Path) -> None:
    """Sorted Python files; not what others installed, what is hidden, and what is no source."""
    tree = _tree(
        tmp_path, "b.py", "a/c.py", "a/d.txt", "a/site-packages/e.py", ".venv/f.py", "a/__pycache__/g.py", "a.pyc"
    )
    assert [file.path for file in sources([tree])] == ["a/c.py", "b.py"]


@pytest.mark.parametrize("at_most", [1, 3, 7, 10, 11, 1_000])
def test_limit_is_exact_and_spread(tmp_path: Path, at_most: int) -> None:
    """A limit is kept exactly, for each directory, and no file is taken twice."""
    names = [f"{number:02}.py" for number in range(10)]
    taken = [file.path for file in sources([_tree(tmp_path, *names)], at_most)]
    assert len(taken) == len(set(taken)) == min(at_most, 10)
    assert taken == sorted(taken)
    assert at_most == 1 or max(taken) >= "06.py"  # not only the first ones


def test_packages() -> None:
    """The standard library has single modules and packages, and every file is counted in one of them."""
    files = sources([standard_library()])
    counts = packages(files)
    assert sum(counts.values()) == len(files) > 500
    assert counts[SINGLE_MODULES] > 50
    assert counts["asyncio"] > 10


def test_planted_files_are_broken(tmp_path: Path) -> None:
    """The planted files say what they are, do not compile, and keep apart from a real package."""
    planted = sources([plant(tmp_path)])
    assert packages(planted) == {PLANTED: 2}
    for file in planted:
        source = (tmp_path / file.path).read_bytes()
        assert b"Written by the demo" in source
        with pytest.raises(SyntaxError):
            compile(source, file.path, "exec")
