"""Randomness: known answers from AES itself, seekable streams, laws by χ² and Kolmogorov–Smirnov at fixed keys."""

import hashlib
import math
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import InvalidParameter, KeyedSource, SystemSource
from mechanisms.core.randomness import SecretSource, coins, normals, uniforms

KEY = bytes(range(32))
LEAST_P_VALUE = 1e-4  # keys are fixed: a test that passes once passes always
streams = st.text(max_size=20)


def keystream_by_blocks(key: bytes, stream: str, blocks: int) -> bytes:
    """AES in counter mode written out: each block is the encryption of its number, under the stream's key."""
    stream_key = hashlib.blake2b(stream.encode(), key=key, digest_size=16, person=b"dp-calipers").digest()
    cipher = Cipher(algorithms.AES(stream_key), modes.ECB()).encryptor()
    return b"".join(cipher.update(number.to_bytes(16, "big")) for number in range(blocks))


def test_the_cipher_gives_the_known_answer_of_fips_197():
    key, plain = bytes(range(16)), bytes.fromhex("00112233445566778899aabbccddeeff")
    cipher = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    assert cipher.update(plain).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


@pytest.mark.parametrize("stream", ["noise", "", "µ"])
def test_words_are_little_endian_quarters_of_encrypted_block_numbers(stream):
    expected = np.frombuffer(keystream_by_blocks(KEY, stream, 5), dtype="<u4")
    assert (KeyedSource(KEY).words(stream, 0, 20) == expected).all()


def test_words_of_a_published_seed_never_change():
    assert KeyedSource(0).words("noise", 0, 4).tolist() == GOLDEN_WORDS


GOLDEN_WORDS = [902208217, 2375007966, 4223450116, 2672104249]


@given(streams, st.integers(0, 10**6), st.integers(0, 50), st.integers(0, 50))
def test_any_part_of_a_stream_can_be_had_without_what_comes_before(stream, counter, skip, n):
    source = KeyedSource(KEY)
    assert (source.words(stream, counter, skip + n)[skip:] == source.words(stream, counter + skip, n)).all()


@given(st.integers(2**40, 2**100))
def test_counters_far_beyond_a_machine_word_are_reached(counter):
    source = KeyedSource(KEY)
    assert (source.words("noise", counter, 8)[3:] == source.words("noise", counter + 3, 5)).all()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**90), st.integers(0, 80)), min_size=1, max_size=8))
def test_a_reader_gives_the_words_of_the_stream(requests):
    source, at = KeyedSource(KEY), 0
    reader = source.reader("noise", most=80)
    for goes_on, counter, n in requests:
        at = at if goes_on else counter
        reader.seek(at)
        assert reader.read(n).tolist() == source.words("noise", at, n).tolist()
        at += n


@pytest.mark.parametrize("skip", [0, 1, 3])
def test_few_words_and_many_are_those_of_one_stream(skip):
    source = KeyedSource(KEY)
    whole = np.concatenate([source.words("noise", 2**70 + skip + k, 1) for k in range(100)])
    for n in (0, 1, 59, 60, 61, 62, 63, 64, 65, 100):
        assert (source.words("noise", 2**70 + skip, n) == whole[:n]).all()


def test_threads_read_the_same_words():
    source, found = KeyedSource(KEY), []

    def read():
        for _ in range(300):
            found.append(source.words("noise", 5, 8).tobytes())

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1200 and len(set(found)) == 1


class Interrupting:
    """A cipher that has moved on when an interrupt comes."""

    def __init__(self, cipher):
        self.cipher = cipher

    def update_into(self, *given):
        self.cipher.update_into(*given)
        raise KeyboardInterrupt


def test_a_reader_that_was_interrupted_reads_on_where_it_is_told():
    source = KeyedSource(0)
    reader = source.reader("noise", most=8)
    reader.seek(0)
    reader._cipher = Interrupting(reader._cipher)
    with pytest.raises(KeyboardInterrupt):
        reader.read(8)
    reader.seek(0)
    assert reader.read(8).tolist() == source.words("noise", 0, 8).tolist()


def test_a_reader_is_refused_in_a_forked_process():
    source = KeyedSource(KEY)
    reader = source.reader("noise", most=4)
    reader.seek(0)
    source._process -= 1
    with pytest.raises(InvalidParameter, match="must stay in the process that made it"):
        reader.seek(0)


@given(streams, streams)
def test_streams_of_different_names_differ(one, other):
    same = (KeyedSource(KEY).words(one, 0, 4) == KeyedSource(KEY).words(other, 0, 4)).all()
    assert same == (one == other)


def test_streams_are_uncorrelated():
    source, n = KeyedSource(KEY), 100_000
    a, b = (uniforms(source.words(name, 0, 2 * n)) for name in ("one", "other"))
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(n)
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 4 / math.sqrt(n)


def test_keys_of_any_kind_differ_from_one_another():
    keys = [KEY, bytes(16), bytes(17), 0, 1, -1, "0", "1", "", 2**70]
    first = {KeyedSource(key).words("noise", 0, 4).tobytes() for key in keys}
    assert len(first) == len(keys)


def test_two_system_sources_share_nothing():
    assert (SystemSource().words("noise", 0, 4) != SystemSource().words("noise", 0, 4)).any()


def test_only_a_keyed_source_is_reproducible():
    assert KeyedSource(KEY).reproducible and not SystemSource().reproducible and not SecretSource(KEY).reproducible


def test_no_source_shows_its_key():
    assert KEY.hex() not in repr(KeyedSource(KEY)) and repr(SystemSource()) == "SystemSource()"
    assert repr(SecretSource(KEY)) == "SecretSource(<key>)" and KEY.hex() not in SecretSource(KEY).fingerprint()


def test_a_secret_key_gives_every_process_the_same_words():
    key = SecretSource.new_key()
    assert (SecretSource(key).words("noise", 3, 9) == SecretSource(key).words("noise", 3, 9)).all()
    assert (SecretSource(KEY).words("noise", 3, 9) == KeyedSource(KEY).words("noise", 3, 9)).all()
    assert len({SecretSource.new_key() for _ in range(100)}) == 100


@pytest.mark.parametrize("key", [b"k" * 31, b"k" * 33, "k" * 32, 7, None])
def test_what_is_no_secret_key_is_refused_and_not_shown(key):
    with pytest.raises(InvalidParameter, match=r"key must be 32 bytes from SecretSource\.new_key\(\)\.$"):
        SecretSource(key)


def test_a_fingerprint_tells_keys_apart_and_takes_nothing_from_the_streams():
    source = KeyedSource(KEY)
    before = source.words("noise", 0, 4), source.reserve("runs", 1)
    assert source.fingerprint() == SecretSource(KEY).fingerprint() != KeyedSource(KEY + KEY).fingerprint()
    assert (source.words("noise", 0, 4) == before[0]).all() and source.reserve("runs", 1) == before[1] + 1
    assert len(bytes.fromhex(source.fingerprint())) == 32


@pytest.mark.parametrize("key", [b"short", bytes(65), 1.5, None, True, [1]])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(InvalidParameter, match="KeyedSource: key must"):
        KeyedSource(key)


@pytest.mark.parametrize(("counter", "n"), [(-1, 1), (0, -1), (0.5, 1), ("0", 1)])
def test_words_at_impossible_places_are_refused(counter, n):
    with pytest.raises(InvalidParameter, match=r"Source: (counter|n) must be"):
        KeyedSource(KEY).words("noise", counter, n)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9)), max_size=20))
def test_reserved_words_are_never_handed_out_twice(requests):
    source, taken = KeyedSource(KEY), set()
    for stream, n in requests:
        start = source.reserve(stream, n)
        places = {(stream, start + k) for k in range(n)}
        assert not places & taken
        taken |= places


# Laws


def test_uniforms_are_uniform():
    u = uniforms(KeyedSource(KEY).words("uniform", 0, 200_000))
    assert stats.kstest(u, "uniform").pvalue > LEAST_P_VALUE
    assert u.min() > 0 and u.max() < 1


def test_the_smallest_uniform_is_above_zero():
    assert uniforms(np.zeros(2, dtype=np.uint32))[0] == 2.0**-53


def test_the_largest_uniform_is_below_one():
    assert uniforms(np.full(2, 2**32 - 1, dtype=np.uint32))[0] < 1.0


def test_normals_are_normal():
    z = normals(KeyedSource(KEY), "normal", 0, 200_000)
    assert stats.kstest(z, "norm").pvalue > LEAST_P_VALUE
    assert stats.kstest(z[0::2] * z[1::2] / np.hypot(z[0::2], z[1::2]) * 2, "norm").pvalue > LEAST_P_VALUE  # [Shepp]
    assert abs(np.mean(z**4) - 3) < 4 * math.sqrt(96 / len(z))


def test_extreme_words_give_finite_normals():
    class Constant(KeyedSource):
        def words(self, stream, counter, n):
            return np.full(n, self.value, dtype=np.uint32)

    for value in (0, 2**32 - 1):
        source = Constant(KEY)
        source.value = value
        z = normals(source, "normal", 0, 4)
        assert np.isfinite(z).all() and (np.abs(z) <= 8.66).all()


@given(st.integers(0, 1000).map(lambda k: 2 * k), st.integers(0, 40), st.integers(0, 40).map(lambda k: 2 * k))
def test_any_part_of_the_normals_can_be_had_alone(counter, n, skip):
    source = KeyedSource(KEY)
    whole = normals(source, "normal", counter, skip + n)
    assert (whole[skip:] == normals(source, "normal", counter + skip, n)).all()


def test_many_normals_are_the_same_in_one_piece_and_in_several():
    source, n = KeyedSource(KEY), 3 * 2**20 + 5
    whole = normals(source, "normal", 0, n)
    for start in (0, 2**20 - 2, 2**20, 2**21 + 6, n - 5):
        assert (whole[start : start + 4] == normals(source, "normal", start, 4)[: n - start]).all()


def test_normals_from_the_middle_of_a_pair_are_refused():
    with pytest.raises(InvalidParameter, match="normals: counter must be even, got 3"):
        normals(KeyedSource(KEY), "normal", 3, 2)


@pytest.mark.parametrize("probability", [0.5, 0.01, 0.3, 0.999])
def test_coins_fall_with_their_probability(probability):
    n = 200_000
    heads = int(coins(KeyedSource(KEY), "coins", 0, n, probability=probability).sum())
    assert stats.binomtest(heads, n, probability).pvalue > LEAST_P_VALUE


def test_coins_are_independent_of_one_another():
    fallen = coins(KeyedSource(KEY), "coins", 0, 400_000, probability=0.5).reshape(-1, 4) @ [1, 2, 4, 8]
    assert stats.chisquare(np.bincount(fallen, minlength=16)).pvalue > LEAST_P_VALUE


@given(st.floats(0.0, 1.0, allow_subnormal=True))
def test_a_coin_falls_below_the_threshold_that_it_promises(probability):
    """⌊2^64 p⌋ of the 2^64 words, in exact arithmetic: just below the threshold True, at the threshold False."""
    threshold = math.floor(Fraction(probability) * 2**64)

    class At(KeyedSource):
        def words(self, stream, counter, n):
            return np.array([self.value >> 32, self.value & (2**32 - 1)], dtype=np.uint32)

    for value, expected in ((threshold - 1, True), (threshold, False)):
        if 0 <= value < 2**64:
            source = At(KEY)
            source.value = value
            assert coins(source, "coins", 0, 1, probability=probability)[0] == expected


def test_coins_of_probability_zero_and_one_are_certain():
    assert not coins(KeyedSource(KEY), "coins", 0, 1000, probability=0.0).any()
    assert coins(KeyedSource(KEY), "coins", 0, 1000, probability=1.0).all()


@given(st.integers(0, 1000), st.integers(0, 20), st.integers(0, 20))
def test_any_part_of_the_coins_can_be_had_alone(counter, skip, n):
    source = KeyedSource(KEY)
    whole = coins(source, "coins", counter, skip + n, probability=0.3)
    assert (whole[skip:] == coins(source, "coins", counter + skip, n, probability=0.3)).all()


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan, "0.5"])
def test_coins_of_no_probability_are_refused(probability):
    with pytest.raises(InvalidParameter, match="coins: probability must"):
        coins(KeyedSource(KEY), "coins", 0, 1, probability=probability)


class Slow(dict):
    """A record of counters that lets other threads in between looking one up and writing it."""

    def get(self, *asked):
        found = super().get(*asked)
        time.sleep(1e-4)
        return found


def test_threads_never_share_a_counter():
    source, found = KeyedSource(0), []
    source._taken = Slow()
    threads = [
        threading.Thread(target=lambda: found.extend([source.reserve("noise", 3) for _ in range(20)])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(0, 3 * 80, 3))


def test_words_are_not_handed_out_again_by_asking_for_less_than_none():
    source = KeyedSource(0)
    source.reserve("noise", 4)
    with pytest.raises(InvalidParameter, match="n must be at least 0, got -4"):
        source.reserve("noise", -4)
    assert source.reserve("noise", 1) == 4


def test_a_forked_process_is_refused_before_it_waits_for_a_lock():
    source = KeyedSource(0)
    source._process -= 1
    with source._lock, pytest.raises(InvalidParameter, match="must stay in the process that made it"):
        source.reserve("noise", 1)
