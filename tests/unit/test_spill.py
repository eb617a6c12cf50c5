"""The file of returned tasks: what was saved comes back, and what is no such file is refused and left alone."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.protocol import pack, unpack
from broker.records import Returned
from broker.spill import SpillError, load, of_other_tasks, prepare, retire, save
from broker.states import State
from tests.still_broker import wire
from tests.unit.test_descriptors import assert_closed

NOW = 1_750_000_000.0
TASKS = [
    Returned("ready", wire("ready", "n"), 0, State.READY),
    Returned("again", wire("again", "n", "é" * 500), 2, State.DELAYED, due_in_s=5.0, age_s=7.0),
    Returned("runs", wire("runs", "n"), 3, State.RUNNING),
    Returned("limited", wire("limited", "n"), 0, State.DELAYED, due_in_s=90.0, expires_in_s=100.0),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a spill file can be; there is none."""
    return tmp_path / "spill"


def test_what_was_saved_comes_back(path: Path) -> None:
    """Ids, bytes, attempts that ended, ages, and what each task waits for, in their order."""
    save(path, TASKS, NOW)
    loaded = load(path, NOW)
    assert [(one.id, one.wire) for one in loaded] == [(one.id, one.wire) for one in TASKS]
    assert [one.attempts_ended for one in loaded] == [0, 2, 2, 0]
    assert [one.age_s for one in loaded] == [0.0, 7.0, 0.0, 0.0]
    assert [one.was for one in loaded] == [State.READY, State.DELAYED, State.READY, State.DELAYED]
    assert [(one.due_in_s, one.expires_in_s) for one in loaded] == [
        (None, None),
        (5.0, None),
        (None, None),
        (90.0, 100.0),
    ]


@pytest.mark.parametrize(
    ("passed", "due", "expires"), [(60.0, [0.0, 30.0], 40.0), (95.0, [0.0, 0.0], 5.0), (200.0, [0.0, 0.0], -100.0)]
)
def test_time_goes_on_while_no_broker_runs(path: Path, passed: float, due: list[float], expires: float) -> None:
    """Delays, expiries and ages are counted from the save; what became due meanwhile is due at once."""
    save(path, TASKS, NOW)
    loaded = load(path, NOW + passed)
    assert [one.due_in_s for one in loaded if one.due_in_s is not None] == due
    assert loaded[3].expires_in_s == expires
    assert [one.age_s for one in loaded] == [passed, 7.0 + passed, passed, passed]


def test_clock_that_went_back_delays_nothing(path: Path) -> None:
    """If the machine's clock was set back, tasks wait as long as they had to at the stop, and not longer."""
    save(path, TASKS, NOW)
    assert [one.due_in_s for one in load(path, NOW - 10_000)] == [None, 5.0, None, 90.0]


def test_file_without_ages_is_loaded(path: Path) -> None:
    """One of an earlier version: its tasks count as accepted now. That version can load a file of this one, too."""
    save(path, TASKS, NOW)
    frame = len(b"turnstile-spill 1\n") + hashlib.sha256().digest_size
    content = unpack(path.read_bytes()[frame:])
    assert {len(row) for row in content["tasks"]} == {4}
    body = pack({"saved_at": content["saved_at"], "tasks": content["tasks"]})
    path.write_bytes(b"turnstile-spill 1\n" + hashlib.sha256(body).digest() + body)
    assert [(one.id, one.age_s) for one in load(path, NOW + 9.0)] == [(one.id, 0.0) for one in TASKS]


def test_attempt_that_ended_with_its_broker_counts(path: Path) -> None:
    """If the broker failed, the task that it was running may be why: its attempt is over."""
    save(path, TASKS, NOW, cut_off_counts=True)
    assert [one.attempts_ended for one in load(path, NOW)] == [0, 2, 3, 0]


def test_folder_is_made_for_its_owner_and_tried(tmp_path: Path) -> None:
    """Whether a file can be written there is known at the start, not at the stop; nothing is left of the trial."""
    path = tmp_path / "a" / "b" / "spill"
    with pytest.raises(FileNotFoundError):
        prepare(path, make_folder=False)
    assert list(tmp_path.iterdir()) == []
    prepare(path, make_folder=True)
    prepare(path, make_folder=True)
    prepare(path, make_folder=False)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == []
    unfinished = path.with_name("spill.unfinished")
    unfinished.write_text("of a broker that is saving")
    prepare(path, make_folder=False)
    assert unfinished.read_text() == "of a broker that is saving"
    with pytest.raises(OSError, match="/dev/null"):
        prepare(Path("/dev/null/spill"), make_folder=True)
    with pytest.raises(OSError, match="/proc"):
        prepare(Path("/proc/spill"), make_folder=False)


def test_name_that_is_too_long_to_be_written_is_known_at_the_start(tmp_path: Path) -> None:
    """The unfinished file's name is longer than the file's own."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") - len(".unfinished")
    prepare(tmp_path / ("x" * longest), make_folder=False)
    with pytest.raises(OSError, match="File name too long"):
        prepare(tmp_path / ("x" * (longest + 1)), make_folder=False)


def test_files_of_other_task_modules_are_found(tmp_path: Path) -> None:
    """Those of this endpoint, whole ones, and not one's own."""
    for name in ("tcp-1-aa-11.spill", "tcp-1-aa-22.spill", "tcp-1-aa-33.spill.loaded", "tcp-1-bb-11.spill"):
        (tmp_path / name).touch()
    assert of_other_tasks(tmp_path / "tcp-1-aa-11.spill") == [tmp_path / "tcp-1-aa-22.spill"]
    assert of_other_tasks(tmp_path / "tcp-1-cc-11.spill") == []


def test_no_file_is_no_tasks(path: Path) -> None:
    """A first start, or one after a clean stop."""
    assert load(path, NOW) == []
    retire(path)
    assert list(path.parent.iterdir()) == []


def test_save_replaces_the_file_whole_and_for_its_owner_alone(path: Path) -> None:
    """The old one is gone, nothing unfinished lies beside it, and nobody else can read the tasks."""
    save(path, TASKS, NOW)
    save(path, TASKS[:1], NOW)
    assert [one.id for one in load(path, NOW)] == ["ready"]
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_save_that_fails_leaves_the_old_file(path: Path) -> None:
    """A folder in the way of the unfinished file: the error of the system, and the tasks of before."""
    save(path, TASKS, NOW)
    path.with_name(path.name + ".unfinished").mkdir()
    with pytest.raises(OSError, match="unfinished"):
        save(path, TASKS[:1], NOW)
    assert len(load(path, NOW)) == len(TASKS)


def test_what_lies_where_the_file_is_written_is_not_written_to(path: Path, tmp_path: Path) -> None:
    """A link that was planted there leads nowhere; what an earlier save left does not tell who may read this one."""
    unfinished, other = path.with_name(path.name + ".unfinished"), tmp_path / "other"
    other.write_text("my thesis")
    unfinished.symlink_to(other)
    save(path, TASKS, NOW)
    assert (other.read_text(), path.is_symlink()) == ("my thesis", False)
    unfinished.touch(0o644)
    save(path, TASKS, NOW)
    assert path.stat().st_mode & 0o777 == 0o600


def test_folder_that_cannot_be_made_lasting_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks are in the file, but may not be after a crash of the machine: nobody is told that they are saved."""
    synced: list[int] = []

    def sync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:  # the file is the first one
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("broker.spill.os.fsync", sync)
    with pytest.raises(OSError, match="Input/output error"):
        save(path, TASKS, NOW)
    assert_closed(synced)
    assert len(load(path, NOW)) == len(TASKS)


def test_loaded_file_is_kept_under_another_name(path: Path) -> None:
    """One of them, the last; the next start finds nothing to load a second time."""
    save(path, TASKS, NOW)
    retire(path)
    save(path, TASKS[:1], NOW)
    retire(path)
    assert load(path, NOW) == []
    assert len(load(path.with_name("spill.loaded"), NOW)) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no spill file"),
        (b"my thesis", "no spill file"),
        (b"turnstile-spill 2\n" + b"x" * 100, "of another version"),
        (b"turnstile-spill 1\n", "is damaged"),
        (b"turnstile-spill 1\n" + b"x" * 100, "is damaged"),
    ],
)
def test_other_files_are_refused_and_left_alone(path: Path, data: bytes, words: str) -> None:
    """The message names the file and says what it is not; not a byte of it is changed."""
    path.write_bytes(data)
    with pytest.raises(SpillError, match=words) as caught:
        load(path, NOW)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == data


def test_every_cut_and_every_flipped_byte_is_noticed(path: Path) -> None:
    """A file that was written in part, or has rotted, is never loaded in part."""
    save(path, TASKS[:1], NOW)
    data = path.read_bytes()
    for place in range(len(data)):
        for damaged in (data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]):
            path.write_bytes(damaged)
            with pytest.raises(SpillError):
                load(path, NOW)


@pytest.mark.parametrize(
    "content",
    [
        None, [], {}, {"saved_at": NOW}, {"saved_at": None, "tasks": []}, {"saved_at": NOW, "tasks": None},
        {"saved_at": NOW, "tasks": [[]]}, {"saved_at": NOW, "tasks": [[b"\xc1", 0, None, None]]},
        {"saved_at": NOW, "tasks": [["text", 0, None, None]]},
        {"saved_at": NOW, "tasks": [[TASKS[0].wire, "x", None, None]]},
        {"saved_at": NOW, "tasks": [[TASKS[0].wire, 0, "x", None]]},
        *({"saved_at": NOW, "tasks": [[TASKS[0].wire, 0, None, None]], "ages_s": ages} for ages in (None, [], ["x"])),
    ],
)  # fmt: skip
def test_other_content_is_refused(path: Path, content: object) -> None:
    """A file that is whole, but holds no tasks as this version has them."""
    body = pack(content)
    path.write_bytes(b"turnstile-spill 1\n" + hashlib.sha256(body).digest() + body)
    with pytest.raises(SpillError, match="no tasks of a broker"):
        load(path, NOW)


def test_folder_in_its_place_is_refused(path: Path) -> None:
    """What cannot be read is an error with the system's words."""
    path.mkdir()
    with pytest.raises(SpillError, match="cannot be read"):
        load(path, NOW)


@settings(max_examples=25)  # each waits for the disk
@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.sampled_from([State.READY, State.RUNNING, State.DELAYED]), st.floats(0, 1e9)),
        max_size=5,
    )
)
def test_any_tasks_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, State, float]]) -> None:
    """Whatever they wait for, as it was."""
    path = tmp_path_factory.getbasetemp() / "any"
    tasks = [
        Returned(
            id=f"t{number}",
            wire=wire(f"t{number}", "n"),
            attempts=attempts + (was is State.RUNNING),
            was=was,
            due_in_s=seconds if was is State.DELAYED else None,
            expires_in_s=seconds if number % 2 else None,
            age_s=seconds,
        )
        for number, (attempts, was, seconds) in enumerate(rows)
    ]
    save(path, tasks, NOW)
    loaded = load(path, NOW)
    assert [(one.id, one.wire, one.attempts_ended, one.due_in_s, one.expires_in_s, one.age_s) for one in loaded] == [
        (one.id, one.wire, one.attempts_ended, one.due_in_s, one.expires_in_s, one.age_s) for one in tasks
    ]
