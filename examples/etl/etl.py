"""Four years of weather in two cities: extract, validate, three aggregates side by side, a report with charts.

    extract --> validate --+--> temperature --+
                           +--> rain ---------+--> report
                           +--> sky ----------+
    folder ------------------------------------'

`make demo` runs it. By hand: `tm run examples/etl/etl.py`, or `python examples/etl/etl.py` for every morning at six.
Where the data is from: data/SOURCE.md.
"""

import csv
import os
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from statistics import fmean

import page
from station import Station, StationBusyError

from tm import Executor, Graph, task

HERE = Path(__file__).parent

graph = Graph(
    name="weather report",
    schedule=os.environ.get("ETL_SCHEDULE", "0 6 * * *"),  # the demo does not wait for the morning
    config="config.json",
    overlap="skip",
)


@task()
def folder(config):
    """Where the report goes, as seen from the directory the stack or the worker was started in."""
    path = Path(config["report"]).absolute()
    path.mkdir(parents=True, exist_ok=True)
    return str(path)


@task(retries=3, retry_delay=0.5, backoff=1, retry_on=StationBusyError)
def extract(config):
    """Every row of the table as text. The station refuses the first request of each run, so this is tried twice."""
    station = Station(HERE / config["table"], refusals=config["refusals"], notes=Path(config["report"]))
    first, last = config["years"]
    rows = [row for row in csv.DictReader(station.lines()) if first <= int(row["date"][:4]) <= last]
    print(f"extract: {len(rows)} rows of {first} to {last}")
    return rows


@task()
def validate(extract):
    """Rows with numbers and dates; what makes no sense is put aside with the reason."""
    good, rejected, seen = [], [], set()
    for row in extract:
        try:
            day = {
                "city": row["location"],
                "date": date.fromisoformat(row["date"]),
                "rain": float(row["precipitation"]),
                "high": float(row["temp_max"]),
                "low": float(row["temp_min"]),
                "sky": row["weather"],
            }
        except ValueError as error:
            rejected.append({"row": row, "reason": str(error)})
            continue
        if reason := problem(day, seen):
            rejected.append({"row": row, "reason": reason})
        else:
            good.append(day)
    print(f"validate: {len(good)} good, {len(rejected)} rejected")
    return {"days": good, "rejected": rejected}


def problem(day, seen):
    """Why a day cannot be used, or None."""
    if day["low"] > day["high"]:
        return f"low {day['low']} is above high {day['high']}"
    if day["rain"] < 0:
        return f"negative rain {day['rain']}"
    if (key := (day["city"], day["date"])) in seen:
        return f"second row for {day['city']} on {day['date']}"
    seen.add(key)
    return None


@task()
def temperature(validate):
    """Mean low and high of each month, by city."""
    return {
        city: [(fmean(day["low"] for day in days), fmean(day["high"] for day in days)) for days in months]
        for city, months in by_month(validate["days"]).items()
    }


@task()
def rain(validate):
    """Millimetres in a mean month, by city."""
    years = len({day["date"].year for day in validate["days"]})
    return {
        city: [sum(day["rain"] for day in days) / years for days in months]
        for city, months in by_month(validate["days"]).items()
    }


@task()
def sky(validate):
    """Days of sun, rain, fog, drizzle and snow, by city."""
    counts = defaultdict(Counter)
    for day in validate["days"]:
        counts[day["city"]][day["sky"]] += 1
    return {city: dict(count.most_common()) for city, count in counts.items()}


def by_month(days):
    """Days by city, and in each city in twelve lists."""
    months = defaultdict(lambda: [[] for _ in range(12)])
    for day in days:
        months[day["city"]][day["date"].month - 1].append(day)
    return months


@task()
def report(folder, temperature, rain, sky, validate):
    """Write the page and its charts; returns where."""
    path = Path(folder)
    (path / "temperature.svg").write_text(page.bands("Mean low to high of each month, °C", temperature))
    (path / "rain.svg").write_text(page.bars("Rain in a mean month, mm", rain))
    index = path / "index.html"
    index.write_text(page.html(sky, rain, days=len(validate["days"]), rejected=validate["rejected"]))
    print(f"report: {index}")
    return {"report": str(index), "days": len(validate["days"]), "rejected": len(validate["rejected"])}


graph.add_edges([extract], [validate])
graph.add_edges([validate], [temperature, rain, sky])
graph.add_edges([folder, temperature, rain, sky, validate], [report])

Executor(graphs=[graph]).start()
