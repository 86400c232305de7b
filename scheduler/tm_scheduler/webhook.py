"""Alerts as messages to a webhook: which events are worth one, what it says, how it is signed, sent and tried again.

Signed as Standard Webhooks has it (https://www.standardwebhooks.com): HMAC-SHA256 over id, time stamp and body.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import http.client
import json
import random
import socket
import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tm import __version__
from tm.clock import from_ms
from tm.events import AttemptEnded, CallbackEnded, DeadlineMissed, RunCreated, RunEnded
from tm.states import RunState, TaskState
from tm.store.outbox import Alert

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tm.events import Event
    from tm.runinfo import RunInfo

SCHEMA = "tm.alert/1"
#: seconds a receiver may keep us waiting
TIMEOUT = 10.0
#: seconds before the second try, at most between two, and after which a message is given up
FIRST_PAUSE, LONGEST_PAUSE, GIVE_UP = 5.0, 600.0, 6 * 3600.0
_SECRET = "whsec_"  # noqa: S105 - the beginning of every one
#: a receiver that answers so may take the same message later
_LATER = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one try."""

    sent: bool
    again: bool = False  #: it may work later
    problem: str = ""  #: without the address, which may be a secret
    after: float | None = None  #: seconds the receiver wants to be left alone


def alert_of(
    id_: str, event: Event, wanted: Collection[str], namespace: str, look_up: Callable[[str], RunInfo | None]
) -> Alert | None:
    """The message an event is worth; None for most.

    Args:
        id_: its own, which no other event of this server has (`tm.events.event_id`).
        event: what happened.
        wanted: the types of messages somebody wants to have.
        namespace: of the server.
        look_up: a run as the server holds it, None if it does not.
    """
    found = _type_of(event)
    if found not in wanted or found is None:
        return None
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "id": f"{namespace}-{id_}",
        "type": found,
        "at": _instant(event.at),  # type: ignore[union-attr]
        "namespace": namespace,
        "graph": event.graph,  # type: ignore[union-attr]
        "run": event.run,  # type: ignore[union-attr]
    } | _details(event, look_up)
    body = json.dumps(about, ensure_ascii=False, separators=(",", ":"))
    return Alert(id=about["id"], type=found, run=about["run"], body=body)


def _type_of(event: Event) -> str | None:
    match event:
        case RunEnded():
            return f"run.{event.state.value}"
        case RunCreated(state=RunState.FAILED | RunState.SKIPPED):
            return f"run.{event.state.value}"
        case AttemptEnded(state=TaskState() as state):
            return f"task.{state.value}"
        case DeadlineMissed():
            return "deadline.missed"
        case CallbackEnded():
            return None if event.outcome == "success" else "callback.failed"
    return None


def _details(event: Event, look_up: Callable[[str], RunInfo | None]) -> dict[str, Any]:
    match event:
        case AttemptEnded():
            from tm.runinfo import read_error

            error = read_error(event.error)
            return {"task": event.task, "attempt": event.attempt, "state": event.state} | _error(error)
        case CallbackEnded():
            return {"task": event.task or None, "callback": f"on_{event.kind}", "state": event.outcome}
        case RunCreated():
            return {"state": event.state, "reason": event.reason or None, "tick": _instant(event.tick)}
        case DeadlineMissed():
            return {"state": event.state, "due": _instant(event.due)} | _of_run(look_up(event.run), of_failure=False)
        case RunEnded():
            found = look_up(event.run) if event.state is not RunState.SUCCESS else None
            return {"state": event.state, "reason": event.reason or None} | _of_run(found, of_failure=True)
    return {}


def _of_run(run: RunInfo | None, *, of_failure: bool) -> dict[str, Any]:
    if run is None:
        return {}
    about: dict[str, Any] = {"trigger": run.trigger, "tick": None if run.tick is None else _iso(run.tick)}
    if of_failure and run.culprit is not None:
        task, attempt, error = run.culprit
        about |= {"task": task.name, "attempt": attempt.number} | _error(error)
    return about


def _error(error: Any) -> dict[str, Any]:
    return {} if error is None else {"error": {"type": error.type, "message": error.message}}


def _instant(ms: int | None) -> str | None:
    return None if ms is None else _iso(from_ms(ms))


def _iso(at: Any) -> str:
    return str(at.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def key_of(secret: str) -> bytes:
    """The bytes to sign with: after `whsec_` they are base64, anything else is taken as it is.

    Raises:
        ValueError: what follows `whsec_` is no base64.
    """
    if secret.startswith(_SECRET):
        return base64.b64decode(secret.removeprefix(_SECRET), validate=True)
    return secret.encode()


def sign(key: bytes, alert: str, timestamp: int, body: str) -> str:
    """The header `webhook-signature`."""
    digest = hmac.new(key, f"{alert}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def send(url: str, key: bytes | None, alert: Alert, timestamp: int, *, timeout: float = TIMEOUT) -> Reply:
    """Try once; never raises. Redirects are not followed: they would carry the message to another host."""
    body = alert.body.encode()
    headers = {
        "content-type": "application/json",
        "user-agent": f"taskmaster/{__version__}",
        "webhook-id": alert.id,
        "webhook-timestamp": str(timestamp),
    }
    if key is not None:
        headers["webhook-signature"] = sign(key, alert.id, timestamp, alert.body)
    try:
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - checked by Settings
        with _opener().open(request, timeout=timeout):
            return Reply(sent=True)
    except urllib.error.HTTPError as error:
        with error:
            return _refusal(error.code, error.headers.get("retry-after"))
    except urllib.error.URLError as error:
        return Reply(sent=False, again=True, problem=_words(error.reason))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Reply(sent=False, again=True, problem=_words(error))


def pause_after(tries: int, reply: Reply, chance: Callable[[], float] = random.random) -> float:
    """Seconds until the next try after so many failed ones."""
    pause = min(FIRST_PAUSE * 2.0 ** min(tries - 1, 20), LONGEST_PAUSE) * (0.5 + chance() / 2)
    return max(pause, min(reply.after or 0.0, 3600.0))


def _refusal(status: int, retry_after: str | None) -> Reply:
    if 300 <= status < 400:
        return Reply(sent=False, again=True, problem=f"status {status}: it sends us elsewhere; set that address")
    if status in _LATER or status >= 500:
        return Reply(sent=False, again=True, problem=f"status {status}", after=_seconds(retry_after))
    return Reply(sent=False, problem=f"status {status}: the receiver refuses it")


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        at = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    import time

    return max(0.0, at.timestamp() - time.time())


def _words(reason: object) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT:g} s"
    if isinstance(reason, ssl.SSLError):
        return f"TLS: {reason.reason or reason}"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__ if isinstance(reason, BaseException) else str(reason)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Bounded(http.client.HTTPConnection):
    """Has its time-out for the whole answer; a socket's own is for each read, which headers that drip never reach."""

    def getresponse(self) -> http.client.HTTPResponse:
        late = threading.Event()

        def cut() -> None:
            late.set()
            with contextlib.suppress(OSError, AttributeError):  # it has ended at this very moment
                self.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.timeout or TIMEOUT, cut)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if late.is_set():  # what was read up to the cut may look like an answer
                raise TimeoutError


class _BoundedTLS(_Bounded, http.client.HTTPSConnection):
    pass


class _Plain(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Bounded, req)


class _TLS(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_BoundedTLS, req)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Stay, _Plain, _TLS)
