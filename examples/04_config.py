"""The config is read at every run: change 04_config.json while this is running, and the next run uses it.

Every root that takes `config` receives it. A relative path starts at this file. When the file is broken at the time of
a run, that run is recorded as failed with line and column, and the clock goes on.
"""

from tm import Executor, Graph, task

graph = Graph(name="greetings", schedule="0 8 * * mon-fri", config="04_config.json")


@task()
def letters(config):
    return [f"{config['greeting']}, {name}." for name in config["names"]]


@task()
def send(letters):
    for letter in letters:
        print(letter)
    return len(letters)


graph.add_edges([letters], [send])

Executor(graphs=[graph]).start()
