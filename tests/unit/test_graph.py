"""What a graph becomes: its plan, its version, and what a run of it may be given."""

from __future__ import annotations

import itertools
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tm import Graph, task
from tm.errors import CycleError, DefinitionError, DuplicateTaskError, ScheduleError, SignatureError
from tm.retry import RetryPolicy


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


def test_a_large_graph_is_drawn_in_reasonable_time() -> None:
    tasks = [task(name=f"t{number}")(lambda **_: None) for number in range(500)]
    graph = Graph(name="large")
    for parent, below in itertools.pairwise(tasks):
        graph.add_edges(parent, below)
    assert len(graph.plan.tasks) == 500


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
