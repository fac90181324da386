"""Offline commands of the one program, `cds-service`; each is imported only when called."""
