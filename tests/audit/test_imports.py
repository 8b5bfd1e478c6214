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


def test_a_first_answer_waits_for_no_solver_and_for_no_accountant_but_its_own():
    code = """
import sys
from audit.estimators import joint_beta, one_run_fdp
before = set(sys.modules)
level = {"delta": 1e-5, "confidence": 0.95}
one_run_fdp.lower_bound_from_guesses(canaries=100, guesses=20, correct=20, **level)
counts = {"true_positives": 90, "false_negatives": 10, "false_positives": 10, "true_negatives": 90}
joint_beta.lower_bound_from_counts(**counts, **level)
print(*sorted(set(sys.modules) - before))
"""
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.split() == []


def test_every_public_name_can_be_had():
    import audit

    assert all(getattr(audit, name) is not None for name in audit.__all__)
    assert sorted(audit.__all__) == sorted(audit._HOMES)


def test_an_unknown_name_is_an_attribute_error():
    import audit

    with pytest.raises(AttributeError, match="has no attribute 'adit'"):
        audit.adit  # noqa: B018
