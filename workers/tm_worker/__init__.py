"""tm-worker: claims attempts from the server and runs them in warm executor processes.

```
service.py     from the first fork to the last word; the way in for `tm.executor` and `cli.py`
nursery.py     a clean process that forks executors      process.py   what runs in an executor
channel.py     frames between supervisor and executor    faults.py    how a failure is written down
supervisor.py  which executor runs what; pure            loop.py      waits for everything at once, carries out
exchange.py    the conversation with the server          heart.py     heartbeats
bell.py        the doorbell, and what is handed over     hearing.py   what the server knows of where we listen
outage.py      patience with a server that is away       spool.py     results it has not got yet
worker.py      what RQ sees of us                        cli.py       tm-worker
metrics.py     what those see who watch it
```
"""
