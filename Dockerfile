# Two stages: the first installs from the hash-locked file, the second holds only what serves.
# No training dependencies, no compiler, not root.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/cds
COPY requirements.txt .
RUN /opt/cds/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md ./
COPY cds_service cds_service
COPY fhir_mapping fhir_mapping
COPY risk_model risk_model
COPY model_training model_training
RUN /opt/cds/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/cds/bin/pip uninstall --yes hatchling editables pip

FROM python:3.11-slim-bookworm
# Nothing from apt: XGBoost's wheel brings its own OpenMP.
RUN useradd --system --uid 10001 --create-home --home-dir /srv/cds cds \
    && install --directory --owner=cds /srv/cds/var
COPY --from=build /opt/cds /opt/cds
WORKDIR /srv/cds
COPY hooks.json hooks.json
COPY model_artifacts model_artifacts
ENV PATH=/opt/cds/bin:$PATH PYTHONUNBUFFERED=1
USER cds
VOLUME /srv/cds/var
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["cds-service", "serve", "--host", "0.0.0.0", "--port", "8000"]
