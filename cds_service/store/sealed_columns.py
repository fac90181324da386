"""Which columns are sealed at rest. A connection knows with what, as it knows its dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from cds_service.errors import RowUnreadable
from cds_service.store.rows import Record, taken
from cds_service.store.schema import assessment, outbox, storable
from cds_service.store.sealing import Place, Sealing, is_sealed

# What was found in a patient's record, and what it says in words.
SEALED: dict[sa.Table, tuple[str, ...]] = {
    assessment: ("inputs", "resource"),
    outbox: ("resource",),
}
_OPTION = "sealing"
_NONE = Sealing()


def seal_with(engine: sa.Engine, sealing: Sealing) -> None:
    """What every connection of `engine` seals and opens with."""
    engine.update_execution_options(**{_OPTION: sealing})


def sealing_of(connection: sa.Connection) -> Sealing:
    """What `connection` seals and opens with."""
    sealing: Sealing = connection.get_execution_options().get(_OPTION, _NONE)
    return sealing


def sealed(sealing: Sealing, table: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    """`row` as it is stored in `table`."""
    if sealing.sealed_by is None:
        return {**row, "sealed_by": None}
    columns = {
        name: sealing.seal(row[name], _place(table, name, row["id"])) for name in SEALED[table]
    }
    return row | columns | {"sealed_by": sealing.sealed_by}


def opened(connection: sa.Connection, table: sa.Table, row: sa.Row[Any]) -> dict[str, Any]:
    """The sealed columns of `table`, as they were before; raises RowUnreadable."""
    return opened_values(sealing_of(connection), table, row._mapping)


def opened_values(sealing: Sealing, table: sa.Table, row: Mapping[Any, Any]) -> dict[str, Any]:
    """`opened`, of a row by its columns' names."""
    return {name: _opened(sealing, row, _place(table, name, row["id"])) for name in SEALED[table]}


def _opened(sealing: Sealing, row: Mapping[Any, Any], place: Place) -> Any:
    stored = row[place.column]
    if row["sealed_by"] is not None and not is_sealed(stored):
        raise RowUnreadable(f"{place}: was sealed, and is not any more")
    return sealing.open(stored, place)


def opened_record(
    connection: sa.Connection, record: type[Record], table: sa.Table, row: sa.Row[Any]
) -> Record:
    """The record that a row of `table` holds; raises RowUnreadable."""
    return record(**taken(record, row) | opened(connection, table, row))


def _place(table: sa.Table, column: str, id: str) -> Place:
    return Place(table=table.name, column=column, row=storable(id))
