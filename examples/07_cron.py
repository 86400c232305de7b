"""The cron engine alone: no graph, no server."""

from datetime import datetime
from zoneinfo import ZoneInfo

from tm.cron import CronError, Expression

office_hours = Expression("*/20 9-17 * * mon-fri")

friday = datetime(2026, 3, 27, 17, 30)
print("next:    ", office_hours.next(friday))  # 2026-03-27 17:40:00
print("previous:", office_hours.prev(friday))  # 2026-03-27 17:20:00

# in a zone, on the night when clocks go forward: 02:30 does not exist, so the run is at 03:00
berlin = ZoneInfo("Europe/Berlin")
night = Expression("30 2 * * *")
print("spring:  ", night.next(datetime(2026, 3, 28, 12, tzinfo=berlin)))

try:
    Expression("0 25 * * *")
except CronError as error:
    print(error)
