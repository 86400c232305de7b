from tm import Graph, Executor, task

# Pass the path of the file to the dag, 
# The config is read every time the dag is executed
graph = Graph(
    name="configs demonstration",
    schedule="* * * * *",
    config="./config.json"
    )

## config --> print_add
##   |
##   ---> print_sub

@task()
def print_add(config):
    print(config["initial_value"] + 2) # prints 4

@task()
def print_sub(config):
    print(config["initial_value"] - 2) # prints 0

# second arguments "children" is None in this case
graph.add_edges([print_add, print_sub])

executor = Executor()
executor.add(graph)
executor.start()
