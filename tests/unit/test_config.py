"""Settings: where they come from, what is refused and how, what is never shown."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm.config import HARD_MAX_MESSAGE, TABLE, Settings, has_cursor, wants_color
from tm.errors import SettingsError
from tm.redact import redact

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for row in TABLE:
        monkeypatch.delenv(row.variable, raising=False)


def test_without_an_environment_everything_is_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment()
    assert settings.url is None
    assert settings.home == tmp_path / ".tm"
    assert settings.history_url == f"sqlite:///{tmp_path}/.tm/history.db"
    assert settings.server_url() == f"unix://{tmp_path}/.tm/redis.sock"
    assert (settings.namespace, settings.lease, settings.heartbeat) == ("default", 30.0, 5.0)
    assert (settings.drain, settings.grace, settings.result_ttl) == (30.0, 10.0, 600.0)
    assert (settings.max_message, settings.appendfsync) == (1 << 20, "everysec")
    assert (settings.log_level, settings.log_format) == ("info", "text")
    assert settings.processes >= 2
    assert isinstance(settings.timezone, ZoneInfo)
    assert settings == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("TM_URL", "redis://cache:6380/3", "url", "redis://cache:6380/3"),
        ("TM_URL", "rediss://u:p@[::1]:6380", "url", "rediss://u:p@[::1]:6380"),
        ("TM_URL", "unix:///run/redis.sock?db=2", "url", "unix:///run/redis.sock?db=2"),
        ("TM_URL", "  ", "url", None),
        ("TM_HOME", "/var/lib/tm", "home", Path("/var/lib/tm")),
        ("TM_HOME", "~/tm", "home", Path.home() / "tm"),
        ("TM_NAMESPACE", "blue_1", "namespace", "blue_1"),
        ("TM_HISTORY", "postgresql+psycopg://u@h/db", "history_url", "postgresql+psycopg://u@h/db"),
        ("TM_HISTORY", "sqlite:////data/my history.db", "history_url", "sqlite:////data/my history.db"),
        ("TM_TZ", "Europe/Berlin", "timezone", ZoneInfo("Europe/Berlin")),
        ("TM_LEASE", "1.5", "lease", 1.5),
        ("TM_DRAIN_TIMEOUT", "0", "drain", 0.0),
        ("TM_GRACE", "0.5", "grace", 0.5),
        ("TM_PROCESSES", "4", "processes", 4),
        ("TM_RESULT_TTL", "60", "result_ttl", 60.0),
        ("TM_FAILED_TTL", "60", "failed_ttl", 60.0),
        ("TM_CALLBACK_TIMEOUT", "5", "callback_timeout", 5.0),
        ("TM_MAX_MESSAGE", "65536", "max_message", 65536),
        ("TM_MAX_MESSAGE", "2MiB", "max_message", 2 << 20),
        ("TM_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("TM_LOG_FORMAT", "json", "log_format", "json"),
        ("TM_APPENDFSYNC", "always", "appendfsync", "always"),
        ("TM_METRICS_PORT", "9100", "metrics_port", 9100),
        ("TM_METRICS_HOST", "0.0.0.0", "metrics_host", "0.0.0.0"),
    ],
)
def test_each_variable_sets_its_field(monkeypatch, variable, text, field, value):
    monkeypatch.setenv(variable, text)
    assert getattr(Settings.from_environment(), field) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("TM_URL", "localhost:6379"),
        ("TM_URL", "localhost"),
        ("TM_URL", "http://localhost"),
        ("TM_URL", "redis://"),
        ("TM_URL", "redis://h:port"),
        ("TM_URL", "redis://h:99999"),
        ("TM_URL", "redis://h:6379/etl"),
        ("TM_URL", "redis://h 1"),
        ("TM_URL", "unix://relative.sock"),
        ("TM_NAMESPACE", "a.b"),
        ("TM_NAMESPACE", "a:b"),
        ("TM_NAMESPACE", "x" * 51),
        ("TM_HISTORY", "history.db"),
        ("TM_HISTORY", "mysql://h/db"),
        ("TM_HISTORY", "postgres://h/db"),
        ("TM_HISTORY", "sqlite://history.db"),
        ("TM_TZ", "Mars/Olympus"),
        ("TM_TZ", "../../etc/passwd"),
        ("TM_TZ", "Europe"),
        ("TM_LEASE", "0"),
        ("TM_LEASE", "-1"),
        ("TM_LEASE", "nan"),
        ("TM_LEASE", "inf"),
        ("TM_LEASE", "30s"),
        ("TM_DRAIN_TIMEOUT", "-0.1"),
        ("TM_GRACE", "soon"),
        ("TM_PROCESSES", "0"),
        ("TM_PROCESSES", "2.5"),
        ("TM_PROCESSES", "many"),
        ("TM_RESULT_TTL", "0"),
        ("TM_FAILED_TTL", "0"),
        ("TM_MAX_MESSAGE", "10"),
        ("TM_MAX_MESSAGE", str(HARD_MAX_MESSAGE + 1)),
        ("TM_MAX_MESSAGE", "1GB"),
        ("TM_LOG_LEVEL", "loud"),
        ("TM_LOG_FORMAT", "xml"),
        ("TM_APPENDFSYNC", "no"),
        ("TM_METRICS_PORT", "65536"),
        ("TM_METRICS_PORT", "http"),
        ("TM_METRICS_HOST", "a/b"),
    ],
)
def test_a_bad_value_is_refused_by_variable_value_and_what_is_allowed(monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)
    (row,) = (each for each in TABLE if each.variable == variable)
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment()
    message = str(refused.value)
    assert message.startswith(f"{variable}=")
    assert "".join(text.split()) in message
    assert row.allowed in message
    assert refused.value.exit_code == 2


def test_a_bad_override_is_refused_by_its_field():
    with pytest.raises(SettingsError, match=r"^lease='x' will not do: use seconds above 0"):
        Settings.from_environment(lease="x")
    with pytest.raises(SettingsError, match=r"^processes=0 "):
        Settings(processes=0)
    with pytest.raises(SettingsError, match=r"^processes=True "):
        Settings(processes=True)


def test_overrides_win_and_none_means_not_given(monkeypatch):
    monkeypatch.setenv("TM_URL", "redis://from-environment")
    assert Settings.from_environment(url=None).url == "redis://from-environment"
    assert Settings.from_environment(url="redis://from-option", lease="3").url == "redis://from-option"
    with pytest.raises(TypeError, match="ulr"):
        Settings.from_environment(ulr="redis://h")


def test_settings_are_frozen_and_can_be_varied(tmp_path):
    settings = Settings(home=tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.lease = 1
    assert dataclasses.replace(settings, lease=3).heartbeat == 0.5


def test_the_socket_url_of_an_odd_directory_survives_url_parsing(tmp_path):
    import redis

    home = tmp_path / "a b%20c#d?e ü"
    url = Settings(home=home).server_url()
    if len(str(home)) < 80:
        pool = redis.ConnectionPool.from_url(url)
        assert pool.connection_kwargs["path"] == f"{home}/redis.sock"


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@h:6379/0",
        "redis://:hunter2@h",
        "rediss://user:hun:hunter2@h",
        "redis://user:p@hunter2@h",
        "redis://us@er:hunter2@h",
        "redis://user:a/hunter2@h",
        "redis://h/0?password=hunter2",
        "unix://u:hunter2@/run/s.sock",
        "postgresql+psycopg://u:hunter2@h/db?sslmode=require",
        "Error 111 connecting to redis://u:hunter2@h:1/0, then postgresql://u:hunter2@h",
    ],
)
def test_redact_hides_passwords(url):
    assert "hunter2" not in redact(url)
    assert "***" in redact(url)


@pytest.mark.parametrize("text", ["redis://h:6379/0", "unix:///run/s.sock", "a:b@c", "", "https://example.org/x?y=1"])
def test_redact_leaves_the_rest(text):
    assert redact(text) == text


@given(
    *[st.text(st.characters(exclude_categories=["C"]))] * 3,
    st.sampled_from(["{}:{}hunter2{}@h", "redis:{}:{}hunter2{}@h:1/0", "redis://{}:{}hunter2{}@h:1/0"]),
)
def test_no_password_shows_in_repr_or_refusal(user, before, after, url):
    url = url.format(user, before, after)
    shown = []
    for setting in ("url", "history_url"):
        try:
            shown.append(repr(Settings(home=Path("/x"), **{setting: url})))
        except SettingsError as error:
            shown.append("".join(traceback.format_exception(error)))
    assert "hunter2" not in re.sub(r"^ .*$", "", "".join(shown), flags=re.MULTILINE)  # but for lines of this file


def test_no_password_shows_in_repr_and_refusal_even_with_blanks():
    settings = Settings(url="redis://u:hunter2@h", history_url="postgresql://u:hunter2@h/db")
    assert "hunter2" not in repr(settings)
    assert "u:***@h" in repr(settings)
    for bad in ("redis://u:hunter2 hunter2@h", "http://u:hunter2@h", "redis://u:hunter2@h:x"):
        with pytest.raises(SettingsError) as refused:
            Settings(url=bad)
        assert "hunter2" not in str(refused.value)


def test_the_table_for_the_documentation_is_complete():
    rows = TABLE
    assert {row.field for row in rows} == {each.name for each in dataclasses.fields(Settings)}
    assert all(row.variable.startswith("TM_") and row.allowed and row.default and row.meaning for row in rows)


@pytest.mark.parametrize(("zone", "followed"), [("America/New_York", "America/New_York"), ("Not/Known", "UTC")])
def test_the_machine_zone_is_followed(zone, followed):
    code = "from tm.config import Settings; print(Settings().timezone.key)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"TZ": zone})
    assert done.stdout == f"{followed}\n"


def test_a_wish_for_no_colour_is_recognised(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_color()
    monkeypatch.setenv("NO_COLOR", "")
    assert wants_color()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color()


def test_a_dumb_terminal_is_recognised(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert not has_cursor()
    monkeypatch.setenv("TERM", "xterm")
    assert has_cursor()


def test_nothing_else_reads_the_environment():
    readers = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    found = []
    for folder in ("tm", "workers/tm_worker", "scheduler/tm_scheduler"):
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_bytes(), file)):
                names = {node.attr} if isinstance(node, ast.Attribute) else set()
                if isinstance(node, ast.ImportFrom) and node.module == "os":
                    names = {each.name for each in node.names}
                elif isinstance(node, ast.Call):  # click can read it too
                    names |= {"environ" for each in node.keywords if each.arg in ("envvar", "auto_envvar_prefix")}
                if names & readers:
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert [each for each in found if not each.startswith("tm/config/")] == []


def test_reading_settings_is_light():
    code = (
        "import sys; from tm.config import Settings; Settings.from_environment();"
        "print(sorted(sys.modules.keys() & {'redis', 'rq', 'sqlalchemy', 'msgpack', 'click', 'rich', 'valkey'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot confine a process to one CPU")
def test_on_one_cpu_two_tasks_still_run_side_by_side() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert Settings().processes == 2
    finally:
        os.sched_setaffinity(0, allowed)
