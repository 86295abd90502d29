"""Configuration is parsed once, and what is wrong with it is said by key, all at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as search
from hypothesis import strategies as st

from infra import config
from infra.config import KEYS, ConfigError, from_mapping, merged
from infra.state import project_root
from infra.topology import Settings

pytestmark = pytest.mark.unit

PLACE = Path("/state/local")


def parse(settings: dict[str, object], environ: dict[str, str] | None = None) -> Settings:
    return from_mapping(settings, name="local", directory=PLACE, environ=environ or {}).settings


def problems(settings: dict[str, object]) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        parse(settings)
    return {problem.key: str(problem) for problem in refused.value.problems}


def test_an_empty_configuration_is_the_defaults_of_settings() -> None:
    assert parse({}) == Settings(name="local", directory=PLACE)


def test_the_local_stack_file_shows_every_key_with_its_default() -> None:
    content = yaml.safe_load((project_root() / "Pulumi.local.yaml").read_text())["config"]

    assert parse(content) == Settings(name="local", directory=PLACE)
    shown = {key.removeprefix("holdfast:") for key in content}
    assert shown == {key.partition(".")[0] for key in KEYS} - {"kubernetes"}
    for group in ("lease", "early_release"):
        assert {f"{group}.{field}" for field in content[f"holdfast:{group}"]} == {
            key for key in KEYS if key.startswith(f"{group}.")
        }


@pytest.mark.parametrize("stack", ["kind", "cloud"])
def test_the_stack_files_of_clusters_show_every_key_of_theirs(stack: str) -> None:
    content = yaml.safe_load((project_root() / f"Pulumi.{stack}.yaml").read_text())["config"]

    shown = {f"kubernetes.{key}" for key in content["holdfast:kubernetes"]}
    assert shown == {key for key in KEYS if key.startswith("kubernetes.")}
    # Nothing may reach the cluster that a kubeconfig happens to name.
    assert content["pulumi:disable-default-providers"] == ["kubernetes"]


def test_the_kind_stack_is_valid_as_it_is_and_the_cloud_stack_lacks_only_what_nobody_else_can_know() -> None:
    files = {
        stack: yaml.safe_load((project_root() / f"Pulumi.{stack}.yaml").read_text())["config"]
        for stack in ("kind", "cloud")
    }

    parse(files["kind"])
    assert set(problems(files["cloud"])) == {
        f"holdfast:kubernetes.{what}" for what in ("address_a", "address_b", "address_witness", "image")
    }


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("address_witness", "a", "another cluster's too"),
        ("address_witness", "https://w", "without a scheme and a port"),
        ("context_witness", "kind-holdfast-a", "takes the quorum with it"),
        ("image", "holdfast", "an image with its tag or digest"),
        ("image", "example.org/holdfast:latest", "another image tomorrow"),
        ("allowed_ranges", ["10.0.0.1/8"], "has host bits set"),
        ("allowed_ranges", [], "nobody could reach anybody"),
        ("edge_annotations", ["internal"], "a list of name=value"),
        ("namespace", "Holdfast", "small letters"),
        ("volume_size", "10", "such as 10Gi"),
        ("retention", "ten days", "such as 720h"),
        ("tool_host", "tools:host", "package.module, or nothing"),
        ("tool_host", "tools", "would be there for nobody"),
        ("tool_activities", "refund", "give a JSON list"),
    ],
)
def test_clusters_that_cannot_hold_a_deployment_are_refused(key: str, value: object, reason: str) -> None:
    clusters = {"address_a": "a", "address_b": "b", "address_witness": "w"} | {key: value}
    (said,) = problems({"target": "kind", "kubernetes": clusters}).values()
    assert reason in said


def test_values_may_be_typed_as_in_yaml_or_texts_as_pulumi_gives_them() -> None:
    typed = parse({"holdfast:workers": 3, "holdfast:early_release": {"enabled": False}, "holdfast:lease": {"ttl": 40}})
    texts = parse(
        {"holdfast:workers": "3", "holdfast:early_release": '{"enabled": false}', "lease.ttl": "40"},
    )

    assert typed == texts
    assert (typed.workers, typed.early_release.enabled, typed.lease.ttl) == (3, False, 40)


def test_everything_that_is_wrong_is_said_at_once_and_by_key() -> None:
    found = problems(
        {
            "holdfast:wrkers": 2,
            "holdfast:model": "",
            "holdfast:lease": {"ttl": "soon"},
            "holdfast:target": "locl",
        }
    )

    assert set(found) == {"holdfast:wrkers", "holdfast:model", "holdfast:lease.ttl", "holdfast:target"}
    assert "did you mean holdfast:workers?" in found["holdfast:wrkers"]
    assert "'soon'" in found["holdfast:lease.ttl"]
    assert "a whole number from 20 to 600" in found["holdfast:lease.ttl"]
    assert "did you mean local?" in found["holdfast:target"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("workers", 1),
        ("workers", 2.5),
        ("workers", True),
        ("workers", "two"),
        ("workers", [2]),
        ("agent", "helpdesk"),
        ("agent", "my-desk:hosted"),
        ("agent", "desk:hosted:twice"),
        ("agent", 2),
        ("model_latency_seconds", "nan"),
        ("model_latency_seconds", -1),
        ("model_latency_seconds", True),
        ("early_release.enabled", "yes"),
        ("early_release.enabled", 1),
        ("max_body_size", "4MB"),
        ("max_body_size", "1Ki"),
        ("max_body_size", 4.5),
        ("model", "two words"),
        ("model", 7),
        ("environment", "[broken"),
        ("environment", {"KEY": "value"}),
        ("environment", 5),
        ("environment", ["NOT-A-NAME"]),
        ("target", "cluster"),
        ("console.session_minutes", 0),
        ("console.mask_keys", "^ssn$"),
        ("console.mask_keys", 5),
        ("console.mask_keys", [7]),
        ("console.mask_values", [""]),
        ("console.mask_values", ["(unclosed"]),
        ("traces.to", "files"),
        ("traces.to", 5),
        ("traces.to", "http://collector:4318/v1/traces"),
        ("traces.to", "http://127.0.0.1.collector:4318"),
        ("traces.to", "https://user:secret@collector"),
        ("traces.sampling", 2),
    ],
)
def test_a_wrong_type_or_value_is_refused_by_its_key(key: str, value: object) -> None:
    (refused,) = problems({key: value})

    assert refused.startswith(f"holdfast:{key}")


@pytest.mark.parametrize(
    "to",
    ["none", "file", "https://collector:4318/v1/traces", "http://127.0.0.1:4318/v1/traces", "http://localhost:4318"],
)
def test_spans_may_go_nowhere_to_files_or_to_a_receiver(to: str) -> None:
    assert parse({"traces.to": to}).traces.to == to


def test_a_group_given_as_a_plain_value_is_refused_with_its_fields() -> None:
    assert "an object of ttl, loop_wait, retry_timeout" in problems({"holdfast:lease": "30"})["holdfast:lease"]


def test_a_key_of_another_namespace_is_refused_but_for_pulumis_own() -> None:
    assert set(problems({"holdfst:workers": 2, "pulumi:tags": "x"})) == {"holdfst:workers"}


def test_a_key_like_no_other_is_refused_with_the_list_of_keys() -> None:
    assert "early_release.enabled" in problems({"zzz": 1})["holdfast:zzz"]


def test_a_lease_that_could_not_be_kept_is_refused() -> None:
    assert "21" in problems({"lease": {"loop_wait": 1, "retry_timeout": 10, "ttl": 20}})["holdfast:lease"]
    assert parse({"lease": {"loop_wait": 2, "retry_timeout": 9, "ttl": 20}}).lease.loop_wait == 2


def test_a_ttl_below_patronis_minimum_is_refused() -> None:
    assert set(problems({"lease.ttl": 19})) == {"holdfast:lease.ttl"}


def test_a_silence_as_long_as_the_lease_is_refused() -> None:
    assert (
        "lease.ttl, which is 20"
        in problems({"early_release.silence_seconds": 20})["holdfast:early_release.silence_seconds"]
    )


def test_variables_are_named_in_the_configuration_and_valued_by_the_environment() -> None:
    settings = parse({"environment": '["API_KEY", "MODE"]'}, {"API_KEY": "s3cret", "MODE": "x", "OTHER": "y"})

    assert settings.environment == {"API_KEY": "s3cret", "MODE": "x"}
    assert parse({"environment": "API_KEY, MODE"}, {"API_KEY": "s3cret", "MODE": "x"}) == settings


def test_a_variable_that_is_not_set_is_refused_by_name() -> None:
    assert "'API_KEY', which is not set" in problems({"environment": ["API_KEY"]})["holdfast:environment"]


def test_a_value_typed_where_a_name_belongs_is_not_repeated() -> None:
    message = problems({"environment": ["API_KEY=s3cret"]})["holdfast:environment"]

    assert "s3cret" not in message
    assert "give only the names" in message


def test_overrides_take_precedence_and_keep_the_rest_of_their_group() -> None:
    base = {"holdfast:lease": {"ttl": 30, "loop_wait": 2}, "holdfast:workers": 2}
    together = merged(base, {"lease.ttl": "50", "holdfast:workers": "4"})

    assert together == {"holdfast:lease": {"ttl": "50", "loop_wait": 2}, "holdfast:workers": "4"}


def test_an_override_of_another_namespace_stays_to_be_refused() -> None:
    assert set(problems(merged({}, {"foo:bar": "1"}))) == {"foo:bar"}


def test_a_running_program_reads_the_configuration_that_pulumi_gives_it() -> None:
    from pulumi.runtime.config import CONFIG

    token = CONFIG.set({"holdfast:workers": "5", "holdfast:lease": '{"ttl":60}'})
    try:
        settings = config.from_pulumi(name="local", directory=PLACE).settings
    finally:
        CONFIG.reset(token)

    assert (settings.workers, settings.lease.ttl) == (5, 60)


@search(deadline=None)
@given(
    st.dictionaries(
        st.one_of(st.sampled_from([*KEYS, "lease", "early_release"]), st.text(max_size=12)),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        max_size=5,
    )
)
def test_any_configuration_is_accepted_or_refused_with_reasons(settings: dict[str, object]) -> None:
    try:
        accepted = parse(settings)
    except ConfigError as error:
        refused = error.problems
    else:
        assert accepted.lease.loop_wait + 2 * accepted.lease.retry_timeout <= accepted.lease.ttl
        return
    assert refused
    assert all(problem.key and problem.allowed for problem in refused)
