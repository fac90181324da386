"""The schema of 0.1.0."""

import sqlalchemy as sa
from alembic import op

revision = "0001_first"
down_revision = None

TIME = sa.String(27)
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "assessment",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("identifier", sa.Text, nullable=False, unique=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("patient_id", sa.Text, nullable=False),
        sa.Column("encounter_id", sa.Text),
        sa.Column("service_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
        sa.Column("as_of", TIME, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("hook_instance", sa.Text, nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("resource", JSON, nullable=False),
        sa.Index("assessment_of_patient", "patient_id", "received_at", "id"),
        sa.Index("assessment_newest", "received_at", "id"),
        sa.Index("assessment_of_call", "hook_instance"),
    )
    op.create_table(
        "card",
        sa.Column("uuid", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("indicator", sa.Text, nullable=False),
        sa.Column("assessment_id", sa.Text, sa.ForeignKey("assessment.id"), index=True),
        sa.Column("hook_instance", sa.Text, nullable=False),
        sa.Column("service_id", sa.Text, nullable=False),
        sa.Column("issued_at", TIME, nullable=False),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("recorded_at", TIME, nullable=False, index=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("client", sa.Text),
        sa.Column("tenant", sa.Text),
        sa.Column("user", sa.Text),
        sa.Column("address", sa.Text),
        sa.Column("patient_id", sa.Text, index=True),
        sa.Column("hook_instance", sa.Text),
        sa.Column("service_id", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("model_version", sa.Text),
        sqlite_autoincrement=True,
    )
    for statement in APPEND_ONLY[op.get_context().dialect.name]:
        op.execute(statement)
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column(
            "assessment_id", sa.Text, sa.ForeignKey("assessment.id"), nullable=False, unique=True
        ),
        sa.Column("fhir_base", sa.Text, nullable=False),
        sa.Column("client", sa.Text),
        sa.Column("resource", JSON, nullable=False),
        sa.Column(
            "state",
            sa.Text,
            sa.CheckConstraint("state IN ('ready', 'claimed', 'delivered', 'dead')"),
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("available_at", TIME, nullable=False),
        sa.Column("claim_id", sa.Text),
        sa.Column("lease_until", TIME),
        sa.Column("settled_at", TIME),
        sa.Column("reason", sa.Text),
        sa.Column("location", sa.Text),
        sa.Column("version", sa.Text),
        sa.Index("outbox_due", "state", "available_at"),
    )
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("card", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("outcome_timestamp", TIME, nullable=False),
        sa.Column("service_id", sa.Text, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("client", sa.Text),
        sa.Column("accepted_suggestions", JSON, nullable=False),
        sa.Column("override_reason", JSON),
        sa.Column("user_comment", sa.Text),
        sa.UniqueConstraint("card", "outcome", "outcome_timestamp"),
    )


APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_refuses_{verb.lower()} BEFORE {verb} ON audit "
        "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$",
        "CREATE TRIGGER audit_refuses_changes BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()",
    ],
}
