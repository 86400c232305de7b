"""The wheel: what is in it, and that it works where nothing else of this repository is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tm import __version__

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "tm": ROOT / "tm",
    "tm_worker": ROOT / "workers" / "tm_worker",
    "tm_scheduler": ROOT / "scheduler" / "tm_scheduler",
}
DIST_INFO = f"taskmaster_dag-{__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without isolation, from the files that git would ship, by the hatchling of this environment."""
    pytest.importorskip("hatchling", reason="pip install hatchling, or make test")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("tm", "workers", "scheduler"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_is_pure_python(wheel: Path) -> None:
    assert wheel.name == f"taskmaster_dag-{__version__}-py3-none-any.whl"


def test_at_its_top_are_the_three_packages_and_nothing_else(names: set[str]) -> None:
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, DIST_INFO}


def test_every_file_of_the_packages_is_in_it(names: set[str]) -> None:
    for package, folder in PACKAGES.items():
        files = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
        assert {f"{package}/{path.relative_to(folder).as_posix()}" for path in files} <= names


def test_types_server_functions_and_the_licence_are_in_it(names: set[str]) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "tm/store/lua/finish.lua" in names
    assert f"{DIST_INFO}/licenses/LICENSE" in names


def test_installed_alone_it_works(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own; the dependencies are those of this one, which needs no network."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    installer = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*installer, str(wheel)], check=True)
    places = [path for path in sys.path if path.endswith("site-packages")]
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text("\n".join(places) + "\n")

    def run(*command: str | Path) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout

    where = run(python, "-c", "import tm; print(tm.__file__)")
    assert Path(where.strip()) == site / "tm" / "__init__.py"
    for command in ("tm", "tm-worker", "tm-scheduler"):
        run(python.parent / command, "--help")
    assert run(python.parent / "tm", "--version") == f"taskmaster {__version__}\n"

    (tmp_path / "hello.py").write_text(
        "from tm import Graph, task\n"
        "@task()\ndef hello():\n    return 'hello'\n"
        "graph = Graph(name='hello')\ngraph.add_edges([hello])\n"
        "if __name__ == '__main__':\n    print(graph())\n"
    )
    assert run(python, "hello.py") == "hello\n"
