"""Taskmaster beside other task queues and graph engines: same machine, same server, same work, results checked.

`python -m benchmarks.peers` runs it; benchmarks/README.md explains it.
"""
