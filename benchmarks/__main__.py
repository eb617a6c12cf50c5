"""`python -m benchmarks [ROW ...]`: measure, print a table, write build/bench.json."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from textwrap import wrap

from benchmarks.row import Row
from benchmarks.rows import ROWS


def main() -> None:
    """Measure the rows that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which to measure: {', '.join(ROWS)} (default: all)")
    chosen = parser.parse_args().rows or list(ROWS)
    if unknown := [name for name in chosen if name not in ROWS]:
        parser.error(f"no row '{unknown[0]}'; there are {', '.join(ROWS)}")
    measured: list[Row] = []
    print(f"{'what':<41} {'figure':>12} {'unit':<10} {'bar':<9} met")
    for name in chosen:
        for row in ROWS[name]():
            measured.append(row)
            met = "" if row.met is None else "yes" if row.met else "NO"
            *first, last = wrap(row.name, 41)
            figures = f"{last:<41} {row.value:>12,.2f} {row.unit:<10} {row.bar or '':<9} {met}".rstrip()
            print(*first, figures, sep="\n", flush=True)
    path = Path("build/bench.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in measured], indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
