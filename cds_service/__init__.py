"""The shell: HTTP, SQL, settings and logging around the two cores. Nobody imports it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cds-service")
except PackageNotFoundError:  # run from a checkout that was not installed
    __version__ = "0+unknown"
