"""Loads task modules, which are foreign code: importing one may do and raise anything."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence

from worker_host.tasks import TaskFunction, task_functions


class LoadError(Exception):
    """The task modules cannot be used; the message says which, and why."""


def load(names: Sequence[str]) -> dict[str, TaskFunction]:
    """The task functions of these modules, by name; also of modules in the directory that the process was started in.

    `LoadError` if one cannot be imported, a name is claimed twice, or there is no task function at all.
    """
    sys.path.insert(0, "")
    modules = []
    for name in names:
        try:
            modules.append(importlib.import_module(name))
        except KeyboardInterrupt:  # ours, not the module's
            raise
        # Whatever it is, these tasks cannot be loaded.
        except BaseException as error:  # noqa: BLE001
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = "" if last.filename.startswith("<frozen") else f" ({last.filename}:{last.lineno})"
            if _is_missing(name, error):
                where = " (a module's name, without .py, found in the current folder or on PYTHONPATH)"
            raise LoadError(f"cannot load task module '{name}': {type(error).__name__}: {error}{where}") from None
    try:
        functions = task_functions(modules)
    except ValueError as error:
        raise LoadError(str(error)) from None
    if not functions:
        raise LoadError(
            f"no task function in {', '.join(names)}: decorate a function of the module itself "
            "with @task of worker_host"
        )
    return functions


def _is_missing(name: str, error: BaseException) -> bool:
    """Whether it is the module that is not there, or a package that it is in; not what it imports."""
    if name.startswith("."):  # a path: to Python a relative name, and an error of another kind
        return True
    return isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
