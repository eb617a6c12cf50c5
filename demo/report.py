"""The report: one HTML page that needs nothing beside it, with its plots drawn by matplotlib and put in as SVG.

Turns results into a page, as text. Reads and writes no file, and knows no queue.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from html import escape
from string import Template
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from demo.results import PackageResult
from demo.sources import PLANTED

_INK, _QUIET, _BLUE, _GRID = "#1f2933", "#616e7c", "#2f6f9f", "#e4e7eb"
_STYLE: Any = {
    "font.size": 12,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _QUIET,
    "text.color": _INK,
    "xtick.color": _QUIET,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.hashsalt": "turnstile",  # the same results give the same bytes
}
_SHOWN = 15  # packages in the plot and in the table
_LISTED = 40  # files that do not parse


def page(directory: str, packages: list[PackageResult], ledger: dict[str, int]) -> str:
    """The whole page. `packages` with the largest first; `ledger` as the broker tells it."""
    lines, functions = sum(p.lines for p in packages), sum(p.functions for p in packages)
    broken = [(path, reason) for p in packages for path, reason in p.unparsable]
    documented = sum(p.documented for p in packages)
    tiles = {
        "files": sum(p.files for p in packages),
        "lines": lines,
        "functions": functions,
        "classes": sum(p.classes for p in packages),
        "do not parse": len(broken),
    }
    return _PAGE.substitute(
        directory=escape(directory),
        tiles="".join(f"<div><b>{count:,}</b><span>{name}</span></div>" for name, count in tiles.items()),
        documented=f"{documented / functions:.0%}" if functions else "none",
        by_package=_plot(lambda axes: _by_package(axes, packages)),
        by_size=_plot(lambda axes: _by_size(axes, [count for p in packages for count in p.file_lines])),
        packages="".join(_package_row(p) for p in packages[:_SHOWN]),
        more_packages=_more(len(packages) - _SHOWN, "package"),
        broken="".join(_broken_row(path, reason) for path, reason in broken[:_LISTED]),
        more_broken=_more(len(broken) - _LISTED, "file"),
        accepted=f"{ledger['accepted']:,}",
        ledger="".join(_ledger_row(state, count) for state, count in ledger.items() if state != "accepted"),
        balance="It balances." if ledger["accepted"] == sum(ledger.values()) / 2 else "It does not balance!",
    )


def _plot(draw: Callable[[Any], None]) -> str:
    drawn = io.StringIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=(6.0, 5.0), layout="constrained")  # not pyplot, which is for one thread
        draw(figure.add_subplot())
        figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None})
    return drawn.getvalue()[drawn.getvalue().index("<svg") :]


def _by_package(axes: Any, packages: list[PackageResult]) -> None:
    shown = packages[:_SHOWN][::-1]
    bars = axes.barh([p.package for p in shown], [p.lines for p in shown], color=_BLUE, height=0.72)
    axes.bar_label(bars, [f"{p.lines:,}" for p in shown], padding=5, color=_QUIET)
    axes.margins(x=0.18, y=0.02)
    axes.xaxis.set_visible(False)  # each bar says its number
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)


def _by_size(axes: Any, file_lines: list[int]) -> None:
    # Files differ by factors, so the classes double: 1, 2 to 3, 4 to 7, ...
    edges = [2**power for power in range(max(file_lines, default=1).bit_length() + 1)]
    axes.hist([count for count in file_lines if count], bins=edges, color=_BLUE, rwidth=0.94)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.minorticks_off()
    axes.tick_params(length=0, labelcolor=_QUIET)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", color=_GRID)
    axes.set(xlabel="lines in the file", ylabel="files")
    axes.margins(y=0.16)
    if file_lines:
        median = max(sorted(file_lines)[len(file_lines) // 2], 1)
        axes.axvline(median, color=_INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"half of them have\nat most {median:,} lines", (median, 1), xytext=(7, -2), va="top",
            xycoords=("data", "axes fraction"), textcoords="offset points",
        )  # fmt: skip


def _package_row(p: PackageResult) -> str:
    documented = f"{p.documented / p.functions:.0%}" if p.functions else "–"
    numbers = "".join(f"<td class=n>{text}</td>" for text in (
        f"{p.files:,}", f"{p.lines:,}", f"{p.functions:,}", f"{p.classes:,}", documented
    ))  # fmt: skip
    longest = f"{p.longest:,} lines <small>{escape(p.longest_name)}</small>" if p.longest else "–"
    return f"<tr><td>{escape(p.package)}</td>{numbers}<td>{longest}</td></tr>"


def _broken_row(path: str, reason: str) -> str:
    mark = " <em>planted</em>" if path.startswith(f"{PLANTED}/") else ""
    return f"<tr><td><code>{escape(path)}</code>{mark}</td><td>{escape(reason)}</td></tr>"


def _ledger_row(state: str, count: int) -> str:
    return f"<tr class={'some' if count else 'none'}><td>{state}</td><td class=n>{count:,}</td></tr>"


def _more(count: int, noun: str) -> str:
    return f"<p class=quiet>and {count:,} more {noun}{'s' if count > 1 else ''}</p>" if count > 0 else ""


_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>What is in $directory</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #f5f7fa; margin: 0 }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px } h2 { font-size: 19px; margin: 0 0 12px }
.quiet, small { color: #616e7c } .quiet { margin: 4px 0 10px }
.tiles { display: flex; flex-wrap: wrap; gap: 16px; margin: 28px 0 16px }
.tiles div, section { background: #fff; border: 1px solid #e4e7eb; border-radius: 10px }
.tiles div { flex: 1; min-width: 130px; padding: 14px 18px }
.tiles b { display: block; font-size: 27px; line-height: 1.2 } .tiles span { color: #616e7c }
section { padding: 20px 22px; margin-top: 16px; overflow-x: auto }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 16px }
.pair section { margin-top: 0 } svg { width: 100%; height: auto; display: block }
table { border-collapse: collapse; width: 100%; font-size: 15px }
th { text-align: left; color: #616e7c; font-weight: 500 }
th, td { padding: 6px 22px 6px 0; border-bottom: 1px solid #e4e7eb; vertical-align: top }
tr:last-child td { border-bottom: 0 } .n { text-align: right; font-variant-numeric: tabular-nums }
td small { display: block; overflow-wrap: anywhere } code { font-size: 14px; overflow-wrap: anywhere }
em { font: 13px system-ui, sans-serif; background: #fff3c4; border-radius: 4px; padding: 1px 6px; white-space: nowrap }
.ledger { width: auto; min-width: 260px } .none td { color: #9aa5b1 }
</style></head><body><main>
<h1>What is in this Python tree</h1>
<p class="quiet"><code>$directory</code>, read by one task for each file, added up by one task for each package.</p>
<div class="tiles">$tiles</div>
<div class="pair">
<section><h2>Lines by package</h2>$by_package</section>
<section><h2>How long the files are</h2>$by_size</section>
</div>
<section><h2>The largest packages</h2>
<table><tr><th>package<th class=n>files<th class=n>lines<th class=n>functions<th class=n>classes
<th class=n>with docstring<th>longest function</tr>
$packages</table>$more_packages
<p class="quiet">Of all functions, $documented have a docstring.</p></section>
<section><h2>Files that do not parse</h2>
<p class="quiet">Each is a dead letter: to try again would be of no use.
Those marked <em>planted</em> were written by the demo.</p>
<table><tr><th>file<th>reason</tr>
$broken</table>$more_broken</section>
<section><h2>The ledger</h2>
<p class="quiet">When this page was ordered, the broker had accepted $accepted tasks, and each was in one of these
states. $balance</p>
<table class="ledger">$ledger</table></section>
</main></body></html>
""")
