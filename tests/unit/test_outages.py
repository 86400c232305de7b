"""What the log says of a server that is away."""

from __future__ import annotations

import pytest
import redis
import redis.exceptions

from tests.servers import Server
from tm.store.outages import in_words
from tm_worker.outage import Outage


def test_a_missing_password_is_told_as_that() -> None:
    server = Server().start()
    try:
        server.client().config_set("requirepass", "secret")
        with pytest.raises(redis.exceptions.RedisError) as caught:
            redis.Redis.from_url(server.url, protocol=3).ping()
    finally:
        server.close()
    assert in_words(caught.value) == "it refused the password or user in TM_URL"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (redis.exceptions.ConnectionError("Connection refused"), "Connection refused"),
        (OSError(), "OSError()"),
    ],
)
def test_anything_else_is_told_as_it_came(error: Exception, words: str) -> None:
    assert in_words(error) == words


def test_a_password_that_is_refused_is_told_though_the_outage_began_as_a_cut_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage("redis://localhost")
    with caplog.at_level("WARNING"):
        outage.failed(redis.exceptions.ConnectionError("Connection closed by server."), 0.0)
        for now in range(1, 4):
            outage.failed(redis.exceptions.AuthenticationError("WRONGPASS"), float(now))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "it refused the password or user in TM_URL" in str(vars(caplog.records[1])) + said[1]
