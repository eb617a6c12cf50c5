"""Do these arguments fit that function? Answered without calling it, fast enough to ask at every submit.

`inspect.signature(f).bind(...)` answers the same question and builds the bound arguments on the way, at ten times the
cost; here the parameters are counted once, when the module is loaded.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

#: What a producer says of a task, not to its function.
_OF_TASK: Final = frozenset({"id", "retries", "delay_s", "expires_s"})


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of one function, as far as a call can miss them."""

    positional: tuple[str, ...]  #: parameters that a positional argument can fill, in order
    required_positional: int  #: so many of them have no default
    positional_only: int  #: so many of them cannot be given by keyword
    keyword_only: frozenset[str]
    required_keywords: frozenset[str]
    takes_more_args: bool  #: there is an `*args`
    takes_more_kwargs: bool  #: there is a `**kwargs`

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Signature:
        """The signature of `function`; `TypeError` if it has none."""
        of_kind: dict[object, list[inspect.Parameter]] = defaultdict(list)
        for parameter in inspect.signature(function).parameters.values():
            of_kind[parameter.kind].append(parameter)
        positional_only = of_kind[inspect.Parameter.POSITIONAL_ONLY]
        positional = positional_only + of_kind[inspect.Parameter.POSITIONAL_OR_KEYWORD]
        keyword_only = of_kind[inspect.Parameter.KEYWORD_ONLY]
        return cls(
            positional=tuple(p.name for p in positional),
            required_positional=sum(p.default is p.empty for p in positional),
            positional_only=len(positional_only),
            keyword_only=frozenset(p.name for p in keyword_only),
            required_keywords=frozenset(p.name for p in keyword_only if p.default is p.empty),
            takes_more_args=bool(of_kind[inspect.Parameter.VAR_POSITIONAL]),
            takes_more_kwargs=bool(of_kind[inspect.Parameter.VAR_KEYWORD]),
        )

    def misfit(self, args: Sequence[object], kwargs: Mapping[str, object]) -> str | None:
        """What is wrong with the arguments, in words that name the parameter; None if the call would bind."""
        given = len(args)
        if given > len(self.positional) and not self.takes_more_args:
            return f"{given} positional arguments; at most {len(self.positional)} fit"
        if not kwargs and given >= self.required_positional and not self.required_keywords:
            return None
        by_position = self.positional[:given]
        for name in kwargs:
            if name in by_position[self.positional_only :]:
                return f"parameter '{name}' is given by position and by keyword"
            fits = name in self.positional[self.positional_only :] or name in self.keyword_only
            if not fits and not self.takes_more_kwargs:
                hint = f" (of the task itself: Task.of(...).but({name}=...))" if name in _OF_TASK else ""
                return f"there is no parameter {name[:64]!a}{hint}"
        by_keyword = self.positional[max(given, self.positional_only) :]
        for index, name in enumerate(self.positional[: self.required_positional]):
            if index >= given and not (name in by_keyword and name in kwargs):
                return f"parameter '{name}' is missing"
        for name in sorted(self.required_keywords - kwargs.keys()):
            return f"parameter '{name}' is missing"
        return None
