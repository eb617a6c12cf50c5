"""A producer's keys for a broker whose door is closed to strangers."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

from broker.protocol import is_key
from producer.errors import BadKey


@dataclass(frozen=True, slots=True)
class Keys:
    """Two keys, each as 40 characters of Z85, in bytes; `BadKey` if one is not."""

    secret: bytes = field(repr=False)  #: this producer's own
    broker: bytes  #: the broker's public one: what answers there is that broker, or nobody

    def __post_init__(self) -> None:
        for name, key in (("the producer's secret key", self.secret), ("the broker's public key", self.broker)):
            if not isinstance(key, bytes) or not is_key(key):
                raise BadKey(f"{name} is not 40 characters of Z85, in bytes, as python -m broker keys writes it")

    @classmethod
    def read(cls, key_file: str | PathLike[str], broker_key_file: str | PathLike[str]) -> Keys:
        """From the two files that the broker's operator handed out.

        `BadKey` if one cannot be read or holds no key, or if others can read the secret one.
        """
        secret, broker = Path(key_file), Path(broker_key_file)
        try:
            mode = secret.stat().st_mode
            keys = [path.read_bytes().strip() for path in (secret, broker)]
        except OSError as error:
            raise BadKey(f"{error.filename} cannot be read: {error.strerror}") from None
        is_it = "; is it the public one?" if secret.suffix == ".public" else ""
        if mode & 0o077 and is_it:
            raise BadKey(f"{secret} is no secret key: others can read it (mode {mode & 0o777:o}){is_it}")
        if mode & 0o077:
            raise BadKey(f"{secret} is a secret that others can read (mode {mode & 0o777:o}): chmod 600 {secret}")
        for path, key in zip((secret, broker), keys, strict=True):
            if not is_key(key):
                wanted = "one line of 40 characters, as python -m broker keys writes it"
                raise BadKey(f"{path} holds no key: {wanted}{is_it if path == secret else ''}")
        return cls(*keys)
