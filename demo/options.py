"""The flags that the demo's producers share, and what they say about the way to the broker."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from demo.sources import standard_library
from producer import BadKey, Keys


def options(module: str, description: str, environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The parser of `python -m demo.MODULE`, with `--endpoint`, `--out` and the keys' files.

    The environment tells what is not said.
    """
    parser = argparse.ArgumentParser(prog=f"python -m demo.{module}", description=description)
    endpoint = environment.get("TURNSTILE_ENDPOINT") or None
    parser.add_argument(
        "--endpoint", default=endpoint, required=endpoint is None,
        help="where the broker listens (default: TURNSTILE_ENDPOINT)",
    )  # fmt: skip
    parser.add_argument(
        "--key", metavar="FILE", default=environment.get("TURNSTILE_KEY") or None,
        help="this producer's secret key, where the broker asks for one (default: TURNSTILE_KEY)",
    )  # fmt: skip
    parser.add_argument(
        "--broker-key", metavar="FILE", default=environment.get("TURNSTILE_BROKER_KEY") or None,
        help="the broker's public key, with it (default: TURNSTILE_BROKER_KEY)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default="build/demo", help="where results are (default: build/demo)")
    return parser


def options_of_sources(module: str, description: str, environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """The same with `--files` and the directories: what is measured by one producer, and added up by another."""
    parser = options(module, description, environment)
    parser.add_argument("--files", type=int, help="at most so many of each directory")
    parser.add_argument(
        "directory", type=Path, nargs="*", default=[standard_library()], help="default: Python's own library"
    )
    return parser


def keys_of(given: argparse.Namespace) -> Keys | None:
    """The keys in the files that were named; None where none was. `BadKey` for one alone, or a file that holds none."""
    if given.key is None and given.broker_key is None:
        return None
    if given.key is None or given.broker_key is None:
        raise BadKey("--key and --broker-key go together: the producer's secret key, and the broker's public one")
    return Keys.read(given.key, given.broker_key)
