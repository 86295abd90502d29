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
from infra.topology import Traces

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


@pytest.mark.parametrize(
    ("to", "given"),
    [
        ("file", {"file": "spans-{name}.jsonl"}),
        ("https://collector:4318/v1/traces", {"endpoint": "https://collector:4318/v1/traces"}),
    ],
)
def test_the_app_is_told_where_its_spans_go(written: Layout, to: str, given: dict[str, str]) -> None:
    traced = replace(written, settings=replace(written.settings, traces=Traces(to, 0.5)))
    region.write_files(traced, "a")
    data = traced.data("region-a")
    models: dict[str, type[ServiceConfig | WorkerConfig | AgentConfig]]
    models = {"service": ServiceConfig, "worker-1": WorkerConfig, "region-agent": AgentConfig}
    for file, model in models.items():
        told = model.model_validate_json(traced.config("region-a", f"{file}.json").read_bytes()).traces
        name = "api" if file == "service" else file
        assert told is not None
        assert told.sampling == 0.5
        assert told.endpoint == given.get("endpoint")
        assert told.file == (data / given["file"].format(name=name) if "file" in given else None)


def test_nothing_is_traced_unless_it_is_asked_for(written: Layout) -> None:
    found = WorkerConfig.model_validate_json(written.config("region-a", "worker-1.json").read_bytes())
    assert found.traces is None
