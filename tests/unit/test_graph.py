"""What a graph becomes: its plan, its version, and what a run of it may be given."""

from __future__ import annotations

import itertools
import linecache
import random
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tm import Graph, task, topology
from tm.errors import CycleError, DefinitionError, DuplicateTaskError, ScheduleError, SignatureError
from tm.retry import RetryPolicy

if TYPE_CHECKING:
    from tm.tasks import AnyTask


def root():
    return 1


def child(root):
    return root


def graph_of(*functions, **options) -> Graph:
    """A chain, or a single task."""
    tasks = [task()(function) for function in functions]
    graph = Graph(name="plan", **options)
    graph.add_edges(tasks[:1])
    for parent, child in itertools.pairwise(tasks):
        graph.add_edges(parent, child)
    return graph


# plans


def test_a_plan_has_the_tasks_in_order_with_edges_as_indexes() -> None:
    @task()
    def a():
        return None

    @task(queue="gpu", timeout=9, retries=2, retry_delay=0.5)
    def b(a):
        return None

    @task()
    def c(a, b):
        return None

    graph = Graph(name="plan", timeout=60)
    graph.add_edges([b], [c])  # drawn from the end
    graph.add_edges([a], [b, c])
    plan = graph.plan
    assert [node.name for node in plan.tasks] == ["a", "b", "c"]
    assert [node.parents for node in plan.tasks] == [(), (0,), (1, 0)]
    assert [node.children for node in plan.tasks] == [(1, 2), (2,), ()]
    assert plan.roots == (0,)
    assert plan.timeout == 60
    middle = plan.tasks[1]
    assert (middle.queue, middle.timeout) == ("gpu", 9)
    assert middle.retry == RetryPolicy(retries=2, retry_delay=0.5)


def test_a_plan_is_made_once_and_again_after_a_change() -> None:
    graph = graph_of(root)
    first = graph.plan
    assert graph.plan is first
    graph.add_edges(graph.tasks["root"], task()(child))
    assert len(graph.plan.tasks) == 2


def open_tasks(count: int) -> list[AnyTask]:
    """Tasks that take whatever their parents send, of one code object."""
    return [task(name=f"t{number}")(lambda **_: None) for number in range(count)]


def pairs(count: int, way: str) -> list[tuple[int, int]]:
    chain = list(itertools.pairwise(range(count)))
    if way == "in any order":
        random.Random(1).shuffle(chain)
    ways = {
        "from the end": chain[::-1],
        "fan by fan": [edge for n in range(1, count - 1) for edge in ((0, n), (n, count - 1))],
    }
    return ways.get(way, chain)


@pytest.mark.parametrize("way", ["from the beginning", "from the end", "in any order", "fan by fan"])
def test_a_large_graph_is_drawn_in_reasonable_time(way: str) -> None:
    tasks, graph = open_tasks(10_000), Graph(name="large")
    began = time.process_time()
    for parent, below in pairs(10_000, way):
        graph.add_edges(tasks[parent], tasks[below])
    assert len(graph.plan.tasks) == 10_000
    assert time.process_time() - began < 10  # some tenths of a second; minutes if each edge looks at all others


def test_a_cycle_in_a_large_graph_is_found_and_named() -> None:
    tasks, graph = open_tasks(2000), Graph(name="large")
    for parent, below in itertools.pairwise(tasks):
        graph.add_edges(parent, below)
    with pytest.raises(CycleError) as caught:
        graph.add_edges(tasks[-1], tasks[0])
    assert len(caught.value.cycle) == 2001


groups = st.lists(st.integers(0, 6), max_size=3)


@given(calls=st.lists(st.tuples(groups, groups), max_size=12))
def test_edges_are_drawn_or_refused_as_if_all_were_looked_at(calls: list[tuple[list[int], list[int]]]) -> None:
    tasks, graph = open_tasks(7), Graph(name="plan")
    drawn: dict[str, list[str]] = {}
    for starts, ends in calls:
        after = {name: [*parents] for name, parents in drawn.items()}
        for number in (*starts, *ends):
            after.setdefault(f"t{number}", [])
        for end, start in itertools.product(ends, starts):
            if f"t{start}" not in after[f"t{end}"]:
                after[f"t{end}"].append(f"t{start}")
        cycle, found = topology.cycle_of(after), []
        try:
            graph.add_edges([tasks[number] for number in starts], [tasks[number] for number in ends])
        except CycleError as error:
            found = error.cycle
        assert found == cycle
        drawn = drawn if cycle else after
        assert list(graph.tasks) == list(drawn)
        if drawn:
            names = [node.name for node in graph.plan.tasks]
            assert {node.name: [names[index] for index in node.parents] for node in graph.plan.tasks} == drawn


def test_a_refused_call_changes_nothing_whatever_it_is_refused_for() -> None:
    a, b, alone = (*open_tasks(2), task(name="alone")(lambda: None))
    graph = Graph(name="plan")
    graph.add_edges(a, b)
    before = graph.plan
    twin, new = open_tasks(1)[0], task(name="new")(lambda **_: None)
    for wrong, parents, children in [
        (DuplicateTaskError, [new, twin], [alone]),  # first of all: alone takes no parents, and b leads to itself
        (DuplicateTaskError, [new], [alone, twin]),
        (SignatureError, [b, new], [a, alone]),  # before the cycle
        (CycleError, [b, new], [new, a]),
        (CycleError, [new], [b, new]),
        (CycleError, [b], [new, a]),
    ]:
        with pytest.raises(wrong):
            graph.add_edges(parents, children)
        assert list(graph.tasks) == ["t0", "t1"]
        assert graph.plan is before
    graph.add_edges(b, new)
    assert [node.parents for node in graph.plan.tasks] == [(), (0,), (1,)]


# versions


def version_of(source: str) -> str:
    """The version of the graph in a source text, in an interpreter of its own."""
    code = f"import sys; sys.argv = ['-']; exec(compile(open({source!r}).read(), {source!r}, 'exec')); print(graph.plan.version)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def source(tmp_path: Path):
    def write(text: str) -> str:
        file = tmp_path / "graphs.py"
        file.write_text(textwrap.dedent(text))
        return str(file)

    return write


GRAPH = """
    from tm import Graph, task
    @task(retries=1)
    def a():
        return 1
    @task()
    def b(a):
        return a
    graph = Graph(name="version")
    graph.add_edges(a, b)
"""


def test_the_version_is_the_same_in_every_process(source) -> None:
    assert version_of(source(GRAPH)) == version_of(source(GRAPH))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return 1", "return 2"),  # code of a task
        ("retries=1", "retries=2"),  # a rule
        ("graph.add_edges(a, b)", "graph.add_edges(a)"),  # structure
        ('name="version"', 'name="other"'),
        ('name="version"', 'name="version", timeout=5'),
    ],
)
def test_the_version_changes_with_what_a_run_depends_on(source, before: str, after: str) -> None:
    assert version_of(source(GRAPH)) != version_of(source(GRAPH.replace(before, after)))


@pytest.mark.parametrize("option", ['schedule="0 6 * * *"', 'overlap="skip"', 'misfire="all"'])
def test_the_version_does_not_change_with_the_schedule(source, option: str) -> None:
    other = GRAPH.replace('name="version"', f'name="version", {option}')
    assert version_of(source(GRAPH)) == version_of(source(other))


def test_tasks_of_one_loop_share_the_digest_of_their_code_and_others_do_not() -> None:
    def made(number):
        @task(name=f"t{number}")
        def inner(value=number):
            return value, number

        return inner

    one, two = made(1), made(2)
    assert one.code_digest == two.code_digest
    assert one.code_digest != task()(root).code_digest
    assert task()(len).code_digest != task()(print).code_digest  # without code, hence without a source


def test_a_comment_that_is_edited_makes_another_version_in_the_same_process(tmp_path: Path) -> None:
    file = tmp_path / "edited.py"
    digests = []
    for text in ("def f():\n    return 1  # one\n", "def f():\n    return 1  # two\n"):
        file.write_text(text)
        names: dict[str, Any] = {}
        exec(compile(text, str(file), "exec"), names)
        linecache.checkcache(str(file))
        linecache.cache.pop(str(file), None)
        digests.append((names["f"].__code__, task()(names["f"]).code_digest))
    (code, before), (same_code, after) = digests
    assert code == same_code
    assert before != after


# signatures


def test_parameters_by_kind() -> None:
    def function(a, /, b, c=1, *args, d, e=2, **kwargs):
        return a, b, c, args, d, e, kwargs

    made = task()(function)
    assert list(made.parameters) == ["b", "c", "d", "e"]
    assert made.required == {"a", "b", "d"}
    assert made.takes_anything
    assert made.accepts("anything")
    assert not task()(root).accepts("anything")


def test_methods_and_partials_are_tasks_too() -> None:
    import functools

    class Service:
        def fetch(self, key="k"):
            return key

    graph = Graph(name="callables")
    graph.add_edges([task()(Service().fetch), task(name="later")(functools.partial(child, root=5))])
    assert graph() == 5


def test_what_is_decorated_below_is_looked_through() -> None:
    import functools

    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    graph = graph_of(root, logged(child))
    assert graph() == 1


def test_positional_only_parameters_of_children_are_nobodys_to_fill() -> None:
    def child(x, /, root):
        return x

    with pytest.raises(SignatureError, match="requires x"):
        _ = graph_of(root, child).plan


def test_a_default_frees_a_parameter() -> None:
    def child(root, extra=2):
        return root + extra

    assert graph_of(root, child)() == 3


# binding


def roots_taking(*functions, **options) -> Graph:
    graph = Graph(name="roots", **options)
    graph.add_edges([task(name=f"t{number}")(function) for number, function in enumerate(functions)])
    return graph


def test_bind_accepts_what_some_root_takes() -> None:
    graph = roots_taking(lambda a, b=1: None, lambda a, c=1: None)
    graph.bind({"a": 1})
    graph.bind({"a": 1, "b": 2, "c": 3})
    graph.bind({}, positional=1)


def test_bind_names_what_is_missing_and_what_nobody_knows() -> None:
    graph = roots_taking(lambda a: None, lambda b: None)
    with pytest.raises(TypeError, match=r"root 't1' requires b; pass it: graph\(b=\.\.\.\) or -p b=\.\.\."):
        graph.bind({"a": 1})
    with pytest.raises(TypeError, match="has no parameter 'z'; its roots take a, b"):
        graph.bind({"a": 1, "b": 1, "z": 1})


def test_what_was_good_once_is_looked_at_again_after_the_graph_has_changed() -> None:
    graph = roots_taking(lambda a: None)
    graph.bind({"a": 1})
    graph.bind({"a": 2})
    graph.add_edges(task(name="another")(lambda b: None))
    with pytest.raises(TypeError, match="root 'another' requires b"):
        graph.bind({"a": 1})


def test_no_number_of_different_params_fills_the_memory() -> None:
    graph = roots_taking(lambda **kwargs: None)
    for number in range(2000):
        graph.bind({f"p{number}": 1})
    assert len(graph._bound) <= 256


def test_kwargs_of_a_root_take_every_param() -> None:
    roots_taking(lambda **kwargs: None).bind({"whatever": 1})


def test_config_is_provided_when_there_is_one(tmp_path: Path) -> None:
    roots_taking(lambda config: None, config=tmp_path / "c.json").bind({})
    with pytest.raises(TypeError, match="requires config"):
        roots_taking(lambda config: None).bind({})


# errors have fields


def test_errors_carry_what_they_name() -> None:
    a, b = (task(name=name)(lambda **_: None) for name in "ab")
    graph = Graph(name="plan")
    graph.add_edges(a, b)
    with pytest.raises(CycleError) as cycle:
        graph.add_edges(b, a)
    assert cycle.value.graph == "plan"
    assert cycle.value.cycle in (["a", "b", "a"], ["b", "a", "b"])
    with pytest.raises(DuplicateTaskError) as twins:
        graph.add_edges(task(name="a")(lambda: None))
    assert (twins.value.graph, twins.value.task) == ("plan", "a")


def test_a_schedule_error_keeps_its_cause() -> None:
    with pytest.raises(ScheduleError) as caught:
        Graph(name="bad", schedule="* * *")
    assert caught.value.__cause__ is not None


def test_the_hash_of_a_schedule_is_of_the_graphs_name() -> None:
    spread = {str(Graph(name=name, schedule="H * * * *").schedule.next(_midnight())) for name in "abcdefgh"}
    assert len(spread) > 1


def _midnight():
    from datetime import datetime

    return datetime(2026, 1, 1)


def test_a_graph_knows_the_file_that_defines_it() -> None:
    assert Graph(name="here").file == Path(__file__).resolve()
    assert Graph(name="here", config="c.json").config == Path(__file__).resolve().parent / "c.json"


def test_repr_says_what_matters() -> None:
    assert repr(graph_of(root, child)) == "<graph 'plan': 2 tasks, schedule manual>"
    assert repr(graph_of(root, schedule="0 6 * * *")) == "<graph 'plan': 1 tasks, schedule 0 6 * * *>"
    assert repr(task()(root)) == "<task root>"


@pytest.mark.parametrize("given", [None, 1, "root", {"a"}])
def test_only_tasks_become_part_of_a_graph(given) -> None:
    with pytest.raises(DefinitionError, match="is no task"):
        Graph(name="odd").add_edges([given])
