"""Settings come from the environment alone, and a bad value is named."""

from __future__ import annotations

import base64
from dataclasses import fields
from pathlib import Path

import pytest

from cds_service.settings import Settings, SettingsError, unknown_variables

# 32 bytes, as `openssl rand -base64 32` prints them.
KEY, OTHER = (base64.b64encode(bytes(range(n, n + 32))).decode() for n in (0, 200))


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.profile == "production"
    assert not settings.demo
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.database_url == "sqlite:///var/cds.db"
    assert settings.hooks_file == Path("hooks.json")
    assert settings.max_body_bytes == 20_000_000


def test_every_field_is_read_from_a_variable_of_its_name(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}\n")
    given = {
        "CDS_PROFILE": "Demo",
        "CDS_PUBLIC_URL": "https://cds.example.org/api/",
        "CDS_DATABASE_URL": "postgresql://db/cds",
        "CDS_DELIVERY": "Apart",
        "CDS_STORE_KEYS_FILE": str(keys),
        "CDS_STORE_KEYS_LOST": "0123456789abcdef",
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
    # CDS_STORE_KEYS and its file are one or the other.
    assert len(given) + 1 == len(fields(Settings)), "a field without a test"
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


@pytest.mark.parametrize(
    "text", [f"{KEY},{OTHER}", f" {KEY} ,\n{OTHER}\n", f"{KEY}\n{OTHER}\n{KEY}"]
)
def test_store_keys_keep_their_order(text: str, tmp_path: Path) -> None:
    keys = (bytes(range(32)), bytes(range(200, 232)))
    assert Settings.from_environment({"CDS_STORE_KEYS": text}).store_keys == keys
    path = tmp_path / "keys"
    path.write_text(text)
    assert Settings.from_environment({"CDS_STORE_KEYS_FILE": str(path)}).store_keys == keys


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hunter2", "key 1"),
        (f"{KEY},hunter2", "key 2"),
        (base64.b64encode(b"hunter2").decode(), "7 bytes, not 32"),
        (base64.b64encode(b"hunter2" * 7).decode(), "49 bytes, not 32"),
        (base64.b64encode(b"hunter22" * 4).decode(), "not random"),
        (",", "no key"),
        ("kéy", "not Base64"),
    ],
)
def test_what_is_wrong_with_a_key_is_said_without_the_key(
    text: str, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    for variable, value in (("CDS_STORE_KEYS", text), ("CDS_STORE_KEYS_FILE", str(path))):
        with pytest.raises(SettingsError, match=variable) as fault:
            Settings.from_environment({variable: value})
        assert why in str(fault.value)
        assert "hunter2" not in str(fault.value)
        assert text not in str(fault.value).replace("'", "").split() or text == ","


def test_a_keys_file_that_cannot_be_read_or_is_one_too_many_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with pytest.raises(SettingsError, match=r"CDS_STORE_KEYS_FILE=.*No such file"):
        Settings.from_environment({"CDS_STORE_KEYS_FILE": str(path)})
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="no text"):
        Settings.from_environment({"CDS_STORE_KEYS_FILE": str(path)})
    path.write_text(KEY)
    with pytest.raises(SettingsError, match="one of the two"):
        Settings.from_environment({"CDS_STORE_KEYS_FILE": str(path), "CDS_STORE_KEYS": KEY})


def test_settings_that_are_printed_hold_no_key() -> None:
    settings = Settings.from_environment({"CDS_STORE_KEYS": KEY})
    assert "store_keys=" not in repr(settings)
