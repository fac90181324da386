"""Alembic's way in: it runs within the transaction, and under the lock, of `upgrade.py`."""

from alembic import context

from cds_service.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
