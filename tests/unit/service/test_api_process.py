"""The API's process reads its configuration and secrets, and serves over TLS where it is told to."""

from __future__ import annotations

import json
import runpy
import ssl
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from service import __main__ as process
from serving import Tls

from tests.support.regions import service_config, write_role

pytestmark = pytest.mark.unit


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    for name, secret in (("token", "from-its-file"), ("dapr-token", "dapr"), ("dsn", "host=127.0.0.1 port=1")):
        (tmp_path / name).write_text(secret + "\n")
    path = tmp_path / "service.json"
    path.write_text(json.dumps(service_config(tmp_path)))
    return path


def test_it_serves_the_region_of_its_configuration_to_holders_of_its_token(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[tuple[FastAPI, str, Tls]] = []
    monkeypatch.setattr(process, "serve", lambda *arguments: served.append(arguments))
    write_role(config_file.with_name("role.json"), "standby", epoch=9)
    assert process.main(["--config", str(config_file)]) == 0
    [(app, listen, tls)] = served
    assert (listen, tls.cert) == ("region-a.example:8443", Path("service.crt"))
    client = TestClient(app, headers={"Authorization": "Bearer from-its-file"})
    assert client.get("/v1/role").json()["epoch"] == 9


def test_a_start_is_a_span_where_spans_are_wanted(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[FastAPI] = []
    monkeypatch.setattr(process, "serve", lambda app, *_: served.append(app))
    write_role(config_file.with_name("role.json"), "active")
    spans = config_file.with_name("spans.jsonl")
    config_file.write_text(json.dumps(service_config(config_file.parent, traces={"file": str(spans)})))
    process.main(["--config", str(config_file)])
    client = TestClient(served[0], headers={"Authorization": "Bearer from-its-file"})
    assert client.post("/v1/runs", json={"run_id": "run-1", "input": {}}).status_code == 422
    told = spans.read_text()
    assert '"POST /v1/runs"' in told
    assert '"run-1"' in told


def test_a_console_is_served_where_one_is_configured(config_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[FastAPI] = []
    monkeypatch.setattr(process, "serve", lambda app, *_: served.append(app))
    monkeypatch.setattr(process.ssl, "create_default_context", lambda cafile: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    place = config_file.parent
    files = {role: place / role for role in ("viewer", "operator")}
    for role, file in files.items():
        file.write_text(f"{role}-s-token-of-its-own\n")
    console = {f"{role}_token_file": str(file) for role, file in files.items()} | {"agent": "https://agent.example"}
    config_file.write_text(json.dumps(service_config(place, console=console | {"mask_keys": ["^ssn$"]})))
    assert process.main(["--config", str(config_file)]) == 0
    client = TestClient(served[0], base_url="https://console.example")
    assert client.get("/console/login").status_code == 200
    fields = {"who": "Ada", "token": "operator-s-token-of-its-own"}
    assert client.post("/console/login", data=fields, follow_redirects=False).status_code == 303
    files["viewer"].write_text("short\n")
    with pytest.raises(ValueError, match="viewer token has 5 characters"):
        process.main(["--config", str(config_file)])


def test_a_rule_that_is_no_regular_expression_is_refused_by_its_name(
    config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = {"viewer_token_file": "v", "operator_token_file": "o", "agent": "x", "mask_values": ["(unclosed"]}
    config_file.write_text(json.dumps(service_config(config_file.parent, console=console)))
    with pytest.raises(SystemExit):
        process.main(["--config", str(config_file)])
    assert "console.mask_values.0: Value error, '(unclosed' is no regular expression" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["token", "dapr-token", "dsn"])
def test_it_does_not_start_with_an_empty_secret(config_file: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(process, "serve", lambda *_: pytest.fail("it served"))
    config_file.with_name(name).write_text("\n")
    with pytest.raises(ValueError, match=f"{name} is empty"):
        process.main(["--config", str(config_file)])


@pytest.mark.filterwarnings("ignore:'service.__main__' found in sys.modules:RuntimeWarning")
def test_it_does_not_start_without_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["service", "--config", "none.json"])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module("service", run_name="__main__")
    assert exit_.value.code == 2
    assert "service: none.json: can't be read" in capsys.readouterr().err
