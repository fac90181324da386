"""Servers that this project did not write, and HL7's validator, for acceptance tests.

`make servers` builds them. Fixtures: tests/acceptance/conftest.py.
"""

from tests.servers.fhir_server import FhirServer, HapiServer, MedplumServer
from tests.servers.validator import Issue, Validator

__all__ = ["FhirServer", "HapiServer", "Issue", "MedplumServer", "Validator"]
