"""The client of a process: made once for the settings it has, and again when they have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tm import config, wiring

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_client_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "_default", None)
    monkeypatch.setenv("TM_URL", "redis://localhost:1/0")
    monkeypatch.delenv("TM_HOME", raising=False)
    monkeypatch.delenv("TM_HISTORY", raising=False)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[config.Settings]:
    """The settings that were read."""
    known: list[config.Settings] = []
    original = config.Settings.from_environment

    def from_environment() -> config.Settings:
        known.append(original())
        return known[-1]

    monkeypatch.setattr(config.Settings, "from_environment", from_environment)
    return known


def test_settings_are_read_once_while_nothing_changes(read: list[config.Settings]) -> None:
    assert len({id(wiring.default_client()) for _ in range(5)}) == 1
    assert len(read) == 1


def test_what_does_not_concern_us_makes_no_new_client(
    monkeypatch: pytest.MonkeyPatch, read: list[config.Settings]
) -> None:
    first = wiring.default_client()
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    assert wiring.default_client() is first
    assert wiring.default_client() is first
    assert len(read) == 2


@pytest.mark.parametrize("variable", ["TM_URL", "TM_NAMESPACE"])
def test_another_environment_makes_another_client(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    first = wiring.default_client()
    monkeypatch.setenv(variable, "redis://localhost:2/0" if variable == "TM_URL" else "other")
    second = wiring.default_client()
    assert second is not first
    assert wiring.default_client() is second


def test_another_folder_is_another_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = wiring.default_client()
    monkeypatch.chdir(tmp_path)
    assert wiring.default_client() is not first


def test_a_fork_makes_a_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first = wiring.default_client()
    monkeypatch.setattr("os.getpid", lambda: 1)
    assert wiring.default_client() is not first
