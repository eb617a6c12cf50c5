"""One packed task: every field at, below and above each of its limits."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol import (
    MAX_NAME,
    MAX_NESTING,
    MAX_RETRIES,
    MAX_SECONDS,
    TASK_FIELDS,
    Reason,
    RefusedError,
    TaskMessage,
    arguments_of,
    decode_task,
    pack,
    task_id_of,
)

LEAST: dict[str, Any] = {"id": "a", "name": "n"}
FULL: dict[str, Any] = LEAST | {
    "args": [1, "two", b"three", None, 4.5, [True], {"six": 6, b"seven": 7}],
    "kwargs": {"when": "now"},
    "retries": 5,
    "delay_s": 1.5,
    "expires_s": 60,
}
NEVER_SECONDS: list[Any] = [
    -1, -1e-9, math.nextafter(MAX_SECONDS, math.inf), MAX_SECONDS + 1, 2**64 - 1, 1e308,
    math.nan, math.inf, -math.inf, True, False, None, "1", b"1", [1], {},
]  # fmt: skip


def decode(**fields: Any) -> TaskMessage:
    """The task of these fields, and of the required ones."""
    return decode_task(pack(LEAST | fields))


def assert_malformed(fields: dict[str, Any], part: str) -> None:
    """The task is refused, and the detail names `part`."""
    with pytest.raises(RefusedError) as caught:
        decode_task(pack(fields))
    assert caught.value.reason is Reason.MALFORMED
    assert part in caught.value.detail


def test_least_task_has_defaults() -> None:
    """Id and name are enough; everything else has a default."""
    assert decode() == TaskMessage(id="a", name="n", args=[], kwargs={}, retries=None, delay_s=0.0, expires_s=None)


def test_full_task_is_read_field_by_field() -> None:
    """Every field arrives as it was packed; seconds become floats."""
    task = decode_task(pack(FULL))
    assert (task.args, task.kwargs) == (FULL["args"], FULL["kwargs"])
    assert (task.retries, task.delay_s, task.expires_s) == (5, 1.5, 60.0)
    assert type(task.expires_s) is float


@pytest.mark.parametrize("field", sorted(TASK_FIELDS - {"id", "name"}))
def test_each_optional_field_may_come_alone(field: str) -> None:
    """No optional field needs another one."""
    assert getattr(decode(**{field: FULL[field]}), field) == FULL[field]


def test_defaults_are_not_shared_between_tasks() -> None:
    """What a task does to its empty arguments is not seen by the next one."""
    name, args, kwargs = arguments_of(pack(LEAST))
    args.append("mine")
    kwargs["mine"] = True
    assert arguments_of(pack(LEAST)) == (name, [], {}) == ("n", [], {})


@pytest.mark.parametrize("field", ["id", "name"])
def test_required_fields_are_required(field: str) -> None:
    """A task without id, or without name, is refused by that field's name."""
    assert_malformed({key: value for key, value in FULL.items() if key != field}, f"'{field}'")


@pytest.mark.parametrize("task_id", ["a", "Z", "0", "a" * 63, "a" * 64, "a._:-", "0-" * 32])
def test_ids_up_to_the_limit_are_read(task_id: str) -> None:
    """1 to 64 characters of the alphabet, the first a letter or digit."""
    assert decode(id=task_id).id == task_id
    assert task_id_of(pack(FULL | {"id": task_id})) == task_id


@pytest.mark.parametrize(
    "task_id",
    ["", "a" * 65, *(first + "a" for first in "._:-"), *("a" + other for other in ' /\\\n\r\t\0,;@+="äé１²\u202e'),
     None, True, 7, 1.5, b"a", ["a"], {"a": 1}],
)  # fmt: skip
def test_other_ids_are_malformed_and_not_echoed(task_id: object) -> None:
    """Anything outside the alphabet is refused (a line break at the end too), and is no id for the verdict."""
    assert_malformed(LEAST | {"id": task_id}, "'id'")
    assert task_id_of(pack(LEAST | {"id": task_id})) is None


@pytest.mark.parametrize("length", [1, MAX_NAME - 1, MAX_NAME])
def test_names_up_to_the_limit_are_read(length: int) -> None:
    """A name has 1 to 128 characters."""
    assert decode(name="n" * length).name == "n" * length


@pytest.mark.parametrize("name", ["", "n" * (MAX_NAME + 1), None, True, 7, b"n", ["n"], {}])
def test_other_names_are_malformed(name: object) -> None:
    """An empty or too long name, or one that is no text, is refused."""
    assert_malformed(LEAST | {"name": name}, "'name'")


@pytest.mark.parametrize("args", [None, True, 1, "args", b"args", {"0": 1}])
def test_args_are_an_array(args: object) -> None:
    """Text is not taken for a list of its characters, nor a map for one of its keys."""
    assert_malformed(LEAST | {"args": args}, "'args'")


@pytest.mark.parametrize("kwargs", [None, True, 1, "kwargs", b"kwargs", [["a", 1]]])
def test_kwargs_are_a_map(kwargs: object) -> None:
    """Nothing but a map is one."""
    assert_malformed(LEAST | {"kwargs": kwargs}, "'kwargs'")


def test_keys_of_kwargs_are_text() -> None:
    """A bin cannot name a parameter, though it may be a key further in."""
    assert_malformed(LEAST | {"kwargs": {b"a": 1}}, "'kwargs'")
    assert decode(kwargs={"a": {b"b": 1}}).kwargs == {"a": {b"b": 1}}


@pytest.mark.parametrize("key", [1, True, None, 1.5])
def test_other_keys_are_malformed_everywhere(key: object) -> None:
    """A map key is text or a bin, also deep in the arguments."""
    assert_malformed(LEAST | {"args": [[{key: 1}]]}, "msgpack")


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"k": inner}])
@pytest.mark.parametrize("field", ["args", "kwargs"])
def test_nesting_is_an_exact_limit(field: str, wrap: Any) -> None:
    """32 containers inside each other are read, 33 are not; the field's own array or map is the first of them."""
    inner: Any = 0
    for _ in range(MAX_NESTING - 1):
        inner = wrap(inner)
    fits = {"args": [0, inner, 0], "kwargs": {"a": 0, "b": inner, "c": 0}}[field]
    assert getattr(decode(**{field: fits}), field) == fits
    too_deep = {"args": [0, wrap(inner)], "kwargs": {"a": wrap(inner)}}[field]
    assert_malformed(LEAST | {field: too_deep}, f"'{field}' is nested deeper than 32")


@pytest.mark.parametrize("retries", [0, 1, MAX_RETRIES - 1, MAX_RETRIES])
def test_retries_up_to_the_limit_are_read(retries: int) -> None:
    """0 to 100 runs after the first one; 0 is not taken for "not said"."""
    assert decode(retries=retries).retries == retries


@pytest.mark.parametrize("retries", [-1, MAX_RETRIES + 1, 2**64 - 1, True, False, 1.0, math.nan, None, "3", [3]])
def test_other_retries_are_malformed(retries: object) -> None:
    """One too many, a negative number, or no integer at all: refused."""
    assert_malformed(LEAST | {"retries": retries}, "'retries'")


@pytest.mark.parametrize("delay_s", [0, 0.0, -0.0, 5e-324, 1, 0.25, MAX_SECONDS - 1, MAX_SECONDS, int(MAX_SECONDS)])
def test_delays_up_to_the_limit_are_read(delay_s: float) -> None:
    """A delay of 0 to thirty days, as float or integer."""
    assert decode(delay_s=delay_s).delay_s == delay_s


@pytest.mark.parametrize("expires_s", [5e-324, 1, 0.25, MAX_SECONDS - 1, MAX_SECONDS, int(MAX_SECONDS)])
def test_expiries_up_to_the_limit_are_read(expires_s: float) -> None:
    """A time to expiry above 0, up to thirty days."""
    assert decode(expires_s=expires_s).expires_s == expires_s


@pytest.mark.parametrize("field", ["delay_s", "expires_s"])
@pytest.mark.parametrize("seconds", NEVER_SECONDS)
def test_other_seconds_are_malformed(field: str, seconds: object) -> None:
    """Negative, endless, too many, NaN, a boolean or another type: refused by the field's name."""
    assert_malformed(LEAST | {field: seconds}, f"'{field}'")


@pytest.mark.parametrize("expires_s", [0, 0.0, -0.0])
def test_task_cannot_expire_at_once(expires_s: float) -> None:
    """A task that could never run is refused rather than accepted and thrown away."""
    assert_malformed(LEAST | {"expires_s": expires_s}, "'expires_s'")


@pytest.mark.parametrize(
    "fields", [{"priority": 1}, {"Retries": 3}, {"delay": 1}, {"": 1}, {"x" * 30_000: 1}, {b"id": 1}]
)
def test_unknown_fields_are_malformed(fields: dict[str, Any]) -> None:
    """A field that the broker does not know would be a promise that it does not keep."""
    assert_malformed(LEAST | fields, "a task has no field")
    assert_malformed(FULL | fields, "a task has no field")


@pytest.mark.parametrize("value", [None, 1, "task", b"task", [LEAST]])
def test_task_is_a_map(value: object) -> None:
    """Nothing but a map is a task."""
    with pytest.raises(RefusedError, match="a task is a map"):
        decode_task(pack(value))
    assert task_id_of(pack(value)) is None


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.binary(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
tasks = st.fixed_dictionaries(
    {"id": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z"), "name": st.text(min_size=1, max_size=MAX_NAME)},
    optional={
        "args": st.lists(plain, max_size=4),
        "kwargs": st.dictionaries(st.text(max_size=9), plain, max_size=4),
        "retries": st.integers(0, MAX_RETRIES),
        "delay_s": st.floats(0, MAX_SECONDS) | st.integers(0, int(MAX_SECONDS)),
        "expires_s": st.floats(0, MAX_SECONDS, exclude_min=True) | st.integers(1, int(MAX_SECONDS)),
    },
)


@settings(max_examples=100)
@given(tasks)
def test_any_task_within_the_limits_arrives_as_it_was_packed(fields: dict[str, Any]) -> None:
    """Decoding gives back each field that was given, and the default for each that was not."""
    wire = pack(fields)
    task = decode_task(wire)
    defaults: dict[str, Any] = {"args": [], "kwargs": {}, "retries": None, "delay_s": 0.0, "expires_s": None}
    assert task == TaskMessage(**defaults | fields)
    assert arguments_of(wire) == (task.name, task.args, task.kwargs)
    assert task_id_of(wire) == task.id
