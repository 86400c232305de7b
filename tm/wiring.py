"""The only place where settings become connections, stores and clients."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, cast

from tm.config import Settings, surroundings
from tm.embedded import alive
from tm.errors import NotFoundError, UnavailableError
from tm.redact import redact

if TYPE_CHECKING:
    import redis

    from tm.client import Client
    from tm.history import History
    from tm.lookup import Lookup
    from tm.spill import Spill
    from tm.store.store import Store

#: seconds; a server that takes longer to accept a connection is down for us
_CONNECT_TIMEOUT = 5.0
#: seconds of silence on one reply; blocking calls bring their own
REPLY_TIMEOUT = 15.0


def connect(
    settings: Settings,
    *,
    reply_timeout: float = REPLY_TIMEOUT,
    connect_timeout: float = _CONNECT_TIMEOUT,
    retries: int = 1,
) -> redis.Redis:
    """A client of the server that the settings name; connects when it is first used.

    Replies stay bytes. A call whose connection broke is repeated once: all our server functions may be repeated.

    Args:
        settings: whose server.
        reply_timeout: seconds of silence after which a call fails; must exceed what a blocking call waits for.
        connect_timeout: seconds a connection may take to be made.
        retries: how often a call whose connection broke is repeated.
    """
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    from tm.store.lean import LeanRedis

    client: redis.Redis = LeanRedis.from_url(
        settings.server_url(),
        socket_connect_timeout=connect_timeout,
        socket_timeout=reply_timeout,
        health_check_interval=30,
        retry=Retry(ConstantBackoff(0.05), retries),
        client_name="tm",
    )
    return client


def open_spill(settings: Settings) -> Spill | None:
    """Where messages are kept that are too large for the server."""
    from tm.spill import Spill

    return None if settings.spill_folder is None else Spill(settings.spill_folder)


def open_store(settings: Settings, client: redis.Redis | None = None) -> Store:
    """The store of these settings, on a connection of its own unless one is given."""
    from tm.store.store import Store

    return Store(
        client or connect(settings),
        settings.namespace,
        result_ttl=settings.result_ttl,
        failed_ttl=settings.failed_ttl,
        spill=open_spill(settings),
    )


def open_client(settings: Settings) -> Client:
    """A client for the server of these settings.

    Raises:
        UnavailableError: there is no URL, and no living stack in the home directory.
    """
    from tm.client import Client

    if not has_server(settings):
        raise UnavailableError(
            "no server: set TM_URL, or start one with `tm up FILE` / `python FILE` "
            f"(none is running in {settings.home})"
        )
    store = open_store(settings)
    return Client(store, open_lookup(settings, store), where=redact(settings.server_url()))


def open_lookup(settings: Settings, store: Store | None = None) -> Lookup:
    """What can be read: the server, if there is one, and the history."""
    from tm.lookup import Lookup

    if store is None and has_server(settings):
        store = open_store(settings)
    return Lookup(store, lambda: open_history_of(settings), where=redact(settings.server_url()), zone=settings.timezone)


def has_server(settings: Settings) -> bool:
    """Whether there is a server to talk to: a URL (it may be down), or a living stack in the home directory."""
    return settings.url is not None or alive(settings.home) is not None


def default_client() -> Client:
    """The client of this process for the settings in the environment; made once, and again after a fork.

    Raises:
        UnavailableError: there is no URL, and no living stack in the home directory.
    """
    global _default  # noqa: PLW0603 - one connection pool for a process
    around = surroundings()
    if _default is not None and _default.around == around:
        return _default.client
    settings, process = Settings.from_environment(), os.getpid()
    if _default is None or (_default.process, _default.settings) != (process, settings):
        _default = _Default(around, process, settings, open_client(settings))
    else:
        _default = _default._replace(around=around)
    return _default.client


class _Default(NamedTuple):
    around: tuple[object, ...]
    process: int
    settings: Settings
    client: Client


_default: _Default | None = None


def open_history_of(settings: Settings) -> History | None:
    """The history of these settings; None while nothing has run."""
    from tm.history.light import open_light

    if (light := open_light(settings.history_url)) is not None:
        return cast("History", light)  # what it cannot do itself, it has done by a History
    from tm.history import open_history

    try:
        return open_history(settings.history_url, create=False)
    except NotFoundError:
        return None  # nothing has run here yet
