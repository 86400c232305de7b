from tm import Graph, Executor, task
from manual import graph as double_plus_one

# call a graph inside a task of another graph
graph = Graph(name="nested", schedule="* * * * *")

@task()
def call_other_graph():
    return double_plus_one(20)

@task()
def show(call_other_graph):
    print("the other graph returned", call_other_graph)
    return call_other_graph

graph.add_edges([call_other_graph], [show])

executor = Executor()
executor.add(graph)
executor.start()
