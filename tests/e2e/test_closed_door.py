"""A door that lets in only who has a key: from other machines, nobody else gets a task in. Rows S3, S14 and S15."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import zmq

from broker.door import Door
from broker.keys import KeyFolder
from producer import Accepted, AsyncProducer, Keys, NotLetIn, Producer, RemoteFault, Task
from tests.e2e.broker_process import ROOT, BrokerProcess
from tests.e2e.conftest import Connect, StartBroker

_Seen = TypeVar("_Seen")
LONG_S = 60.0  # far beyond what an answer takes: who waits so long was not told


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line of ours, to its end."""
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys for ada, made as a user makes them."""
    made = command("broker", "keys", "create", "ada", "--keys", str(tmp_path / "keys"))
    assert (made.returncode, made.stderr) == (0, "")
    return tmp_path / "keys"


@pytest.fixture
def broker(start_broker: StartBroker, folder: Path) -> BrokerProcess:
    """A broker with a closed door."""
    return start_broker("--keys", str(folder), "--workers", "2")


def keys_of(folder: Path, name: str = "ada") -> Keys:
    """What was handed out."""
    return Keys.read(folder / "producers" / f"{name}.secret", folder / "broker.public")


def wait_until(seen: Callable[[], _Seen | None]) -> _Seen:
    """What this sees at last."""
    deadline = time.monotonic() + LONG_S
    while not (found := seen()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def stranger(folder: Path) -> Keys:
    """A key of nobody's, for this broker."""
    return Keys(zmq.curve_keypair()[1], keys_of(folder).broker)


def test_who_has_a_key_is_let_in(broker: BrokerProcess, folder: Path) -> None:
    """One task, and many; threads and asyncio."""
    with Producer(broker.endpoint, keys=keys_of(folder)) as producer:
        assert isinstance(producer.submit("noop"), Accepted)
        assert all(one.accepted for one in producer.submit_many([Task("noop") for _ in range(300)]))

    async def one() -> bool:
        async with AsyncProducer(broker.endpoint, keys=keys_of(folder)) as producer:
            return (await producer.submit("noop")).accepted

    assert asyncio.run(one())


def test_s3_a_key_that_is_not_on_the_list_gets_an_error_and_not_a_time_out(broker: BrokerProcess, folder: Path) -> None:
    """From every call, at once, and saying what to do; the broker holds nothing of it, and names the visitor."""
    with Producer(broker.endpoint, timeout_s=LONG_S, keys=stranger(folder)) as producer:
        for call in (lambda: producer.submit("noop"), producer.ping, lambda: producer.submit_many([Task("noop")])):
            with pytest.raises(NotLetIn, match="python -m broker keys create") as caught:
                call()
            assert caught.value.unknown_ids == ()

    async def one() -> None:
        async with AsyncProducer(broker.endpoint, timeout_s=LONG_S, keys=stranger(folder)) as producer:
            with pytest.raises(NotLetIn, match="python -m broker keys create"):
                await producer.submit("noop")

    asyncio.run(one())
    with Producer(broker.endpoint, keys=keys_of(folder)) as producer:
        assert producer.stats()["ledger"]["accepted"] == 0
    assert broker.says("refused a connection from 127.0.0.1")


def test_s3_a_refused_producer_does_not_knock_again_by_itself(broker: BrokerProcess, folder: Path) -> None:
    """One connection for each call that was refused, and none while nothing is asked."""

    async def knock() -> None:
        async with AsyncProducer(broker.endpoint, timeout_s=LONG_S, keys=stranger(folder)) as producer:
            for _ in range(3):
                with pytest.raises(NotLetIn):
                    await producer.submit("noop")
            async with AsyncProducer(broker.endpoint, keys=keys_of(folder)) as other:
                for _ in range(300):  # on the same loop: time for the refused one to be heard
                    await other.ping()

    asyncio.run(knock())
    assert broker.stop() == 0
    refusals = [line for line in broker.output.splitlines() if "refused a connection" in line]
    assert len(refusals) == 3


def test_s3_a_refused_producer_is_let_in_once_its_key_is_known(broker: BrokerProcess, folder: Path) -> None:
    """The same producer object, threads or asyncio: nothing has to be made anew."""
    command("broker", "keys", "create", "bob", "--keys", str(folder))
    bob, public = keys_of(folder, "bob"), folder / "producers" / "bob.public"
    known = public.read_bytes()

    async def twice() -> None:
        with Producer(broker.endpoint, timeout_s=LONG_S, keys=bob) as thread:
            async with AsyncProducer(broker.endpoint, timeout_s=LONG_S, keys=bob) as loop:
                public.unlink()
                with pytest.raises(NotLetIn):
                    thread.submit("noop")
                with pytest.raises(NotLetIn):
                    await loop.submit("noop")
                public.write_bytes(known)
                assert thread.submit("noop").accepted
                assert (await loop.submit("noop")).accepted

    asyncio.run(twice())


def test_s3_a_producer_without_keys_is_told_so(broker: BrokerProcess) -> None:
    """At once."""
    with Producer(broker.endpoint, timeout_s=LONG_S) as producer, pytest.raises(NotLetIn, match="give one"):
        producer.submit("noop")


def test_keys_for_an_open_door_are_refused(start_broker: StartBroker, folder: Path) -> None:
    """Who has keys means a broker that has its own: another one gets nothing from it."""
    with (
        Producer(start_broker().endpoint, timeout_s=LONG_S, keys=keys_of(folder)) as producer,
        pytest.raises(NotLetIn, match="right broker"),
    ):
        producer.submit("noop")


def test_s3_a_broker_with_another_key_gets_nothing(broker: BrokerProcess, folder: Path) -> None:
    """Who listens there in the broker's place: nothing is sent, and the error says what may be wrong."""
    wrong = Keys(keys_of(folder).secret, zmq.curve_keypair()[0])
    with (
        Producer(broker.endpoint, timeout_s=1.0, keys=wrong) as producer,
        pytest.raises(NotLetIn, match="is that the public key of the broker there"),
    ):
        producer.submit("noop")


def test_list_is_followed_by_a_running_broker(broker: BrokerProcess, folder: Path) -> None:
    """Created, let in; revoked, refused at the next connection, while one that is there lasts."""
    command("broker", "keys", "create", "bob", "--keys", str(folder))
    bob = keys_of(folder, "bob")
    with Producer(broker.endpoint, keys=bob) as connected:
        assert connected.submit("noop").accepted
        revoked = command("broker", "keys", "revoke", "bob", TURNSTILE_KEYS=str(folder))
        assert revoked.returncode == 0
        assert "lasts until it ends" in revoked.stdout
        assert connected.submit("noop").accepted
        with Producer(broker.endpoint, timeout_s=LONG_S, keys=bob) as again, pytest.raises(NotLetIn):
            again.submit("noop")
    listed = command("broker", "keys", "list", "--keys", str(folder))
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["ada"]


def test_s15_a_stopped_authenticator_lets_nobody_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nobody answers for it, the socket itself refuses; also a key that is on the list."""
    monkeypatch.setattr("broker.door.Authenticator", lambda *_: None)
    answered: list[bytes] = []
    reader, writer = os.pipe()

    def answer(frames: object, connection: int) -> bytes:
        answered.append(b"")
        return b""

    door = Door("tcp://127.0.0.1:0", answer, lambda: None, reader, message_bytes=1_024, keys=KeyFolder(folder))
    keys = keys_of(folder)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = context.socket(zmq.REQ)
    client.setsockopt(zmq.LINGER, 0)
    client.setsockopt(zmq.CURVE_SERVERKEY, keys.broker)
    client.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    client.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(keys.secret))
    monitor = client.get_monitor_socket(zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED)
    client.connect(door.endpoint)
    client.send(b"x", zmq.NOBLOCK) if client.poll(0, zmq.POLLOUT) else None
    try:
        for _ in range(3):  # it tries again and again
            assert monitor.poll(30_000)
            event = int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder)
            assert event == zmq.Event.DISCONNECTED
            door.serve(0)
        assert answered == []
    finally:
        client.disable_monitor()
        monitor.close()
        context.destroy(linger=0)
        door.close()
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("padding", [0, 7, 64, 1_000])
@pytest.mark.parametrize(
    "greeting",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60,
        b"\x01\x00",  # ZMTP/1.0: an identity of no length
        b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x01\x03\x00\x00",  # ZMTP/2.0
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
    ids=["http", "tls", "zmtp1", "zmtp2", "ssh"],
)
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_row_21_other_protocols_put_no_task_in(
    start_broker: StartBroker, connect: Connect, folder: Path, greeting: bytes, padding: int, closed: bool
) -> None:
    """Whatever the padding before a smuggled request, and whether the door has keys or not: no task, and hung up."""
    broker = start_broker(*(["--keys", str(folder)] if closed else []))
    task = b"\x82\xa2id\xa1a\xa4name\xa4noop"
    request = b"\x83\xa1v\x01\xa2op\xa6submit\xa5tasks\x91\xc4" + bytes([len(task)]) + task
    framed = b"\x01\x01" + b"\x00" + bytes([len(request) + 1]) + b"\x00" + request  # as ZMTP/1 frames a request
    host, _, port = broker.endpoint.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port))) as visitor:
        visitor.settimeout(30)
        visitor.sendall(greeting + b"\x00" * padding + framed)
        try:
            while visitor.recv(4_096):
                pass
        except ConnectionResetError:
            pass
    keys = keys_of(folder) if closed else None
    with Producer(broker.endpoint, keys=keys) as producer:
        assert producer.stats()["ledger"]["accepted"] == 0


def test_s15_a_list_that_cannot_be_read_lets_nobody_in_and_is_told(broker: BrokerProcess, folder: Path) -> None:
    """Who is connected stays, and sees it in the health; mended, it is over."""
    with Producer(broker.endpoint, keys=keys_of(folder)) as connected:
        assert connected.health()["state"] == "ok"
        spoilt = folder / "producers" / "zoe.public"
        spoilt.write_text("no key")
        with Producer(broker.endpoint, timeout_s=1.0, keys=keys_of(folder)) as kept_out, pytest.raises(RemoteFault):
            kept_out.submit("noop")
        health = connected.health()
        assert [one["reason"] for one in health["reasons"]] == ["keys_unreadable"]
        assert str(spoilt) in health["reasons"][0]["detail"]
        spoilt.unlink()
        wait_until(lambda: connected.health()["state"] == "ok")
        with Producer(broker.endpoint, timeout_s=LONG_S, keys=keys_of(folder)) as let_in:
            assert let_in.submit("noop").accepted


def test_s15_a_file_server_that_is_dead_holds_up_neither_answers_nor_the_end(
    broker: BrokerProcess, folder: Path
) -> None:
    """Only new connections wait for it. A pipe stands for it: whoever reads it waits for who never writes."""
    dead = folder / "producers" / "zoe.public"

    def is_read() -> int | None:
        with contextlib.suppress(OSError):  # ENXIO: nobody reads it
            return os.open(dead, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return None

    with Producer(broker.endpoint, keys=keys_of(folder)) as connected:
        assert connected.submit("noop").accepted
        dead.write_text("no key")
        with Producer(broker.endpoint, timeout_s=1.0, keys=keys_of(folder)) as kept_out, pytest.raises(RemoteFault):
            kept_out.submit("noop")
        os.mkfifo(folder / "pipe")
        (folder / "pipe").rename(dead)
        writer = wait_until(is_read)
        assert [one["reason"] for one in connected.health()["reasons"]] == ["keys_unreadable"]
        assert connected.submit("noop").accepted
        assert broker.stop() == 0
        os.close(writer)
    assert broker.report["succeeded"] == 2


def test_an_address_that_others_can_reach_needs_keys(start_broker: StartBroker, tmp_path: Path) -> None:
    """Without, the broker does not start, and says how to make some; nor with a folder that has none."""
    broker = start_broker("--endpoint", "tcp://0.0.0.0:0")
    assert broker.exit_code() == 2
    assert "python -m broker keys --help" in broker.output
    broker = start_broker("--endpoint", "tcp://127.0.0.1:0", "--keys", str(tmp_path))
    assert broker.exit_code() == 2
    assert "python -m broker keys create" in broker.output


def test_s14_a_secret_that_others_can_read_is_refused_at_the_start(start_broker: StartBroker, folder: Path) -> None:
    """With the command that mends it."""
    (folder / "broker.secret").chmod(0o644)
    broker = start_broker("--keys", str(folder))
    assert broker.exit_code() == 2
    assert f"chmod 600 {folder}/broker.secret" in broker.output


def test_command_line_takes_keys_from_flags_and_environment(broker: BrokerProcess, folder: Path) -> None:
    """And one without the other is an error of usage."""
    key, broker_key = str(folder / "producers" / "ada.secret"), str(folder / "broker.public")
    words = ["producer", "--endpoint", broker.endpoint]
    assert command(*words, "--key", key, "--broker-key", broker_key, "ping").returncode == 0
    assert command(*words, "ping", TURNSTILE_KEY=key, TURNSTILE_BROKER_KEY=broker_key).returncode == 0
    alone = command(*words, "--key", key, "ping")
    assert (alone.returncode, "go together" in alone.stderr) == (2, True)
    refused = command(*words, "--timeout", "60", "ping")
    assert refused.returncode == 3
    assert "lets in only producers with a key" in refused.stderr


def test_ipv6_loopback_is_a_door_like_any_other(start_broker: StartBroker) -> None:
    """`tcp://[::1]`: bound, and reached."""
    broker = start_broker("--endpoint", "tcp://[::1]:0")
    assert broker.endpoint.startswith("tcp://[::1]:")
    with Producer(broker.endpoint) as producer:
        assert producer.submit("noop").accepted


def test_row_17_an_ipc_door_is_not_put_over_what_is_there(start_broker: StartBroker, tmp_path: Path) -> None:
    """A file, or another program's socket: exit code 4, and both are as they were."""
    file, taken = tmp_path / "file", tmp_path / "socket"
    file.write_text("precious")
    broker = start_broker("--endpoint", f"ipc://{file}")
    assert (broker.exit_code(), "is no socket" in broker.output, file.read_text()) == (4, True, "precious")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(taken))
        other.listen()
        broker = start_broker("--endpoint", f"ipc://{taken}")
        assert (broker.exit_code(), "another process listens" in broker.output) == (4, True)
        assert stat.S_ISSOCK(taken.stat().st_mode)
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(str(taken))


def test_a_revoked_key_is_noticed_within_a_second_of_its_making(broker: BrokerProcess, folder: Path) -> None:
    """No cached list outlives a change, however soon it came."""
    for number in range(5):
        name = f"p{number}"
        command("broker", "keys", "create", name, "--keys", str(folder))
        keys = keys_of(folder, name)
        with Producer(broker.endpoint, timeout_s=LONG_S, keys=keys) as producer:
            assert producer.submit("noop").accepted
        KeyFolder(folder).revoke(name)
        began = time.monotonic()
        with Producer(broker.endpoint, timeout_s=LONG_S, keys=keys) as producer, pytest.raises(NotLetIn):
            producer.submit("noop")
        assert time.monotonic() - began < LONG_S
