from tm import Graph, Executor, task
from time import sleep, time

# two graphs side by side, the slow one doesn't
# block the fast one

slow = Graph(name="slow", schedule="* * * * *")
fast = Graph(name="fast", schedule="* * * * *")

@task()
def sleep_5():
    print("slow begins", time())
    sleep(5)
    print("slow ends", time())

@task()
def no_sleep():
    print("fast begins", time())

slow.add_edges([sleep_5])
fast.add_edges([no_sleep])

executor = Executor([slow, fast])
executor.start()
