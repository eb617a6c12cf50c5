"""Bytes that were not meant well: garbage, lies about sizes, depth, width. Each is answered, and soon."""

from __future__ import annotations

import gc
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.protocol import (
    DEFAULT_MESSAGE_BYTES,
    MAX_CONTAINERS,
    Reason,
    RefusedError,
    arguments_of,
    decode_request,
    decode_task,
    pack,
    tag_of,
    task_id_of,
    unpack,
)

#: Processor time that one message may cost. A sixth of it is what the slowest of them needs; a machine may be slow.
SOON_S = 0.1
TASK = pack({"id": "a", "name": "n", "args": [1, "two", {"three": b"3"}], "retries": 3})
#: The head of a task with a last field, whose value is to be appended.
HEAD = b"\x83\xa2id\xa1a\xa4name\xa1n\xa4args"


def read_request(data: bytes) -> object:
    """`decode_request` with the default limit."""
    return decode_request(data, DEFAULT_MESSAGE_BYTES)


READERS: list[Callable[[bytes], object]] = [unpack, read_request, decode_task]


@contextmanager
def soon() -> Iterator[None]:
    """The block may take a bounded time of this thread's processor, the garbage of other tests not counted."""
    gc.freeze()
    try:
        began = time.thread_time()
        yield
        took = time.thread_time() - began
    finally:
        gc.unfreeze()
    assert took < SOON_S


def assert_malformed(read: Callable[[bytes], object], data: bytes) -> None:
    """`read` refuses `data` as malformed, soon; and neither an id nor a tag is read out of it in vain."""
    with soon(), pytest.raises(RefusedError) as caught:
        read(data)
    assert caught.value.reason is Reason.MALFORMED
    with soon():
        task_id_of(data)
        tag_of(data)


@pytest.mark.parametrize("length", range(len(TASK)))
def test_truncated_task_is_malformed(length: int) -> None:
    """No beginning of a task passes for one."""
    assert_malformed(decode_task, TASK[:length])


@pytest.mark.parametrize("more", [b"\xc0", b"\0", TASK, b" "])
def test_task_with_something_behind_it_is_malformed(more: bytes) -> None:
    """One message holds one value; a second one behind it is not ignored."""
    assert_malformed(decode_task, TASK + more)


@pytest.mark.parametrize("read", READERS)
@given(st.binary(max_size=200))
def test_garbage_is_read_or_refused(read: Callable[[bytes], object], data: bytes) -> None:
    """Any bytes give a value or a refusal; nothing else is raised."""
    try:
        read(data)
    except RefusedError as refused:
        assert refused.reason in Reason


@given(st.integers(0, len(TASK) - 1), st.integers(0, 255))
def test_task_with_one_byte_changed_is_read_or_refused(place: int, byte: int) -> None:
    """A task that was damaged on its way is another task or a refusal; what passes once can be opened again."""
    data = TASK[:place] + bytes([byte]) + TASK[place + 1 :]
    try:
        task = decode_task(data)
    except RefusedError:
        return
    assert arguments_of(data) == (task.name, task.args, task.kwargs)
    assert task_id_of(data) == task.id


@pytest.mark.parametrize("code", [-128, -1, 0, 1, 5, 127])
@pytest.mark.parametrize("length", [0, 1, 4, 8, 12, 16, 300])
def test_extension_types_are_malformed(code: int, length: int) -> None:
    """No extension type is read, wherever it stands and however short it is; -1 is msgpack's timestamp."""
    extension: bytes = msgpack.packb(msgpack.ExtType(code, b"\0" * length)) if code >= 0 else _negative(code, length)
    assert_malformed(unpack, extension)
    assert_malformed(decode_task, HEAD + b"\x91" + extension)
    assert_malformed(read_request, b"\x83\xa1v\x01\xa2op\xa4ping\xa1x" + extension)


@pytest.mark.parametrize("seconds", [0, 2**32, 2**40])
def test_timestamps_are_malformed(seconds: int) -> None:
    """Each of the three forms of a timestamp is refused."""
    assert_malformed(
        decode_task, HEAD + b"\x91" + msgpack.Timestamp(seconds, 5).to_bytes().join([b"\xc7\x0c\xff", b""])
    )
    assert_malformed(decode_task, HEAD + b"\x91" + msgpack.packb(msgpack.Timestamp(seconds, 5)))


def _negative(code: int, length: int) -> bytes:
    return b"\xc8" + struct.pack(">Hb", length, code) + b"\0" * length


@pytest.mark.parametrize(
    "head", [b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"], ids=["array", "map", "str", "bin", "ext"]
)
@pytest.mark.parametrize("claimed", [1, 100_000, 2**31 - 1, 2**31, 2**32 - 1])
def test_claim_of_more_than_there_is_is_malformed(head: bytes, claimed: int) -> None:
    """A container that claims up to four billion elements is refused without building them, at the top or inside."""
    lie = head + struct.pack(">I", claimed)
    for data in (lie, HEAD + lie, HEAD + b"\x91" * 20 + lie):
        assert_malformed(decode_task, data)


@pytest.mark.parametrize("depth", [33, 100, 511, 1_000, 1_024, 1_025, 10_000, 65_000])
@pytest.mark.parametrize("level", [b"\x91", b"\x81\xa1k"], ids=["arrays", "maps"])
def test_depth_is_malformed(depth: int, level: bytes) -> None:
    """Arguments nested beyond the limit, up to as deep as a message is long, are refused, and cost no stack."""
    assert_malformed(decode_task, HEAD + b"\x91" + level * depth + b"\xc0")
    assert_malformed(decode_task, level * depth + b"\xc0")


@pytest.mark.parametrize("element", [b"\xc0", b"\x90", b"\x80", b"\x91\x90", b"\xa0"])
def test_wide_arguments_are_judged_soon(element: bytes) -> None:
    """As many elements as are allowed are counted through in time, also with all bytes of the message used."""
    count = (DEFAULT_MESSAGE_BYTES - 100) // len(element)
    if element[0] >> 4 in {8, 9}:  # containers; one of them may hold another one
        count = (MAX_CONTAINERS - 2) // len(element)
    data = HEAD + b"\xdd" + struct.pack(">I", count) + element * count
    with soon():
        assert len(decode_task(data).args) == count


def test_wide_and_deep_arguments_are_refused_soon() -> None:
    """Many branches that are all too deep cost no more than their bytes."""
    branch = b"\x91" * 33 + b"\xc0"
    count = (DEFAULT_MESSAGE_BYTES - 100) // len(branch)
    assert_malformed(decode_task, HEAD + b"\xdd" + struct.pack(">I", count) + branch * count)


@pytest.mark.parametrize("text", [b"\xa1\xff", b"\xa2\xc0\xaf", b"\xa3\xed\xa0\x80", b"\xa4\xf8\x88\x80\x80"])
def test_text_that_is_no_utf8_is_malformed(text: bytes) -> None:
    """Stray bytes, overlong forms and surrogates are no text, as values or as keys."""
    assert_malformed(decode_task, HEAD + b"\x91" + text)
    assert_malformed(decode_task, HEAD + b"\x91\x81" + text + b"\xc0")


def test_unused_byte_of_msgpack_is_malformed() -> None:
    """The one byte that begins no value is refused."""
    assert_malformed(decode_task, HEAD + b"\x91\xc1")


def test_last_of_duplicate_keys_counts_for_every_reader() -> None:
    """If a field comes twice, all that read the task see the same one: no reader is told another id or name."""
    twice = b"\x86\xa2id\xa1a\xa4name\xa1n\xa4args\x91\x01\xa2id\xa1b\xa4name\xa1m\xa4args\x91\x02"
    task = decode_task(twice)
    assert (task.id, task.name, task.args) == ("b", "m", [2])
    assert task_id_of(twice) == "b"
    assert arguments_of(twice) == ("m", [2], {})
    assert read_request(b"\x83\xa1v\x02\xa2op\xa4ping\xa1v\x01") == {"v": 1, "op": "ping"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("id", "x" * 60_000), ("name", "x" * 60_000), ("id", [[]] * 30_000), ("retries", ["\x1b[31m"] * 9_000),
     ("delay_s", "\n" * 60_000), ("expires_s", b"\xff" * 60_000), ("\u202e" * 20_000, 1)],
)  # fmt: skip
def test_detail_of_a_huge_or_strange_value_is_short_and_printable(field: str, value: object) -> None:
    """What is shown of a refused value is cut and escaped: it goes into replies and logs."""
    with soon(), pytest.raises(RefusedError) as caught:
        decode_task(pack({"id": "a", "name": "n"} | {field: value}))
    assert len(caught.value.detail) <= 400
    assert caught.value.detail.isprintable()
    assert caught.value.detail.isascii()


def _branches(count: int, depth: int) -> bytes:
    """An array of so many arrays, each with others inside it, so deep."""
    return b"\xdd" + struct.pack(">I", count) + (b"\x91" * (depth - 1) + b"\x90") * count


@pytest.mark.parametrize("inner", [b"\x90", b"\x80"])
def test_number_of_containers_is_an_exact_limit(inner: bytes) -> None:
    """10,000 arrays and maps are read, the task's own map among them; one more is refused."""
    most = MAX_CONTAINERS - 2  # less the task and its args
    fits = HEAD + b"\xdd" + struct.pack(">I", most) + inner * most
    assert len(decode_task(fits).args) == most
    assert_malformed(decode_task, HEAD + b"\xdd" + struct.pack(">I", most + 1) + inner * (most + 1))
    ping = b"\x83\xa1v\x01\xa2op\xa4ping\xa1x"
    assert read_request(ping + b"\xdd" + struct.pack(">I", most) + inner * most)
    assert_malformed(read_request, ping + b"\xdd" + struct.pack(">I", most + 1) + inner * (most + 1))


def test_too_many_containers_cost_no_more_than_the_limit() -> None:
    """Reading stops where the limit is passed: six times the bytes are not six times the work."""
    containers = 0

    def count(container: object) -> object:
        nonlocal containers
        containers += 1
        return container

    data = HEAD + _branches(2_000, 30)
    unpack(data, count)
    assert containers > 60_000
    with pytest.raises(RefusedError, match="more than 10000 arrays and maps"):
        decode_task(data)
    with soon():
        assert task_id_of(data) is None


def test_containers_of_a_reply_are_not_counted() -> None:
    """A producer reads what its broker says, a verdict for each of a thousand tasks or a long list, to the end."""
    assert len(unpack(_branches(MAX_CONTAINERS + 1, 1))) == MAX_CONTAINERS + 1
