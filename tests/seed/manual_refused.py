from tm import Graph, Executor, task

graph = Graph(name="never due", schedule="manual")

@task()
def work():
    print("work")

graph.add_edges([work])

executor = Executor()
executor.add(graph) # a TypeError
executor.start()
