"""Do these arguments fit? The verdict is the one that a call would give, for any function and any arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.task import Changes
from worker_host.signature import Signature

NAMES = ["a", "b", "c", "d", "e", "f"]


@st.composite
def headers(draw: st.DrawFn) -> str:
    """The parameters of a function, as source text: of every kind, in every legal order."""
    kinds = sorted(
        draw(st.lists(st.sampled_from(["only", "both", "key"]), max_size=6)), key=["only", "both", "key"].index
    )
    names = draw(st.permutations(NAMES))
    defaults = draw(st.lists(st.booleans(), min_size=6, max_size=6))
    more_args, more_kwargs = draw(st.booleans()), draw(st.booleans())
    parts: list[str] = []
    for index, kind in enumerate(kinds):
        if kind == "key" and "key" not in kinds[:index]:
            parts.append("*args" if more_args else "*")
        # A parameter behind one with a default needs one too, but for the keyword-only ones.
        has_default = any(defaults[: index + 1]) if kind != "key" else defaults[index]
        parts.append(names[index] + ("=0" if has_default else ""))
        if kind == "only" and "only" not in kinds[index + 1 :]:
            parts.append("/")
    if more_args and "key" not in kinds:
        parts.append("*args")
    if more_kwargs:
        parts.append("**kwargs")
    return ", ".join(parts)


def function_of(header: str) -> Callable[..., None]:
    """A function with these parameters, that does nothing."""
    space: dict[str, Any] = {}
    exec(f"def function({header}): pass", space)  # noqa: S102 - the text is made above
    function: Callable[..., None] = space["function"]
    return function


def fits(call: Callable[..., object], args: list[int], kwargs: dict[str, int]) -> bool:
    """Whether `call` takes these arguments."""
    try:
        call(*args, **kwargs)
    except TypeError:
        return False
    return True


@settings(max_examples=300)
@given(
    headers(),
    st.lists(st.just(1), max_size=7),
    st.dictionaries(st.sampled_from([*NAMES, "args", "kwargs", "zz"]), st.just(2), max_size=5),
)
def test_verdict_is_that_of_a_call(header: str, args: list[int], kwargs: dict[str, int]) -> None:
    """`misfit` is None exactly if the function could be called so, which is what `inspect.signature(f).bind` says too.

    One exception is Python's own: before 3.13, `bind` refuses a keyword that `**kwargs` would take, if it has the name
    of a positional-only parameter with a default.
    """
    function = function_of(header)
    misfit = Signature.of(function).misfit(args, kwargs)
    assert (misfit is None) == fits(function, args, kwargs), (header, misfit)
    bound = inspect.signature(function)
    only = {name for name, parameter in bound.parameters.items() if parameter.kind is parameter.POSITIONAL_ONLY}
    if not only & kwargs.keys():
        assert (misfit is None) == fits(bound.bind, args, kwargs), (header, misfit)


@pytest.mark.parametrize(
    ("header", "args", "kwargs", "words"),
    [
        ("to, subject", ["x"], {}, "parameter 'subject' is missing"),
        ("to, subject", [], {"subject": 1}, "parameter 'to' is missing"),
        ("to", ["x", "y", "z"], {}, "3 positional arguments; at most 1 fit"),
        ("", [], {"to": 1}, "there is no parameter 'to'"),
        ("to", ["x"], {"to": "x"}, "parameter 'to' is given by position and by keyword"),
        ("*, to, subject", [], {"to": 1}, "parameter 'subject' is missing"),
        ("to, /", [], {"to": 1}, "there is no parameter 'to'"),
        ("to, /, **more", [], {"to": 1}, "parameter 'to' is missing"),
    ],
)
def test_misfit_names_the_parameter(header: str, args: list[str], kwargs: dict[str, Any], words: str) -> None:
    """The words say what is wrong with which parameter."""
    assert Signature.of(function_of(header)).misfit(args, kwargs) == words


def test_what_is_said_of_the_task_itself_is_no_argument() -> None:
    """Whoever gives it as one hears where it belongs; a function may have such a parameter all the same."""
    of_task = sorted(Changes.__annotations__)
    for name in of_task:
        misfit = Signature.of(function_of("to")).misfit(["x"], {name: 1})
        assert misfit == f"there is no parameter '{name}' (of the task itself: Task.of(...).but({name}=...))"
        assert Signature.of(function_of(f"to, {name}")).misfit(["x"], {name: 1}) is None
    assert of_task == ["delay_s", "expires_s", "id", "retries"]


def test_name_from_outside_is_cut_and_escaped() -> None:
    """A keyword is a stranger's text: of a huge or strange one, a short printable piece is shown."""
    misfit = Signature.of(function_of("to")).misfit(["x"], {"\x1b[31m\n" + "x" * 10_000: 1})
    assert misfit is not None
    assert misfit.isascii()
    assert misfit.isprintable()
    assert len(misfit) < 120


def test_wrapped_function_has_the_parameters_it_shows() -> None:
    """A decorator that keeps the signature (`functools.wraps`) is looked through, as `inspect` does."""

    def send(to: str, *, subject: str = "") -> None:
        """Do nothing."""

    @wraps(send)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        send(*args, **kwargs)

    signature = Signature.of(wrapper)
    assert signature.misfit(["x"], {"subject": "y"}) is None
    assert signature.misfit(["x", "y"], {}) is not None


def test_what_is_no_function_has_no_signature() -> None:
    """A value that cannot be called raises, when the module is loaded and not at a submit."""
    with pytest.raises(TypeError):
        Signature.of(7)  # type: ignore[arg-type]
