"""Task modules that cannot be loaded: each is named, and why."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worker_host.loading import LoadError, load

WriteModule = Callable[[str, str], str]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    """Write a module of this name and text where it can be imported; its name."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


HINT = r" \(a module's name, without \.py, found in the current folder or on PYTHONPATH\)"
TASK = "from worker_host import task\n@task\ndef twice(): ...\n"


def test_functions_of_all_modules_are_loaded(write_module: WriteModule) -> None:
    """Those that are declared."""
    names = [write_module("first", TASK), write_module("second", TASK.replace("twice", "other"))]
    assert sorted(load(names)) == ["other", "twice"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0", r"ZeroDivisionError: division by zero \(.*broken\.py:1\)"),
        ("\nraise SystemExit('no')", r"SystemExit: no \(.*broken\.py:2\)"),
        ("import missing_one", r"ModuleNotFoundError: No module named 'missing_one' \(.*broken\.py:1\)"),
    ],
)
def test_module_that_raises_is_named(write_module: WriteModule, text: str, words: str) -> None:
    """With what it raised, and where; also what would end this process."""
    with pytest.raises(LoadError, match=f"^cannot load task module 'broken': {words}$"):
        load([write_module("broken", text)])


def test_module_that_is_not_there_is_named() -> None:
    """There is no line to blame, but a name that may be meant otherwise."""
    with pytest.raises(LoadError, match=rf"^cannot load task module 'not_there': .* named 'not_there'{HINT}$"):
        load(["not_there"])


@pytest.mark.parametrize("name", ["jobs.py", "./jobs.py", "{}/jobs.py", "{}/jobs", "jobs.more", "missing.jobs"])
def test_file_is_no_module(write_module: WriteModule, tmp_path: Path, name: str) -> None:
    """A path, or a part of a module that is no package: what is meant by a module is said."""
    write_module("jobs", TASK)
    with pytest.raises(LoadError, match=HINT):
        load([name.format(tmp_path)])


def test_ctrl_c_while_a_module_is_loaded_is_no_fault_of_the_module(write_module: WriteModule) -> None:
    """Whoever pressed it wants the process to end."""
    with pytest.raises(KeyboardInterrupt):
        load([write_module("slow", "raise KeyboardInterrupt")])


def test_name_that_is_claimed_twice_is_refused(write_module: WriteModule) -> None:
    """The message says which, and where the second one is."""
    with pytest.raises(LoadError, match="two functions are declared as task 'twice'; the second in second"):
        load([write_module("first", TASK), write_module("second", TASK)])


def test_module_without_a_task_is_refused(write_module: WriteModule) -> None:
    """A broker that could run nothing does not start."""
    words = "^no task function in empty: decorate a function of the module itself with @task of worker_host$"
    with pytest.raises(LoadError, match=words):
        load([write_module("empty", "")])


def test_method_is_no_function_of_the_module(write_module: WriteModule) -> None:
    """The words that say so are the same: there is a decorated function, but not where it would be found."""
    text = "from worker_host import task\nclass Jobs:\n    @task\n    def greet(self): ...\n"
    with pytest.raises(LoadError, match="decorate a function of the module itself with"):
        load([write_module("methods", text)])
