"""Exactly rounded noise: a second route at 60 digits, the floating-point attack, laws, ties, and inputs at extremes."""

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechanisms import Gaussian, InvalidParameter, KeyedSource, Laplace, SystemSource
from mechanisms.core import exact_noise
from mechanisms.core.exact_noise import Exponential, Grid, HalfNormal, grid, nearest, numbers, released

MECHANISMS = [Gaussian, Laplace]
LAWS = [(HalfNormal(), "norm"), (Exponential(), "laplace")]
LEAST_P_VALUE = 1e-4  # keys are fixed: a test that passes once passes always
EXTREME = [0, 1, 2, 3, 2**10, 2**53 - 1, 2**53 + 1, 2**62, 6521908912666391106, 6521908912666391107, 2**63 - 1]
POWERS = st.integers(-1074, 1023).map(lambda k: math.ldexp(1.0, k))


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


class Dealt(KeyedSource):
    """Deals the given 64-bit numbers of the main stream, and those of the stream of further digits."""

    def __init__(self, words, digits=()):
        super().__init__(0)
        self.dealt = {False: list(words), True: list(digits)}

    def words(self, stream, counter, n):
        assert counter % 2 == 0 and n % 2 == 0
        numbers = self.dealt[stream.endswith(" digits")][counter // 2 : (counter + n) // 2]
        return np.array(numbers, dtype="<u8").view("<u4")


def truth(law, ends):
    """|Z| of uniforms given as fractions of mpmath."""
    size = -mp.log(ends[0])
    return size if isinstance(law, Exponential) else mp.sqrt(2 * size) * mp.sin(mp.pi / 2 * ends[1])


def ends_of(law, words):
    """The least and the largest |Z| that the words leave."""
    u, rest = mp.mpf(int(words[0])), [mp.mpf(int(word)) for word in words[1:]]
    least = truth(law, [(u + 1) / 2**63, *[v / 2**64 for v in rest]])
    most = truth(law, [u / 2**63, *[(v + 1) / 2**64 for v in rest]]) if u else mp.inf
    return least, most


def some_words(law, seed, count):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**64, (law.uniforms, count), dtype=np.uint64, endpoint=False)
    words[0] >>= np.uint64(1)
    return words


# The filter


@pytest.mark.parametrize(("law", "name"), LAWS)
def test_approximations_are_off_by_no_more_than_they_say(law, name):
    words = some_words(law, 0, 1500)
    words[0, :400] >>= np.arange(400, dtype=np.uint64) % np.uint64(63)  # small ones
    words[0, 400:800] |= (
        ~np.uint64(0) << np.uint64(1) >> (np.arange(400, dtype=np.uint64) % np.uint64(60) + np.uint64(2))
    )
    words[0, 400:800] &= np.uint64(2**63 - 1)
    with np.errstate(all="ignore"):
        size, error = law.approximate(words)
    for k in range(words.shape[1]):
        if np.isfinite(error[k]):
            assert all(abs(mp.mpf(size[k]) - end) <= mp.mpf(error[k]) for end in ends_of(law, words[:, k])), words[:, k]
    assert np.median(error[800:]) < 2.0**-48


@pytest.mark.parametrize(("law", "name"), LAWS)
def test_approximations_at_the_ends_of_the_words_are_off_by_no_more_than_they_say(law, name):
    rest = [0, 1, 2**32, 2**63, 2**64 - 2, 2**64 - 1]
    words = np.array([[u, v][: law.uniforms] for u in EXTREME for v in rest], dtype=np.uint64).T
    with np.errstate(all="ignore"):
        size, error = law.approximate(words)
    for k in range(words.shape[1]):
        assert error[k] > 0
        if np.isfinite(error[k]):
            assert all(abs(mp.mpf(size[k]) - end) <= mp.mpf(error[k]) for end in ends_of(law, words[:, k]))


def test_the_sine_is_off_by_no_more_than_nine_units_of_the_unit_roundoff():
    words = np.concatenate([np.array([0, 1, 2**63, 2**64 - 1], dtype=np.uint64), some_words(HalfNormal(), 9, 1000)[1]])
    v = words.astype(np.float64) * 2.0**-64
    found = v * exact_noise._horner(exact_noise.SINES, v * v)
    for word, value in zip(words, found, strict=True):
        exact = mp.sin(mp.pi / 2 * int(word) / mp.mpf(2) ** 64)
        assert abs(mp.mpf(value) - exact) <= 9 * mp.mpf(2) ** -53


@pytest.mark.parametrize(("law", "name"), LAWS)
def test_releases_are_the_roundings_that_sixty_digits_give(law, name):
    """Second route: the words are read again, and mpmath rounds for the least and the largest digits still to come."""
    rng, source, count = np.random.default_rng(1), KeyedSource(2), 1500
    values = rng.normal(size=count) * 10.0 ** rng.integers(-12, 13, count)
    scale = Fraction(0.7) * Fraction(1.3)
    on = grid("Test", scale, None)
    found = released(values, on=on, law=law, randomness=source, stream="test")
    dealt = source.words("test", 0, 2 * law.uniforms * count).astype(np.uint64).reshape(count, law.uniforms, 2)
    words = dealt[:, :, 0] | dealt[:, :, 1] << np.uint64(32)
    unit, known = mp.mpf(2) ** on.exponent, 0
    for value, one, result in zip(values, words, found, strict=True):
        sign = -1 if int(one[0]) >> 63 else 1
        sizes = ends_of(law, [int(one[0]) & (2**63 - 1), *one[1:]])
        noise = [sign * mp.mpf(scale.numerator) / scale.denominator * size for size in sizes]
        multiples = {int(mp.floor((mp.mpf(value) + z) / unit + mp.mpf(1) / 2)) for z in noise}
        if len(multiples) == 1:
            known += 1
            assert nearest(multiples.pop(), on.exponent) == result
    assert known > 0.99 * count


@pytest.mark.parametrize(("law", "name"), LAWS)
@pytest.mark.parametrize("exponent", [-60, -40, -3, 2])
def test_the_filter_decides_nothing_that_integers_decide_otherwise(law, name, exponent, monkeypatch):
    values = np.concatenate([np.linspace(-3, 3, 101), 10.0 ** np.arange(-320, 308, 9.0), [-0.0, 5e-324, -1.7e308]])
    on = Grid(Fraction(0.3), exponent)
    one = released(values, on=on, law=law, randomness=KeyedSource(4), stream="test")
    monkeypatch.setattr(exact_noise, "FASTEST", (0.0, 0.0))
    other = released(values, on=on, law=law, randomness=KeyedSource(4), stream="test")
    assert (one == other).all() and not np.signbit(one[one == 0]).any()


@pytest.mark.parametrize(("law", "name"), LAWS)
def test_the_filter_is_right_or_in_doubt_near_a_tie(law, name):
    """Values that bring the quotient to within 2^-6 of a whole number, where its error matters."""
    words, rng, on = some_words(law, 8, 1000), np.random.default_rng(8), grid("Test", Fraction(0.9), None)
    ratio, half, unit = mp.mpf(0.9) * mp.mpf(2) ** -on.exponent, mp.mpf(1) / 2, 2.0**on.exponent
    negative = rng.random(words.shape[1]) < 0.5
    ends = [
        [(-1 if n else 1) * ratio * z + half for z in ends_of(law, w)] for w, n in zip(words.T, negative, strict=True)
    ]
    moved = rng.uniform(-(2.0**-6), 2.0**-6, len(ends))
    values = np.array([float(mp.nint(a) - a + mp.mpf(m)) for (a, _), m in zip(ends, moved, strict=True)])
    found, doubtful = exact_noise._filtered(values * unit, on, law, words, negative)
    right = [{int(mp.floor(mp.mpf(v) + end)) for end in both} for v, both in zip(values, ends, strict=True)]
    wrong = [{x / unit} != whole for x, whole in zip(found, right, strict=True)]
    assert 0.05 < doubtful.mean() < 0.9 and not (np.array(wrong) & ~doubtful).any()
    assert np.any(wrong)  # some roundings in float64 are wrong


def test_few_roundings_need_integers():
    doubtful = []
    for law, _ in LAWS:
        words = some_words(law, 5, 50_000)
        part = np.random.default_rng(5).normal(size=words.shape[1])
        doubtful.append(exact_noise._filtered(part, grid("Test", Fraction(1), None), law, words, part > 0)[1].mean())
    assert 0 < max(doubtful) < 0.03


# Ties


@pytest.mark.parametrize("sign", [1, -1])
def test_a_rounding_is_decided_by_whatever_digit_it_takes(sign):
    """A value that puts the tie between two neighbouring 64-digit continuations: each falls on its own side."""
    known, middle = 5, -mp.log(mp.mpf(11) / 2 / 2**63)
    below = int(mp.floor(middle))
    value = sign * float(below + mp.mpf(1) / 2 - middle)
    tie = mp.exp(sign * mp.mpf(value) - below - mp.mpf(1) / 2) * 2**63
    digits = int(mp.floor((tie - known) * 2**64))
    assert 0 < digits < 2**64 - 1
    found = []
    for last in (digits, digits + 1):
        source = Dealt([known | (2**63 if sign < 0 else 0)], [last, *[0] * 8])
        law, on = Exponential(), Grid(Fraction(1), 0)
        found.append(released(np.array(value), on=on, law=law, randomness=source, stream="test"))
    assert found == [sign * (below + 1.0), sign * float(below)]


def test_a_tie_that_no_digit_seen_breaks_waits_for_one_that_does():
    """V begins with as many zeros as are dealt; noise of one sign is above the tie at 1/2 only when a digit is 1."""
    for law, first in ((HalfNormal(), 2**62), (Exponential(), 2**63 - 1)):
        words = [first, 0][: law.uniforms]
        ones = 2**64 - 1
        more = [0, 0, 0, 0, 1] * 3 if law.uniforms == 2 else [ones, ones, ones, ones - 1] * 3
        found = released(np.array(0.5), on=Grid(Fraction(1), 0), law=law, randomness=Dealt(words, more), stream="test")
        assert found == 1.0
        words[0] |= 2**63
        found = released(np.array(0.5), on=Grid(Fraction(1), 0), law=law, randomness=Dealt(words, more), stream="test")
        assert found == 0.0


# The attack


def finer_than(outputs, unit):
    """Outputs that are no multiples of `unit`."""
    return np.fmod(outputs, unit) != 0


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_floating_point_noise_gives_the_input_away(mechanism):
    """1 + noise is a multiple of 2^-53, or, beyond -2, of more; 0 + noise near 0 has finer digits [Mir12]."""
    noise, n = mechanism(noise_multiplier=2.0), 20_000
    zero, one = (
        noise.release_continuous(np.full(n, value), sensitivity=1.0, randomness=KeyedSource(seed))
        for seed, value in enumerate((0.0, 1.0))
    )
    caught = finer_than(zero, 2.0**-53)
    assert not finer_than(one, 2.0**-53).any() and caught.mean() > 0.08  # an event of probability 0 under one input
    small = np.abs(zero) < 2.0**-6
    assert caught[small].mean() > 0.95


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_exact_noise_gives_nothing_away_to_the_same_attack(mechanism):
    noise, n = mechanism(noise_multiplier=2.0), 20_000
    zero, one = (
        noise.release(np.full(n, value), sensitivity=1.0, randomness=KeyedSource(seed))
        for seed, value in enumerate((0.0, 1.0))
    )
    for unit in (2.0**-53, 2.0**-40, 2.0**-39):
        assert not finer_than(zero, unit).any() and not finer_than(one, unit).any()
    for unit in (2.0**-38, 2.0**-37, 2.0**-35):
        shares = finer_than(zero, unit).mean(), finer_than(one, unit).mean()
        assert abs(shares[0] - shares[1]) < 4 * math.sqrt(0.5 / n) and 0.4 < shares[0] < 0.97


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_neighbours_have_the_same_outputs(mechanism):
    noise = mechanism(noise_multiplier=0.25)
    seen = [
        set(
            noise.release(np.full(20_000, value), sensitivity=4.0, randomness=KeyedSource(1), granularity=0.25).tolist()
        )
        for value in (0.0, 0.1)
    ]
    window = {k / 4 for k in range(-9, 10)}
    assert seen[0] & window == seen[1] & window == window


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3])
def test_last_digits_are_uniform_whatever_the_value(mechanism, value):
    found = mechanism(noise_multiplier=1.0).release(np.full(40_000, value), sensitivity=1.0, randomness=KeyedSource(3))
    last = (found * 2.0**40).astype(np.int64) % 16
    assert stats.chisquare(np.bincount(last, minlength=16)).pvalue > LEAST_P_VALUE


# Laws


@pytest.mark.parametrize(("law", "name"), LAWS)
def test_noise_has_its_law(law, name):
    found = released(
        np.zeros(200_000), on=grid("Test", Fraction(1), None), law=law, randomness=KeyedSource(6), stream="test"
    )
    assert stats.kstest(found, name).pvalue > LEAST_P_VALUE
    for lag in (1, 2, 3):
        assert abs(np.corrcoef(found[lag:], found[:-lag])[0, 1]) < 4 / math.sqrt(len(found))
        assert abs(np.corrcoef(np.abs(found[lag:]), np.abs(found[:-lag]))[0, 1]) < 4 / math.sqrt(len(found))
    assert abs(np.corrcoef(np.abs(found), np.sign(found))[0, 1]) < 4 / math.sqrt(len(found))


@pytest.mark.parametrize(("law", "name"), LAWS)
@pytest.mark.parametrize("slow", [False, True])
def test_coarse_releases_have_the_masses_of_the_intervals_that_they_stand_for(law, name, slow, monkeypatch):
    if slow:
        monkeypatch.setattr(exact_noise, "FASTEST", (0.0, 0.0))
    n, value, unit = 4_000 if slow else 200_000, 0.3, 0.5
    on = Grid(Fraction(1), -1)
    found = released(np.full(n, value), on=on, law=law, randomness=KeyedSource(7), stream="test") / unit
    edges = np.concatenate([[-np.inf], (np.arange(-6, 8) - 0.5) * unit - value, [np.inf]])
    masses = np.diff(getattr(stats, name).cdf(edges))
    counts = np.bincount(np.clip(found, -7, 7).astype(int) + 7, minlength=15)
    assert stats.chisquare(counts, n * masses).pvalue > LEAST_P_VALUE


@pytest.mark.parametrize(("law", "name"), LAWS)
def test_first_digits_of_a_word_have_the_probability_of_their_interval(law, name):
    """By enumeration: with the first six digits of every uniform, and any others, |Z| lies where the law says."""
    steps = 2**6
    u = (np.arange(steps) + 0.5) / steps
    words = np.array([[int(a * 2**63), int(b * 2**64)][: law.uniforms] for a in u for b in u], dtype=np.uint64).T
    size = law.approximate(words)[0]
    for t in (0.1, 0.5, 1.0, 2.0):
        inside = np.mean(size <= t)
        exact = math.erf(t / math.sqrt(2)) if law.uniforms == 2 else -math.expm1(-t)
        assert abs(inside - exact) < 1.0 / steps


# Values and grids at extremes


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("multiplier", [5e-324, 1e-300, 1e-3, 1.0, 1e300])
def test_extreme_values_and_scales_give_numbers(mechanism, multiplier):
    for value in (1e308, -1.7e308, 5e-324, -0.0, 2.0**-1022, 2**53, 1e16):
        found = mechanism(noise_multiplier=multiplier).release(value, sensitivity=1.0, randomness=KeyedSource(0))
        assert type(found) is float and math.isfinite(found), value
        assert math.copysign(1.0, found) == (1.0 if found >= 0 else -1.0), value
        if multiplier <= 1e-3 and abs(value) > 1e15:
            assert found == value


@pytest.mark.parametrize("sensitivity", [1e-200, 1e-320, 5e-324])
def test_a_scale_below_the_floats_is_kept_exactly(sensitivity):
    """noise multiplier × sensitivity is 1e-120 here in floats, or nothing at all."""
    found = Laplace(noise_multiplier=1e-200).release(np.zeros(50), sensitivity=sensitivity, randomness=KeyedSource(0))
    assert (found == 0).all()
    found = Laplace(noise_multiplier=2.0**1000).release(
        np.zeros(200), sensitivity=2.0**-1074, randomness=KeyedSource(0)
    )
    assert stats.kstest(found * 2.0**74, "laplace").pvalue > LEAST_P_VALUE


def test_what_leaves_the_floats_is_infinite_and_never_nan():
    found = Laplace(noise_multiplier=1.7e308).release(
        np.full(200, -1.7e308), sensitivity=1.0, randomness=KeyedSource(0)
    )
    assert not np.isnan(found).any() and np.isinf(found).any() and np.isfinite(found).any() and (found > 0).any()


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_integers_beyond_the_floats_enter_exactly(kind):
    """2^53 + 1 lies between two floats: noise alone decides, evenly, to which multiple of 2 it goes."""
    values = np.full(400, 2**53 + 1, dtype=kind)
    found = Laplace(noise_multiplier=2.0**-20).release(
        values, sensitivity=1.0, randomness=KeyedSource(0), granularity=2.0
    )
    assert set(found.tolist()) == {2.0**53, 2.0**53 + 2} and 140 < np.sum(found == 2.0**53) < 260


def test_integers_at_the_ends_of_their_types_are_released():
    for kind in (np.int8, np.uint8, np.int64, np.uint64):
        info = np.iinfo(kind)
        found = Gaussian(noise_multiplier=1.0).release(
            np.array([info.min, info.max], dtype=kind), sensitivity=1.0, randomness=KeyedSource(0)
        )
        assert np.allclose(found, [float(info.min), float(info.max)], atol=8)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_nothing_is_released_of_nothing(mechanism, shape):
    found = mechanism(noise_multiplier=1.0).release(np.zeros(shape), sensitivity=1.0, randomness=SystemSource())
    assert found.shape == shape and found.dtype == np.float64


def test_many_values_are_released_as_in_one_piece(monkeypatch):
    laplace, values = Laplace(noise_multiplier=1.0), np.arange(100.0).reshape(4, 25)
    whole = laplace.release(values, sensitivity=1.0, randomness=KeyedSource(0))
    monkeypatch.setattr(exact_noise, "AT_ONCE", 7)
    assert (laplace.release(values, sensitivity=1.0, randomness=KeyedSource(0)) == whole).all()


def test_strided_and_small_floats_enter_exactly():
    values = np.arange(40, dtype=np.float16).reshape(5, 8)[::2, ::-3] / np.float16(3)
    found = Laplace(noise_multiplier=1e-9).release(values, sensitivity=1.0, randomness=KeyedSource(0))
    assert found.shape == values.shape and np.allclose(found, values.astype(float), rtol=0, atol=1e-7)


@given(st.fractions(Fraction(1, 2**1100), Fraction(2**1020)))
def test_the_default_granularity_is_two_to_the_forty_times_as_fine_as_the_scale(scale):
    if scale > 0:
        on = grid("Test", scale, None)
        assert on.exponent == -1074 or on.granularity <= scale / 2**40 < 2 * on.granularity


@given(POWERS)
def test_every_power_of_two_is_a_granularity(power):
    assert float(grid("Test", Fraction(1), power).granularity) == power


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("granularity", [3.0, 0.1, 0.0, -1.0, math.nan, math.inf, "1", 2.0**-1073 * 1.5])
def test_what_is_no_power_of_two_is_refused(mechanism, granularity):
    with pytest.raises(InvalidParameter, match=f"{mechanism.__name__}: granularity must be"):
        mechanism(noise_multiplier=1.0).release(
            0.0, sensitivity=1.0, randomness=KeyedSource(0), granularity=granularity
        )


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    "value",
    ["1", b"1", None, True, [True], 1j, [Fraction(1, 3)], 2**70, object(), np.longdouble(1), np.datetime64(0, "s")],
)
def test_what_is_no_number_is_refused_by_its_type(mechanism, value):
    for release in ("release", "release_continuous"):
        with pytest.raises(InvalidParameter, match="value must hold floats or integers"):
            getattr(mechanism(noise_multiplier=1.0), release)(value, sensitivity=1.0, randomness=KeyedSource(0))


def test_a_ragged_value_is_refused():
    with pytest.raises(InvalidParameter, match="Laplace: value must be a number or an array of one shape"):
        Laplace(noise_multiplier=1.0).release([[1.0], [2.0, 3.0]], sensitivity=1.0, randomness=KeyedSource(0))


def test_a_scale_beyond_the_floats_is_refused():
    with pytest.raises(InvalidParameter, match=r"Gaussian: noise multiplier × sensitivity must be below 1\.8e308"):
        Gaussian(noise_multiplier=1e200).release(0.0, sensitivity=1e200, randomness=KeyedSource(0))


def test_errors_name_no_value():
    for value in ([123.456, math.inf], ["123.456"], [[123.456], [1.0, 2.0]]):
        with pytest.raises(InvalidParameter) as caught:
            numbers("Test", value)
        assert "123" not in str(caught.value)


@given(st.integers(-(2**200), 2**200), st.integers(-1074, 900))
def test_the_nearest_float_is_that_of_the_exact_number(multiple, exponent):
    exact = Fraction(multiple) * Fraction(2) ** exponent
    try:
        assert nearest(multiple, exponent) == float(exact)
    except OverflowError:
        assert nearest(multiple, exponent) == (math.inf if multiple > 0 else -math.inf)


@pytest.mark.parametrize("exponent", [-1074, 0, 971])
@pytest.mark.parametrize("sign", [1, -1])
def test_beyond_the_largest_float_is_infinite(exponent, sign):
    assert nearest(sign * 2 ** (1025 - exponent), exponent) == sign * math.inf


def test_release_is_the_same_on_every_machine():
    """Golden values: the roundings are exact, so that no processor or library version may change them."""
    gaussian, laplace = (m(noise_multiplier=1.0) for m in MECHANISMS)
    assert gaussian.release([0.0, 1.0, 2.0], sensitivity=1.0, randomness=KeyedSource(0)).tolist() == GOLDEN[0]
    assert laplace.release([0.0, 1.0, 2.0], sensitivity=1.0, randomness=KeyedSource(0)).tolist() == GOLDEN[1]


GOLDEN = (
    [-1.077755897379575, 1.5341441190794285, 1.6099089235767678],
    [-0.29955462581074244, 1.6495075204866225, 1.4664201023060741],
)
