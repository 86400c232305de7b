"""Ids: deterministic for ticks, without collisions, and within RQ's alphabet."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm import ids

JOB_ID = re.compile(r"[A-Za-z0-9_-]+")  # RQ's own rule
names = st.from_regex(ids.GRAPH_NAME, fullmatch=True)


def test_a_plain_name_is_its_own_slug() -> None:
    assert ids.slug("nightly-report") == "nightly-report"


def test_names_that_look_alike_stay_apart() -> None:
    alike = ["test workflow", "test-workflow", "test_workflow", "test  workflow", "test workflow-"]
    assert len({ids.slug(name) for name in alike}) == len(alike)


def test_a_name_without_a_single_letter_of_ascii_has_a_slug_too() -> None:
    assert JOB_ID.fullmatch(ids.slug("日次レポート"))
    assert ids.slug("日次レポート") != ids.slug("月次レポート")


def test_the_run_of_a_tick_has_one_id_in_every_zone() -> None:
    tick = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
    there = tick.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert ids.tick_run_id("etl", tick) == ids.tick_run_id("etl", there) == "etl-20260301T060000Z"


def test_ids_of_manual_runs_differ() -> None:
    made = {ids.manual_run_id("etl") for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"etl-[0-9a-hjkmnp-tv-z]{10}", each) for each in made)


def test_ids_of_many_runs_are_like_those_of_one_and_use_all_letters() -> None:
    made = ids.manual_run_ids("etl", 20_000)
    assert len(set(made)) == 20_000
    assert all(re.fullmatch(r"etl-[0-9a-hjkmnp-tv-z]{10}", each) for each in made)
    # 6250 of each letter, give or take 80; ten times that is no accident
    counts = Counter("".join(each[4:] for each in made))
    assert len(counts) == 32
    assert all(5450 < count < 7050 for count in counts.values())
    assert ids.manual_run_ids("etl", 0) == []


@given(name=names, node=st.integers(0, 100_000), attempt=st.integers(1, 1000))
def test_job_ids_satisfy_rq_and_come_apart_again(name: str, node: int, attempt: int) -> None:
    for run in (ids.manual_run_id(name), ids.tick_run_id(name, datetime(2026, 1, 1, tzinfo=UTC))):
        job = ids.job_id(run, node, attempt)
        assert JOB_ID.fullmatch(job)
        assert ids.split_job_id(job) == (run, node, attempt)


@given(first=names, second=names)
def test_different_graphs_never_share_a_slug(first: str, second: str) -> None:
    assert (ids.slug(first) == ids.slug(second)) == (first == second)


@pytest.mark.parametrize("job", ["", "run", "run_1", "run_x_1", "run_1_x"])
def test_what_is_no_job_id_of_ours(job: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ids.split_job_id(job)


def test_tokens_are_never_the_same() -> None:
    assert len({ids.new_token() for _ in range(1000)}) == 1000
