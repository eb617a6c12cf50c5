"""An exception at the n-th call of a function: the fault that stands for all that nobody thought of."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any


class PlantedError(Exception):
    """The fault."""


def failing_at(
    number: int, original: Callable[..., Any], error: Callable[[], BaseException] = PlantedError
) -> Callable[..., Any]:
    """`original`, but for its call number `number`, from 1, which raises. Any thread may make the calls."""
    calls = itertools.count(1)

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            raise error()
        return original(*args, **kwargs)

    return call
