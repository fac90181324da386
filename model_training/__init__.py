"""Offline: public data in, a verified artifact under `model_artifacts/` out."""
