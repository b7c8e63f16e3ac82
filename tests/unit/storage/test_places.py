from __future__ import annotations

from pathlib import Path

import pytest

from voxelvault.errors import MissingExtra, UsageError
from voxelvault.storage import places
from voxelvault.storage.objects import LocalObjects
from voxelvault.storage.places import place_of, public_config, store_at


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *places._ENDPOINTS,
        *places._REGIONS,
        "AWS_ALLOW_HTTP",
        "AWS_PROFILE",
        "AWS_ACCESS_KEY_ID",
    ):
        monkeypatch.delenv(name, raising=False)


def test_a_folder_is_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of("vault") == tmp_path / "vault"
    assert place_of(Path("~/vault")) == Path.home() / "vault"
    assert place_of(f"file://{tmp_path}/a%20vault") == tmp_path / "a vault"
    assert isinstance(store_at(tmp_path), LocalObjects)


def test_a_url_has_a_bucket() -> None:
    assert place_of("S3://bucket/a/vault/") == "s3://bucket/a/vault"
    assert place_of("gs://bucket") == "gs://bucket"
    for wrong in ("s3://", "s3://bucket/../other", "s3://bucket//x", "s3://a b/c", "s3://bucket/x?y=1"):
        with pytest.raises(UsageError, match="name bucket and folder"):
            place_of(wrong)
    with pytest.raises(UsageError, match="s3://"):
        place_of("ftp://host/vault")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "http://localhost:9000", "http://[::1]:1"])
def test_plain_http_is_for_this_machine(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    store_at("s3://bucket/vault")


def test_plain_http_elsewhere_must_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example:9000")
    with pytest.raises(UsageError, match="AWS_ALLOW_HTTP") as caught:
        store_at("s3://bucket/vault")
    assert "example" not in str(caught.value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    store_at("s3://bucket/vault")


def test_what_another_process_needs_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://storage.example")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert public_config("s3://bucket/vault") == {
        "endpoint": "https://storage.example",
        "region": "eu-central-1",
    }
    assert public_config("gs://bucket/vault") == public_config(Path("/vault")) == {}


def test_a_profile_is_read_by_boto3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[site]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "site")
    assert places._profile()["credential_provider"]()["access_key_id"] == "a"
    monkeypatch.setitem(__import__("sys").modules, "obstore.auth.boto3", None)
    with pytest.raises(MissingExtra, match="aws"):
        store_at("s3://bucket/vault")
