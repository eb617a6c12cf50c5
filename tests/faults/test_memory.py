"""A stop for want of memory: what is held is saved and named in the memory that it takes already (P9, P11)."""

from __future__ import annotations

import re
import resource
from pathlib import Path

from tests.e2e.conftest import Connect, StartBroker
from tests.e2e.raw import packed
from tests.faults.limits import limited

_MIB = 2**20
_TASKS, _TASK_BYTES, _IN_REQUEST = 66_000, 1_000, 50
#: Less than the tasks of the queue take once more. It has to do for the stacks of the threads that say the last words.
_LEFT_BYTES = 40 * _MIB


def test_stop_needs_no_room_for_a_second_copy(start_broker: StartBroker, connect: Connect, tmp_path: Path) -> None:
    """A full queue of the usual 64 MiB, and 40 MiB that may be taken beyond: all is saved, and all is named."""
    spill = tmp_path / "spill"
    broker = start_broker("--workers", "1", "--drain-s", "0", "--capacity", "100000", "--spill", str(spill))
    raw = connect(broker)
    raw.submit("noop", id="first", delay_s=600)
    ids = [f"task-{number}" for number in range(_TASKS)]
    raw.submit("sleep", 600, id="running")
    raw.wait_for(running=1)
    for start in range(0, _TASKS, _IN_REQUEST):
        wires = [packed("noop", "x" * _TASK_BYTES, id=task_id) for task_id in ids[start : start + _IN_REQUEST]]
        raw.ask("submit", tasks=wires)
    accepted = ["first", "running", *ids[: raw.stats()["held"] - 2]]
    assert len(accepted) * _TASK_BYTES > 55 * _MIB
    with limited(broker.pid, resource.RLIMIT_AS, _address_space(broker.pid) + _LEFT_BYTES):
        assert broker.stop() == 5
    assert (broker.report["returned"], broker.report["saved"]) == (len(accepted), len(accepted))
    assert broker.returned_ids == accepted
    assert spill.stat().st_size > 55 * _MIB


def _address_space(pid: int) -> int:
    match = re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) * 1_024
