"""`python -m demo`: files, sums, a report and mail, through one queue, by several processes.

Starts the mail server, the broker and the producers, shows how far they are, stops them, and checks what it claims to
have shown. The work itself is in `demo.tasks`, and how it is submitted in the modules `demo.produce_...`.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from demo.claims import Evidence, as_lines, claims, numbers
from demo.processes import Child, Children, DemoError
from demo.progress import Progress
from demo.sources import packages, plant, sources, standard_library
from demo.terminal import columns, folded
from producer import Producer, TurnstileError

_RECIPIENTS: Final = ("ada@example.org", "grace@example.org")
_FILE_PRODUCERS: Final = 2
_MARK: Final = ".made-by-the-demo"
_LOOK_S: Final = 0.2  # between two looks at the broker's statistics
_START_S: Final = 20.0
_LONGEST_S: Final = 300.0  # it takes a tenth of this; what takes longer hangs
_SPARE_ROOMS: Final = 20


def main() -> int:
    """Run the demo; 0 if it showed all that it claims to."""
    options = _options()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a file says of itself may not fit the terminal's encoding
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return _run(options)
    except (DemoError, TurnstileError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ndemo: interrupted; its processes have ended. What they made is in {options.out}", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    missing = [name for name in ("aiosmtpd", "matplotlib") if importlib.util.find_spec(name) is None]
    if missing:
        raise DemoError(f"not installed: {', '.join(missing)}. Try: pip install 'turnstile-queue[demo]'")
    out = _made_anew(options.out.resolve())
    trees = [options.directory.resolve(), plant(out / "planted")]
    files = sources(trees, options.files)
    sums = packages(files)
    expected = len(files) + len(sums) + 1 + len(_RECIPIENTS)
    capacity = options.capacity or max(min(200, len(files) // 4), len(sums) + _SPARE_ROOMS)
    if capacity <= len(sums):
        raise DemoError(
            f"--capacity {capacity} is not above the number of packages, {len(sums)}: the tasks that add them up wait "
            "in the queue, and would keep out the files that they wait for"
        )

    _say(f"{len(files):,} Python files of {trees[0]}, through a queue of {capacity:,} rooms:")
    with Children(out / "logs") as children:
        mail_server = children.start("mail server", "-m", "demo.mail_server", "--folder", str(out / "mail"))
        broker = children.start(
            "broker", "-W", "ignore",  # about the files that the tasks parse
            "-m", "broker", "--tasks", "demo.tasks", "--endpoint", "tcp://127.0.0.1:0",
            "--workers", str(options.workers), "--capacity", str(capacity),
        )  # fmt: skip
        smtp_port = numbers(mail_server.first_line(_START_S))["port"]
        endpoint = re.sub(r".*\bendpoint=(\S+).*", r"\1", broker.first_line(_START_S))
        _say(
            f"  a broker with {options.workers} workers on {endpoint}, a mail server that puts off every first try, "
            f"{_FILE_PRODUCERS} producers for the files, one for the sums and the report, one for the mail"
        )
        print()

        common = ["--endpoint", endpoint, "--out", str(out)]
        work = [*common, *(["--files", str(options.files)] if options.files else []), *map(str, trees)]
        shares = [f"{number}/{_FILE_PRODUCERS}" for number in range(1, _FILE_PRODUCERS + 1)]
        file_producers = [
            children.start(f"file producer {share[0]}", "-m", "demo.produce_files", "--share", share, *work)
            for share in shares
        ]
        with Producer(endpoint) as watcher:
            progress = Progress(sys.stdout, expected)
            makers = [*file_producers, children.start("report producer", "-m", "demo.produce_report", *work)]
            _watch(children, makers, watcher, progress, began + _LONGEST_S)
            mailing = ["-m", "demo.produce_mail", *common, "--smtp-port", str(smtp_port), *_RECIPIENTS]
            _watch(children, [children.start("mail producer", *mailing)], watcher, progress, began + _LONGEST_S)
            stats = watcher.stats()
            progress.show(stats, last=True)
            letters = _dead_letters(watcher)

        broker.terminate()
        mail_server.terminate()
        evidence = Evidence(
            out=out,
            expected=expected,
            capacity=capacity,
            recipients=_RECIPIENTS,
            broker_line=broker.finish(_START_S),
            mail_server=mail_server.finish(_START_S),
            producers=[child.finish(_START_S) for child in file_producers],
            rejected=stats["rejected"].get("full", 0),
            retries=stats["retries"],
            letters=letters,
        )
    judged = claims(evidence)
    print("", *as_lines(judged, columns()), "", sep="\n")
    failed = [claim.name for claim in judged if not claim.holds]
    if failed:
        print(f"demo: not as claimed: {', '.join(failed)}; the logs are in {out / 'logs'}", file=sys.stderr)
        return 1
    _say(f"All as claimed, in {time.monotonic() - began:.0f} s. Open {out / 'report.html'} in a browser.")
    return 0


def _say(text: str) -> None:
    print(*folded(text, columns(), "    "), sep="\n")


def _watch(children: Children, running: list[Child], watcher: Producer, progress: Progress, deadline: float) -> None:
    """Show progress until all of `running` have ended; `DemoError` as soon as any child has ended badly."""
    while any(child.exit_code is None for child in running):
        children.check()
        progress.show(watcher.stats())
        if time.monotonic() > deadline:
            raise DemoError(f"the demo hangs: it has taken more than {_LONGEST_S:g} s")
        time.sleep(_LOOK_S)
    children.check()


def _dead_letters(watcher: Producer) -> list[str]:
    """The errors of all dead letters that the broker keeps."""
    errors: list[str] = []
    while True:
        page = watcher.dead(limit=50, offset=len(errors))
        errors += [letter.error for letter in page.letters]
        if not page.letters or len(errors) >= page.total:
            return errors


def _made_anew(out: Path) -> Path:
    """An empty folder at `out`. What an earlier run left there goes; anything else is not ours to remove."""
    if out.exists() and not (out / _MARK).exists() and (not out.is_dir() or any(out.iterdir())):
        raise DemoError(f"{out} is there already and no demo made it: remove it, or choose another --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / _MARK).touch()
    return out


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what a handler is given
    raise KeyboardInterrupt


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description="Measure the Python files of a directory tree, add them up, draw a report and mail it: each step "
        "by tasks in a queue, some of which are rejected, fail, are tried again or are given up. Needs no network.",
        epilog="Exit codes: 0 everything was shown, 1 something was not as claimed (the last line says what).",
    )
    add = parser.add_argument
    add("--directory", type=_directory, default=standard_library(), help="default: Python's own standard library")
    add("--files", type=_count, metavar="N", help="only so many of its files, spread over the tree")
    add("--out", type=Path, default=Path("build/demo"), help="made anew by each run (default: build/demo)")
    add("--workers", type=_count, metavar="N", default=4, help="worker threads of the broker (default: 4)")
    add("--capacity", type=_count, metavar="N", help="rooms of the queue (default: at most 200, so that it fills up)")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a directory")
    return Path(text)


if __name__ == "__main__":
    sys.exit(main())
