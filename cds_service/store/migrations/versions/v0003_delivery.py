"""Assessments that follow one another, messages let go, and inline write-back on record."""

import sqlalchemy as sa
from alembic import op

revision = "0003_delivery"
down_revision = "0002_audit_chain"

TIME = sa.String(27)


def upgrade() -> None:
    op.add_column("assessment", sa.Column("follows", sa.Text))
    op.create_index("assessment_after", "assessment", ["follows"], unique=True)
    op.create_index("card_of_call", "card", ["hook_instance"])
    op.add_column("outbox", sa.Column("discarded_at", TIME))
    op.add_column("outbox", sa.Column("discarded_by", sa.Text))
    op.create_table(
        "inline_write_back",
        sa.Column("assessment_id", sa.Text, sa.ForeignKey("assessment.id"), primary_key=True),
        sa.Column("fhir_base", sa.Text, nullable=False),
        sa.Column("attempted_at", TIME, nullable=False),
        sa.Column("location", sa.Text),
        sa.Column("version", sa.Text),
        sa.Column("reason", sa.Text),
    )
