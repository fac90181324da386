"""With which key a row is sealed; null where it is stored plainly."""

import sqlalchemy as sa
from alembic import op

revision = "0004_sealing"
down_revision = "0003_delivery"

SEALED = sa.text("sealed_by IS NOT NULL")


def upgrade() -> None:
    for table in ("assessment", "outbox"):
        op.add_column(table, sa.Column("sealed_by", sa.Text))
        op.create_index(
            f"{table}_sealed_by",
            table,
            ["sealed_by"],
            sqlite_where=SEALED,
            postgresql_where=SEALED,
        )
