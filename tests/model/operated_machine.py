"""The same machine with an operator in it, who lets nothing begin, takes tasks back, and has dead ones run again."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from broker.queue import Offer
from tests.model.queue_machine import IDS, QueueMachine, serving

SOME_IDS = st.lists(st.sampled_from(IDS), max_size=4, unique=True)
buried = precondition(lambda m: m.reference.letters and not m.reference.closed)


class OperatedMachine(QueueMachine):
    """Random walks in which the operator acts as often as producers and workers do."""

    @serving
    @rule(pause=st.sampled_from([True, False, False]))
    def flow(self, pause: bool) -> None:
        """Nothing begins from now on; or everything goes on."""
        self.reference.paused = pause
        if pause:
            self.queue.pause()
            self.reference.recall()
        else:
            self.queue.resume()
            self.reference.publish()

    @serving
    @rule(ids=SOME_IDS)
    def cancel(self, ids: list[str]) -> None:
        """What has not begun is taken back; of the ids that ended, run, or are unheard of, nothing changes."""
        self.queue.cancel(ids)
        self.reference.cancel(ids, self.clock.monotonic())

    @buried
    @rule(which=st.integers(0, 7), drain=st.sampled_from([False, False, False, True]))
    def requeue(self, which: int, drain: bool) -> None:
        """A dead task is accepted once more, if it can be; sometimes just as a drain begins."""
        if drain:
            self.queue.draining = self.reference.draining = True
        letters, now = list(self.reference.letters.values()), self.clock.monotonic()
        task = letters[which % len(letters)]
        expected = self.reference.expected_requeue(task, now)
        assert self.queue.requeue(task.id, task.wire, isolated=task.isolated) is expected
        if expected is Offer.ACCEPTED:
            self.reference.requeue(task, now)
