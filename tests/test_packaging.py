"""What is shipped: the four packages and nothing else, and a base that needs no torch."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"accountant", "audit", "dpsgd", "mechanisms"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    for name in (*PACKAGES, "pyproject.toml", "README.md", "LICENSE"):
        _copy(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("dp_calipers-*.whl"))


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)


@pytest.mark.slow  # installs from the package index; that no torch is loaded is tested without, daily
def test_the_base_alone_answers_in_a_fresh_environment(wheel, tmp_path):
    venv.create(tmp_path / "base", with_pip=False)
    python = tmp_path / "base" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    install = [*pip, "install", "--no-compile", "-c", ROOT / ".ci" / "constraints.txt", wheel]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if "No matching distribution" in installed.stderr or "Temporary failure in name resolution" in installed.stderr:
        pytest.skip("no package index can be reached")
    assert installed.returncode == 0, installed.stderr
    question = (
        "import sys; from accountant import compute_epsilon; "
        "print(compute_epsilon(noise_multiplier=1.0, sample_rate=1.0, steps=1, delta=1e-5)); "
        "import importlib.util as u; assert u.find_spec('torch') is None and u.find_spec('pandas') is None"
    )
    answer = subprocess.run([python, "-c", question], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert 4.3771780 <= float(answer.stdout) <= 4.3771782


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        target.write_bytes(source.read_bytes())
        return
    for path in source.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())
