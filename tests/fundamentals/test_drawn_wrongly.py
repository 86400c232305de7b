"""What makes no sense is refused when the graph is drawn, not at three in the morning; the words are part of the promise."""

from __future__ import annotations

import pytest

from tm import Executor, Graph, TaskmasterError, task


@task()
def a(c=None):
    return 1


@task()
def b(a):
    return 2


@task()
def c(b):
    return 3


def test_a_cycle_is_named_in_order() -> None:
    graph = Graph(name="ring")
    graph.add_edges([a], [b])
    graph.add_edges([b], [c])
    with pytest.raises(TaskmasterError) as caught:
        graph.add_edges([c], [a])
    assert str(caught.value) in {
        f"graph 'ring' has a cycle: {cycle}; remove one of these edges"
        for cycle in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c")
    }


def test_a_task_is_no_parent_of_its_own() -> None:
    @task()
    def self_made(self_made):
        return 1

    with pytest.raises(TaskmasterError, match="has a cycle: self_made -> self_made"):
        Graph(name="loop").add_edges([self_made], [self_made])


def test_a_refused_edge_leaves_the_graph_as_it_was() -> None:
    graph = Graph(name="ring")
    graph.add_edges([a], [b])
    with pytest.raises(TaskmasterError):
        graph.add_edges([b], [a])
    assert graph() == 2


def test_two_tasks_of_one_name() -> None:
    def another():
        @task()
        def a():
            return 0

        return a

    with pytest.raises(TaskmasterError) as caught:
        Graph(name="twins").add_edges([a, another()])
    message = str(caught.value)
    assert message.startswith("graph 'twins' has two tasks named 'a': ")
    assert message.count("test_drawn_wrongly.py:") == 2
    assert "give one of them another name with @task(name=...)" in message


def test_a_child_that_cannot_accept_its_parent() -> None:
    @task()
    def deaf():
        return None

    with pytest.raises(TaskmasterError) as caught:
        Graph(name="talk").add_edges([a], [deaf])
    message = str(caught.value)
    assert message.startswith(
        "graph 'talk', task 'deaf': has no parameter for its parent 'a'; add it to `def deaf(...)`"
    )
    assert message.endswith(", or **kwargs")


def test_a_parameter_that_only_counts_by_position_cannot_be_a_parents_name() -> None:
    @task()
    def positional(a, /):
        return a

    with pytest.raises(TaskmasterError, match="has no parameter for its parent 'a'"):
        Graph(name="talk").add_edges([a], [positional])


def test_a_required_parameter_that_nobody_fills() -> None:
    @task()
    def needy(a, password):
        return None

    graph = Graph(name="needs", schedule="0 6 * * *")
    graph.add_edges([a], [needy])
    for find_out in (graph, lambda: Executor(graphs=[graph])):
        with pytest.raises(TaskmasterError, match="task 'needy': requires password, which no parent provides"):
            find_out()


def test_a_root_of_a_scheduled_graph_has_nobody_to_ask() -> None:
    @task()
    def root(date):
        return date

    graph = Graph(name="asks", schedule="0 6 * * *")
    graph.add_edges([root])
    with pytest.raises(TaskmasterError, match="task 'root': requires date, which no parent provides"):
        Executor(graphs=[graph])


def test_a_config_that_no_root_takes(tmp_path) -> None:
    @task()
    def root():
        return None

    graph = Graph(name="unread", config=tmp_path / "config.json")
    graph.add_edges([root])
    with pytest.raises(TaskmasterError, match=r"has a config .*config\.json.* but no root takes a `config` parameter"):
        graph()


def test_an_unknown_zone() -> None:
    with pytest.raises(TaskmasterError, match=r"unknown time zone 'Mars/Olympus'; use an IANA name"):
        Graph(name="far", schedule="0 6 * * *", timezone="Mars/Olympus")


def test_an_empty_graph() -> None:
    with pytest.raises(TaskmasterError, match=r"graph 'void' has no tasks; add some with graph.add_edges"):
        Graph(name="void")()


def test_a_bad_schedule_has_a_caret_under_it() -> None:
    with pytest.raises(TaskmasterError) as caught:
        Graph(name="late", schedule="0 25 * * *")
    message = str(caught.value)
    assert message.startswith("graph 'late': bad schedule: hour: ")
    text, caret = message.splitlines()[1:3]
    assert text.strip() == "0 25 * * *"
    assert caret.strip() == "^^"
    assert text[caret.index("^") :].startswith("25")


def test_a_function_that_is_no_task() -> None:
    def plain():
        return None

    with pytest.raises(TaskmasterError, match="is no task; decorate it with @task"):
        Graph(name="plain").add_edges([plain])


def test_two_graphs_of_one_name() -> None:
    graphs = [Graph(name="same", schedule="0 6 * * *") for _ in range(2)]
    for graph in graphs:
        graph.add_edges([a])
    with pytest.raises(TaskmasterError, match="two graphs are named 'same'"):
        Executor(graphs=graphs)


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a@b", "new\nline", "x" * 101])
def test_names_that_would_not_fit_on_a_command_line(name: str) -> None:
    with pytest.raises(TaskmasterError, match="must have 1 to 100 characters"):
        Graph(name=name)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"overlap": "maybe"}, "overlap='maybe' is none of allow, skip, queue, cancel_other"),
        ({"misfire": "maybe"}, "misfire='maybe' is none of latest, all, skip"),
        ({"timeout": 0}, "timeout must be above 0 seconds"),
        ({"misfire_window": -1}, "misfire_window must be at least 0 seconds"),
        ({"schedule": 5}, "schedule must be cron text or 'manual', not 5"),
    ],
)
def test_options_that_make_no_sense(option, words: str) -> None:
    with pytest.raises(TaskmasterError, match=words):
        Graph(name="odd", **option)
