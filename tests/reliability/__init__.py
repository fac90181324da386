"""Nothing lost, nothing twice: real processes, killed at random, between callers and FHIR servers.

`python -m tests.reliability --help`; what the last whole run found is in docs/reliability.md.
"""
