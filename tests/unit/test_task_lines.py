"""How lines travel: frames among other bytes, journals that keep head and tail, chunks on their way, an echo that never waits."""

from __future__ import annotations

import itertools
import json
import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgpack
import pytest
import redis.exceptions
from hypothesis import given
from hypothesis import strategies as st

from tests.waiting import wait_for
from tm.loglines import Chunk, Line, Stream, pack_lines, unpack_lines
from tm_worker import frames
from tm_worker.echo import MOST, Echo
from tm_worker.frames import MARK, ROOM, Splitter, head
from tm_worker.journal import LINE_COST, LONGEST_LINE, About, Journal
from tm_worker.lines import Lines
from tm_worker.outgoing import EVERY, KEPT, REFUSED_PAUSE, Outgoing
from tm_worker.unread import Unread

if TYPE_CHECKING:
    from collections.abc import Iterator

ABOUT = About("token", "run-1", "etl", "load", 2)
SIGN = b"\x00\x01\x02\x03\x00\x01\x02\x04"  # begins like itself in the middle


def frame(kind: int, data: bytes, at_us: int = 7) -> bytes:
    return head(SIGN, kind, at_us, len(data)) + data


# Frames


pieces = st.lists(
    st.tuples(
        st.sampled_from([frames.RAW, frames.OUT, frames.ERR, frames.LOG, frames.BEGIN, frames.END]),
        st.binary(min_size=1, max_size=60).filter(lambda data: SIGN not in data),
    ),
    max_size=12,
)


@given(pieces=pieces, cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_frames_and_what_comes_between_them_come_out_as_they_went_in_however_they_are_cut(
    pieces: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    sent = SIGN + b"".join(data if kind == frames.RAW else frame(kind, data) for kind, data in pieces)
    splitter, found = Splitter(), list[tuple[int, bytes]]()
    places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    for start, end in itertools.pairwise(places):
        found += [(piece.kind, piece.data) for piece in splitter.feed(sent[start:end])]
    if left := splitter.left():
        found.append((frames.RAW, left))

    def merged(parts: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        whole: list[tuple[int, bytes]] = []
        for kind, data in parts:
            if kind == frames.RAW and whole and whole[-1][0] == frames.RAW:
                whole[-1] = (kind, whole[-1][1] + data)
            else:
                whole.append((kind, data))
        return whole

    assert merged(found) == merged(pieces)


def test_somebody_who_writes_the_mark_himself_confuses_nobody_for_long() -> None:
    splitter = Splitter()
    got = splitter.feed(SIGN + SIGN + b"\xff" * 40 + frame(frames.OUT, b"after\n"))
    assert b"".join(piece.data for piece in got if piece.kind == frames.RAW) == SIGN + b"\xff" * 40
    assert got[-1].data == b"after\n"


def test_a_frame_is_written_by_the_kernel_in_one_piece() -> None:
    assert len(frame(frames.OUT, b"x" * ROOM)) == 4096 or len(frame(frames.OUT, b"x" * ROOM)) == 512
    assert len(SIGN) == MARK


@pytest.mark.parametrize("name", ["root", "a.b", "ü" * 200])
def test_a_logging_record(name: str) -> None:
    level, logger, text = frames.unpack_record(frames.pack_record(30, name, b"what was said"))
    assert level == 30
    assert name.startswith(logger.rstrip("\ufffd"))
    assert text == b"what was said"


# Lines and chunks


def test_lines_survive_the_way_into_bytes_and_back() -> None:
    lines = [
        Line(1_790_000_000_000_000, Stream.STDOUT, 20, "", "plain"),
        Line(1, Stream.LOG, 35, "a.b", "odd level, \x00 and \ufffd"),
        Line(2, Stream.TM, 40, "", "x" * 5000),
    ]
    assert unpack_lines(pack_lines(lines)) == lines
    assert len(pack_lines(lines)) < 400
    assert [line.level_name for line in lines] == ["info", "warning", "error"]


@pytest.mark.parametrize("damaged", [b"", b"1not zlib", b"0\xc1", b"2", b"0\x93\x01\x02\x03"])
def test_damaged_chunks_say_so(damaged: bytes) -> None:
    (line,) = unpack_lines(damaged, 5)
    assert (line.stream, line.at_us) == (Stream.TM, 5)
    assert "no log lines" in line.text


def texts(lines: list[Line]) -> list[str]:
    return [line.text for line in lines]


def test_a_line_is_whole_when_its_end_has_come() -> None:
    journal = Journal(ABOUT, 1 << 20)
    assert journal.take(Stream.STDOUT, b"one\ntw", 1) == [Line(1, Stream.STDOUT, 20, "", "one")]
    assert journal.unfinished
    assert journal.take(Stream.STDERR, b"error\n", 2) == [Line(2, Stream.STDERR, 30, "", "error")]
    assert journal.take(Stream.STDOUT, b"o\n\nlast", 3) == [
        Line(1, Stream.STDOUT, 20, "", "two"),
        Line(1, Stream.STDOUT, 20, "", ""),
    ]
    assert texts(journal.conclude()) == ["last"]
    assert texts(journal.fresh) == ["one", "error", "two", "", "last"]


def test_lines_that_never_end_are_broken_after_a_while() -> None:
    journal = Journal(ABOUT, 1 << 20)
    journal.take(Stream.STDOUT, b"10 %", 100)
    assert journal.break_off(before_us=100) == []
    assert texts(journal.break_off(before_us=101)) == ["10 %"]
    assert not journal.unfinished


def test_a_line_that_is_too_long_is_broken_in_pieces() -> None:
    journal = Journal(ABOUT, 1 << 20)
    journal.take(Stream.STDOUT, b"a" * (LONGEST_LINE * 2) + b"bc", 1)
    journal.take(Stream.STDOUT, b"d\n", 2)
    assert [len(line.text) for line in journal.fresh] == [LONGEST_LINE, LONGEST_LINE, 3]
    journal.take(Stream.STDERR, b"e" * (LONGEST_LINE + 1) + b"\n", 3)
    assert [len(line.text) for line in journal.fresh[3:]] == [LONGEST_LINE, 1]


@given(sizes=st.lists(st.integers(0, 300), max_size=200), limit=st.integers(0, 8000))
def test_no_more_than_the_limit_is_kept_and_head_and_tail_are_as_they_were(sizes: list[int], limit: int) -> None:
    journal = Journal(ABOUT, limit)
    written = [f"{number:03}" + "x" * size for number, size in enumerate(sizes)]
    for text in written:
        journal.take(Stream.STDOUT, text.encode() + b"\n", 1)
    journal.conclude()
    kept = [line for line in journal.fresh if line.stream is Stream.STDOUT]
    cuts = [index for index, line in enumerate(journal.fresh) if line.stream is Stream.TM]
    # one line is kept whatever its size: the last
    assert sum(len(line.text) + LINE_COST for line in kept[:-1]) <= limit
    if not cuts:
        assert texts(kept) == written
    else:
        (cut,) = cuts
        assert texts(kept[:cut]) == written[:cut]
        assert texts(kept[cut:]) == written[len(written) - len(kept) + cut :]
        assert f"[{len(written) - len(kept):,} lines, " in journal.fresh[cut].text


def test_chunks_are_numbered_and_the_last_one_says_so_even_if_it_is_empty() -> None:
    journal = Journal(ABOUT, 1 << 20)
    journal.take(Stream.STDOUT, b"one\n", 1)
    first = journal.chunks()
    for number in range(3000):
        journal.take(Stream.STDOUT, b"%d" % number + b"x" * 50 + b"\n", 2)
    more = journal.chunks()
    journal.conclude()
    last = journal.chunks(last=True)
    found = [*first, *more, *last]
    assert len(more) > 2
    assert [chunk.number for chunk in found] == list(range(len(found)))
    assert [chunk.last for chunk in found] == [False] * (len(found) - 1) + [True]
    assert sum(len(chunk.lines()) for chunk in found) == 3001
    assert {chunk.key[0] for chunk in found} == {"token"}


# On the way to the server


def chunk(number: int, size: int = 10) -> Chunk:
    return Chunk(
        run="r",
        graph="g",
        task="t",
        attempt=1,
        token="k",
        number=number,
        last=False,
        first_us=0,
        packed=b"x" * size,
    )


class Server:
    """Takes chunks, or raises what it is told to."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.calls = 0
        self.error: Exception | None = None
        self.away: list[Exception] = []
        self.may = True

    def send(self, chunks: list[Chunk]) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error
        self.got += [chunk.number for chunk in chunks]

    def outgoing(self) -> Outgoing:
        return Outgoing(self.send, lambda: self.may, lambda error, _: self.away.append(error))


def test_calls_are_few_but_a_report_does_not_wait_for_the_next_one() -> None:
    server = Server()
    outgoing = server.outgoing()
    outgoing.put([chunk(0)])
    outgoing.turn(100.0)
    outgoing.put([chunk(1)])
    outgoing.turn(100.0 + EVERY / 2)
    assert server.got == [0]
    assert outgoing.next_time(more=False) == 100.0 + EVERY
    outgoing.turn(100.0 + EVERY / 2, hurry=True)
    assert server.got == [0, 1]
    assert outgoing.next_time(more=False) is None


def test_what_was_not_answered_is_sent_again_and_nothing_is_sent_while_nobody_is_there() -> None:
    server = Server()
    outgoing = server.outgoing()
    outgoing.put([chunk(0), chunk(1)])
    server.error = redis.exceptions.ConnectionError("gone")
    outgoing.turn(100.0)
    assert server.away == [server.error]
    server.may = False
    outgoing.turn(200.0)
    assert server.calls == 1
    assert outgoing.next_time(more=True) is None
    server.error, server.may = None, True
    outgoing.turn(300.0)
    assert server.got == [0, 1]


def test_a_server_that_is_full_gets_no_lines_and_that_is_no_outage() -> None:
    server = Server()
    outgoing = server.outgoing()
    outgoing.put([chunk(0)])
    server.error = redis.exceptions.OutOfMemoryError("OOM")
    outgoing.turn(100.0)
    assert server.away == []
    assert outgoing.lost == 1
    server.error = redis.exceptions.NoPermissionError("NOPERM")
    outgoing.put([chunk(1)])
    outgoing.turn(100.0 + REFUSED_PAUSE)
    server.error = None
    outgoing.turn(101.0 + REFUSED_PAUSE)
    assert server.got == []
    outgoing.turn(100.0 + 2 * REFUSED_PAUSE)
    assert server.got == [1]


def test_the_oldest_go_when_too_much_waits() -> None:
    server = Server()
    server.may = False
    outgoing = server.outgoing()
    for number in range(40):
        outgoing.put([chunk(number, 1 << 20)])
    server.may = True
    for second in range(100, 200):
        outgoing.turn(float(second))
    assert server.got == list(range(server.got[0], 40))
    assert (KEPT >> 20) - 2 < len(server.got) <= KEPT >> 20
    assert outgoing.lost == server.got[0]


# Shown


def read(descriptor: int) -> bytes:
    os.set_blocking(descriptor, False)
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return b""


def test_lines_are_shown_as_they_are_prefixed_or_as_json() -> None:
    lines = [
        Line(1_790_000_000_123_456, Stream.STDOUT, 20, "", "rows: 3"),
        Line(2, Stream.LOG, 30, "a.b", "careful"),
    ]
    for how, out, err in (
        ({"prefixed": False}, b"rows: 3\n", b"WARNING a.b: careful\n"),
        ({"prefixed": True}, b"etl/load #2 | rows: 3\n", b"etl/load #2 | WARNING a.b: careful\n"),
        ({"prefixed": True, "colored": True}, b"\x1b[0m | rows: 3\n", b"\x1b[0m | WARNING a.b: careful\n"),
    ):
        (out_reader, out_writer), (err_reader, err_writer) = os.pipe(), os.pipe()
        echo = Echo(**how, targets={1: out_writer, 2: err_writer})
        echo.lines(lines, ABOUT)
        echo.flush()
        assert read(out_reader).endswith(out)
        assert read(err_reader).endswith(err)
    reader, writer = os.pipe()
    echo = Echo(prefixed=False, as_json=True, targets={1: writer, 2: writer})
    echo.lines(lines, ABOUT)
    echo.stray(2, b"of nobody\n")
    echo.flush()
    first, second, third = (json.loads(line) for line in read(reader).splitlines())
    assert (first["at"], first["event"], first["attempt"]) == ("2026-09-21T14:13:20.123Z", "rows: 3", 2)
    assert (second["logger"], second["level"]) == ("a.b", "warning")
    assert third["event"] == "of nobody"


def test_nobody_waits_for_a_reader_that_stands_still_and_what_was_left_out_is_told() -> None:
    reader, writer = os.pipe()
    echo = Echo(prefixed=False, targets={1: writer, 2: writer})
    line = [Line(0, Stream.STDOUT, 20, "", "y" * 9_999)]
    began = time.monotonic()
    for _ in range(300):
        echo.lines(line, ABOUT)
    echo.flush()
    assert time.monotonic() - began < 5
    assert echo.waiting
    assert echo.crowded
    wait_for(lambda: not echo.crowded, "the reader to be given up", 5)
    got = b""
    while echo.waiting:
        got += read(reader)
        echo.flush()
    echo.lines([Line(0, Stream.STDOUT, 20, "", "at last")], ABOUT)
    echo.flush()
    got += read(reader)
    whole = got.decode().splitlines()
    assert whole.count("y" * 9_999) <= (MOST + (1 << 18)) // 10_000
    assert whole[-1] == "at last"
    assert (
        whole[-2]
        == f"tm: {300 - whole.count('y' * 9_999)} lines were not shown, for nobody took them; the log has them"
    )


def test_the_terminal_itself_is_not_made_to_not_block() -> None:
    reader, writer = os.pipe()
    Echo(prefixed=False, targets={1: writer, 2: writer})
    assert os.get_blocking(writer)
    os.close(reader)
    echo = Echo(prefixed=False, targets={1: writer, 2: writer})
    echo.lines([Line(0, Stream.STDOUT, 20, "", "to nobody")], ABOUT)
    echo.flush()
    assert not echo.waiting


# Whose it is


class Echoed:
    """Takes what is shown, in the place of an echo."""

    waiting = crowded = False

    def __init__(self) -> None:
        self.shown: list[tuple[str, str]] = []

    def lines(self, lines: list[Line], about: About) -> None:
        self.shown += [(about.task, line.text) for line in lines]

    def stray(self, _: int, data: bytes) -> None:
        self.shown.append(("nobody", data.decode()))


class Hands:
    """An executor's side of its pipes, and what it has reported."""

    def __init__(self) -> None:
        self.echo = Echoed()
        self.lines = Lines(1 << 20, SimpleNamespace(put=lambda _: None, turn=lambda *_, **__: None), echo=self.echo)
        self.out, self.err, *self.readers = self.lines.open(1)
        for descriptor in (self.out, self.err):
            os.write(descriptor, SIGN)
        self.unread = Unread(tuple(self.readers))
        self.unread.marked()
        self.ends = 0  #: that were marked
        self.queue = ["b", "c"]
        self.ends_when_heard = False
        self.lines._hear, self.lines._running = self.hear, self.running
        self.lines._read_all()
        assert self.unread.nothing()

    def end(self) -> None:
        """The first attempt ends as `Capture.end` has it, and reports."""
        if not self.unread.nothing():
            for descriptor in (self.out, self.err):
                os.write(descriptor, frame(frames.END, msgpack.packb([self.queue[0], "r", "g", self.queue[0], 1])))
            self.unread.marked()
            self.ends += 1
        del self.queue[0]

    def hear(self, _: int) -> None:
        if self.ends_when_heard:
            self.ends_when_heard = False
            self.end()

    def running(self, _: int) -> SimpleNamespace | None:
        task = self.queue[0] if self.queue else None
        return None if task is None else SimpleNamespace(token=task, run="r", graph="g", task=task, attempt=1)

    def close(self) -> None:
        for descriptor in (self.out, self.err, *self.readers):
            os.close(descriptor)
        self.lines.close()


@pytest.fixture
def hands() -> Iterator[Hands]:
    hands = Hands()
    yield hands
    hands.close()


def test_what_is_read_while_its_attempt_ends_is_of_that_attempt(hands: Hands) -> None:
    os.write(hands.out, b"by number\n")
    hands.ends_when_heard = True  # after the read, and before the supervisor looks who runs
    hands.lines._read_all()
    assert hands.echo.shown == [("b", "by number")]


def test_what_is_read_while_its_attempt_runs_is_of_that_attempt(hands: Hands) -> None:
    os.write(hands.out, b"of b\n")
    hands.lines._read_all()
    assert hands.echo.shown == [("b", "of b")]
    hands.end()
    os.write(hands.out, b"of c\n")
    hands.lines._read_all()
    assert hands.echo.shown == [("b", "of b"), ("c", "of c")]


def test_what_is_unread_when_its_attempt_ends_is_of_that_attempt(hands: Hands) -> None:
    os.write(hands.out, b"of b\n")
    hands.end()
    os.write(hands.out, b"of c\n")
    hands.lines._read_all()
    assert hands.echo.shown == [("b", "of b"), ("c", "of c")]


def test_what_nobody_runs_to_write_is_of_nobody(hands: Hands) -> None:
    hands.end()
    hands.end()
    os.write(hands.out, b"late\n")
    hands.lines._read_all()
    assert hands.echo.shown == [("nobody", "late\n")]


def test_a_mark_of_an_end_makes_no_other(hands: Hands) -> None:
    hands.queue = [*"bcdefgh"]
    os.write(hands.err, b"of b\n")
    hands.end()
    assert hands.ends == 1
    hands.end()  # the marks are unread
    assert hands.ends == 1
    hands.lines._read_all()  # they are read, with what was before them
    hands.end()
    assert hands.ends == 2, "there was more in it, and nobody knows whose"
    hands.end()
    hands.lines._read_all()
    hands.end()
    hands.end()
    assert hands.ends == 2
    os.write(hands.out, b"of h\n")
    hands.lines._read_all()
    hands.end()
    assert hands.ends == 3
    assert hands.echo.shown == [("b", "of b"), ("h", "of h")]


@pytest.mark.parametrize("size", [1, 7, 8, 20, 21, 22, 29, 30, 31])
def test_what_is_as_long_as_a_mark_is_none(hands: Hands, size: int) -> None:
    hands.queue = [*"bcd"]
    os.write(hands.out, b"of b\n")
    hands.end()
    hands.lines._read_all()
    os.write(hands.out, b"c" * (size - 1) + b"\n")
    hands.end()
    hands.lines._read_all()
    assert hands.echo.shown[1:] == [("c", "c" * (size - 1))]


def test_a_read_that_was_on_its_way_when_an_attempt_ended_may_have_read_of_the_next(hands: Hands) -> None:
    hands.queue = [*"bcdef"]
    pipe = hands.lines._pipes[1][0]
    begins, marks, _ = pipe.news
    os.write(pipe.told, begins)
    hands.end()
    assert hands.ends == 1
    os.read(pipe.descriptor, 1 << 16)
    hands.end()
    assert hands.ends == 2, "what it found is not known yet"
    os.write(pipe.told, marks)
    hands.end()
    assert hands.ends == 3, "it may have been of this one until now"
    hands.lines._read_all()
    hands.end()
    hands.end()
    assert hands.ends == 3
