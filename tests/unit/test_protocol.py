"""Requests as bytes: what is read, what is refused, and with which reason. Tasks have `test_protocol_task.py`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol import (
    ADVICE,
    MAX_DEAD_LISTED,
    MAX_DETAIL,
    MAX_TASKS,
    Op,
    Reason,
    RefusedError,
    decode_request,
    decode_task,
    id_of,
    pack,
    page_of,
    tag_of,
    task_id_of,
    tasks_of,
)

ROOMY = 65_536
PING: dict[str, Any] = {"v": 1, "op": "ping"}
NOT_TEXT: list[Any] = [None, True, 7, 1.5, b"ping", ["ping"], {"ping": 1}]


def refusal(data: bytes, message_bytes: int = ROOMY) -> RefusedError:
    """The error that `data` is refused with."""
    with pytest.raises(RefusedError) as caught:
        decode_request(data, message_bytes)
    return caught.value


@pytest.mark.parametrize("op", list(Op))
def test_every_op_is_read(op: Op) -> None:
    """A map with the version and a known op is a request, and comes back as it was sent."""
    request = {"v": 1, "op": op.value, "unheard_of": [1, {"a": None}]}
    assert decode_request(pack(request), ROOMY) == request


@pytest.mark.parametrize("value", [None, True, 0, -1, 1.5, "ping", b"ping", [PING]])
def test_request_that_is_no_map_is_malformed(value: object) -> None:
    """A request is a map, and nothing else."""
    assert refusal(pack(value)).reason is Reason.MALFORMED


def test_missing_version_is_malformed() -> None:
    """Without `v` nobody can tell which protocol is spoken, and the detail says which field it is."""
    refused = refusal(pack({"op": "ping"}))
    assert refused.reason is Reason.MALFORMED
    assert "'v'" in refused.detail


@pytest.mark.parametrize("version", [0, 2, -1, 2**64 - 1, True, 1.0, "1", b"1", None, [1], {"v": 1}])
def test_other_versions_are_unsupported(version: object) -> None:
    """Only the integer 1 is version 1: neither `true` nor 1.0 passes for it."""
    assert refusal(pack({"v": version, "op": "ping"})).reason is Reason.UNSUPPORTED_VERSION


def test_version_is_judged_before_the_op() -> None:
    """A request of another version is told so, even if its op means nothing here."""
    assert refusal(pack({"v": 2, "op": "dance"})).reason is Reason.UNSUPPORTED_VERSION


@pytest.mark.parametrize("op", ["", "PING", "ping ", "__class__", "x" * 60_000])
def test_unheard_of_op_is_an_unknown_request(op: str) -> None:
    """An op that is text but not in the list has its own reason, and a detail of bounded length."""
    refused = refusal(pack({"v": 1, "op": op}))
    assert refused.reason is Reason.UNKNOWN_REQUEST
    assert len(refused.detail) <= MAX_DETAIL


@pytest.mark.parametrize("op", NOT_TEXT)
def test_op_that_is_no_text_is_malformed(op: object) -> None:
    """An op of any other type, or none, is no op at all."""
    assert refusal(pack({"v": 1, "op": op})).reason is Reason.MALFORMED


def test_missing_op_is_malformed() -> None:
    """A request without an op asks for nothing."""
    assert refusal(pack({"v": 1})).reason is Reason.MALFORMED


@pytest.mark.parametrize("tag", [0, 7, 2**64 - 1, "", "a", "x" * 63, "x" * 64, "é" * 32])
def test_tags_up_to_the_limit_are_read(tag: int | str) -> None:
    """A tag is an unsigned integer, or text of at most 64 bytes in UTF-8."""
    data = pack(PING | {"tag": tag})
    assert decode_request(data, ROOMY)["tag"] == tag
    assert tag_of(data) == tag


@pytest.mark.parametrize("tag", ["x" * 65, "é" * 33, -1, True, False, None, 1.0, b"a", [1], {}])
def test_other_tags_are_malformed_and_not_echoed(tag: object) -> None:
    """A tag that is too long, or of another type, is refused, and is no tag for the error reply either."""
    data = pack(PING | {"tag": tag})
    assert refusal(data).reason is Reason.MALFORMED
    assert tag_of(data) is None


def test_tag_of_a_refused_request_can_still_be_read() -> None:
    """An error reply can be matched to its request although that was refused."""
    assert tag_of(pack({"v": 9, "op": [], "tag": "t-1"})) == "t-1"
    assert tag_of(pack(["tag"])) is None
    assert tag_of(b"\xc1") is None


def test_message_bytes_is_an_exact_limit() -> None:
    """A request of exactly `message_bytes` is read; of one byte more it is `too_large`."""
    data = pack(PING | {"tag": "x" * 10})
    assert decode_request(data, len(data) + 1)
    assert decode_request(data, len(data))
    refused = refusal(data, len(data) - 1)
    assert refused.reason is Reason.TOO_LARGE
    assert str(len(data)) in refused.detail


@pytest.mark.parametrize("count", [1, 2, MAX_TASKS - 1, MAX_TASKS])
def test_one_to_a_thousand_tasks_are_read(count: int) -> None:
    """The list of tasks comes back in its order, up to the limit."""
    tasks = [b"%d" % number for number in range(count)]
    assert tasks_of(PING | {"tasks": tasks}) == tasks


@pytest.mark.parametrize("tasks", [[], [b"t"] * (MAX_TASKS + 1), None, b"t", "t", {"t": b"t"}, 1])
def test_other_lists_of_tasks_are_malformed(tasks: object) -> None:
    """No task, one too many, or no array at all: the request is refused as a whole."""
    with pytest.raises(RefusedError) as caught:
        tasks_of({"tasks": tasks})
    assert caught.value.reason is Reason.MALFORMED


def test_missing_list_of_tasks_is_malformed() -> None:
    """A submit without tasks submits nothing."""
    with pytest.raises(RefusedError, match="'tasks'"):
        tasks_of(PING)


@pytest.mark.parametrize("task", [None, True, 1, "text", ["list"], {"id": "a"}])
def test_element_that_is_no_bin_spoils_itself_alone(task: object) -> None:
    """A task travels as a bin; what is none is malformed by itself, and the request with its other tasks is read."""
    elements = [b"t", task]
    assert tasks_of({"tasks": elements}) == elements
    assert task_id_of(task) is None
    with pytest.raises(RefusedError, match="a task is a bin") as caught:
        decode_task(task)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("task_id", ["a", "A.9_z:-", "x" * 64])
def test_id_of_a_status_is_read(task_id: str) -> None:
    """The id that a status asks for, up to the limit."""
    assert id_of({"id": task_id}) == task_id


@pytest.mark.parametrize("task_id", ["", "x" * 65, "-a", "a b", "a\n", "ä", *NOT_TEXT])
def test_other_ids_of_a_status_are_malformed(task_id: object) -> None:
    """What cannot be an id is not looked up."""
    with pytest.raises(RefusedError) as caught:
        id_of({"id": task_id})
    assert caught.value.reason is Reason.MALFORMED


def test_page_has_defaults() -> None:
    """Without limit and offset, the first twenty dead letters are asked for."""
    assert page_of({}) == (20, 0)


@pytest.mark.parametrize(("limit", "offset"), [(1, 0), (MAX_DEAD_LISTED, 1), (MAX_DEAD_LISTED - 1, 2**64 - 1)])
def test_pages_within_the_limits_are_read(limit: int, offset: int) -> None:
    """A page's limit and offset, up to what an unsigned integer holds."""
    assert page_of({"limit": limit, "offset": offset}) == (limit, offset)


@pytest.mark.parametrize(
    "page",
    [
        *({"limit": limit} for limit in (0, -1, MAX_DEAD_LISTED + 1, True, 1.0, "1", None)),
        *({"offset": offset} for offset in (-1, True, 0.0, "0", None)),
    ],
)
def test_other_pages_are_malformed(page: dict[str, Any]) -> None:
    """A limit of 0, one too many, a negative offset, or another type: refused, with the field's name."""
    with pytest.raises(RefusedError, match=next(iter(page))):
        page_of(page)


def test_every_reason_has_its_advice() -> None:
    """No reason is without the word that tells a producer whether to try again."""
    assert set(ADVICE) == set(Reason)


def test_detail_is_cut() -> None:
    """A detail has at most 400 characters, however long its cause was."""
    assert len(RefusedError(Reason.MALFORMED, "x" * 10_000).detail) == MAX_DETAIL == 400


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=70)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["v", "op", "tag", "tasks", "id", "limit", "offset"]), values, max_size=7))
def test_any_fields_are_read_or_refused_with_a_reason(fields: dict[str, Any]) -> None:
    """Whatever the fields hold, the answer is a request or a refusal that a reply can carry; nothing else is raised."""
    fields = {"v": 1, "op": "submit"} | fields
    try:
        request = decode_request(pack(fields), ROOMY)
    except RefusedError as refused:
        assert len(refused.detail) <= MAX_DETAIL
        assert pack(refused.detail)
        return
    assert request["op"] in list(Op)
    for read in (tasks_of, id_of, page_of):
        try:
            read(request)
        except RefusedError as refused:
            assert refused.reason is Reason.MALFORMED
