import subprocess
import sys

import pytest

HEAVY = ("torch", "pandas", "matplotlib", "sklearn", "scipy.stats")


def loaded_by(statement):
    code = f"import sys; {statement}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import audit",
        "from audit import AuditReport, LowerBound, OneRun; from audit.evidence import estimators; estimators()",
        "from audit.estimators.one_run import lower_bound_from_guesses",
        "from audit.estimators.accountant_inversion import noise_multiplier_upper_bound",
        "from audit import harness",
        "from audit import __main__",
    ],
)
def test_statistics_and_reports_load_without_the_heavy_libraries(statement):
    assert loaded_by(statement) == []


def test_every_public_name_can_be_had():
    import audit

    assert all(getattr(audit, name) is not None for name in audit.__all__)
    assert sorted(audit.__all__) == sorted(audit._HOMES)


def test_an_unknown_name_is_an_attribute_error():
    import audit

    with pytest.raises(AttributeError, match="has no attribute 'adit'"):
        audit.adit  # noqa: B018
