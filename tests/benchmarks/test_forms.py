import re

from tests.benchmarks.forms import CASES, row


def test_a_line_of_the_table_tells_the_layer_and_what_both_forms_take():
    assert re.fullmatch(r"1 -> 8 +5 x 5 +1 +0 +28 +[\d.e+-]+ +[\d.e+-]+", row(CASES[1], 1))
