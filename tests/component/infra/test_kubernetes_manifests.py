"""What the program declares is valid for the pinned versions of Kubernetes and of Dapr.

Dapr's resource definitions and chart come from the Go module that the sidecars are built from. About a minute where the
module has to be fetched, seconds where it is there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from infra.toolchain.errors import GoUnusable
from infra.toolchain.go import source
from tests.support.declared import CLUSTERS, Declared, Program, declare

pytestmark = pytest.mark.component

KUBERNETES = "1.34"
EVERYTHING = dataclasses.replace(
    CLUSTERS,
    tool_host="tools.host",
    tool_activities=("refunds.pay",),
    retention="720h",
    trace_endpoint="https://collector:4317",
    storage_class="fast",
    exposure="LoadBalancer",
)


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """They are megabytes, which the library reads anew for each object."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", functools.cache(utils.schema_contents))
        yield


@pytest.fixture(scope="module")
def chart() -> Path:
    try:
        return source("daprd", "github.com/dapr/dapr") / "charts" / "dapr"
    except GoUnusable as error:
        pytest.skip(f"Dapr's resource definitions can't be had: {error}")


@pytest.fixture(scope="module")
def definitions(chart: Path) -> dict[str, dict[str, Any]]:
    """The schema of each kind of Dapr's, as the cluster would check it: what it does not know is refused."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((chart / "crds").glob("*.yaml")):
        for document in filter(None, yaml.safe_load_all(path.read_text(encoding="utf-8"))):
            version = next(one for one in document["spec"]["versions"] if one["name"] == "v1alpha1")
            found[document["spec"]["names"]["kind"]] = closed(version["schema"]["openAPIV3Schema"])
    return found


def closed(schema: Any) -> Any:
    """The same, refusing fields that are not in it: a cluster drops them without a word."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    whole = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema and "additionalProperties" not in schema:
        names = set(schema["properties"])
        if names != {"apiVersion", "kind", "metadata"}:
            whole["additionalProperties"] = False
    return whole


@pytest.fixture(scope="module", params=["plain", "everything"])
def program(request: pytest.FixtureRequest) -> Program:
    return declare(CLUSTERS if request.param == "plain" else EVERYTHING, environment={"MODEL_KEY": "s3cret"})


def of_dapr(one: Declared) -> bool:
    return str(one.inputs.get("apiVersion", "")).startswith("dapr.io/")


def test_every_object_is_valid_for_this_kubernetes(program: Program) -> None:
    checked = [one for one in program.objects if not of_dapr(one)]
    assert len(checked) > 100
    for one in checked:
        kubernetes_validate.validate(one.manifest, KUBERNETES, strict=True)


def test_a_misspelt_field_is_noticed(program: Program) -> None:
    service = program.one("Service", "edge", "region-a")
    service["spec"]["selektor"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, KUBERNETES, strict=True)


def test_every_dapr_object_is_valid_for_this_dapr(program: Program, definitions: dict[str, dict[str, Any]]) -> None:
    checked = [one for one in program.objects if of_dapr(one)]
    assert {one.kind for one in checked} == {"Component", "Configuration", "Resiliency", "WorkflowAccessPolicy"}
    for one in checked:
        jsonschema.validate(one.manifest, definitions[one.kind])


def test_a_field_that_dapr_does_not_know_is_noticed(program: Program, definitions: dict[str, dict[str, Any]]) -> None:
    configuration = program.one("Configuration", "holdfast", "region-a")
    configuration["spec"]["workflow"] = {"retention": "720h"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(configuration, definitions["Configuration"])


def test_every_value_that_the_chart_is_given_is_one_that_it_has(program: Program, chart: Path) -> None:
    known = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    for part in (chart / "charts").iterdir():
        known[part.name] = yaml.safe_load((part / "values.yaml").read_text(encoding="utf-8")) or {}

    def check(given: dict[str, Any], has: dict[str, Any], path: str) -> None:
        for key, value in given.items():
            assert key in has, f"{path}{key}"
            # What is empty in the chart is there to be filled.
            if isinstance(value, dict) and has[key]:
                check(value, has[key], f"{path}{key}.")

    for where in ("a", "b"):
        check(program.named(f"dapr-{where}").manifest["values"], known, "")


def test_a_sidecar_is_asked_for_with_annotations_that_dapr_has(program: Program, chart: Path) -> None:
    path = chart.parents[1] / "pkg" / "injector" / "annotations" / "annotations.go"
    known = path.read_text(encoding="utf-8")
    for name, pod in program.pods():
        for annotation in pod["metadata"]["annotations"]:
            if annotation.startswith("dapr.io/"):
                assert f'"{annotation}"' in known, f"{name}: {annotation}"
