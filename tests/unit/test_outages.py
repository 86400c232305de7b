"""What the log says of a server that is away."""

from __future__ import annotations

import pytest
import redis
import redis.exceptions

from tests.servers import Server
from tm.store.outages import in_words


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
