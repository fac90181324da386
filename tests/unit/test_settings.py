"""Settings come from the environment alone, and a bad value is named."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from cds_service.settings import Settings, SettingsError, unknown_variables


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.profile == "production"
    assert not settings.demo
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.database_url == "sqlite:///var/cds.db"
    assert settings.hooks_file == Path("hooks.json")
    assert settings.max_body_bytes == 20_000_000


def test_every_field_is_read_from_a_variable_of_its_name() -> None:
    given = {
        "CDS_PROFILE": "Demo",
        "CDS_PUBLIC_URL": "https://cds.example.org/api/",
        "CDS_DATABASE_URL": "postgresql://db/cds",
            "CDS_DELIVERY": "Apart",
        "CDS_CLIENTS_FILE": "clients.toml",
        "CDS_HOOKS_FILE": "h.json",
        "CDS_MODEL_DIR": "models",
        "CDS_WORKERS": "4",
        "CDS_MAX_BODY_BYTES": "1000000",
        "CDS_MAX_JSON_DEPTH": "32",
        "CDS_DEADLINE_MS": "750",
        "CDS_READ_TIMEOUT_MS": "5000",
        "CDS_CALL_TIMEOUT_MS": "9000",
        "CDS_MAX_CONCURRENT_CALLS": "4",
        "CDS_MAX_WAITING_CALLS": "0",
        "CDS_MAX_CONNECTIONS": "100",
        "CDS_CORS_ORIGINS": "https://a.example.org, https://b.example.org:8443/",
        "CDS_AUDIT_RETENTION_YEARS": "10",
        "CDS_LOG_LEVEL": "debug",
        "CDS_TIME_ZONE": "Europe/Vienna",
    }
    settings = Settings.from_environment(given)
    assert len(given) == len(fields(Settings)), "a field without a test"
    assert settings.demo
    assert settings.public_url == "https://cds.example.org/api"
    assert settings.cors_origins == ("https://a.example.org", "https://b.example.org:8443")
    assert settings.log_level == "DEBUG"
    assert settings.time_zone.key == "Europe/Vienna"
    for field in fields(Settings):
        assert getattr(settings, field.name) != getattr(Settings(), field.name)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CDS_PROFILE", "prod"),
        ("CDS_PUBLIC_URL", "cds.example.org"),
        ("CDS_PUBLIC_URL", "https://a.org/?x=1"),
        ("CDS_DATABASE_URL", "var/cds.db"),
        ("CDS_DELIVERY", "yes"),
        ("CDS_WORKERS", "0"),
        ("CDS_WORKERS", "two"),
        ("CDS_WORKERS", "-1"),
        ("CDS_WORKERS", "१"),
        ("CDS_MAX_BODY_BYTES", "20MB"),
        ("CDS_MAX_JSON_DEPTH", "100000"),
        ("CDS_DEADLINE_MS", "1.5"),
        ("CDS_READ_TIMEOUT_MS", "0"),
        ("CDS_CALL_TIMEOUT_MS", "never"),
        # The parts of a call's time are shorter than the whole.
        ("CDS_CALL_TIMEOUT_MS", "500"),
        ("CDS_CALL_TIMEOUT_MS", "10000"),
        ("CDS_MAX_CONCURRENT_CALLS", "0"),
        ("CDS_MAX_WAITING_CALLS", "-1"),
        ("CDS_MAX_CONNECTIONS", "0"),
        ("CDS_CORS_ORIGINS", "https://a.org/path"),
        ("CDS_CORS_ORIGINS", "a.org"),
        ("CDS_LOG_LEVEL", "chatty"),
        ("CDS_TIME_ZONE", "Vienna"),
        ("CDS_TIME_ZONE", "../../etc/passwd"),
    ],
)
def test_a_bad_value_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}="):
        Settings.from_environment({variable: value})


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_environment({"CDS_PROFILE": " ", "CDS_CLIENTS_FILE": ""}) == Settings()


def test_a_misspelt_variable_is_pointed_out() -> None:
    environ = {"CDS_PROFLIE": "demo", "CDS_PROFILE": "demo", "CDS_DATA_DIR": "x", "HOME": "/"}
    assert unknown_variables(environ) == ["CDS_PROFLIE"]
