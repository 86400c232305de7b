"""What a webhook is told, how it is signed, and what becomes of answers; no server needed but a receiver."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.histories import attempt, created, ended, told
from tm.config import ALERTS, Settings, veiled
from tm.errors import SettingsError
from tm.events import DeadlineMissed
from tm.states import Outcome, RunState, TaskState
from tm.store.outbox import Alert
from tm_scheduler import webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = b"a secret of 24 bytes ..."
ALERT = Alert(id="default-1-0", type="run.failed", run="etl-1", body='{"run":"etl-1","reason":"ü"}')


class Receiver:
    """A web server that notes what it gets, and answers as the test says."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: status(handler, 204)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                receiver.answer(self)

            do_GET = do_POST  # noqa: N815 - the name the library looks for

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/T0KEN"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


def status(handler: BaseHTTPRequestHandler, code: int, **headers: str) -> None:
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", "0")
    handler.end_headers()


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def verified(headers: dict[str, str], body: bytes, key: bytes) -> bool:
    """HMAC-SHA256 as RFC 2104 has it, written out: another way than that of the sender."""
    block = key.ljust(64, b"\0") if len(key) <= 64 else hashlib.sha256(key).digest().ljust(64, b"\0")
    signed = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    inner = hashlib.sha256(bytes(each ^ 0x36 for each in block) + signed).digest()
    outer = hashlib.sha256(bytes(each ^ 0x5C for each in block) + inner).digest()
    return headers["webhook-signature"] == "v1," + base64.b64encode(outer).decode()


def test_the_signature_is_that_of_standard_webhooks() -> None:
    key = webhook.key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = webhook.sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert webhook.key_of("no prefix at all") == b"no prefix at all"


def test_a_message_arrives_whole_and_signed(receiver: Receiver) -> None:
    assert webhook.send(receiver.url, KEY, ALERT, 1_700_000_000).sent
    [(headers, body)] = receiver.got
    assert body.decode() == ALERT.body
    assert headers["content-type"] == "application/json"
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("default-1-0", "1700000000")
    assert verified(headers, body, KEY)
    assert not verified(headers, body + b" ", KEY)
    assert not verified(headers, body, b"another")


def test_without_a_secret_it_is_not_signed(receiver: Receiver) -> None:
    assert webhook.send(receiver.url, None, ALERT, 1).sent
    assert "webhook-signature" not in receiver.got[0][0]


@pytest.mark.parametrize("code", [500, 502, 503, 429, 408, 302, 307])
def test_what_may_work_later_is_tried_again(receiver: Receiver, code: int) -> None:
    receiver.answer = lambda handler: status(handler, code, location="http://127.0.0.1:1/elsewhere")
    reply = webhook.send(receiver.url, KEY, ALERT, 1)
    assert (reply.sent, reply.again) == (False, True)
    assert str(code) in reply.problem
    assert len(receiver.got) == 1, "redirects are not followed"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 422])
def test_what_is_refused_is_given_up(receiver: Receiver, code: int) -> None:
    receiver.answer = lambda handler: status(handler, code)
    reply = webhook.send(receiver.url, KEY, ALERT, 1)
    assert (reply.sent, reply.again) == (False, False)
    assert reply.problem == f"status {code}: the receiver refuses it"


def test_silence_a_torn_connection_and_nobody_there_are_tried_again(receiver: Receiver) -> None:
    receiver.answer = lambda _: time.sleep(1)
    began = time.monotonic()
    slow = webhook.send(receiver.url, KEY, ALERT, 1, timeout=0.2)
    assert time.monotonic() - began < 0.9
    receiver.answer = lambda handler: handler.connection.close()
    torn = webhook.send(receiver.url, KEY, ALERT, 1)
    receiver.answer = lambda handler: handler.wfile.write(b"rubbish\r\n\r\n") and None
    rubbish = webhook.send(receiver.url, KEY, ALERT, 1)
    nobody = webhook.send("http://127.0.0.1:1/T0KEN", KEY, ALERT, 1)
    unknown = webhook.send("http://no-such-host.invalid/T0KEN", KEY, ALERT, 1)
    for reply in (slow, torn, rubbish, nobody, unknown):
        assert (reply.sent, reply.again) == (False, True)
        assert reply.problem
        assert "T0KEN" not in reply.problem


def test_who_drips_headers_is_not_waited_for_and_counts_as_no_answer(receiver: Receiver) -> None:
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.02):
            try:
                handler.wfile.write(b"x")
            except OSError:  # it has hung up
                over.set()

    receiver.answer = drip
    try:
        reply = webhook.send(receiver.url, KEY, ALERT, 1, timeout=0.3)
        assert (reply.sent, reply.again) == (False, True)
        assert "no answer within" in reply.problem
        assert over.wait(10), "its connection is still open"
    finally:
        over.set()


def test_a_port_that_does_not_speak_tls_is_tried_again(receiver: Receiver) -> None:
    reply = webhook.send(receiver.url.replace("http:", "https:"), KEY, ALERT, 1)
    assert (reply.sent, reply.again) == (False, True)
    assert reply.problem.startswith("TLS:")


def test_pauses_grow_to_ten_minutes_and_heed_what_the_receiver_says() -> None:
    again = webhook.Reply(sent=False, again=True)
    assert [webhook.pause_after(tries, again, lambda: 1.0) for tries in (1, 2, 3, 8, 100)] == [5, 10, 20, 600, 600]
    assert webhook.pause_after(1, again, lambda: 0.0) == 2.5
    assert webhook.pause_after(1, webhook.Reply(sent=False, again=True, after=90), lambda: 1.0) == 90
    assert webhook.pause_after(1, webhook.Reply(sent=False, again=True, after=1e9), lambda: 1.0) == 3600


@pytest.mark.parametrize("given", ["7", "Wed, 21 Oct 2015 07:28:00 GMT", "soon"])
def test_retry_after_may_be_seconds_or_a_date_or_nonsense(receiver: Receiver, given: str) -> None:
    receiver.answer = lambda handler: status(handler, 503, retry_after=given)
    assert webhook.send(receiver.url, KEY, ALERT, 1).after == {"7": 7.0, "soon": None}.get(given, 0.0)


def message(event: Any, wanted: tuple[str, ...] = ALERTS) -> dict[str, Any] | None:
    alert = webhook.alert_of("5-1", event, wanted, "default", lambda _: None)
    return None if alert is None else json.loads(alert.body)


def test_events_become_messages_with_a_schema() -> None:
    failed = message(ended(state=RunState.FAILED, reason="because"))
    assert failed == {
        "schema": "tm.alert/1", "id": "default-5-1", "type": "run.failed", "at": "2023-11-14T22:13:21.000Z",
        "namespace": "default", "graph": "etl", "run": "etl-1", "state": "failed", "reason": "because",
    }  # fmt: skip
    quarantined = message(attempt(outcome=Outcome.KILLED, state=TaskState.QUARANTINED))
    assert quarantined is not None
    assert (quarantined["type"], quarantined["task"], quarantined["attempt"]) == ("task.quarantined", "extract", 1)
    late = message(DeadlineMissed(run="r", graph="g", state=RunState.RUNNING, due=1000, at=2000))
    assert late is not None
    assert (late["type"], late["due"]) == ("deadline.missed", "1970-01-01T00:00:01.000Z")
    callback = message(told())
    assert callback is not None
    assert (callback["type"], callback["callback"], callback["state"]) == ("callback.failed", "on_failure", "failed")
    assert message(told(outcome="success")) is None
    assert message(created()) is None
    broken = message(created(state=RunState.FAILED, reason="config: line 3"))
    assert broken is not None
    assert (broken["type"], broken["reason"]) == ("run.failed", "config: line 3")


def test_only_what_is_wanted_becomes_a_message() -> None:
    assert message(ended(state=RunState.FAILED), ("run.success",)) is None
    assert message(ended(), ("run.success",)) is not None
    assert message(attempt(outcome=Outcome.REJECTED, state=None)) is None


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("webhook_url", "ftp://host/x", "no address of a web server"),
        ("webhook_url", "https:///x", "no address of a web server"),
        ("webhook_url", "https://ann:pw@host/x", "would not be sent"),
        ("webhook_secret", "whsec_%%%", "no base64"),
        ("webhook_secret", "abc-def", "too short"),
        ("webhook_events", "run.lost", "no alert is called run.lost"),
        ("webhook_events", " , ", "nothing is named"),
    ],
)
def test_bad_settings_are_refused_without_telling_secrets(setting: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as error:
        Settings(**{setting: value})
    if setting != "webhook_events":
        assert value not in str(error.value)


def test_settings_show_neither_secret_nor_address() -> None:
    settings = Settings(webhook_url="https://hooks.example.org/T0KEN?key=1", webhook_secret="whsec_" + "QUJD" * 8)
    for text in (repr(settings), str(settings), veiled("webhook_url", settings.webhook_url)):
        assert "T0KEN" not in text
        assert "QUJD" not in text
        assert "key=1" not in text
    assert "https://hooks.example.org/***" in repr(settings)
    assert "run.failed,run.timed_out,deadline.missed,task.quarantined" in repr(settings)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TM_WEBHOOK_URL", "https://h/x")
    monkeypatch.setenv("TM_WEBHOOK_SECRET", "0123456789abcdef")
    monkeypatch.setenv("TM_WEBHOOK_EVENTS", "run.success")
    again = Settings.from_environment()
    assert (again.webhook_url, again.webhook_secret, again.webhook_events) == (
        "https://h/x",
        "0123456789abcdef",
        ("run.success",),
    )
