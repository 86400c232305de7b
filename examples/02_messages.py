"""What a task returns, its children receive under its name.

prices --+--> cheapest --+
         +--> mean ------+--> summary --> goodbye
         `--> dearest ---'
"""

from tm import Executor, Graph, task

graph = Graph(name="messages", schedule="*/5 * * * *")


@task()
def prices():
    return {"tea": 3.2, "coffee": 7.9, "cocoa": 5.4}


@task()
def cheapest(prices):
    return min(prices, key=prices.get)


@task()
def mean(prices):
    return sum(prices.values()) / len(prices)


@task()
def dearest(prices):
    return max(prices, key=prices.get)


@task()
def summary(**parents):
    """With **kwargs a task receives every parent, however many are drawn."""
    for name, value in sorted(parents.items()):
        print(f"{name}: {value}")


@task()
def goodbye(summary):
    """A task that returns nothing sends None, which is a message too."""
    return "goodbye" if summary is None else "what was that?"


graph.add_edges([prices], [cheapest, mean, dearest])
graph.add_edges([cheapest, mean, dearest], [summary])
graph.add_edges([summary], [goodbye])

Executor(graphs=[graph]).start()
