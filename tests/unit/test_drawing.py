"""Graphs as text: every line leads where an edge leads, and pictures are what they were."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tm.drawing import MOST_DRAWN, dot, draw, layers_of, layout, listed, mermaid, width_of

Shape = dict[str, list[str]]
FAN: Shape = {"first": [], **{f"m{n}": ["first"] for n in range(4)}, "last": [f"m{n}" for n in range(4)]}


def parents_of(shape: Shape) -> list[list[int]]:
    names = list(shape)
    return [[names.index(parent) for parent in shape[name]] for name in names]


def picture(shape: Shape, width: int = 500, **more: Any) -> str:
    lines = draw(parents_of(shape), list(shape), width, **more)
    assert lines is not None
    return "\n".join("".join(piece.text for piece in line) for line in lines)


@pytest.mark.parametrize(
    ("shape", "drawn"),
    [
        ({"only": []}, "only"),
        ({"a": [], "b": ["a"], "c": ["b"]}, "a ── b ── c"),
        (
            {"extract": [], "clean": ["extract"], "load": ["extract"], "report": ["clean", "load"], "mail": ["report"]},
            """\
            extract ─┬── clean ─┬── report ── mail
                     └── load ──┘""",
        ),
        (
            FAN,
            """\
            first ─┬── m0 ─┐
                   ├── m1 ─┼── last
                   ├── m2 ─┤
                   └── m3 ─┘""",
        ),
        (
            {"a": [], "b": [], "x": ["a", "b"], "y": ["a", "b"]},
            """\
            a ─┬── x
            b ─┴── y""",
        ),
        (
            {"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"], "e": ["a"], "f": ["e", "d"]},
            """\
            a ─┬── b ── c ─┬── d ─┐
               ├───────────┘      ├── f
               └── e ─────────────┘""",
        ),
        (
            {"a": [], "b": [], "c": [], "x": ["a", "c"], "y": ["a", "b"], "z": ["b", "c"]},
            """\
            a ───┬─┬── y
            b ───┤ │
            c ─┬─│─┴── x
               └─┴──── z""",
        ),
        ({}, ""),
    ],
    ids=["one", "chain", "diamond", "fan", "complete", "long edges", "crossing", "nothing"],
)
def test_pictures(shape: Shape, drawn: str) -> None:
    assert picture(shape) == textwrap.dedent(drawn)


def test_a_terminal_without_box_lines_gets_ascii() -> None:
    assert picture(FAN, plain=True).splitlines() == [
        "first -+-- m0 -+",
        "       +-- m1 -+-- last",
        "       +-- m2 -+",
        "       +-- m3 -+",
    ]


def test_labels_are_pieces_of_their_own_to_be_coloured() -> None:
    [line] = draw([[], [0]], ["✓ a success", "· b waiting"], 80) or []
    assert [(piece.text, piece.node) for piece in line] == [("✓ a success", 0), (" ── ", None), ("· b waiting", 1)]


def test_wide_letters_take_two_cells() -> None:
    assert width_of("抽出 é e\u0301") == 8
    assert picture({"抽出": [], "x": ["抽出"], "y": ["抽出"]}).splitlines()[1] == "      └── y"


def test_what_is_too_wide_or_too_large_is_not_drawn() -> None:
    chain = parents_of({"a": [], "b": ["a"]})
    assert draw(chain, ["a" * 40, "b" * 40], 80) is None
    assert draw(chain, ["a" * 40, "b" * 36], 80) is not None
    assert draw([[]] * (MOST_DRAWN + 1), ["x"] * (MOST_DRAWN + 1), 80) is None


def test_a_large_graph_is_a_list_by_layers_with_counts() -> None:
    shape: Shape = {"first": [], **{f"m{n}": ["first"] for n in range(100)}, "last": [f"m{n}" for n in range(100)]}
    states = ["success", *["success"] * 60, *["running"] * 40, "waiting"]
    assert listed(parents_of(shape), list(shape), states, 40) == [
        "layer 1: 1 task, 1 success",
        "  success: first",
        "layer 2: 100 tasks, 60 success, 40 running",
        "  success: m0, m1, m2, m3, and 56 more",
        "  running: m60, m61, m62, and 37 more",
        "layer 3: 1 task, 1 waiting",
        "  waiting: last",
    ]
    assert listed([[], [0]], ["a", "b"], ["", ""], 40) == ["layer 1: 1 task", "  a", "layer 2: 1 task", "  b"]


def test_a_task_without_parents_stands_next_to_its_first_child() -> None:
    assert layers_of(parents_of({"a": [], "b": ["a"], "late": [], "c": ["b", "late"], "lonely": []})) == [0, 1, 1, 2, 0]


@st.composite
def shapes(draw_: Any) -> Shape:
    count = draw_(st.integers(1, 14))
    shape: Shape = {}
    for number in range(count):
        names = list(shape)
        shape[f"t{number}"] = draw_(st.lists(st.sampled_from(names), unique=True, max_size=4)) if names else []
    return shape


def reached(lines: list[str], name: str) -> set[str]:
    """Where somebody comes who follows the lines from a label, to the right, up and down."""
    width = max(map(len, lines)) + 3
    grid = [line.ljust(width) for line in lines]
    opens = {
        "─": "lr",
        "│": "ud",
        "┌": "dr",
        "└": "ur",
        "┐": "dl",
        "┘": "ul",
        "├": "udr",
        "┤": "udl",
        "┬": "dlr",
        "┴": "ulr",
        "┼": "udlr",
    }
    start = next(
        (row, column) for row, line in enumerate(grid) for column in [f" {line} ".find(f" {name} ")] if column >= 0
    )
    todo, seen, found = [(start[0], start[1] + len(name) + 1, "l")], set(), set()
    while todo:
        row, column, came = todo.pop()
        if (row, column, came) in seen:
            continue
        seen.add((row, column, came))
        cell = grid[row][column]
        if cell == " ":
            if came == "l" and grid[row][column + 1].isalnum():
                found.add(grid[row][column + 1 :].split()[0])
            continue
        if cell == "│" and came == "l":  # interrupted, goes on behind it
            todo.append((row, column + 1, "l"))
            continue
        assert came in opens[cell], f"a line ends at {cell!r} in row {row}, column {column}"
        for way in opens[cell].replace(came, ""):
            if way == "r":
                todo.append((row, column + 1, "l"))
            elif way == "u":
                todo.append((row - 1, column, "d"))
            elif way == "d":
                todo.append((row + 1, column, "u"))
    return found


@given(shapes())
@settings(max_examples=150, deadline=None)
def test_every_edge_can_be_followed_and_no_label_is_lost(shape: Shape) -> None:
    lines = picture(shape).splitlines()
    assert sorted(word for line in lines for word in line.split() if word[0] == "t") == sorted(shape)
    for name in shape:
        children = {each for each, above in shape.items() if name in above}
        found = reached(lines, name)
        assert children <= found, "\n".join([f"{name} -> {children}, found {found}", *lines])
        if not children:
            assert not found, "\n".join([f"{name} leads nowhere", *lines])


@given(shapes())
@settings(max_examples=50, deadline=None)
def test_no_two_spots_share_a_place(shape: Shape) -> None:
    plan = layout(parents_of(shape))
    assert len({(spot.layer, spot.row) for spot in plan.spots}) == len(plan.spots)
    for start, end in plan.edges:
        assert plan.spots[end].layer == plan.spots[start].layer + 1
    assert {spot.row for spot in plan.spots} == set(range(plan.rows))


def test_dot_and_mermaid_quote_what_they_must() -> None:
    assert dot('my "graph"', [[], [0]], ['say "a"', "b"], ["success", ""]) == [
        'digraph "my \\"graph\\"" {',
        "  rankdir=LR;",
        '  node [shape=box, style="rounded,filled", fillcolor=white];',
        '  "say \\"a\\"" [label="say \\"a\\"\\nsuccess", fillcolor="#c8e6c9"];',
        '  "b" [label="b"];',
        '  "say \\"a\\"" -> "b";',
        "}",
    ]
    assert mermaid([[], [0]], ['say "a"', "b"], ["success", ""]) == [
        "graph LR",
        '  t0["say #34;a#34;<br/>success"]:::success',
        '  t1["b"]',
        "  t0 --> t1",
        "  classDef success fill:#c8e6c9",
    ]
