"""The flags that the demo's producers share."""

from __future__ import annotations

import argparse
from pathlib import Path

from demo.sources import standard_library


def options(description: str) -> argparse.ArgumentParser:
    """A parser with `--endpoint` and `--out`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--endpoint", required=True, help="where the broker listens")
    parser.add_argument("--out", type=Path, default="build/demo", help="where results are (default: build/demo)")
    return parser


def options_of_sources(description: str) -> argparse.ArgumentParser:
    """The same with `--files` and the directories: what is measured by one producer, and added up by another."""
    parser = options(description)
    parser.add_argument("--files", type=int, help="at most so many of each directory")
    parser.add_argument(
        "directory", type=Path, nargs="*", default=[standard_library()], help="default: Python's own library"
    )
    return parser
