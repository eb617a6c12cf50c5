"""Tasks as text: words of a command line, and lines of JSON. From text to `Task`, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from broker.protocol import TASK_FIELDS
from producer.dialogue import check_size
from producer.errors import BadTask
from producer.packing import pack_task
from producer.replies import Limits
from producer.requests import size_alone
from producer.task import Task


def task_of_words(name: str, words: Iterable[str], pairs: Iterable[str]) -> Task:
    """A task whose arguments are `words`, and, by keyword, `pairs` of KEY=WORD. `BadTask` for a pair that is none."""
    kwargs: dict[str, object] = {}
    for pair in pairs:
        key, equals, word = pair.partition("=")
        if not equals or not key:
            raise BadTask(f"--kwarg is KEY=VALUE, not {pair!a}")
        kwargs[key] = value_of(word)
    return Task(name, tuple(value_of(word) for word in words), kwargs)


def value_of(word: str) -> object:
    """The value that `word` is in JSON, or, if it is none, the text itself."""
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return word


def task_of_line(line: bytes, limits: Limits) -> Task:
    """The task in a line: a JSON object with a task's fields. `BadTask` says why it is none, or cannot be sent."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadTask(f"not JSON: {error}") from None
    if type(fields) is not dict or "name" not in fields:
        raise BadTask('not a task: it is an object such as {"name": "send_email", "args": ["ada@example.org"]}')
    unknown = fields.keys() - TASK_FIELDS
    if unknown:
        raise BadTask(f"a task has no field {min(unknown)!a}; it has {', '.join(sorted(TASK_FIELDS))}")
    args: Any = fields.pop("args", [])
    if type(args) is not list:
        raise BadTask("args: it is an array")
    task = Task(args=tuple(args), **fields)
    check_size(size_alone(pack_task(task)), limits)
    return task
