"""The nursery with real forks: births, deaths, signals, and who dies with whom."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.waiting import wait_for
from tm_worker.nursery import Born, Died, Failed, Nursery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tm_worker.channel import ExecutorEnd, SupervisorEnd
    from tm_worker.nursery import News


def obedient(end: ExecutorEnd) -> None:
    """An executor that does what the claims say."""
    while (order := end.receive()) is not None:
        match order:
            case ["about"]:
                same_group = os.getpgid(0) == os.getpid()
                ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
                default = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
                end.send([os.getpid(), os.getppid(), same_group, ignores, default])
            case ["exit", code]:
                os._exit(code)
            case ["fork"]:
                if (pid := os.fork()) == 0:
                    time.sleep(600)
                    os._exit(0)
                end.send([pid])
            case ["echo", data]:
                end.send([data])
            case ["hog"]:
                memory = bytearray(64 << 20)
                end.send([len(memory)])
            case ["descriptors"]:
                end.send([sorted(int(each.name) for each in Path("/proc/self/fd").iterdir())])
            case ["stdin"]:
                end.send([os.read(0, 10)])


class Watched:
    """A nursery whose news are collected."""

    def __init__(self, body: Callable[[ExecutorEnd], None], warm_up: Callable[[], None] = lambda: None) -> None:
        self.nursery = Nursery.start(body, warm_up)
        self.heard: list[News] = []
        self.ended = False
        self.streams: list[SupervisorEnd] = []

    def spawn(self, number: int) -> SupervisorEnd:
        self.streams.append(self.nursery.spawn(number))
        return self.streams[-1]

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.nursery.close()

    def listen(self) -> list[News]:
        news, self.ended = self.nursery.news()
        self.heard += news
        return self.heard

    def birth(self, number: int) -> Born:
        return self._first(Born, number)

    def death(self, number: int) -> Died:
        return self._first(Died, number)

    def _first(self, kind: type[Any], number: int) -> Any:
        return wait_for(
            lambda: next((each for each in self.listen() if isinstance(each, kind) and each.number == number), None),
            f"executor {number} to be {kind.__name__.lower()}",
        )


@pytest.fixture
def watched() -> Iterator[Watched]:
    with watching() as watched:
        yield watched


@contextmanager
def watching(warm_up: Callable[[], None] = lambda: None) -> Iterator[Watched]:
    watched = Watched(obedient, warm_up)
    yield watched
    watched.close()


def ask(stream: SupervisorEnd, *order: Any) -> list[Any]:
    """Send an order and wait for the answer."""
    stream.run(list(order))
    answers: list[list[Any]] = []

    def answered() -> bool:
        while stream.wants_write:
            stream.flush()
            select.select([stream], [], [], 0.01)
            answers.extend(stream.receive()[0])
        answers.extend(stream.receive()[0])
        return bool(answers)

    wait_for(answered, "an answer")
    return answers[0]


def test_an_executor_is_a_child_of_the_nursery_in_a_group_of_its_own(watched: Watched) -> None:
    stream = watched.spawn(1)
    born = watched.birth(1)
    pid, parent, own_group, ignores_ctrl_c, default_term = ask(stream, "about")
    assert (pid, parent) == (born.pid, watched.nursery.pid)
    assert own_group
    assert ignores_ctrl_c
    assert default_term


def test_an_exit_is_news_at_once(watched: Watched) -> None:
    stream = watched.spawn(7)
    watched.birth(7)
    stream.run(["exit", 3])
    began = time.monotonic()
    assert watched.death(7).exit_code == 3
    assert time.monotonic() - began < 1.0


def test_a_signal_is_told_apart_and_memory_is_measured(watched: Watched) -> None:
    stream = watched.spawn(1)
    assert ask(stream, "hog") == [64 << 20]
    watched.nursery.signal(1, signal.SIGTERM)
    died = watched.death(1)
    assert died.exit_code == -signal.SIGTERM
    assert died.max_rss > 64 << 20


def test_the_end_of_the_stream_ends_an_executor(watched: Watched) -> None:
    watched.spawn(1).close()
    assert watched.death(1).exit_code == 0


def test_a_group_ends_with_its_executor(watched: Watched) -> None:
    stream = watched.spawn(1)
    [grandchild] = ask(stream, "fork")
    stream.run(["exit", 0])
    watched.death(1)
    wait_for(lambda: not running(grandchild), "the grandchild to be gone")


def test_signals_for_the_dead_do_nothing(watched: Watched) -> None:
    watched.spawn(1).close()
    watched.death(1)
    watched.nursery.signal(1, signal.SIGKILL)
    watched.nursery.signal(99, signal.SIGKILL)
    watched.spawn(2)
    watched.birth(2)


def test_many_executors_at_once(watched: Watched) -> None:
    streams = {number: watched.spawn(number) for number in range(1, 21)}
    pids = {ask(stream, "about")[0] for stream in streams.values()}
    assert len(pids) == 20
    for stream in streams.values():
        stream.close()
    for number in streams:
        watched.death(number)


def test_executors_inherit_no_streams_of_others(watched: Watched) -> None:
    first = watched.spawn(1)
    watched.birth(1)
    second = watched.spawn(2)
    ours, others = ask(first, "descriptors")[0], ask(second, "descriptors")[0]
    assert len(ours) == len(others)
    assert ask(second, "stdin") == [b""]


def test_large_messages_pass_without_blocking(watched: Watched) -> None:
    stream = watched.spawn(1)
    large = os.urandom(5 << 20)
    assert ask(stream, "echo", large) == [large]


def test_the_nursery_ends_with_its_control_and_takes_all_along() -> None:
    with watching() as watched:
        stream = watched.spawn(1)
        [grandchild] = ask(stream, "fork")
        pid = watched.birth(1).pid
    assert not psutil.pid_exists(watched.nursery.pid)
    assert not running(pid)
    wait_for(lambda: not running(grandchild), "the grandchild to be gone")


def test_executors_die_with_a_killed_nursery() -> None:
    watched = Watched(obedient)
    watched.spawn(1)
    pid = watched.birth(1).pid
    os.kill(watched.nursery.pid, signal.SIGKILL)
    wait_for(lambda: not running(pid), "the executor to be gone", 2.0)
    wait_for(lambda: watched.listen() and watched.ended, "the end of the nursery to be seen")
    watched.close()


def test_everything_dies_with_a_killed_supervisor() -> None:
    reader, writer = os.pipe()
    supervisor = os.fork()
    if supervisor == 0:
        watched = Watched(obedient)
        watched.spawn(1)
        os.write(writer, f"{watched.nursery.pid} {watched.birth(1).pid}".encode())
        time.sleep(600)
        os._exit(0)
    nursery, executor = map(int, os.read(reader, 100).split())
    os.kill(supervisor, signal.SIGKILL)
    os.waitpid(supervisor, 0)
    wait_for(lambda: not running(nursery) and not running(executor), "nursery and executor to be gone", 2.0)
    os.close(reader)
    os.close(writer)


def test_the_nursery_outlives_signals_meant_for_the_whole_group(watched: Watched) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(watched.nursery.pid, signum)
    watched.spawn(1)
    watched.birth(1)


def test_a_fork_that_fails_is_news() -> None:
    def no_more_forks() -> None:
        def fork() -> int:
            raise BlockingIOError(errno.EAGAIN, "no more processes")

        os.fork = fork

    with watching(no_more_forks) as watched:
        stream = watched.spawn(1)
        [failed] = wait_for(watched.listen, "the failure to be told")
        assert isinstance(failed, Failed)
        assert "temporarily unavailable" in failed.reason
        assert stream.receive() == ([], True)


def running(pid: int) -> bool:
    """Whether it lives; a zombie whose new parent has not looked yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
