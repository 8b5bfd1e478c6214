import subprocess
import sys

import pytest

import mechanisms


def test_every_public_name_is_there():
    for name in mechanisms.__all__:
        assert getattr(mechanisms, name) is not None, name
        assert name in dir(mechanisms)


def test_every_mechanism_found_by_its_file_is_public():
    assert {kind.__name__ for kind in mechanisms.available().values()} <= set(mechanisms.__all__)


def test_a_mechanism_is_imported_on_first_use():
    check = "import sys, mechanisms; assert 'mechanisms.pate' not in sys.modules; mechanisms.GNMax; "
    subprocess.run([sys.executable, "-c", check + "assert 'mechanisms.pate' in sys.modules"], check=True)


def test_a_misspelt_name_is_refused():
    with pytest.raises(AttributeError, match="module 'mechanisms' has no attribute 'Gausian'"):
        _ = mechanisms.Gausian
