"""Pages show runs, regions and deeds as they are, with every hostile value as text and every secret masked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai_dapr import Export, HistoryEvent, PayloadLostError, StateStore
from pydantic_ai_dapr.errors import to_value
from run_index import Epoch, IndexUnavailableError
from service.console import runs as runs_page
from service.console.pages import SHOWN_CHARACTERS, count, duration, pretty, size

from tests.support.recorded_runs import finished, scripted
from tests.support.regions import SINCE, MemoryEpochs, MemoryIndex, MemoryTrail, MemoryWorkflows, ToldAgent, write_role
from tests.unit.console.conftest import Person, accept

pytestmark = pytest.mark.unit

SCRIPT = "<script>alert(1)</script>"


def rows(text: str) -> list[str]:
    """The ids of the runs that a list shows."""
    return [part.split('"')[0] for part in text.split('class="id" href="/console/runs/')[1:]]


class TestList:
    def test_runs_are_listed_newest_first_with_the_regions_of_their_time(
        self, viewer: Person, index: MemoryIndex, workflows: MemoryWorkflows, epochs: MemoryEpochs
    ) -> None:
        accept(index, workflows, "T-1", "T-2", "T-3")
        for run, closed in (("T-1", 0), ("T-2", 5)):
            at = SINCE + timedelta(seconds=closed)
            index.runs[run] = replace(index.runs[run], closed_at=at, status="completed")
        epochs.epochs = [Epoch(2, "a", SINCE), Epoch(3, "b", SINCE + timedelta(seconds=3))]
        text = viewer.get("/runs").text
        assert rows(text) == ["T-3", "T-2", "T-1"]
        places = [part.split("</td>")[0].count('class="place') for part in text.split('<td class="where">')[1:]]
        assert places == [2, 2, 1]

    def test_where_no_activation_is_recorded_nothing_is_said(
        self, viewer: Person, index: MemoryIndex, workflows: MemoryWorkflows
    ) -> None:
        accept(index, workflows, "T-1")
        assert 'title="No activation before it is recorded">–' in viewer.get("/runs").text

    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            ("id=T-1", ["T-12", "T-1"]),
            ("id=%25", []),
            ("agent=refund-desk", ["T-12", "T-2", "T-1"]),
            ("agent=nobody", []),
            ("status=accepted", ["T-12", "T-2", "T-1"]),
            ("status=failed", []),
            ("since=2026-01-01T00:00:01", ["T-12", "T-2"]),
            ("until=2026-01-01T02:00:01%2B02:00", ["T-1"]),
            ("since=&until=&status=&agent=&id=", ["T-12", "T-2", "T-1"]),
        ],
    )
    def test_runs_are_found(
        self, viewer: Person, index: MemoryIndex, workflows: MemoryWorkflows, query: str, shown: list[str]
    ) -> None:
        accept(index, workflows, "T-1", "T-2", "T-12")
        response = viewer.get(f"/runs?{query}")
        assert (response.status_code, rows(response.text)) == (200, shown)

    @pytest.mark.parametrize(
        "query", ["status=done", "since=yesterday", "cursor=%25%25", "cursor=YQ==", f"status={SCRIPT}"]
    )
    def test_a_filter_that_makes_no_sense_is_told_on_the_page(self, viewer: Person, query: str) -> None:
        response = viewer.get(f"/runs?{query}")
        assert (response.status_code, 'role="alert"' in response.text) == (422, True)
        assert SCRIPT not in response.text

    def test_pages_follow_each_other_by_where_the_last_one_ended(
        self, viewer: Person, index: MemoryIndex, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(runs_page, "PAGE", 2)
        accept(index, workflows, "T-1", "T-2", "T-3")
        first = viewer.get("/runs?agent=refund-desk").text
        assert rows(first) == ["T-3", "T-2"]
        assert 'id="runs" data-live' in first
        older = first.split('rel="next" href="/console')[1].split('"')[0].replace("&amp;", "&")
        second = viewer.get(older).text
        assert rows(second) == ["T-1"]
        assert 'id="runs" data-live' not in second
        assert 'href="/console/runs?agent=refund-desk">Newest' in second

    def test_a_standby_lists_the_same_and_leads_to_the_active_region(
        self, operator: Person, index: MemoryIndex, workflows: MemoryWorkflows, role_file: Path
    ) -> None:
        accept(index, workflows, "T-1")
        write_role(role_file, "standby")
        text = operator.get("/runs").text
        assert rows(text) == ["T-1"]
        assert "Region a is standby" in text
        assert 'href="https://region-b.example:8443/console/runs"' in text

    def test_an_index_that_does_not_answer_is_told(
        self, viewer: Person, index: MemoryIndex, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index.unavailable = {"page"}
        response = viewer.get("/runs")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


class TestRun:
    def test_every_operation_is_shown_with_what_went_in_and_out(self, viewer: Person, ended: Export) -> None:
        text = viewer.get("/runs/run-1").text
        for ordinal in (1, 2, 3):
            assert f'id="step-{ordinal}-1"' in text
        assert "&#34;n&#34;: 4" in text
        assert "&#34;result&#34;: 8" in text
        assert "data-live" not in text.split('id="content"')[1]

    def test_an_open_run_is_live(self, viewer: Person, index: MemoryIndex, workflows: MemoryWorkflows) -> None:
        accept(index, workflows, "run-1")
        text = viewer.get("/runs/run-1").text
        assert 'id="timeline" data-live' in text
        assert "It has no workflow yet." in text

    def test_a_failover_is_shown_where_it_happened_with_who_answered(
        self, viewer: Person, workflows: MemoryWorkflows, epochs: MemoryEpochs, ended: Export
    ) -> None:
        events = ended.history()
        at = next(event.timestamp for event in events if event.type == "taskCompleted")
        signal = HistoryEvent(sequence=0, type="eventRaised", name="recover", timestamp=at, input="epoch 3 since 1.5")
        workflows.histories["run-1"] = [*events[:5], signal, *events[5:]]
        epochs.epochs = [Epoch(2, "a", SINCE), Epoch(3, "b", at)]
        text = viewer.get("/runs/run-1").text
        assert "<b>Failover</b> to region" in text
        assert "begun in a, answered in b" in text
        assert text.index("step-1-1") < text.index("<b>Failover</b>") < text.index("step-2-1")

    def test_a_step_has_a_page_of_its_own(self, viewer: Person, ended: Export) -> None:
        text = viewer.get("/runs/run-1/steps/2/1").text
        assert "operation 2: double" in text
        assert "tool_call_id" in text
        assert viewer.get("/runs/run-1/steps/9/1").status_code == 404
        assert viewer.get("/runs/run-1/steps/0/1").status_code == 422

    def test_a_long_value_is_cut_on_the_run_s_page_alone(
        self, viewer: Person, workflows: MemoryWorkflows, ended: Export
    ) -> None:
        changed = {"ok": {"result": "x" * 50_000, "kind": "tool_return"}}
        workflows.histories["run-1"] = [
            event.model_copy(update={"result": changed}) if event.task_id == 3 and event.result else event
            for event in ended.history()
        ]
        assert "x" * (SHOWN_CHARACTERS + 1) not in viewer.get("/runs/run-1").text
        assert "x" * 50_000 in viewer.get("/runs/run-1/steps/2/1").text

    def test_no_value_is_markup(self, viewer: Person, index: MemoryIndex, workflows: MemoryWorkflows) -> None:
        hostile = f"{SCRIPT}\"'><img src=x onerror=alert(1)>"
        run, failure = finished(scripted([[("double", 4)]])), to_value(ValueError(hostile)).model_dump()

        def poison(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: poison(one) if key != "kind" else one for key, one in value.items()}
            if isinstance(value, list):
                return [poison(one) for one in value]
            return hostile if isinstance(value, str) and value != "run-1" else value

        events = [
            one.model_copy(
                update={
                    "input": one.input | {"name": hostile, "params": poison(one.input["params"])},  # type: ignore[operator,index]
                }
            )
            if one.type == "taskScheduled"
            else one.model_copy(update={"result": {"err": failure}})
            if one.type == "taskCompleted"
            else one
            for one in run.history()
        ]
        accept(index, workflows, "run-1", deps={hostile: hostile})
        index.runs["run-1"] = replace(index.runs["run-1"], agent=hostile, error=hostile, rerun_of=hostile)
        workflows.become("run-1", "completed", output={hostile: hostile})
        workflows.histories["run-1"] = events
        for page in ("/runs", "/runs/run-1", "/runs/run-1/steps/2/1"):
            text = viewer.get(page).text
            assert "<script>alert" not in text
            assert "<img src=x" not in text
            assert "&lt;script&gt;" in text

    @pytest.mark.parametrize("run_id", ["%3Cscript%3E", "a%20b", "x" * 201, "%00", "..%2F..%2Fetc"])
    def test_an_id_that_is_none_is_refused_and_never_markup(self, viewer: Person, run_id: str) -> None:
        response = viewer.get(f"/runs/{run_id}")
        assert response.status_code in (404, 422)
        assert "<script>" not in response.text

    def test_a_run_that_was_never_accepted_is_told(self, viewer: Person) -> None:
        assert "no run nobody was accepted" in viewer.get("/runs/nobody").text

    def test_secrets_are_masked_wherever_they_stand(
        self, viewer: Person, index: MemoryIndex, workflows: MemoryWorkflows, ended: Export
    ) -> None:
        accept(index, workflows, "run-2", deps={"password": "hunter2", "ssn": "123-45", "note": "Bearer abcdefghij"})
        workflows.become("run-2", "failed", output={"text": "ticket-secret-42", "args": '{"api_key": "k-1"}'})
        index.runs["run-2"] = replace(index.runs["run-2"], error="sk-abcdefghijklmnop1234 is wrong")
        for page in ("/runs", "/runs/run-2"):
            text = viewer.get(page).text
            for secret in ("hunter2", "123-45", "abcdefghij", "ticket-secret-42", "k-1", "sk-abcdef"):
                assert secret not in text
        assert "•••" in viewer.get("/runs/run-2").text

    def test_what_was_lost_from_beside_a_history_is_told(
        self, viewer: Person, workflows: MemoryWorkflows, ended: Export, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def lost(run_id: str) -> list[HistoryEvent]:
            raise PayloadLostError("the state store has no whole run-1|x")

        monkeypatch.setattr(workflows, "history", lost)
        response = viewer.get("/runs/run-1")
        assert (response.status_code, "no whole run-1|x" in response.text) == (410, True)


class TestStandby:
    @pytest.fixture
    def stored(
        self, app: Any, role_file: Path, ended: Export, index: MemoryIndex, workflows: MemoryWorkflows
    ) -> dict[str, bytes]:
        """The state store's values, of which the standby has a copy; no sidecar runs there."""
        write_role(role_file, "standby")
        workflows.unavailable = True
        prefix = "refund-desk||dapr.internal.default.refund-desk.workflow||"
        values = {f"{prefix}run-1||history-{n:06}": one for n, one in enumerate(ended.recorded)}
        values |= {f"refund-desk||{key}": value for key, value in ended.payloads.items()}
        region = app.state.region
        store = StateStore("refund-desk", lambda keys: {key: values[key] for key in keys if key in values})
        object.__setattr__(region, "store", store)
        return values

    def test_a_run_is_shown_from_the_copy_of_its_history(self, operator: Person, stored: dict[str, bytes]) -> None:
        text = operator.get("/runs/run-1").text
        assert 'id="step-3-1"' in text
        assert "&#34;output&#34;: &#34;done" in text.split('id="output"')[1]
        assert 'class="acts"' not in text
        assert "https://region-b.example:8443/console/runs/run-1" in text

    def test_a_run_of_another_agent_s_asking_is_told_by_its_history(
        self, operator: Person, stored: dict[str, bytes], index: MemoryIndex
    ) -> None:
        index.runs.clear()
        text = operator.get("/runs/run-1").text
        assert "completed" in text
        assert 'id="step-3-1"' in text
        assert operator.get("/runs/run-9").status_code == 404

    def test_a_run_without_a_copy_is_shown_as_the_index_has_it(
        self, operator: Person, stored: dict[str, bytes]
    ) -> None:
        stored.clear()
        assert "No history is left." in operator.get("/runs/run-1").text


class TestRegions:
    def test_roles_replication_lease_and_activations_are_shown(self, viewer: Person, epochs: MemoryEpochs) -> None:
        epochs.epochs = [
            Epoch(2, "b", SINCE),
            Epoch(3, "a", SINCE, SINCE, 12, 0.345),
            Epoch(4, "a", SINCE, SINCE, 1, 0.01),
        ]
        text = viewer.get("/regions").text
        for told in (
            "sync standby, streaming",
            "holds the lease, renews it every 1 s, and loses it 20 s after the last time",
            "12 runs woken in 0.3 s",
            "1 run woken in 10 ms",
            "not recorded",
        ):
            assert told in text
        assert text.index("<td>4</td>") < text.index("<td>2</td>")

    def test_stuck_runs_are_named(self, viewer: Person, agent: ToldAgent) -> None:
        agent.status["stuck"] = ["run-7", SCRIPT]
        text = viewer.get("/regions").text
        assert 'href="/console/runs/run-7"' in text
        assert SCRIPT not in text
        assert "<b>2</b> stuck" in text
        assert 'class="band warn"' in text

    @pytest.mark.parametrize(
        ("change", "told", "health"),
        [
            ({"role": "replica"}, "No standby is in step", "warn"),
            ({"state": "starting"}, "No standby is in step", "warn"),
            ({"lag": "unknown"}, "unknown", "good"),
            ({"lag": 3_000_000}, "2.9 MiB", "good"),
        ],
    )
    def test_a_standby_that_could_not_take_over_is_told_on_every_page(
        self, viewer: Person, agent: ToldAgent, change: dict[str, Any], told: str, health: str
    ) -> None:
        agent.cluster["nodes"][1] |= change
        for page in ("/runs", "/regions", "/audit"):
            text = viewer.get(page).text
            assert told in text
            assert f'class="band {health}"' in text

    def test_an_agent_that_does_not_answer_is_told_and_nothing_is_guessed(
        self, operator: Person, agent: ToldAgent
    ) -> None:
        agent.silent = True
        text = operator.get("/regions").text
        assert 'class="band unknown"' in text
        assert "Who holds the lease is not known" in text
        assert "not seen" in text
        assert "is not in step: this would be refused" in text
        agent.silent = False
        agent.cluster |= {"holder": None, "lease": None}
        assert "Nobody holds the lease." in operator.get("/regions").text

    def test_a_region_without_a_role_is_told(self, viewer: Person, role_file: Path) -> None:
        write_role(role_file, "activating")
        assert "Region a is becoming active" in viewer.get("/runs").text
        role_file.unlink()
        assert "Region a has no role yet" in viewer.get("/regions").text

    def test_a_standby_says_how_silent_the_other_region_is(
        self, viewer: Person, agent: ToldAgent, role_file: Path
    ) -> None:
        write_role(role_file, "standby")
        agent.status |= {"role": "standby", "early_release": {"enabled": True, "silent_seconds": 1.25, "last": "quiet"}}
        text = viewer.get("/regions").text
        assert "1.2 s" in text
        assert "last decision: quiet" in text
        assert "A switchover is begun in the active region." in text


class TestAudit:
    def test_deeds_are_shown_newest_first_a_page_at_a_time(
        self, operator: Person, viewer: Person, trail: MemoryTrail, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.console.audit.PAGE", 1)
        text = viewer.get("/audit").text
        assert ("Bob" in text, "Ada" in text.split("<table>")[1]) == (True, False)
        older = text.split('rel="next" href="/console')[1].split('"')[0]
        assert "Ada" in viewer.get(older).text.split("<table>")[1]
        assert viewer.get("/audit?before=0").status_code == 422


def test_a_page_that_does_not_exist_and_one_that_fails_are_told(
    viewer: Person, epochs: MemoryEpochs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There is no such page." in viewer.get("/nowhere").text

    def broken() -> list[Epoch]:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(epochs, "all", broken)
    response = viewer.get("/regions")
    assert (response.status_code, "a secret of the inside" in response.text) == (500, False)

    def unavailable() -> list[Epoch]:
        raise IndexUnavailableError("the run index can't be used")

    monkeypatch.setattr(epochs, "all", unavailable)
    assert viewer.get("/regions").status_code == 503


def test_the_front_leads_to_the_runs(viewer: Person) -> None:
    assert viewer.get("/").headers["location"] == "/console/runs"
    assert viewer.get("/static/console.css").headers["content-type"].startswith("text/css")
    assert viewer.get("/static/../pages.py").status_code == 404


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0 ms"),
        (0.0123, "12 ms"),
        (0.5, "0.5 s"),
        (9.96, "10 s"),
        (59.9, "60 s"),
        (60, "1.0 min"),
        (3599, "60 min"),
        (7200, "2.0 h"),
        (200_000, "2 d"),
    ],
)
def test_a_time_span_has_one_unit(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_numbers_and_values_are_written_for_people() -> None:
    assert (count(None), count(1234567)) == ("–", "1\u202f234\u202f567")
    assert [size(one) for one in (None, "unknown", 0, 1023, 2048, 5 * 1024**3)] == [
        "–",
        "unknown",
        "0 B",
        "1023 B",
        "2.0 KiB",
        "5.0 GiB",
    ]
    assert (pretty("text"), pretty({"ä": 1})) == ("text", '{\n  "ä": 1\n}')
    assert datetime.now(UTC) > SINCE
