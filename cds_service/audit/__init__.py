"""Who was told what about whom: one row for every call, each chained to the one before it."""
