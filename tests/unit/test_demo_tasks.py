"""The demo's task functions, called as the plain functions they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.results import SINGLE_MODULES, FileResult, PackageResult, Results, package_of
from demo.tasks import aggregate_package, measure_file, write_report
from worker_host import NeverRetry, RetryAfter, running_as

_SOURCE = '''"""A module."""

class Shelf:
    def put(self, book):
        """Put it."""
        self.books.append(book)

    async def take(self):
        if self.books:
            def inner():
                pass
            return inner
        return lambda: None
'''


def _written(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(folder)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_measure_file_counts(tmp_path: Path) -> None:
    """Functions are counted wherever they stand, nested and async ones too; a lambda is none."""
    tree = _written(tmp_path / "tree", {"library/shelf.py": _SOURCE})
    measure_file(str(tmp_path), tree, "library/shelf.py")
    assert Results(str(tmp_path)).files_of("library") == [
        FileResult(
            path="library/shelf.py",
            size_bytes=len(_SOURCE),
            lines=13,
            blank=2,
            functions=3,
            documented=1,
            classes=1,
            longest=6,
            longest_name="take",
        )
    ]


def test_measure_file_twice(tmp_path: Path) -> None:
    """A second run leaves what one run leaves: delivery is at least once."""
    tree = _written(tmp_path / "tree", {"library/shelf.py": _SOURCE})
    out = tmp_path / "out"
    measure_file(str(out), tree, "library/shelf.py")
    once = _contents(out)
    measure_file(str(out), tree, "library/shelf.py")
    assert _contents(out) == once
    assert list(once) == ["results/library/shelf.py.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x = 1\ndef turnstile(:\n", "odd.py: line 2: invalid syntax"),
        (b"name = '\xfc'\n", "codec can't decode byte 0xfc"),
        (b"# coding: no-such-coding\n", "odd.py: unknown encoding: no-such-coding"),
        (b"x = 1\0\n", "null bytes"),
        (b"f(" + b"(" * 300 + b")" * 300 + b")\n", "too many nested parentheses"),
    ],
    ids=["syntax", "not UTF-8", "unknown encoding", "null byte", "too deep"],
)
def test_unparsable_file(tmp_path: Path, content: bytes, reason: str) -> None:
    """A file that does not parse fails for good, with the parser's own reason, which is kept for the report."""
    (tmp_path / "odd.py").write_bytes(content)
    with pytest.raises(NeverRetry) as raised:
        measure_file(str(tmp_path), str(tmp_path), "odd.py")
    assert reason in str(raised.value)
    (kept,) = Results(str(tmp_path)).files_of(SINGLE_MODULES)
    assert str(raised.value) == f"odd.py: {kept.error}"


def test_file_that_is_gone(tmp_path: Path) -> None:
    """A file that was deleted since it was submitted is not waited for."""
    with pytest.raises(NeverRetry, match=r"lost\.py: the file is gone"):
        measure_file(str(tmp_path), str(tmp_path), "lost.py")


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that cannot be read now may be readable later: an ordinary exception, so an ordinary retry."""
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(IsADirectoryError):
        measure_file(str(tmp_path), str(tmp_path), "folder.py")


def test_aggregate_before_its_input(tmp_path: Path) -> None:
    """While a file is missing the task asks to come back, later and later, and says what it waits for."""
    tree = _written(tmp_path / "tree", {"library/one.py": "x = 1\n", "library/two.py": "y = 2\n"})
    measure_file(str(tmp_path), tree, "library/one.py")
    waits = []
    for attempt in range(1, 7):
        with (
            running_as(attempt=attempt),
            pytest.raises(RetryAfter, match="library: 1 of 2 files are measured") as again,
        ):
            aggregate_package(str(tmp_path), "library", 2)
        waits.append(again.value.seconds)
    assert waits == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert Results(str(tmp_path)).packages() == []


def test_aggregate_package(tmp_path: Path) -> None:
    """The sums are over the files that parse; those that do not are listed with their reasons."""
    tree = _written(
        tmp_path / "tree",
        {"library/shelf.py": _SOURCE, "library/deep/two.py": "def f(): pass\n", "library/odd.py": "def f(:\n"},
    )
    for path in ("library/shelf.py", "library/deep/two.py"):
        measure_file(str(tmp_path), tree, path)
    with pytest.raises(NeverRetry):
        measure_file(str(tmp_path), tree, "library/odd.py")
    with running_as():
        aggregate_package(str(tmp_path), "library", 3)
    assert Results(str(tmp_path)).packages() == [
        PackageResult(
            package="library",
            files=3,
            lines=14,
            functions=4,
            documented=1,
            classes=1,
            longest=6,
            longest_name="library/shelf.py: take",
            file_lines=[1, 13],
            unparsable=[["library/odd.py", "line 1: invalid syntax"]],
        )
    ]


def test_single_modules(tmp_path: Path) -> None:
    """Files directly in the directory are a package of their own, which takes none of the others' files."""
    tree = _written(tmp_path / "tree", {"one.py": "x = 1\n", "library/two.py": "y = 2\n"})
    for path in ("one.py", "library/two.py"):
        measure_file(str(tmp_path), tree, path)
    with running_as():
        aggregate_package(str(tmp_path), package_of("one.py"), 1)
    (package,) = Results(str(tmp_path)).packages()
    assert (package.package, package.files, package.lines) == ("(single modules)", 1, 1)


def test_package_in_which_nothing_parses(tmp_path: Path) -> None:
    """A package of broken files alone is added up too: of nothing."""
    tree = _written(tmp_path / "tree", {"library/odd.py": "def f(:\n"})
    with pytest.raises(NeverRetry):
        measure_file(str(tmp_path), tree, "library/odd.py")
    with running_as():
        aggregate_package(str(tmp_path), "library", 1)
    (package,) = Results(str(tmp_path)).packages()
    assert (package.files, package.lines, package.longest_name) == (1, 0, "")


def test_report_before_its_input(tmp_path: Path) -> None:
    """Without a single sum there is nothing to draw yet."""
    with pytest.raises(RetryAfter):
        write_report(str(tmp_path), "tree", {"accepted": 0})


def test_report(tmp_path: Path) -> None:
    """The page holds two plots, the table, the reasons, the ledger; and no text of a file gets in as markup."""
    results = Results(str(tmp_path))
    results.put_package(PackageResult("large", 2, 2_345, 40, 10, 3, 99, "large/a.py: f", [2_000, 345]))
    results.put_package(
        PackageResult("<b>odd", 1, 0, 0, 0, 0, 0, "", unparsable=[["planted_by_the_demo/<i>.py", "line 1: <script>"]])
    )
    write_report(str(tmp_path), "/a/<tree>", {"accepted": 7, "ready": 1, "succeeded": 5, "dead": 1})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == page.count("</svg>") == 2
    assert "2,345" in page
    assert "25%" in page  # of its functions have a docstring
    assert "line 1: &lt;script&gt;" in page
    assert "<em>planted</em></td>" in page
    assert "accepted 7 tasks" in page
    assert "It balances." in page
    assert not any(markup in page for markup in ("<script>", "<b>odd", "<i>.py", "<tree>"))


def test_report_of_a_ledger_that_does_not_balance(tmp_path: Path) -> None:
    """The page does not say that books balance when they do not."""
    Results(str(tmp_path)).put_package(PackageResult("large", 1, 1, 0, 0, 0, 0, "", [1]))
    write_report(str(tmp_path), "tree", {"accepted": 8, "succeeded": 5, "dead": 1})
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "It does not balance!" in page
    assert "It balances." not in page


def test_report_twice(tmp_path: Path) -> None:
    """The same sums give the same page, byte for byte."""
    Results(str(tmp_path)).put_package(PackageResult("large", 1, 10, 1, 0, 0, 3, "large/a.py: f", [10]))
    ledger = {"accepted": 1, "succeeded": 1}
    write_report(str(tmp_path), "tree", ledger)
    once = (tmp_path / "report.html").read_bytes()
    write_report(str(tmp_path), "tree", ledger)
    assert (tmp_path / "report.html").read_bytes() == once
