"""Fixtures: the image, built once; and stacks, of which nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.compose.image import Image, build
from tests.compose.stack import WITNESSED, Stack

StartStack = Callable[..., Stack]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image of this tree."""
    return build(tmp_path_factory.mktemp("context"))


@pytest.fixture
def stack(image: Image) -> Iterator[Stack]:
    """The product's own file, nothing of it started yet."""
    stack = Stack(image)
    yield stack
    stack.down()


@pytest.fixture
def witnessed(image: Image) -> Iterator[StartStack]:
    """Start a broker with a witness in it, and so many producers; with these words for the file."""
    started: list[Stack] = []

    def start(producers: int, **words: str) -> Stack:
        started.append(Stack(image, WITNESSED, **words))
        started[-1].up("--scale", f"files={producers}", "broker", "files")
        return started[-1]

    yield start
    for stack in started:
        stack.down()
