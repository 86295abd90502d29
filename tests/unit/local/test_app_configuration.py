"""The app accepts every configuration file that is written for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel
from refund_desk.payments.__main__ import PaymentsConfig
from refund_desk.provider.__main__ import ProviderConfig
from region_agent.config import AgentConfig
from region_agent.observer import ObserverConfig
from service.config import ServiceConfig
from service.worker import WorkerConfig

from infra.local import dapr, etcd, payments, postgres, region, wan, witness
from infra.local.layout import Layout

pytestmark = pytest.mark.unit


@pytest.fixture
def written(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    layout = replace(layout, settings=replace(layout.settings, model=payments.PROVIDED))
    for module in (dapr, etcd, wan):
        monkeypatch.setattr(module, "require", lambda names: {name: Path("/tools") / name for name in names})
    monkeypatch.setattr(postgres, "find_postgres", lambda: type("Found", (), {"bin": Path("/postgres")}))
    payments.write_files(layout)
    witness.write_files(layout)
    region.write_files(layout, "a")
    return layout


@pytest.mark.parametrize(
    ("site", "file", "model"),
    [
        ("region-a", "service.json", ServiceConfig),
        ("region-a", "worker-1.json", WorkerConfig),
        ("region-a", "region-agent.json", AgentConfig),
        ("witness", "observer.json", ObserverConfig),
        ("payments", "payments.json", PaymentsConfig),
        ("payments", "provider.json", ProviderConfig),
    ],
)
def test_the_app_accepts_its_configuration(written: Layout, site: str, file: str, model: type[BaseModel]) -> None:
    model.model_validate_json(written.config(site, file).read_bytes())
