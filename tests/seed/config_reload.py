from tm import Graph, Executor, task

# change reload.json while this is running
graph = Graph(
    name="config reload",
    schedule="* * * * *",
    config="./reload.json"
    )

@task()
def show(config):
    print("value is", config["value"])
    return config["value"]

graph.add_edges([show])

executor = Executor()
executor.add(graph)
executor.start()
