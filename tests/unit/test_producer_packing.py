"""From task to wire: what can be sent, and what the error says of what cannot."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
from collections import OrderedDict, namedtuple
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol import MAX_NESTING, RefusedError, decode_task
from producer import BadTask, Task
from producer.packing import pack_task


class Colour(enum.StrEnum):
    """Text that is more than text."""

    RED = "red"


class Level(enum.IntEnum):
    """A number that is more than a number."""

    LOW = 1


Point = namedtuple("Point", "x y")


def nested(levels: int) -> list[Any]:
    """Lists in lists: the outermost is level 1."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


SENT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text("abc", max_size=3), part, max_size=4),
    max_leaves=20,
)


@given(args=st.lists(SENT, max_size=4), kwargs=st.dictionaries(st.text("abc", min_size=1), SENT, max_size=3))
def test_what_is_allowed_arrives_as_it_was(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Whatever is made of the allowed values is packed, and the broker reads the same values."""
    task = Task("noop", tuple(args), kwargs)
    message = decode_task(pack_task(task))
    assert (message.id, message.name, message.args, message.kwargs) == (task.id, "noop", args, kwargs)
    assert (message.retries, message.delay_s, message.expires_s) == (None, 0.0, None)


ANYTHING = st.recursive(
    SENT
    | st.integers()
    | st.text(st.characters())
    | st.sampled_from([{1}, object(), 1j, datetime.date(2026, 1, 1), msgpack.ExtType(1, b""), msgpack.Timestamp(1)]),
    lambda part: (
        st.lists(part, max_size=3)
        | st.tuples(part, part)
        | st.dictionaries(st.text(max_size=2) | st.integers() | st.binary(max_size=2), part, max_size=3)
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_the_producer_and_the_broker_agree_on_what_a_task_is(value: Any) -> None:
    """Whatever the value: either `BadTask` names where it is, or the broker takes the task."""
    try:
        wire = pack_task(Task("noop", (value,), {"k": value}))
    except BadTask as error:
        assert str(error).startswith(("args[0]", "kwargs"))
        return
    decode_task(wire)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (({1, 2},), {}, r"args\[0\]: a set cannot be sent; allowed are nil, bool, int -2\*\*63\.\.2\*\*64-1, float, "),
        ((0, object()), {}, r"args\[1\]: an object cannot be sent; "),
        (({"when": datetime.datetime(2026, 1, 1)},), {}, r"args\[0\]\['when'\]: a datetime cannot be sent; "),
        (([1, ("a", {"b": decimal.Decimal(1)})],), {}, r"args\[0\]\[1\]\[1\]\['b'\]: a Decimal cannot be sent"),
        ((2**64,), {}, r"args\[0\]: an int of 65 bits; "),
        ((-(2**63) - 1,), {}, r"args\[0\]: an int of 64 bits; "),
        ((10**10_000,), {}, r"args\[0\]: an int of 33220 bits; "),
        (("\ud800",), {}, r"args\[0\]: text that is not valid Unicode"),
        (([{"k": "\udfff"}],), {}, r"args\[0\]\[0\]\['k'\]: text that is not valid Unicode"),
        (({"\ud800": 1},), {}, r"args\[0\]: key '\\ud800' is not valid Unicode"),
        (({1: 2},), {}, r"args\[0\]: a key is an int; keys are str"),
        (({b"k": 2},), {}, r"args\[0\]: a key is a bytes; keys are str"),
        (({("a",): 2},), {}, r"args\[0\]: a key is a tuple; keys are str"),
        ((msgpack.ExtType(1, b"x"),), {}, r"args\[0\]: an ExtType cannot be sent"),
        (([msgpack.Timestamp(1)],), {}, r"args\[0\]\[0\]: a Timestamp cannot be sent"),
        ((memoryview(b"x"),), {}, r"args\[0\]: a memoryview cannot be sent"),
        ((1j,), {}, r"args\[0\]: a complex cannot be sent"),
        ((nested(MAX_NESTING),), {}, r"args(\[0\]){32}: nested deeper than 32"),
        ((), {"a": {"b": {1}}}, r"kwargs\['a'\]\['b'\]: a set cannot be sent"),
        ((), {"a": nested(MAX_NESTING)}, r"kwargs\['a'\](\[0\]){31}: nested deeper than 32"),
        ((), {"a": 2**64}, r"kwargs\['a'\]: an int of 65 bits; "),
        ((), {1: 2}, r"kwargs: a key is an int; keys are str"),
        ((), [1], r"kwargs: a list; it is a dict"),
        ({1}, {}, r"args: a set; it is a tuple"),
        ("text", {}, r"args: a str; it is a tuple"),
    ],
)  # fmt: skip
def test_row_15_what_cannot_be_sent_is_named_by_its_path(args: Any, kwargs: Any, message: str) -> None:
    """The error says where the value is, what it is, and what is allowed there."""
    with pytest.raises(BadTask, match=message):
        pack_task(Task("noop", args, kwargs))


def test_a_value_within_itself_is_named() -> None:
    """A list in itself, and a dict in a list in itself, would have no end; they end at the limit of nesting."""
    endless: list[Any] = []
    endless.append(endless)
    endless_dict: dict[str, Any] = {}
    endless_dict["again"] = [endless_dict, endless_dict]
    for value in (endless, endless_dict):
        with pytest.raises(BadTask, match="nested deeper than 32"):
            pack_task(Task("noop", (value,)))


def test_nesting_is_allowed_as_deep_as_the_broker_reads() -> None:
    """Exactly: one level more is refused here, and would be there."""
    deepest = Task("noop", (nested(MAX_NESTING - 1),))
    decode_task(pack_task(deepest))
    with pytest.raises(RefusedError, match="nested"):
        decode_task(msgpack.packb({"id": "x", "name": "noop", "args": [nested(MAX_NESTING)]}))


@pytest.mark.parametrize(
    ("value", "arrives_as"),
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=(1,)), {"a": [1]}),
        (Colour.RED, "red"),
        ([Level.LOW, True], [1, True]),
        (bytearray(b"x"), b"x"),
        ({Colour.RED: Level.LOW}, {"red": 1}),
    ],
)
def test_relatives_of_allowed_types_arrive_as_those(value: Any, arrives_as: Any) -> None:
    """Tuples become arrays; an enum's member its value; a subclass its base."""
    message = decode_task(pack_task(Task("noop", (value,))))
    assert message.args == [arrives_as]
    assert type(message.args[0]) is type(arrives_as)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "x" * 65}, "id"),
        ({"id": "-x"}, "id"),
        ({"id": "ä"}, "id"),
        ({"id": "x\n"}, "id"),
        ({"id": b"x"}, "id"),
        ({"id": None}, "id"),
        ({"name": ""}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": None}, "name"),
        ({"retries": -1}, "retries"),
        ({"retries": 101}, "retries"),
        ({"retries": True}, "retries"),
        ({"retries": 1.0}, "retries"),
        ({"delay_s": -0.1}, "delay_s"),
        ({"delay_s": float("nan")}, "delay_s"),
        ({"delay_s": float("inf")}, "delay_s"),
        ({"delay_s": 2_592_000.5}, "delay_s"),
        ({"delay_s": True}, "delay_s"),
        ({"delay_s": "1"}, "delay_s"),
        ({"expires_s": 0}, "expires_s"),
        ({"expires_s": -1}, "expires_s"),
        ({"expires_s": 10**400}, "expires_s"),
    ],
)
def test_a_field_out_of_its_range_is_named(changes: dict[str, Any], field: str) -> None:
    """The message begins with the field, and tells what is allowed; the broker would refuse the same."""
    task = dataclasses.replace(Task("noop", id="x"), **changes)
    with pytest.raises(BadTask, match=rf"^{field}: "):
        pack_task(task)
    try:
        wire = msgpack.packb({"id": task.id, "name": task.name, **changes})
    except (OverflowError, UnicodeEncodeError):
        return  # a number or a text that has no form on the wire
    with pytest.raises(RefusedError):
        decode_task(wire)


@pytest.mark.parametrize("changes", [{"retries": 0}, {"retries": 100}, {"delay_s": 0}, {"delay_s": 2_592_000.0}])
@pytest.mark.parametrize("more", [{}, {"expires_s": 1e-6}, {"expires_s": 2_592_000}])
def test_fields_at_their_limits_arrive(changes: dict[str, Any], more: dict[str, Any]) -> None:
    """The ends of each range are in it."""
    message = decode_task(pack_task(dataclasses.replace(Task("noop"), **changes, **more)))
    for field, value in {**changes, **more}.items():
        assert getattr(message, field) == value


def test_the_bytes_of_a_task_are_always_the_same() -> None:
    """A resend is told by its bytes, so they do not depend on the packer, nor on how often it was used."""
    task = Task.of("noop", 1, [2, {"k": b"v"}], key=3.5).but(retries=1)
    packer = msgpack.Packer().pack
    first = pack_task(task, packer)
    with pytest.raises(BadTask):
        pack_task(Task.of("noop", "packed", [2**64]), packer)
    assert pack_task(task, packer) == pack_task(task) == first


def test_a_long_id_or_name_is_cut_in_the_message() -> None:
    """And what a terminal would obey in it is not in the message."""
    with pytest.raises(BadTask) as caught:
        pack_task(Task("\x1b[2J" + "x" * 100_000))
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


def test_a_task_that_the_packer_refuses_for_no_part_of_it_is_refused() -> None:
    """Such as one that is too long in all: what the packer says is told, and nothing is sent."""

    def refuse(_: object) -> bytes:
        raise ValueError("memory map size limit exceeded")

    with pytest.raises(BadTask, match="this task cannot be packed: memory map size limit exceeded"):
        pack_task(Task("noop", ("fits",), {"k": "fits"}), refuse)
