import numpy as np
import pytest

from audit.core.recording import Draw, RecordingSource, first_difference, replayed
from mechanisms import Gaussian, KeyedSource


def test_the_words_are_those_of_the_same_source_unrecorded():
    recorded, plain = RecordingSource(3), KeyedSource(3)
    assert np.array_equal(recorded.words("a", 5, 100), plain.words("a", 5, 100))
    readers = [source.reader("b", most=8) for source in (recorded, plain)]
    for reader in readers:
        reader.seek(4)
    assert np.array_equal(*(reader.read(8) for reader in readers))
    released = [Gaussian(noise_multiplier=1.0).release(0.0, sensitivity=1.0, randomness=s) for s in (recorded, plain)]
    assert released[0] == released[1]


def test_every_door_of_a_source_is_written_down():
    source = RecordingSource(0)
    source.words("a", source.reserve("a", 6), 6)
    reader = source.reader("b", most=4)
    reader.seek(8)
    reader.read(3)
    assert source.draws == [Draw("a (reserved)", 0, 6), Draw("a", 0, 6), Draw("b", 8, 3)]


def test_a_replayed_source_gives_the_same_again_and_others_for_other_keys():
    assert np.array_equal(replayed(0, 1).words("a", 0, 8), replayed(0, 1).words("a", 0, 8))
    for other in ((0, 2), (1, 1)):
        assert not np.array_equal(replayed(0, 1).words("a", 0, 8), replayed(*other).words("a", 0, 8))


NOISE, COINS, MORE = Draw("noise", 0, 4), Draw("coins", 0, 4), Draw("coins", 0, 5)


@pytest.mark.parametrize(("one", "other", "per_record", "found"), [
    ([NOISE, COINS], [NOISE, COINS], (), None),
    ([NOISE, COINS], [COINS, NOISE], (), NOISE),
    ([COINS], [MORE], (), COINS),
    ([COINS], [MORE], ("coin",), None),
    ([COINS], [Draw("coins", 1, 5)], ("coin",), COINS),
    ([NOISE], [NOISE, COINS], ("coin",), COINS),
    ([NOISE], [], (), NOISE),
])  # fmt: skip
def test_the_first_draw_that_differs_is_found(one, other, per_record, found):
    assert first_difference(one, other, per_record) == found
