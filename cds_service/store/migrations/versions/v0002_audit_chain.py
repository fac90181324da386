"""Chained audit rows, where each chain ends, and JWTs that are good for one call.

Builds on the way to it had parts of it: what is there already is left alone. `upgrade.py` then
chains what was written before.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002_audit_chain"
down_revision = "0001_first"

TIME = sa.String(27)
COLUMNS = {
    "action": sa.Text,
    "resource_id": sa.Text,
    "suspicious": sa.Text,
    "calls": sa.Integer,
    "detail": sa.Text,
    "chain": sa.Text,
    "seq": sa.BigInteger,
    "previous": sa.Text,
    "digest": sa.Text,
}


def upgrade() -> None:
    there = sa.inspect(op.get_bind())
    tables = set(there.get_table_names())
    columns = {column["name"] for column in there.get_columns("audit")}
    indexes = {index["name"] for index in there.get_indexes("audit")}
    for name, kind in COLUMNS.items():
        if name not in columns:
            op.add_column("audit", sa.Column(name, kind))
    if "audit_in_chains" not in indexes:
        op.create_index("audit_in_chains", "audit", ["chain", "seq"], unique=True)
        op.create_index("audit_of_action", "audit", ["action"])
    if "audit_head" not in tables:
        op.create_table(
            "audit_head",
            sa.Column("chain", sa.Text, primary_key=True),
            sa.Column("seq", sa.BigInteger, nullable=False),
            sa.Column("digest", sa.Text, nullable=False),
        )
    if "used_jti" not in tables:
        op.create_table(
            "used_jti",
            sa.Column("token", sa.LargeBinary(16), primary_key=True),
            sa.Column("expires_at", TIME, nullable=False, index=True),
        )
