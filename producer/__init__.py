"""The producer's side of Turnstile: submit tasks to a broker, and get an honest answer.

    from producer import Producer

    with Producer() as producer:
        verdict = producer.submit("send_email", "ada@example.org")
        if not verdict.accepted:
            print(verdict.reason, verdict.retry_after)

Accepted and rejected are values; an error means that nothing was submitted, or that the outcome is unknown.
Responsible for names alone; nothing is defined here.
"""

from broker.protocol import DEFAULT_ENDPOINT, Reason, Retry
from producer.async_producer import AsyncProducer
from producer.errors import (
    BadEndpoint,
    BadKey,
    BadReply,
    BadTask,
    LocalFault,
    NoReply,
    NotLetIn,
    ProducerClosed,
    RemoteFault,
    RequestRefused,
    TooLarge,
    TurnstileError,
    Unreachable,
)
from producer.keys import Keys
from producer.producer import Producer
from producer.replies import DeadLetter, DeadPage, Limits, Pong, TaskStatus
from producer.task import Task, new_id
from producer.verdicts import Accepted, Rejected, Verdict

__all__ = [
    "DEFAULT_ENDPOINT",
    "Accepted",
    "AsyncProducer",
    "BadEndpoint",
    "BadKey",
    "BadReply",
    "BadTask",
    "DeadLetter",
    "DeadPage",
    "Keys",
    "Limits",
    "LocalFault",
    "NoReply",
    "NotLetIn",
    "Pong",
    "Producer",
    "ProducerClosed",
    "Reason",
    "Rejected",
    "RemoteFault",
    "RequestRefused",
    "Retry",
    "Task",
    "TaskStatus",
    "TooLarge",
    "TurnstileError",
    "Unreachable",
    "Verdict",
    "new_id",
]
