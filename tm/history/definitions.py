"""What the versions of graphs looked like: filed beside them, so that pictures outlive the server's knowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from tm.history import plans
from tm.history.database import Database
from tm.history.schema import graph_versions

if TYPE_CHECKING:
    from tm.records import Plan


class Definitions(Database):
    """Keeps plans. A version never changes, so what is there stays."""

    def undefined(self, limit: int = 1000) -> list[str]:
        """The newest versions of which history does not know what they look like."""
        lacking = select(graph_versions.c.version).where(
            graph_versions.c.definition.is_(None) & (graph_versions.c.version != "")
        )
        with self._reading() as connection:
            found = connection.execute(lacking.order_by(graph_versions.c.first_seen.desc()).limit(limit))
            return [str(version) for version in found.scalars()]

    def define(self, plan: Plan) -> None:
        """Keep what a version that is known here looks like. Safe to repeat."""
        of_it = (graph_versions.c.graph == plan.graph) & (graph_versions.c.version == plan.version)
        with self._writing() as connection:
            connection.execute(graph_versions.update().where(of_it).values(definition=plans.pack(plan)))
