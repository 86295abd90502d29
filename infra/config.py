"""All stack configuration is parsed and validated here, once, before anything starts.

A configuration that is wrong in several places is refused with all of them, each by its key: what was found,
what is allowed, and the key that was probably meant. `KEYS` is the whole vocabulary.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from infra.topology import Console, EarlyRelease, Kubernetes, Lease, Prometheus, Settings, Traces
from infra.values import (
    Invalid,
    choice,
    destination,
    duration,
    expressions,
    host,
    image,
    integer,
    label,
    maybe,
    module,
    names,
    networks,
    number,
    pairs,
    quantity,
    reference,
    size,
    switch,
    text,
    texts,
)

if TYPE_CHECKING:
    from infra.values import Kind

__all__ = [
    "KEYS",
    "NAMESPACE",
    "TARGETS",
    "ConfigError",
    "Configuration",
    "Problem",
    "TargetName",
    "from_mapping",
    "from_pulumi",
    "merged",
]

NAMESPACE = "holdfast"
TargetName = Literal["local", "kind", "cloud"]
TARGETS: tuple[TargetName, ...] = ("local", "kind", "cloud")

_OTHER_NAMESPACES = ("pulumi",)
_DEFAULT = Settings(name="", directory=Path())
_CLUSTERS = Kubernetes()

KEYS: Mapping[str, tuple[Kind, object]] = {
    "target": (choice(TARGETS), "local"),
    "workers": (integer(2, 16), _DEFAULT.workers),
    "agent": (reference(), _DEFAULT.agent),
    "model": (text(), _DEFAULT.model),
    "model_latency_seconds": (number(0, 60), _DEFAULT.model_latency_seconds),
    "max_iterations": (integer(1, 10_000), _DEFAULT.max_iterations),
    "kept_runs": (integer(0, 100_000), _DEFAULT.kept_runs),
    "max_body_size": (quantity(), _DEFAULT.max_body_size),
    "stuck_after_seconds": (number(1, 86_400), _DEFAULT.stuck_after_seconds),
    "environment": (names(), ()),
    "lease.ttl": (integer(20, 600), _DEFAULT.lease.ttl),
    "lease.loop_wait": (integer(1, 300), _DEFAULT.lease.loop_wait),
    "lease.retry_timeout": (integer(3, 300), _DEFAULT.lease.retry_timeout),
    "early_release.enabled": (switch(), _DEFAULT.early_release.enabled),
    "early_release.silence_seconds": (number(0.5, 60), _DEFAULT.early_release.silence_seconds),
    "console.session_minutes": (number(1, 10_080), _DEFAULT.console.session_minutes),
    "console.mask_keys": (expressions(), _DEFAULT.console.mask_keys),
    "console.mask_values": (expressions(), _DEFAULT.console.mask_values),
    "prometheus.enabled": (switch(), _DEFAULT.prometheus.enabled),
    "prometheus.scrape_seconds": (integer(2, 300), _DEFAULT.prometheus.scrape_seconds),
    "traces.to": (destination(("none", "file")), _DEFAULT.traces.to),
    "traces.sampling": (number(0, 1), _DEFAULT.traces.sampling),
    "kubernetes.context_a": (text(), _CLUSTERS.context_a),
    "kubernetes.context_b": (text(), _CLUSTERS.context_b),
    "kubernetes.context_witness": (text(), _CLUSTERS.context_witness),
    "kubernetes.address_a": (maybe(host()), _CLUSTERS.address_a),
    "kubernetes.address_b": (maybe(host()), _CLUSTERS.address_b),
    "kubernetes.address_witness": (maybe(host()), _CLUSTERS.address_witness),
    "kubernetes.exposure": (choice(("NodePort", "LoadBalancer")), _CLUSTERS.exposure),
    "kubernetes.allowed_ranges": (networks(), _CLUSTERS.allowed_ranges),
    "kubernetes.edge_annotations": (pairs(), _CLUSTERS.edge_annotations),
    "kubernetes.namespace": (label(), _CLUSTERS.namespace),
    "kubernetes.image": (image(), _CLUSTERS.image),
    "kubernetes.etcd_image": (image(), _CLUSTERS.etcd_image),
    "kubernetes.dapr_chart": (text(), _CLUSTERS.dapr_chart),
    "kubernetes.dapr_registry": (text(), _CLUSTERS.dapr_registry),
    "kubernetes.highly_available": (switch(), _CLUSTERS.highly_available),
    "kubernetes.storage_class": (maybe(text()), _CLUSTERS.storage_class),
    "kubernetes.volume_size": (size(), _CLUSTERS.volume_size),
    "kubernetes.retention": (maybe(duration()), _CLUSTERS.retention),
    "kubernetes.trace_endpoint": (maybe(text()), _CLUSTERS.trace_endpoint),
    "kubernetes.trace_sampling": (number(0, 1), _CLUSTERS.trace_sampling),
    "kubernetes.tool_host": (maybe(module()), _CLUSTERS.tool_host),
    "kubernetes.tool_activities": (texts(), _CLUSTERS.tool_activities),
}
"""Every key below `holdfast:`, with what it takes and its default. A dot is a level of nesting in YAML."""


@dataclass(frozen=True)
class Configuration:
    """A stack's whole configuration, valid."""

    target: TargetName
    settings: Settings
    kubernetes: Kubernetes = field(default_factory=Kubernetes)
    """Where `kind` and `cloud` stand; of no meaning to `local`."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: at which key, what was found there, what is allowed, what was meant."""

    key: str
    found: str
    allowed: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.key}: found {self.found}; allowed: {self.allowed}{hint}"


class ConfigError(ValueError):
    """The configuration is refused; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{count} in the configuration; nothing was started:\n{lines}")


def from_pulumi(*, name: str, directory: Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """The configuration of the running Pulumi program."""
    from pulumi.runtime.config import CONFIG, get_config_env

    # pulumi.Config answers only for keys that one knows to ask for; here the unknown ones are wanted too.
    return from_mapping({**get_config_env(), **CONFIG.get()}, name=name, directory=directory, environ=environ)


def from_mapping(
    config: Mapping[str, object],
    *,
    name: str,
    directory: Path,
    environ: Mapping[str, str] = os.environ,
) -> Configuration:
    """The configuration in `config`, or `ConfigError`.

    Keys are `holdfast:key` or `key`; an object may be nested, dotted or a JSON text; scalars may be texts.
    """
    problems: list[Problem] = []
    values = {key: default for key, (_, default) in KEYS.items()}
    wrong: set[str] = set()
    for key, raw in _flat(config):
        kind = KEYS[key][0] if key in KEYS else None
        if kind is None:
            problems.append(_unknown(key, raw))
            continue
        try:
            values[key] = kind.parse(raw)
        except Invalid as invalid:
            problems.append(
                Problem(
                    _qualified(key),
                    _shown(raw) if kind.shown else "something else",
                    kind.allowed,
                    str(invalid),
                )
            )
            wrong.add(key)
    problems += _broken_rules(values, wrong)
    wanted = cast("tuple[str, ...]", values["environment"])
    problems += [
        Problem(
            _qualified("environment"),
            f"{variable!r}, which is not set here",
            "names of variables that are set",
        )
        for variable in wanted
        if variable not in environ
    ]
    if problems:
        raise ConfigError(problems)
    environment = {variable: environ[variable] for variable in wanted}
    groups = _groups(values)
    return Configuration(
        cast("TargetName", values["target"]),
        _settings(groups, name, directory, environment),
        Kubernetes(**groups["kubernetes"]),  # type: ignore[arg-type]  # each kind parsed its own
    )


def merged(config: Mapping[str, object], overrides: Mapping[str, str]) -> dict[str, object]:
    """`config` with `overrides` put in, as Pulumi takes it: qualified keys, objects nested."""
    result: dict[str, object] = {}
    for key, value in [*_flat(config), *_flat(overrides)]:
        if ":" in key:
            result[key] = value
            continue
        group, _, field = key.partition(".")
        if field:
            fields = result.setdefault(_qualified(group), {})
            cast("dict[str, object]", fields)[field] = value
        else:
            result[_qualified(key)] = value
    return result


def _groups(values: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The fields by what stands before their key's dot, which may be nothing."""
    groups: dict[str, dict[str, object]] = {}
    for key, value in values.items():
        group, _, field_name = key.rpartition(".")
        groups.setdefault(group, {})[field_name] = value
    return groups


def _settings(
    groups: Mapping[str, Mapping[str, object]], name: str, directory: Path, environment: Mapping[str, str]
) -> Settings:
    plain = {key: value for key, value in groups[""].items() if key not in ("target", "environment")}
    return Settings(
        name=name,
        directory=directory,
        lease=Lease(**groups["lease"]),  # type: ignore[arg-type]
        early_release=EarlyRelease(**groups["early_release"]),  # type: ignore[arg-type]
        console=Console(**groups["console"]),  # type: ignore[arg-type]
        prometheus=Prometheus(**groups["prometheus"]),  # type: ignore[arg-type]
        traces=Traces(**groups["traces"]),  # type: ignore[arg-type]
        environment=environment,
        **plain,  # type: ignore[arg-type]
    )


def _broken_rules(values: Mapping[str, object], wrong: set[str]) -> Iterator[Problem]:
    """Rules between keys; one that involves a key which is wrong by itself is left for the next try."""
    ttl, loop_wait, retry_timeout, silence = (
        cast("float", values[key])
        for key in ("lease.ttl", "lease.loop_wait", "lease.retry_timeout", "early_release.silence_seconds")
    )
    if not wrong & {"lease.ttl", "lease.loop_wait", "lease.retry_timeout"} and loop_wait + 2 * retry_timeout > ttl:
        yield Problem(
            _qualified("lease"),
            f"loop_wait {loop_wait} + 2 * retry_timeout {retry_timeout} = {loop_wait + 2 * retry_timeout}",
            f"at most ttl, which is {ttl}: else a primary loses its lease before it has tried to keep it",
        )
    if not wrong & {"lease.ttl", "early_release.silence_seconds"} and silence >= ttl:
        yield Problem(
            _qualified("early_release.silence_seconds"),
            f"{silence:g}",
            f"less than lease.ttl, which is {ttl}: later than that the lease has expired by itself",
        )
    if values["target"] != "local":
        yield from _broken_cluster_rules(values, wrong)


def _broken_cluster_rules(values: Mapping[str, object], wrong: set[str]) -> Iterator[Problem]:
    for what, allowed in (
        ("address", "the host under which the other clusters reach this one"),
        ("context", "three clusters: one that holds two of the lease store's members takes the quorum with it"),
    ):
        keys = [f"kubernetes.{what}_{where}" for where in ("a", "b", "witness")]
        seen: set[object] = set()
        for key in (key for key in keys if key not in wrong):
            value = values[key]
            if not value:
                yield Problem(_qualified(key), "nothing", allowed)
            elif value in seen:
                yield Problem(_qualified(key), f"{value!r}, which is another cluster's too", allowed)
            seen.add(value)
    if values["kubernetes.tool_host"] and not values["kubernetes.tool_activities"]:
        yield Problem(
            _qualified("kubernetes.tool_activities"),
            "nothing",
            "the activities of the tool host that the agents may call: else it would be there for nobody",
        )


def _flat(config: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for full, raw in config.items():
        namespace, _, key = full.rpartition(":")
        if namespace in ("", NAMESPACE):
            yield from _leaves(key, raw)
        elif namespace not in _OTHER_NAMESPACES:
            yield full, raw


def _leaves(key: str, raw: object) -> Iterator[tuple[str, object]]:
    groups = {known.rpartition(".")[0] for known in KEYS}
    if key in groups and isinstance(raw, str):
        with contextlib.suppress(ValueError):
            raw = json.loads(raw)
    if isinstance(raw, Mapping):
        for field, value in cast("Mapping[object, object]", raw).items():
            yield from _leaves(f"{key}.{field}", value)
    else:
        yield key, raw


def _unknown(key: str, raw: object) -> Problem:
    namespace, _, plain = key.rpartition(":")
    groups = {known.rpartition(".")[0] for known in KEYS} - {""}
    if key in groups:
        fields = ", ".join(known.rpartition(".")[2] for known in KEYS if known.startswith(f"{key}."))
        return Problem(_qualified(key), _shown(raw), f"an object of {fields}")
    near = difflib.get_close_matches(plain, KEYS, n=1, cutoff=0.6)
    hint = f"did you mean {_qualified(near[0])}?" if near else ""
    allowed = ", ".join(KEYS) if not near else "a key that exists"
    return Problem(key if namespace else _qualified(key), "a key that does not exist", allowed, hint)


def _qualified(key: str) -> str:
    return f"{NAMESPACE}:{key}"


def _shown(raw: object) -> str:
    return repr(raw) if isinstance(raw, str) else json.dumps(raw, default=str)
