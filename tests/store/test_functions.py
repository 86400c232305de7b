"""The library of server functions: it comes back when it is lost, and versions live side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis.exceptions

from tests.store.stage import CHAIN, CLOCK, SINGLE, Stage, fan, plan
from tm.events import AttemptEnded
from tm.store import Library
from tm.store.functions import _NAMES, default_library
from tm.store.records import NewRun

if TYPE_CHECKING:
    from redis import Redis


def loaded(client: Any) -> dict[str, list[str]]:
    """Libraries on the server, and their functions."""
    libraries = map(_pairs, client.function_list())
    return {
        library[b"library_name"].decode(): sorted(_pairs(each)[b"name"].decode() for each in library[b"functions"])
        for library in libraries
    }


def _pairs(flat: list[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def versioned(comment: str) -> Library:
    """The library as another version of the code would make it."""
    return Library(clock=f"-- {comment}\n{CLOCK}")


def test_each_function_is_called_after_its_library(client: Redis) -> None:
    library = default_library()
    library.load(client)
    assert loaded(client)[library.name] == sorted(f"{library.name}_{name}" for name in _NAMES)
    assert library.name.startswith("tm_")


def test_the_name_changes_with_the_content_and_only_then() -> None:
    assert Library().name == Library().name == default_library().name
    assert len({Library().name, versioned("old").name, versioned("new").name}) == 3


def test_loading_twice_is_harmless(client: Redis) -> None:
    default_library().load(client)
    before = loaded(client)
    default_library().load(client)
    assert loaded(client) == before


def test_every_call_brings_lost_functions_back(stage: Stage) -> None:
    def lose() -> None:
        stage.client.function_flush()

    lose()
    stage.start(plan(CHAIN))
    lose()
    claim = stage.take_one()
    lose()
    assert stage.store.beat(1000, [(claim.job, claim.token)]) == [1]
    lose()
    assert stage.finish(claim)[0].kind == 1
    for call in (stage.store.reap, stage.store.promote, stage.store.ring, stage.store.expire):
        lose()
        call()
    lose()
    leader = stage.store.lead("me", 1000)
    assert leader is not None
    lose()
    assert stage.store.tick(plan(SINGLE, graph="h"), leader, []) == []
    lose()
    stage.store.resign(leader)
    lose()
    stage.store.hand_back("r_1_1")
    lose()
    assert stage.store.cancel("r")


def test_an_emptied_server_takes_work_again(stage: Stage) -> None:
    shape = plan(CHAIN)
    stage.start(shape)
    stage.client.function_flush()
    stage.client.flushall()
    stage.at(stage.now)
    stage.start(shape)
    assert stage.work() == ["a", "b", "c"]


def test_two_versions_of_the_code_share_one_run(client: Redis) -> None:
    old, new = Stage(client, library=versioned("old")), Stage(client, library=versioned("new"))
    old.start(plan(CHAIN))
    claim = new.take_one()
    assert old.finish(claim)[0].kind == 1
    assert new.work(1) == ["b"]
    assert old.work() == ["c"]
    assert new.state() == "success"
    assert {old.library.name, new.library.name} <= set(loaded(client))


def test_work_one_version_left_for_later_is_done_by_the_other(client: Redis) -> None:
    old, new = Stage(client, library=versioned("old")), Stage(client, library=versioned("new"))
    assert new.store.promote() == (0, None)  # it has seen that nothing is left over
    old.start(plan({f"t{number}": [] for number in range(500)}))
    while new.store.promote()[1] is not None:
        pass
    assert len(new.queued()) == 500


def test_a_full_server_refuses_new_runs_but_lets_what_runs_finish(stage: Stage) -> None:
    stage.start(plan(CHAIN))
    claim = stage.take_one()
    stage.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            stage.store.start(plan(CHAIN, version="other"), [NewRun(id="x")])
        assert stage.store.beat(1000, [(claim.job, claim.token)]) == [1]
        assert stage.finish(claim)[0].kind == 1
        assert stage.work() == ["b", "c"]
        assert stage.store.promote() == (0, None)
        assert stage.store.lead("me", 1000) is not None
    finally:
        stage.client.config_set("maxmemory", 0)
    assert stage.state() == "success"


def test_an_error_in_a_function_reaches_the_caller_as_it_is(stage: Stage) -> None:
    stage.client.set(stage.keys.leases, "a string")
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        stage.store.reap()


def test_what_is_kept_of_large_graphs_is_little_however_many_there_are(stage: Stage) -> None:
    for number in range(2):
        stage.start(plan(fan(2000)), f"r{number}")
        assert len(stage.work(most=2002)) == 2002
        assert stage.state(f"r{number}") == "success"
    # 0.5 MB by themselves; with all of these graphs some 10 MB
    assert int(stage.client.info("memory")["used_memory_vm_functions"]) < 4 << 20


@pytest.mark.parametrize("length", [1, 31, 32, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize("tasks", [1, 150])
def test_names_of_any_length_are_read_from_small_and_large_plans(stage: Stage, length: int, tasks: int) -> None:
    names = [f"{number:0{length}}" for number in range(tasks)] if length > 2 else ["n"]
    stage.start(plan({name: [] for name in names}))
    assert sorted(stage.work()) == names
    assert stage.states() == dict.fromkeys(names, "success")
    assert sorted(event.task for event in stage.told(AttemptEnded)) == names
