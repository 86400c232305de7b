"""The scheduler: turns the ticks of graphs into runs, looks after what time alone moves, and keeps history.

Read `service.py` (the process), then `scheduler.py` (one pass), `ticks.py` and `due.py` (the clock), `sweep.py`,
`leader.py`, `archiving.py`.
"""
