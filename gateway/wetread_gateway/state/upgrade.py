"""Makes the tables of a state store that has none, and adds the columns that an older one lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect, text
from sqlalchemy.schema import CreateColumn

from wetread_gateway.state import drift_tables  # noqa: F401 -- its tables are made with the others
from wetread_gateway.state.tables import METADATA

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.engine import Connection, Engine

_MAKING = 0x57455452  # an advisory lock of PostgreSQL: of several that start at once one makes the tables


def bring_up_to_date(engine: Engine) -> None:
    """Make what is not there. Rows of an older store get a new column's default: of an intake without a name."""
    with engine.connect().execution_options(wetread_reads=True) as connection:
        if not _lacks(connection):
            return
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MAKING})
        METADATA.create_all(connection)
        for column in _lacks(connection):
            made = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {column.table.name} ADD COLUMN {made}")


def _lacks(connection: Connection) -> list[Column[object]]:
    """Give the columns that are not there, those of tables that are not there among them."""
    found = inspect(connection).get_multi_columns()
    known = {(table, column["name"]) for (_, table), columns in found.items() for column in columns}
    return [
        column for table in METADATA.sorted_tables for column in table.columns if (table.name, column.name) not in known
    ]
