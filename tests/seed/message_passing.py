from tm import Graph, Executor, task

graph = Graph(name="message passing", schedule="* * * * *")

##  numbers --> total ------|
##     |------> smallest ---|--> report
##     |------> largest ----|

@task()
def numbers():
    return {"numbers": [3, 1, 2]}

@task()
def total(numbers):
    return {"value": sum(numbers["numbers"])}

@task()
def smallest(numbers):
    return {"value": min(numbers["numbers"])}

# kwargs has all the parents
@task()
def largest(**kwargs):
    return {"value": max(kwargs["numbers"]["numbers"])}

@task()
def report(**kwargs):
    for name in sorted(kwargs):
        print(name, kwargs[name]["value"])
    return {name: message["value"] for name, message in kwargs.items()}

graph.add_edges([numbers], [total, smallest, largest])
graph.add_edges([total, smallest, largest], [report])

executor = Executor()
executor.add(graph)
executor.start()
