"""The shell: HTTP, SQL, settings and logging around the two cores. Nobody imports it."""

import gc
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cds-service")
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0+unknown"

# A record of a thousand Observations is some 20,000 dicts and lists, which die when its call is
# answered. By default every 700 new ones are gone over, to find that all of them are in use; so
# it is while a start imports what it needs, for which reason this stands here, before the imports.
OBJECTS_BETWEEN_COLLECTIONS = 50_000
gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
