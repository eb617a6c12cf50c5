"""A producer: has the report mailed to some people, and waits until it is.

    python -m demo.produce_mail --endpoint tcp://127.0.0.1:5555 --smtp-port 2525 ada@example.org grace@example.org

Written with `AsyncProducer`, as in a web application: each `await` lets others go on. The mail server will put off the
first try of each mail. Nothing about that is to be seen here: trying again is the broker's affair.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping

from demo.options import keys_of, options
from demo.tasks import mail_report
from producer import AsyncProducer, Rejected, Task, TurnstileError


async def main(environment: Mapping[str, str]) -> int:
    """Submit and wait; 0 if every mail was sent."""
    given = _options(environment)
    out = str(given.out.resolve())
    async with AsyncProducer(given.endpoint, on_full="wait", timeout_s=60, keys=keys_of(given)) as producer:
        mails = [Task.of(mail_report, out, given.smtp_host, given.smtp_port, to) for to in given.recipient]
        ends = await asyncio.gather(*(_deliver(producer, mail) for mail in mails))
    for mail, end in zip(mails, ends, strict=True):
        print(f"{mail.id} recipient={mail.args[-1]} {end}", file=sys.stdout if end == "succeeded" else sys.stderr)
    return 0 if set(ends) == {"succeeded"} else 1


async def _deliver(producer: AsyncProducer, mail: Task) -> str:
    verdict = await producer.submit(mail)
    if isinstance(verdict, Rejected):
        return f"rejected: {verdict.reason}"
    while (status := await producer.status(mail.id)) is not None:
        if status.state not in {"ready", "delayed", "running"}:
            return status.state
        await asyncio.sleep(0.1)
    return "forgotten"


def _options(environment: Mapping[str, str]) -> argparse.Namespace:
    parser = options("produce_mail", "Have the report mailed.", environment)
    parser.add_argument("--smtp-host", default="127.0.0.1", help="of the mail server (default: 127.0.0.1)")
    parser.add_argument("--smtp-port", type=int, required=True, help="of the mail server")
    parser.add_argument("recipient", nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(os.environ)))
    except TurnstileError as error:  # no broker there, or no reply: an error, for the outcome is not known
        sys.exit(f"{error}")
