"""The schema's history, one file for each step (Alembic). Forwards only.

A step says in full what it does and imports nothing from here: what `schema.py` says may change,
what a step did may not. Stores that are new do not come through here: `upgrade.py`.
"""
