"""One line of the table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure. `bar`: what it should reach; None where it is shown for itself."""

    name: str
    value: float
    unit: str
    bar: str | None
    met: bool | None


def at_least(name: str, value: float, unit: str, bar: float) -> Row:
    """A figure that should be at least `bar`."""
    return Row(name, value, unit, f">= {bar:g}", value >= bar)


def at_most(name: str, value: float, unit: str, bar: float) -> Row:
    """A figure that should be at most `bar`."""
    return Row(name, value, unit, f"<= {bar:g}", value <= bar)
