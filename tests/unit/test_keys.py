"""The keys of a closed door: files that nobody else can read, and a list that is followed as it changes."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils import z85

from broker.keys import KeyFolder, KeysError, _read_key
from producer import BadKey, Keys
from tests.faults.seams import failing_at
from tests.unit.test_descriptors import assert_closed


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    """A folder with ada in it."""
    folder = KeyFolder(tmp_path / "keys")
    folder.create("ada", if_missing=False)
    return folder


def raw(folder: KeyFolder, name: str) -> bytes:
    """A producer's public key as it comes over the wire."""
    return bytes(z85.decode(folder.names()[name]))


def test_s14_secret_files_are_their_owners_alone(keys: KeyFolder) -> None:
    """0600 in folders of 0700, whatever the umask is; public ones hold no secret."""
    assert keys.path.stat().st_mode & 0o777 == 0o700
    assert keys.producers.stat().st_mode & 0o777 == 0o700
    secrets = [keys.path / "broker.secret", keys.secret_of("ada")]
    assert [path.stat().st_mode & 0o777 for path in secrets] == [0o600, 0o600]
    publics = (keys.path / "broker.public").read_bytes() + (keys.producers / "ada.public").read_bytes()
    assert not any(path.read_bytes().strip() in publics for path in secrets)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_s14_a_secret_that_others_can_touch_is_refused(keys: KeyFolder, mode: int) -> None:
    """By the broker and by the producer; the message says what to do, and not the secret."""
    for path in (keys.path / "broker.secret", keys.secret_of("ada")):
        path.chmod(mode)
    with pytest.raises(KeysError, match=r"chmod 600 .*broker\.secret") as broker_side:
        keys.own_pair()
    with pytest.raises(BadKey, match=r"chmod 600 .*ada\.secret") as producer_side:
        Keys.read(keys.secret_of("ada"), keys.path / "broker.public")
    for caught in (broker_side, producer_side):
        assert keys.secret_of("ada").read_text().strip() not in str(caught.value)


def test_pairs_fit(keys: KeyFolder) -> None:
    """The public key is the one of the secret; and shown is the public one alone."""
    pair = keys.own_pair()
    assert pair.public == (keys.path / "broker.public").read_bytes().strip() == zmq.curve_public(pair.secret)
    assert pair.secret.decode() not in repr(pair)
    read = Keys.read(keys.secret_of("ada"), keys.path / "broker.public")
    assert zmq.curve_public(read.secret) == keys.names()["ada"]
    assert read.secret.decode() not in repr(read)


def test_creating_again_changes_nothing(keys: KeyFolder) -> None:
    """The broker's pair stays what every producer knows; a producer's own, too, unless it is revoked first."""
    before = {path: path.read_bytes() for path in keys.path.rglob("*.*")}
    assert not keys.create("ada", if_missing=True)
    with pytest.raises(KeysError, match="revoke it first"):
        keys.create("ada", if_missing=False)
    assert keys.create("bob", if_missing=True)
    assert all(path.read_bytes() == data for path, data in before.items())


def test_interrupted_creation_is_completed(keys: KeyFolder) -> None:
    """A broker's secret without its public key gets the one that fits; a public key without its secret is replaced."""
    secret, public = keys.path / "broker.secret", keys.path / "broker.public"
    before = public.read_bytes()
    public.unlink()
    keys.create("ada", if_missing=True)
    assert public.read_bytes() == before
    secret.unlink()
    keys.create("ada", if_missing=True)
    assert public.read_bytes().strip() == keys.own_pair().public != before.strip()


def test_creations_at_once_make_one_pair_of_the_brokers(tmp_path: Path) -> None:
    """Containers that start together on one folder: every name is there, and `broker.public` fits its secret."""
    for number in range(3):
        folder = tmp_path / str(number)
        barrier = threading.Barrier(8)

        def create(name: str, folder: Path = folder, barrier: threading.Barrier = barrier) -> bool:
            barrier.wait(60)
            return KeyFolder(folder).create(name, if_missing=True)

        with ThreadPoolExecutor(8) as pool:
            new = list(pool.map(create, ["ada", "bob", "cy", "di"] * 2))
        keys = KeyFolder(folder)
        assert (sum(new), sorted(keys.names())) == (4, ["ada", "bob", "cy", "di"])
        assert (folder / "broker.public").read_bytes().strip() == keys.own_pair().public
        for name, public in keys.names().items():
            assert zmq.curve_public(keys.secret_of(name).read_bytes().strip()) == public


def test_a_name_that_is_revoked_while_the_list_is_read_is_left_out(keys: KeyFolder) -> None:
    """It locks nobody else out."""
    (keys.producers / "bob.public").symlink_to("gone")
    assert list(keys.names()) == ["ada"]


def test_keys_that_cannot_be_reached_are_named(keys: KeyFolder) -> None:
    """What the system says of a path is not taken for there being no keys."""
    file = keys.path / "broker.public"
    with pytest.raises(KeysError, match=r"broker\.secret cannot be read: Not a directory"):
        KeyFolder(file).own_pair()


def test_a_key_that_cannot_be_read_is_named(keys: KeyFolder) -> None:
    """It is not left out as if it had been revoked: nobody could tell why its producer is not let in."""
    (keys.producers / "bob.public").mkdir()
    with pytest.raises(KeysError, match=r"bob\.public cannot be read: Is a directory"):
        keys.names()


def test_a_folder_that_cannot_be_locked_is_let_go(keys: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says of it is raised; no key is made, and no descriptor stays open."""
    tried: list[int] = []

    def refuse(descriptor: int, _: int) -> None:
        tried.append(descriptor)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("broker.keys.fcntl.flock", refuse)
    with pytest.raises(OSError, match="No locks available"):
        keys.create("bob", if_missing=True)
    assert list(keys.names()) == ["ada"]
    assert_closed(tried)


def test_a_folder_is_let_go_when_a_key_cannot_be_made(keys: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes next gets the lock, and makes the key."""
    with monkeypatch.context() as full:
        full.setattr("broker.keys.os.fsync", failing_at(1, os.fsync, lambda: OSError(errno.ENOSPC, "no space left")))
        with pytest.raises(OSError, match="no space left"):
            keys.create("bob", if_missing=True)
    assert list(keys.names()) == ["ada"]
    assert keys.create("bob", if_missing=False)


@pytest.mark.parametrize("name", ["", ".", "../ada", "a/b", "-a", "a" * 65, "a\n", "é"])
def test_names_that_cannot_be(keys: KeyFolder, name: str) -> None:
    """A name is a file's name, here and in what people type."""
    with pytest.raises(KeysError, match="a name is"):
        keys.create(name, if_missing=True)
    with pytest.raises(KeysError, match="no producer is named"):
        keys.revoke(name)


def test_list_is_followed(keys: KeyFolder) -> None:
    """Created, let in; revoked, not any more; also within one tick of the file system's clock, and long after."""
    ada, stranger = raw(keys, "ada"), os.urandom(32)
    for _ in range(20):
        assert keys.lets_in(ada)
        assert not keys.lets_in(stranger)
        keys.create("bob", if_missing=False)
        bob = raw(keys, "bob")
        assert keys.lets_in(bob)
        keys.revoke("bob")
        assert not keys.lets_in(bob)
    assert keys.lets_in(ada)
    keys.revoke("ada")
    assert not keys.lets_in(ada)
    assert not keys.secret_of("ada").exists()


@pytest.fixture
def settled(keys: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> KeyFolder:
    """Keys that were looked at so long after their last change that the list is not read again without a change."""
    monkeypatch.setattr("broker.keys._TICK_NS", -(10**12))
    assert keys.lets_in(raw(keys, "ada"))
    return keys


def test_list_is_read_once(settled: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as nothing changes, a connection costs a look at the folder."""
    monkeypatch.setattr("broker.keys._read_key", None)
    assert settled.lets_in(z85.decode((settled.producers / "ada.public").read_bytes().strip()))


def test_list_is_read_again_while_a_change_is_young(keys: KeyFolder) -> None:
    """A key that is written over within a tick of the file system's clock bears the same time as before."""
    ada = raw(keys, "ada")
    for _ in range(200):
        other = zmq.curve_keypair()[0]
        (keys.producers / "ada.public").write_bytes(other)
        assert keys.lets_in(z85.decode(other))
        assert not keys.lets_in(ada)


@pytest.mark.parametrize("kept", [False, True], ids=["cp", "cp -p"])
def test_a_key_that_is_written_over_is_followed(settled: KeyFolder, kept: bool) -> None:
    """The folder's own time stays as it is. The new key is let in, the old one is not, whatever the file's time."""
    old, file, new = raw(settled, "ada"), settled.producers / "ada.public", zmq.curve_keypair()[0]
    times = file.stat()
    file.write_bytes(new)
    if kept:
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert settled.lets_in(z85.decode(new))
    assert not settled.lets_in(old)


def test_row_29_and_s15_no_descriptor_is_left_for_a_moment(keys: KeyFolder) -> None:
    """The list cannot be read then, which is told, and is not taken for an empty one, neither then nor later."""
    ada, taken = raw(keys, "ada"), [os.open(os.devnull, os.O_RDONLY)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(2):
            with pytest.raises(OSError, match="Too many open files"):
                keys.lets_in(ada)
        with pytest.raises(OSError, match="Too many open files"):
            keys.names()
        os.close(taken.pop())  # enough to see the list, and to read one key after the other
        assert keys.lets_in(ada)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_a_key_that_vanished_with_its_folder_for_a_moment_is_back_with_it(
    settled: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not read since it was not there is looked for again, though the folder looks as before."""
    ada, away = raw(settled, "ada"), settled.path / "away"
    with monkeypatch.context() as moment:
        moment.setattr("broker.keys._read_key", failing_at(1, _read_key, lambda: FileNotFoundError(str(away))))
        settled._read_of = None
        assert not settled.lets_in(ada)
    assert settled.lets_in(ada)


def test_every_key_that_libzmq_takes_is_one() -> None:
    """Up to the last one: each five characters 32 bits of ones."""
    assert Keys(b"%nSc0" * 8, zmq.curve_keypair()[0]).secret == z85.encode(b"\xff" * 32)
    with pytest.raises(BadKey):
        Keys(b"%nSc0" * 7 + b"%nSc1", zmq.curve_keypair()[0])


def test_no_keys_is_an_error_that_says_how_to_make_some(tmp_path: Path) -> None:
    """A broker that was told a wrong folder does not come up open."""
    with pytest.raises(KeysError, match="python -m broker keys create"):
        KeyFolder(tmp_path).own_pair()
    assert KeyFolder(tmp_path).names() == {}


@pytest.mark.parametrize("content", [b"", b"x" * 39, b"x" * 41, b"~" * 40, b"\xff" * 40, b"#" * 40])
def test_what_holds_no_key_is_named(keys: KeyFolder, content: bytes) -> None:
    """By its path, on both sides."""
    (keys.producers / "ada.public").write_bytes(content)
    with pytest.raises(KeysError, match=r"ada\.public holds no key"):
        keys.names()
    secret = keys.secret_of("ada")
    secret.write_bytes(content)
    with pytest.raises(BadKey, match=r"ada\.secret holds no key"):
        Keys.read(secret, keys.path / "broker.public")
    with pytest.raises(BadKey, match="40 characters"):
        Keys(content, (keys.path / "broker.public").read_bytes().strip())
    with pytest.raises(BadKey, match="cannot be read"):
        Keys.read(secret, keys.path / "missing")


def test_keys_as_text_are_told_apart() -> None:
    """As whoever has read them from a file of settings may give them."""
    text: Any = "a" * 40
    with pytest.raises(BadKey, match="secret key is not 40 characters of Z85, in bytes"):
        Keys(text, text)


def test_public_key_in_place_of_the_secret_one_is_seen(keys: KeyFolder) -> None:
    """By its name, where it could be no secret key: to hide it, as is said of a secret that others can read, is of no
    use.
    """
    public = keys.path / "broker.public"
    words = r"broker\.public is no secret key: others can read it \(mode 644\); is it the public one\?$"
    with pytest.raises(BadKey, match=words):
        Keys.read(public, public)
    public.write_bytes(b"")
    public.chmod(0o600)
    with pytest.raises(BadKey, match=r"broker\.public holds no key: .*; is it the public one\?$"):
        Keys.read(public, keys.producers / "ada.public")
