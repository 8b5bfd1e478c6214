"""Randomness that privacy rests on: streams of words from AES in counter mode, and floats and coins made from them.

Every stream has a key of its own, derived from the source's key by its name; a position in a stream is a
counter, so any part can be had again (resume, several ranks) without what came before it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mechanisms.core import validate
from mechanisms.core.errors import InvalidParameter

Words = NDArray[np.uint32]
WORDS_PER_BLOCK = 4
FEW_BLOCKS = 16  # up to here it is quicker to encrypt their numbers than to make a cipher that counts
NORMALS_AT_ONCE = 8192  # larger buffers cost a page fault a page
ONE_PROCESS = (
    "a source must stay in the process that made it: copies would draw the same numbers. "
    "Make a SystemSource in each process, or a KeyedSource with a key of its own."
)


class Source(ABC):
    """A keyed family of streams of uniform 32-bit words.

    `words` is a pure function of (stream, counter); `reserve` hands out counters one after the other and never the
    same twice, and is what single releases use.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._taken: dict[str, int] = {}
        self._stream_keys: dict[str, bytes] = {}
        self._block_ciphers: dict[str, Any] = {}
        self._process = os.getpid()
        self._lock = threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise InvalidParameter(f"{type(self).__name__}: {ONE_PROCESS}")

    @property
    @abstractmethod
    def reproducible(self) -> bool:
        """Whether someone else can know the key: then what is made with this source is not private."""

    def words(self, stream: str, counter: int, n: int) -> Words:
        """Return the words number counter, …, counter + n − 1 of `stream`: uint32, shape (n,).

        Raises:
            InvalidParameter: if counter or n is negative, or the source is used in a forked process: both would draw
            the same numbers.
        """
        self.check_process()
        counter = validate.count("Source", "counter", counter)
        n = validate.count("Source", "n", n)
        block, skip = divmod(counter, WORDS_PER_BLOCK)
        blocks = -(-(skip + n) // WORDS_PER_BLOCK)
        if blocks <= FEW_BLOCKS:
            numbers = b"".join(number.to_bytes(16, "big") for number in range(block, block + blocks))
            with self._lock:  # a cipher serves one thread at a time
                keystream = self._block_cipher(stream).update(numbers)[4 * skip : 4 * (skip + n)]
        else:
            keystream = _counter_cipher(self._stream_key(stream), counter).update(bytes(4 * n))
        return np.frombuffer(keystream, dtype="<u4").astype(np.uint32, copy=False)

    def reader(self, stream: str, *, most: int) -> Reader:
        """Return what reads `stream` in order, up to `most` words at a time."""
        return Reader(self, self._stream_key(stream), most)

    def check_process(self) -> None:
        """Check that this is the process that made the source, before numbers are used that were drawn earlier.

        Raises:
            InvalidParameter: if it is another one.
        """
        if os.getpid() != self._process:
            raise InvalidParameter(f"{type(self).__name__}: {ONE_PROCESS}")

    def fingerprint(self) -> str:
        """Return 64 hexadecimal digits that tell this key from others: words of a stream that nothing else uses.

        Of a key drawn at random they show nothing; a key that can be guessed can be recognised by them.

        >>> KeyedSource(7).fingerprint() == KeyedSource(7).fingerprint() != KeyedSource(8).fingerprint()
        True
        """
        return self.words("fingerprint", 0, 8).astype("<u4").tobytes().hex()

    def _stream_key(self, stream: str) -> bytes:
        if stream not in self._stream_keys:
            key = hashlib.blake2b(stream.encode(), key=self._key, digest_size=16, person=b"dp-calipers").digest()
            self._stream_keys[stream] = key
        return self._stream_keys[stream]

    def _block_cipher(self, stream: str) -> Any:
        if stream not in self._block_ciphers:
            from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # costs .05 s to import

            cipher = Cipher(algorithms.AES(self._stream_key(stream)), modes.ECB()).encryptor()  # of counters alone
            self._block_ciphers[stream] = cipher
        return self._block_ciphers[stream]

    def reserve(self, stream: str, n: int) -> int:
        """Return the counter of the next `n` words of `stream`; no thread is ever handed out the same ones again.

        Raises:
            InvalidParameter: if n is negative, or the source is used in a forked process.
        """
        self.check_process()  # before the lock, which may have been held when the process was forked
        if n < 0:
            raise InvalidParameter(f"Source: n must be at least 0, got {n}: words would be handed out again.")
        with self._lock:
            start = self._taken.get(stream, 0)
            self._taken[stream] = start + n
        return start


class Reader:
    """The words of one stream, in order, each time in the same memory: `Source.words` without what it costs a call.

    >>> source = KeyedSource(0)
    >>> reader = source.reader("noise", most=8)
    >>> reader.seek(100)
    >>> bool((reader.read(8) == source.words("noise", 100, 8)).all())
    True
    """

    def __init__(self, source: Source, key: bytes, most: int) -> None:
        self._source, self._key = source, key
        self._zeros = memoryview(bytes(4 * most))
        self._words = np.empty(most + WORDS_PER_BLOCK, dtype="<u4")  # the cipher asks for room for a block more
        self._room = self._words.data.cast("B")
        self._next: int | None = None
        self._cipher: Any = None

    def seek(self, counter: int) -> None:
        """Go on with the word number `counter`; free where that is the next one.

        Raises:
            InvalidParameter: if the source is used in a forked process.
        """
        self._source.check_process()
        if counter != self._next:
            self._next = None
            self._cipher = _counter_cipher(self._key, counter)
            self._next = counter

    def read(self, n: int) -> Words:
        """Return the next n <= most words, shape (n,), valid until the next call writes over them."""
        start, self._next = self._next, None  # an interrupt may leave the cipher anywhere
        assert start is not None
        self._cipher.update_into(self._zeros[: 4 * n], self._room)
        self._next = start + n
        return self._words[:n]


class SystemSource(Source):
    """Streams under a key drawn from the operating system when the source is made, and kept nowhere else.

    >>> SystemSource().words("noise", 0, 4).shape
    (4,)
    """

    def __init__(self) -> None:
        super().__init__(secrets.token_bytes(32))

    @property
    def reproducible(self) -> bool:
        """False: nobody knows the key."""
        return False

    def __repr__(self) -> str:
        return "SystemSource()"


class KeyedSource(Source):
    """Streams under a key that is given: for studies, resumed runs and ranks that must agree.

    Whoever knows the key knows the noise: results made with a published key are reproducible and not private.

    Args:
        key: 16 to 64 bytes, or an int or text that stands for a published seed.

    >>> bool((KeyedSource(7).words("noise", 0, 8)[4:] == KeyedSource(7).words("noise", 4, 4)).all())
    True
    """

    def __init__(self, key: bytes | int | str) -> None:
        if isinstance(key, bytes):
            if not 16 <= len(key) <= 64:
                raise InvalidParameter(f"KeyedSource: key must have 16 to 64 bytes, got {len(key)}.")
            super().__init__(key)
        elif isinstance(key, (int, str)) and not isinstance(key, bool):
            super().__init__(hashlib.blake2b(repr(key).encode(), digest_size=32, person=b"dp-calipers-key").digest())
        else:
            raise InvalidParameter(f"KeyedSource: key must be bytes, an int or text, got {type(key).__name__}.")

    @property
    def reproducible(self) -> bool:
        """True: the key was given from outside."""
        return True

    def __repr__(self) -> str:
        return "KeyedSource(<key>)"


class SecretSource(Source):
    """Streams under a key of the operating system's that several processes hold: ranks of a run, or its later parts.

    Whoever has the key can take the noise away. The trainer makes these, keeps the key in a file that its owner alone
    can read and removes that when the run is complete; for keys that come from anywhere else there is `KeyedSource`.

    Args:
        key: 32 bytes from `SecretSource.new_key`.

    >>> SecretSource(SecretSource.new_key()).reproducible
    False
    """

    BYTES = 32

    def __init__(self, key: bytes) -> None:
        if not isinstance(key, bytes) or len(key) != self.BYTES:
            raise InvalidParameter(f"SecretSource: key must be {self.BYTES} bytes from SecretSource.new_key().")
        super().__init__(key)

    @classmethod
    def new_key(cls) -> bytes:
        """Return a key that was never used."""
        return secrets.token_bytes(cls.BYTES)

    @property
    def reproducible(self) -> bool:
        """False: only the processes of the run know the key."""
        return False

    def __repr__(self) -> str:
        return "SecretSource(<key>)"


def _counter_cipher(key: bytes, counter: int) -> Any:
    """Return what encrypts zeros to the words number `counter` on."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    block, skip = divmod(counter, WORDS_PER_BLOCK)
    cipher = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(16, "big"))).encryptor()
    if skip:
        cipher.update(bytes(4 * skip))
    return cipher


def uniforms(words: Words) -> NDArray[np.float64]:
    """Return floats in (0, 1), shape (n // 2,): odd multiples of 2^-53 made from pairs of words."""
    pairs = words.astype(np.uint64).reshape(-1, 2)
    joined = ((pairs[:, 0] << np.uint64(32)) | pairs[:, 1]) >> np.uint64(12)
    return (joined.astype(np.float64) + 0.5) * 2.0**-52


def normals(source: Source, stream: str, counter: int, n: int) -> NDArray[np.float64]:
    """Return `n` standard normal floats of `stream`, those numbered `counter` on, so that any part can be had alone.

    Box–Muller on pairs of 52-bit uniforms: each pair of values takes four words, so `counter` must be even.

    Guarantees: exact up to the rounding of float64 arithmetic, and to |z| <= 8.57, beyond which a normal has
    probability 1e-17; float64 noise is not exactly Gaussian, and no claim of the accountants covers that gap.

    Raises:
        InvalidParameter: if `counter` is odd.
    """
    if counter % 2:
        raise InvalidParameter(f"normals: counter must be even, got {counter}.")
    values = np.empty(n + n % 2)
    for start in range(0, n, NORMALS_AT_ONCE):
        part = values[start : start + NORMALS_AT_ONCE]
        u = uniforms(source.words(stream, 2 * (counter + start), 2 * len(part)))
        radius, angle = np.sqrt(-2.0 * np.log(u[0::2])), 2.0 * np.pi * u[1::2]
        part[0::2], part[1::2] = radius * np.cos(angle), radius * np.sin(angle)
    return values[:n]


def coins(source: Source, stream: str, counter: int, n: int, *, probability: float) -> NDArray[np.bool_]:
    """Return `n` independent coins that fall True with `probability`, numbered `counter` on in `stream`.

    Guarantees: the probability realised is ⌊2^64 probability⌋ / 2^64: never above the one described, and at most
    2^-64 below it.
    """
    threshold = int(validate.probability("coins", "probability", probability) * 2.0**64)  # scaling by 2^64 is exact
    words = source.words(stream, 2 * counter, 2 * n).astype(np.uint64).reshape(-1, 2)
    value = (words[:, 0] << np.uint64(32)) | words[:, 1]
    return np.ones(n, dtype=bool) if threshold == 2**64 else value < np.uint64(threshold)
