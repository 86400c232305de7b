"""The smallest graph: one task, every minute."""

from tm import Executor, Graph, task

graph = Graph(name="hello", schedule="* * * * *")


@task()
def hello():
    print("hello")
    return "hello"


graph.add_edges([hello])

Executor(graphs=[graph]).start()
