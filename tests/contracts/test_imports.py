"""Import rules: what stands on which floor, and what an import may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FLOORS = ("mechanisms", "accountant", "dpsgd", "audit")
FILES = {package: sorted((ROOT / package).rglob("*.py")) for package in FLOORS}
HEAVY = ("torch", "scipy.stats", "scipy.optimize", "sklearn", "pandas", "matplotlib")


def statements(node):
    """Yield all statements below: imports stand in no expression, of which there are many times as many nodes."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.expr):
            yield child
            yield from statements(child)


def imported(path):
    for node in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            yield node.module


@pytest.mark.parametrize("package", FLOORS)
def test_a_file_imports_only_what_stands_below_it(package):
    above = {*FLOORS[FLOORS.index(package) + 1 :], "tests", "papers", "notebooks"}
    assert FILES[package]
    for path in FILES[package]:
        tops = {name.split(".")[0] for name in imported(path)}
        assert not tops & above, path
        assert "torch" not in tops or package in ("dpsgd", "audit"), path
        assert path.name != "config.py" or "torch" not in tops, path
        drawing = path.stem in ("compare", "report") or path.stem.endswith(("plot", "plots"))
        assert "pandas" not in tops and ("matplotlib" not in tops or drawing), path


@pytest.mark.parametrize("package", FLOORS)
def test_rounding_direction_is_decided_in_one_file(package):
    for path in FILES[package]:
        assert ("nextafter" in path.read_text(encoding="utf-8")) == (path.name == "bounds.py"), path


@pytest.mark.parametrize("module", ["mechanisms", "accountant", "dpsgd", "audit", "accountant.__main__"])
def test_importing_a_package_loads_nothing_heavy(module):
    # A third of the whole import's time, so that it is left to the first use.
    heavy = (*HEAVY, "scipy.special") if module in ("mechanisms", "accountant") else HEAVY
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert loaded.stdout.strip() == "[]"
