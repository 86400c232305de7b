from tm import Graph, Executor, task

graph = Graph(name="retries", schedule="* * * * *")

calls = 0

# fails three times, waits 1.5s, 3s, 6s, then succeeds
@task(retries=3, retry_delay=1.5, backoff=1)
def flaky():
    global calls
    calls += 1
    if calls < 4:
        print("failing call", calls)
        raise Exception("failing on purpose")
    print("call", calls, "succeeds")
    return {"calls": calls}

@task()
def after(flaky):
    print("calls were", flaky["calls"])
    return flaky["calls"]

graph.add_edges([flaky], [after])

executor = Executor()
executor.add(graph)
executor.start()
