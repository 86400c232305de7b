from tm import Graph, task

# a manual graph is called like a function,
# args and kwargs go to the roots
graph = Graph(name="manual", schedule="manual")

@task()
def double(number):
    return number * 2

@task()
def plus_one(double):
    return double + 1

graph.add_edges([double], [plus_one])

if __name__ == "__main__":
    print(graph(20)) # prints 41
    print(graph(number=1)) # prints 3
