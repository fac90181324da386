"""Conformance to CDS Hooks: every answer checked, request vectors, mutations, the document."""
