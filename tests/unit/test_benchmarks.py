"""The pure parts of the benchmarks: statistics, figures, tables, charts, the list of peers."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("benchmarks.peers", reason="the source distribution has no benchmarks")

from benchmarks.peers import chart, registry, table, work
from benchmarks.peers.runner import fastest
from benchmarks.peers.statistics import quantile, shown, spread, times_better
from benchmarks.peers.workloads import WORKLOADS, chosen

BY_NAME = {each.name: each for each in WORKLOADS}


def row(median: float, **more: object) -> dict[str, object]:
    return {
        "median": median,
        "low": median * 0.9,
        "high": median * 1.1,
        "unit": "tasks/s",
        "size": 10_000,
        "scaled": False,
        "cpu_us_per_task": {"workers": 10.0, "server": 20.0, "client": 30.0},
        "reads_per_task": 1.5,
        "commands_per_task": 20.0,
        "workers_pss_mib": 40.0,
        "server_rss_mib": 12.0,
        **more,
    }


def test_a_spread_has_median_and_both_ends():
    found = spread([3.0, 1.0, 2.0, 10.0])
    assert (found.median, found.low, found.high, found.count) == (2.5, 1.0, 10.0, 4)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_one_of_the_values(share, expected):
    assert quantile(list(range(100, 0, -1)), share) == expected


def test_better_means_more_for_rates_and_less_for_times():
    assert times_better(20_000, 4_000, "high") == 5
    assert times_better(0.4, 0.8, "low") == 2
    assert times_better(1.0, 0.5, "low") == 0.5


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12,346"), (99.94, "99.9"), (1.234, "1.23"), (0.01234, "0.0123"), (0, "0")]
)
def test_numbers_show_three_digits(value, text):
    assert shown(value) == text


def test_figures_of_workloads():
    assert BY_NAME["flat"].figure(2.0, 10_000) == 5_000
    assert BY_NAME["diamonds"].figure(1.0, 500) == 2_000
    assert BY_NAME["chain"].figure(0.05, 100) == pytest.approx(0.5)
    # a peer with less work has its time scaled up
    assert BY_NAME["fan"].figure(1.0, 200) == pytest.approx(5.0)
    assert BY_NAME["fan"].tasks(1000) == 1002


def test_workloads_are_chosen_by_the_beginning_of_their_name():
    assert [each.name for each in chosen("flat,start")] == ["flat", "flat, one by one", "start p50", "start p99"]
    with pytest.raises(SystemExit, match="no workload begins with 'nonsense'"):
        chosen("nonsense")


def test_the_best_peer_stands_first_and_reasons_below():
    results = {
        "huey": row(4_000),
        "ours": row(20_000),
        "rq": row(400, size=1000, scaled=True),
        "luigi": {"note": "no such feature"},
    }
    lines = table.block("many runs", "flat", results, "high").splitlines()
    assert lines[0] == "flat: many runs"
    assert [line.split()[0] for line in lines[2:]] == ["ours", "huey", "rq", "luigi:"]
    assert "5.00x" in lines[3]
    assert "rq (1,000)" in lines[4]
    assert fastest(results, "high", ["huey", "rq", "luigi"]) == "huey"
    assert fastest(results, "high", ["luigi"]) is None


def test_the_summary_names_the_fastest_peer():
    text = table.summary({"flat": {"ours": row(20_000), "huey": row(4_000), "celery": row(900)}})
    assert text.splitlines()[1].split() == ["flat", "20,000", "tasks/s", "huey", "4,000", "5.00x", "4.5x", "Huey"]


def test_every_peer_states_its_setting_and_pins_its_versions():
    for name in registry.names():
        for peer in registry.load(name):
            assert peer.title
            assert peer.setting
            assert peer.why
            assert (peer.folder / "adapter.py").exists()
            known = {each.method for each in WORKLOADS}
            assert known.issuperset({*peer.sizes, *peer.missing, *peer.only})
            if name != registry.OURS:
                lines = (peer.folder / "requirements.txt").read_text().split()
                assert all("==" in line for line in lines)


def test_charts_are_svg_for_light_and_dark():
    bars = chart.bars(
        [
            chart.Panel(
                "flat <tasks/s>", [chart.Bar("ours", 20_000, "20,000", ours=True), chart.Bar("a & b", 4_000, "4,000")]
            )
        ],
        "Longer is faster.",
    )
    line = chart.lines("time", "tasks", "seconds", [chart.Series("time", [(100, 0.1), (1_000, 0.9), (10_000, 9.5)])])
    for text in (bars, line, chart.beside([line, line])):
        root = ET.fromstring(text)
        assert root.tag.endswith("svg")
        assert "prefers-color-scheme: dark" in text
    lengths = [float(each.get("width")) for each in ET.fromstring(bars).iter() if each.tag.endswith("rect")]
    assert lengths[0] == pytest.approx(5 * lengths[1], rel=0.01)


def test_equal_values_on_an_axis_are_no_trouble():
    ET.fromstring(chart.lines("flat", "n", "s", [chart.Series("x", [(1, 5.0), (2, 5.0)])]))
    ET.fromstring(chart.lines("flat", "n", "s", [chart.Series("x", [(1, 0.0), (2, 0.0)])], from_zero=True))


def test_work_knows_its_own_results():
    before = None
    for _ in range(3):
        before = work.hop(before)
    assert before == {"hop": 3, "from": "chain"}
    assert work.collect([work.leaf(work.root(), number) for number in range(10)]) == work.collected(10)
    above = work.top(4)
    assert work.bottom(work.right(above), work.left(above)) == work.diamond(4)
    assert len(work.load(work.load(None))) == 256 * 1024
    with pytest.raises(work.WrongResultError, match="flat: expected 1, got 2"):
        work.check(2, 1, "flat")
