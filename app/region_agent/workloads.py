"""Starts and stops the region's processes where they are Kubernetes workloads: by their number of pods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError
from serving import ConfigurationFile

from region_agent.supervisor import SupervisorError

GONE_SECONDS = 30.0
LOOK_SECONDS = 0.1
CALL_SECONDS = 5.0

Answer = TypeVar("Answer", bound=BaseModel)


class Workload(ConfigurationFile):
    """What runs a process: `replicas` pods, marked by `selector`, while it is to run. Several may share one.

    Volume claims that `forgets` selects are given up whenever it has been stopped.
    """

    kind: Literal["statefulsets", "deployments"]
    namespace: str
    name: str
    replicas: int
    selector: str
    forgets: str | None = None


class KubernetesConfig(ConfigurationFile):
    """The cluster's API as a pod reaches it, with the pod's own token, and the workload of each process by name."""

    api: str = "https://kubernetes.default.svc"
    ca: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    workloads: dict[str, Workload]


class _Replicas(BaseModel):
    model_config = ConfigDict(extra="ignore")
    replicas: int = 0


class _Scale(BaseModel):
    model_config = ConfigDict(extra="ignore")
    spec: _Replicas = _Replicas()


class _Metadata(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str


class _Item(BaseModel):
    model_config = ConfigDict(extra="ignore")
    metadata: _Metadata


class _List(BaseModel):
    model_config = ConfigDict(extra="ignore")
    items: list[_Item]


class Workloads:
    """The region's processes behind the cluster's API; the same face as the supervisor's."""

    def __init__(self, config: KubernetesConfig, client: httpx.AsyncClient) -> None:
        self._config, self._client = config, client

    async def running(self) -> dict[str, int]:
        """Nothing: a process of another pod has no id here. Each pod looks after its own pair."""
        return {}

    async def start(self, process: str) -> None:
        """Have all the pods of a process; one that has them, or is about to, stays as it is."""
        workload = self._workload(process)
        if (await self._scale(workload)).spec.replicas != workload.replicas:
            await self._set(workload, workload.replicas)

    async def stop(self, process: str) -> None:
        """Have none. Returns when the last pod is gone, and what is to be forgotten with it."""
        workload = self._workload(process)
        if (await self._scale(workload)).spec.replicas != 0:
            await self._set(workload, 0)
        await self._gone("pods", workload.namespace, workload.selector)
        if workload.forgets:
            # A new pod would wait for a claim that is about to go.
            path = _resources("persistentvolumeclaims", workload.namespace)
            await self._call("DELETE", path, params={"labelSelector": workload.forgets})
            await self._gone("persistentvolumeclaims", workload.namespace, workload.forgets)

    async def _gone(self, resource: str, namespace: str, selector: str) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        while True:
            answer = await self._call("GET", _resources(resource, namespace), params={"labelSelector": selector})
            left = [item.metadata.name for item in _parsed(_List, answer).items]
            if not left:
                return
            if time.monotonic() > deadline:
                raise SupervisorError(
                    f"{resource} in {namespace} were still there {GONE_SECONDS:g} s after they were told to go: "
                    f"{', '.join(left)}; see `kubectl -n {namespace} get {resource} -o wide`"
                )
            await asyncio.sleep(LOOK_SECONDS)

    def _workload(self, process: str) -> Workload:
        try:
            return self._config.workloads[process]
        except KeyError:
            known = ", ".join(self._config.workloads)
            raise SupervisorError(f"no workload runs {process!r}; there are {known}") from None

    async def _scale(self, workload: Workload) -> _Scale:
        return _parsed(_Scale, await self._call("GET", _scale_path(workload)))

    async def _set(self, workload: Workload, replicas: int) -> None:
        await self._call(
            "PATCH",
            _scale_path(workload),
            json={"spec": {"replicas": replicas}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            # The token is replaced while the pod lives.
            token = self._config.token_file.read_text(encoding="utf-8").strip()
            response = await self._client.request(
                method,
                self._config.api + path,
                params=params,
                json=json,
                headers={**(headers or {}), "Authorization": f"Bearer {token}"},
            )
        except (httpx.HTTPError, OSError) as error:
            raise SupervisorError(f"the cluster's API does not answer {method} {path}: {error!r}") from error
        if response.is_error:
            raise SupervisorError(f"the cluster's API refused {method} {path}: {response.text[:300]}")
        return response


def _scale_path(workload: Workload) -> str:
    return f"/apis/apps/v1/namespaces/{workload.namespace}/{workload.kind}/{workload.name}/scale"


def _resources(kind: str, namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/{kind}"


def _parsed(model: type[Answer], response: httpx.Response) -> Answer:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise SupervisorError(f"the cluster's answer makes no sense: {response.text[:300]}") from error
