from tm import Graph, Executor, task

# runs every minute
graph = Graph(name="hello world", schedule="* * * * *")

@task()
def hello():
    print("hello world")

graph.add_edges([hello])

executor = Executor()
executor.add(graph)
executor.start()
