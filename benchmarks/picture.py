"""`python -m benchmarks.picture`: what 50 producers experience at 10 x overload, three ways, in build/overload.png.

The same load for each: a queue of 100 whose producers come back when told; the same queue with producers that come back
after a fixed time; and a queue without a limit. Half a minute each.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from benchmarks.crush import PRODUCERS, TASK_S, WORKERS, Crush, Manner, crush

_SECONDS: Final = 30.0
_LIMIT: Final = ("--capacity", "100", "--remember-ids", "1000")
_NO_LIMIT: Final = ("--remember-ids", "1000")  # room for four million tasks, see `benchmarks.servers`
_COLOURS: Final = ("#1b7f5c", "#d98a00", "#b3263a")
_NAMES: Final = ("bound of 100, come back after retry_after", "bound of 100, come back after 0.1 s", "no bound")


def draw(crushes: list[Crush], path: Path) -> None:
    """Four panels: waiting time, shares, rejected submits, memory."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10})
    figure, ((waits, shares), (wasted, memory)) = plt.subplots(2, 2, figsize=(10, 6.2), layout="constrained")
    rate = WORKERS / TASK_S
    figure.suptitle(
        f"{PRODUCERS} producers submit {10 * rate:,.0f} tasks/s to a broker that can run {rate:,.0f}/s", fontsize=13
    )
    for seen, colour, name in zip(crushes, _COLOURS, _NAMES, strict=True):
        _draw_waits(waits, seen, colour, name)
        mean = statistics.mean(seen.accepted)
        shares.plot(
            range(1, PRODUCERS + 1), [100 * one / mean for one in sorted(seen.accepted)], color=colour, linewidth=2,
            label=f"{seen.jain:.3f}",
        )  # fmt: skip
        base = seen.rss[0][1]
        memory.plot(
            [passed for passed, _ in seen.rss],
            [(size - base) / 2**20 for _, size in seen.rss],
            color=colour,
            linewidth=2,
        )
    waits.set(title="Wait from the first submit to the start (dots: a task each)", xlabel="time, s", ylabel="wait, s")
    waits.set(yscale="log", ylim=(0.05, 60))
    waits.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    shares.set(title="Accepted tasks of each producer, in % of an equal share", xlabel="producer, least to most")
    shares.set(ylabel="%", ylim=(0, None))
    shares.legend(frameon=False, title="Jain's index of fairness", alignment="left")
    _draw_wasted(wasted, crushes)
    memory.set(title="Memory that the broker's process gained", xlabel="time, s", ylabel="MiB")
    figure.legend(*waits.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=100)


def _draw_waits(axes: Any, seen: Crush, colour: str, name: str) -> None:
    points = list(seen.waits())
    axes.scatter(*zip(*points, strict=True), s=2, color=colour, alpha=0.25, linewidths=0)
    seconds = sorted({int(began) for began, _ in points})
    medians = [statistics.median(wait for began, wait in points if int(began) == second) for second in seconds]
    axes.plot([second + 0.5 for second in seconds], medians, color=colour, linewidth=2, label=name)


def _draw_wasted(axes: Any, crushes: list[Crush]) -> None:
    ratios = [seen.wasted / sum(seen.accepted) for seen in crushes]
    bars = axes.barh(range(len(ratios)), ratios, color=_COLOURS)
    rates = [f"{sum(seen.accepted) / seen.seconds:,.0f}/s accepted" for seen in crushes]
    axes.bar_label(bars, [f"{ratio:.2f}    {rate}" for ratio, rate in zip(ratios, rates, strict=True)], padding=4)
    axes.set(title="Rejected submits for each accepted task", yticks=[], xlim=(0, 1.5 * max(ratios)))
    axes.invert_yaxis()


def main() -> None:
    """Measure, and draw."""
    argparse.ArgumentParser(prog="python -m benchmarks.picture", description=__doc__).parse_args()
    settings = ((Manner.ADVICE, _LIMIT), (Manner.BACKOFF, _LIMIT), (Manner.ADVICE, _NO_LIMIT))
    crushes = [crush(manner, _SECONDS, *flags) for manner, flags in settings]
    for seen, name in zip(crushes, _NAMES, strict=True):
        waits = [wait for _, wait in seen.waits()]
        print(
            f"{name}: busy {seen.busy:.1%}, accepted {sum(seen.accepted):,}, rejected {seen.wasted:,}, "
            f"Jain {seen.jain:.3f}, wait median {statistics.median(waits):.2f} s, longest {max(waits):.2f} s"
        )
    path = Path("build/overload.png")
    draw(crushes, path)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
