"""Where a broker may listen, and that two of them never listen on one path."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from broker.endpoint import EndpointError, InUseError, PathLock, check_endpoint, check_path, ipc_path

LOOPBACK = [
    "tcp://127.0.0.1:5555",
    "tcp://127.0.0.1:0",
    "tcp://127.0.0.1:65535",
    "tcp://127.9.9.9:1",
    "tcp://localhost:5555",
    "tcp://[::1]:5555",
]
REACHABLE = [
    "tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://192.168.1.7:5555", "tcp://[::]:5555", "tcp://example.org:5555",
    "tcp://localhost.example.org:5555", "tcp://eth0:5555", "tcp://127.1:5555", "tcp://127.0.0.1.nip.io:5555",
]  # fmt: skip
NEVER = [
    "", "tcp", "tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:", "tcp://127.0.0.1:*", "tcp://127.0.0.1:x",
    "tcp://127.0.0.1:-1", "tcp://127.0.0.1:5555/", "tcp://127.0.0.1:5555 ", " tcp://127.0.0.1:5555", "tcp://:5555",
    "tcp://127.0.0.1:5555\n", "tcp://127.0.0.1:１", "tcp://::1:5555", "TCP://127.0.0.1:5555", "http://127.0.0.1:5555",
    "127.0.0.1:5555", "udp://127.0.0.1:5555", "inproc://x", "pgm://127.0.0.1:5555", "ipc:/tmp/x",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", LOOPBACK)
def test_loopback_is_allowed(endpoint: str) -> None:
    """This machine's own addresses, any port, and 0 for a free one."""
    check_endpoint(endpoint, anyone=False)


@pytest.mark.parametrize("endpoint", REACHABLE)
def test_what_others_can_reach_is_allowed_only_aloud(endpoint: str) -> None:
    """Anything that is not surely loopback is refused, names that only look like it too; `anyone` allows it."""
    with pytest.raises(EndpointError, match=r"can be reached from other machines.*--keys.*--insecure"):
        check_endpoint(endpoint, anyone=False)
    check_endpoint(endpoint, anyone=True)


@pytest.mark.parametrize("anyone", [False, True])
@pytest.mark.parametrize("endpoint", NEVER)
def test_what_is_no_endpoint_is_refused(endpoint: str, anyone: bool) -> None:
    """Other transports, parts that are missing, and text around it; the message says what there is."""
    with pytest.raises(EndpointError, match="neither tcp://ADDRESS:PORT nor ipc://PATH"):
        check_endpoint(endpoint, anyone=anyone)


@pytest.mark.parametrize("port", ["65536", "99999"])
def test_port_is_not_cut_to_sixteen_bits(port: str) -> None:
    """ZeroMQ would bind another port in silence."""
    with pytest.raises(EndpointError, match=f"a port is 0 to 65535, not {port}"):
        check_endpoint(f"tcp://127.0.0.1:{port}", anyone=True)


@pytest.mark.parametrize("path", ["a", "/tmp/turnstile.sock", "x" * 106, "x" * 107, "é" * 53])  # noqa: S108 - not made
def test_ipc_paths_up_to_the_limit_are_allowed(path: str) -> None:
    """A path of 1 to 107 bytes, relative or not."""
    check_endpoint(f"ipc://{path}", anyone=False)


@pytest.mark.parametrize("path", ["", "@abstract", "x" * 108, "é" * 54])
def test_other_ipc_paths_are_refused(path: str) -> None:
    """Too long for the system, which would cut it; or abstract, where no file rights keep others out."""
    with pytest.raises(EndpointError, match="of 1 to 107 bytes"):
        check_endpoint(f"ipc://{path}", anyone=True)


def test_ipc_wildcard_is_refused() -> None:
    """To ZeroMQ `ipc://*` is a path of its own choice, which no lock can guard and nobody can connect to by name."""
    with pytest.raises(EndpointError):
        check_endpoint("ipc://*", anyone=False)


def test_path_of_an_ipc_endpoint() -> None:
    """What an ipc endpoint binds, and nothing for tcp."""
    assert ipc_path("ipc:///run/turnstile/door") == Path("/run/turnstile/door")
    assert ipc_path("ipc://door") == Path("door")
    assert ipc_path("tcp://127.0.0.1:5555") is None


def test_second_lock_of_a_path_is_refused(tmp_path: Path) -> None:
    """While one broker holds a path, another one is told so; when it has let go, the path is free."""
    first = PathLock(tmp_path / "door")
    with pytest.raises(InUseError, match="another broker holds"):
        PathLock(tmp_path / "door")
    other = PathLock(tmp_path / "other")
    first.close()
    first.close()
    second = PathLock(tmp_path / "door")
    second.close()
    other.close()


def test_lock_is_its_owners_alone_and_stays(tmp_path: Path) -> None:
    """Others cannot open the lock's file, and so cannot hold a broker off; it is not removed, which would be a race."""
    lock = PathLock(tmp_path / "door")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    lock.close()
    assert file.exists()


def test_lock_where_no_directory_is_raises_what_the_system_says(tmp_path: Path) -> None:
    """A path that cannot be is an error of the start, not a lock that was never taken."""
    with pytest.raises(FileNotFoundError):
        PathLock(tmp_path / "missing" / "door")


def test_path_with_nothing_there_or_a_socket_left_behind_is_free(tmp_path: Path) -> None:
    """What a process that is gone has left may be bound over."""
    path = tmp_path / "door"
    check_path(path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    check_path(path)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    """ZeroMQ would remove a file that is at the path, whatever is in it."""
    path = tmp_path / "door"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EndpointError, match="is no socket: it is left as it is"):
        check_path(path)
    assert path.is_symlink() or path.exists()


def test_path_where_somebody_listens_is_in_use(tmp_path: Path) -> None:
    """Also a program that knows nothing of our lock: a second bind would steal its traffic in silence."""
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(InUseError, match="another process listens on"):
            check_path(path)


def test_socket_of_another_kind_is_somebody_elses(tmp_path: Path) -> None:
    """One that cannot be connected to as ours could: it is in use, and is left as it is."""
    path = tmp_path / "door"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(InUseError, match="somebody else's: Protocol wrong type for socket"):
            check_path(path)
        assert path.is_socket()
