"""A graph is a function: call it. A task may do so as well, with a graph of this file or of any other."""

from tm import Executor, Graph, task

# manual is what a graph is without a schedule; calling it hands the arguments to its roots
area = Graph(name="area", schedule="manual")


@task()
def parse(text):
    width, height = text.split("x")
    return int(width), int(height)


@task()
def multiply(parse):
    width, height = parse
    return width * height


area.add_edges([parse], [multiply])

rooms = Graph(name="rooms", schedule="0 7 * * *")


@task()
def plan():
    return ["4x5", "3x3", "2x6"]


@task()
def measure(plan):
    """Runs `area` three times, here, in this task's process."""
    return sum(area(text) for text in plan)


@task()
def show(measure):
    print(f"{measure} square metres")
    return measure


rooms.add_edges([plan], [measure])
rooms.add_edges([measure], [show])

print(f"one room: {area('4x5')}, another: {area(text='3x3')}")

Executor(graphs=[rooms]).start()
