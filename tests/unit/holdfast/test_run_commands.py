"""Tickets become runs, each line's fate is told, and a drill's answer is the command's exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import httpx
import pytest
from click.testing import CliRunner, Result
from holdfast import client as clients
from holdfast import runs as commands
from holdfast.cli import main
from holdfast.client import HoldfastClient, NotAnsweredError, RunView

import chaos.drill
from chaos.report import Verdict, verdict_of
from infra.manifest import NoManifest
from tests.support.deployments import manifest
from tests.support.histories import region_loss, tickets

pytestmark = pytest.mark.unit
AT = "2026-01-01T00:00:00.000000+00:00"
STEP = {"ordinal": 1, "kind": "model", "name": "model", "attempt": 1, "input": {"keep": 1}, "started": AT}


@dataclass
class Deployment:
    """Both regions' APIs; region a is active until it is lost."""

    active: str | None = "a"
    lost: set[str] = field(default_factory=set)
    runs: dict[str, str] = field(default_factory=dict)
    becomes: str = "completed"
    refuses: int | None = None
    error: str | None = None
    forgets: bool = False
    nonsense: set[str] = field(default_factory=set)
    busy: int = 0
    asked: list[str] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=lambda: [STEP])

    def __call__(self, request: httpx.Request) -> httpx.Response:
        region, path = request.url.host, request.url.path
        self.asked.append(f"{request.method} {region}{path}")
        assert request.headers["authorization"] == "Bearer token"
        if region in self.lost:
            raise httpx.ConnectError("refused")
        if region in self.nonsense:
            return httpx.Response(200, text="<html>")
        if path == "/v1/role":
            return httpx.Response(200, json={"role": "active" if region == self.active else "standby"})
        if region != self.active:
            return httpx.Response(503, json={"title": "standby"})
        if self.busy:
            self.busy -= 1
            return httpx.Response(503, text="busy")
        if request.method == "POST":
            return self._start(json.loads(request.content)["run_id"])
        if path == "/v1/runs":
            return httpx.Response(200, json={"runs": [self._view(run) for run in self.runs]})
        run_id = unquote(request.url.raw_path.decode().split("?")[0].split("/")[3])
        if run_id not in self.runs:
            return httpx.Response(404)
        if path.endswith(("/history", "/steps")) and self.forgets:
            return httpx.Response(404, json={"detail": f"no run {run_id} was accepted"})
        if path.endswith("/steps"):
            return httpx.Response(200, json=self.steps)
        if path.endswith("/history"):
            step = {"ordinal": 1, "kind": "model", "name": "model", "attempt": 1}
            events = [
                {"sequence": 0, "type": "taskScheduled", "timestamp": AT, "task_id": 1, "input": step},
                {"sequence": 1, "type": "eventRaised", "timestamp": AT, "name": "recover"},
            ]
            return httpx.Response(200, json=events)
        return httpx.Response(200, json=self._view(run_id))

    def _start(self, run_id: str) -> httpx.Response:
        if self.refuses is not None:
            return httpx.Response(self.refuses, text=self.error or "no")
        self.runs[run_id] = self.becomes
        return httpx.Response(202, json={})

    def _view(self, run_id: str) -> dict[str, Any]:
        output = {"output": {"outcome": "refunded"}}
        view = {"run_id": run_id, "status": self.runs[run_id], "accepted_at": AT, "output": output}
        return view | {"error": self.error}


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deployment:
    world = Deployment()
    real = httpx.Client

    def connect(**options: Any) -> httpx.Client:
        return real(transport=httpx.MockTransport(world), headers=options["headers"])

    monkeypatch.setattr(clients.httpx, "Client", connect)
    monkeypatch.setattr(clients.ssl, "create_default_context", lambda **_: None)
    monkeypatch.setattr(clients, "LOOK_AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(commands, "client_of", lambda *_: client(tmp_path))
    return world


def client(place: Path) -> HoldfastClient:
    return HoldfastClient({"a": "https://a", "b": "https://b"}, ca=place, token="token")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.jsonl"
    path.write_text("".join(ticket.model_dump_json() + "\n" for ticket in tickets()[:3]))
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="holdfast")


def test_every_ticket_becomes_a_run(deployment: Deployment, file: Path) -> None:
    result = run("run", str(file), "--prefix", "again-")
    assert result.exit_code == 0, result.output
    assert list(deployment.runs) == ["again-T-1001", "again-T-1002", "again-T-1003"]
    assert "3 runs started, 3 completed; 0 refused, 0 malformed lines" in result.output


def test_a_malformed_line_is_told_with_its_number_and_the_others_go_on(deployment: Deployment, file: Path) -> None:
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "{nonsense", lines[1]]))
    result = run("run", str(file), "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert (answer["started"], answer["ended"]) == (2, {"completed": 2})
    assert f"{file}:2:" in answer["malformed"][0]


def test_what_is_not_waited_for_is_only_started(deployment: Deployment, file: Path) -> None:
    deployment.becomes = "running"
    result = run("run", str(file), "--no-wait")
    assert result.exit_code == 0
    assert "not waited for" in result.output


def test_a_run_that_failed_or_was_refused_does_not_hold(deployment: Deployment, file: Path) -> None:
    deployment.becomes = "failed"
    assert run("run", str(file)).exit_code == 1
    deployment.refuses = 409
    result = run("run", str(file), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["refused"][0] == "T-1001: 409: no"


def test_scripts_and_exit_code_agree_that_a_failed_run_does_not_hold(deployment: Deployment, file: Path) -> None:
    deployment.becomes = "failed"
    result = run("run", str(file), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_the_same_ticket_twice_is_one_run_to_wait_for(
    deployment: Deployment, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_WAIT_SECONDS", 1.0)
    result = run("run", str(file), str(file), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["started"] == 3


def test_a_failover_while_runs_are_awaited_is_waited_out(
    deployment: Deployment, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = HoldfastClient.run, [NotAnsweredError("no region is active")]

    def run_of(caller: HoldfastClient, run_id: str) -> RunView | None:
        if failures:
            raise failures.pop()
        return real(caller, run_id)

    monkeypatch.setattr(HoldfastClient, "run", run_of)
    result = run("run", str(file))
    assert result.exit_code == 0, result.output
    assert "3 completed" in result.output
    assert failures == []


def test_a_run_that_does_not_end_is_given_up(
    deployment: Deployment, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_WAIT_SECONDS", 0.01)
    deployment.becomes = "running"
    assert run("run", str(file)).exit_code == 1


def test_without_an_active_region_the_first_ticket_says_so_for_all(
    deployment: Deployment, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_START_SECONDS", 0.01)
    deployment.lost = {"a", "b"}
    result = run("run", str(file), "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)["error"]
    assert "T-1001 could not be started within 0.01 s (no region is active), 0 before it were" in told
    assert "see `holdfast status`" in told


def test_a_file_that_cannot_be_read_is_named(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "tickets.jsonl").write_bytes(b"\xff\xfe\x00")
    result = run("run", str(tmp_path / "tickets.jsonl"))
    assert result.exit_code == 2
    assert "tickets.jsonl can't be read" in " ".join(result.output.split())
    assert run("run", str(tmp_path / "none.jsonl")).exit_code == 2


def test_runs_are_listed_and_one_is_shown_with_its_steps(deployment: Deployment, file: Path) -> None:
    run("run", str(file))
    listed = run("runs")
    assert "T-1002" in listed.output
    assert [one["run_id"] for one in json.loads(run("runs", "--json").stdout)["runs"]] == list(deployment.runs)
    shown = run("runs", "T-1001").output
    assert "refunded" in shown
    assert "model model" in shown
    assert "signal recover" in shown
    told = json.loads(run("runs", "T-1001", "--json").stdout)
    assert told["run"]["status"] == "completed"
    assert told["steps"][0]["input"] == {"keep": 1}
    assert [event["type"] for event in told["history"]] == ["taskScheduled", "eventRaised"]


def test_a_step_is_shown_with_what_went_in_and_came_out(deployment: Deployment) -> None:
    deployment.runs["T-1"] = "failed"
    params = {"name": "lookup", "args": {"order": "[bold]"}, "ctx": {"run_step": 2}}
    deployment.steps = [
        STEP | {"ordinal": 2, "kind": "tool", "input": params, "output": "x" * 500, "seconds": 0.25, "issued": 2},
        STEP | {"ordinal": 3, "attempt": 2, "seconds": 1.0, "error": {"type": "ModelHTTPError", "message": "away"}},
        STEP | {"ordinal": 4, "kind": "child", "name": "researcher", "instance_id": "T-1.4"},
    ]
    shown = [line.strip() for line in run("runs", "T-1").output.splitlines()]
    assert "00:00:00.000  2 tool model, attempt 1, issued 2 times, 0.250 s" in shown
    assert 'in   {"name": "lookup", "args": {"order": "[bold]"}}' in shown
    assert any(line.startswith('out  "xxx') and "(502 characters; --json has them)" in line for line in shown)
    assert "00:00:00.000  3 model model, attempt 2, 1.000 s" in shown
    assert "fail ModelHTTPError: away" in shown
    assert shown[-3:-1] == ["00:00:00.000  4 child researcher in T-1.4, attempt 1, open", 'in   {"keep": 1}']


def test_a_run_that_nobody_accepted_is_told(deployment: Deployment) -> None:
    result = run("runs", "T-9")
    assert result.exit_code == 1
    assert "no run T-9 was accepted; `holdfast runs` lists them" in result.output


def test_what_looks_like_markup_is_shown_as_it_is(deployment: Deployment, file: Path, tmp_path: Path) -> None:
    deployment.becomes, deployment.error = "failed", "gone [/tmp/x]"
    run("run", str(file))
    assert "gone [/tmp/x]" in run("runs").output
    assert "gone [/tmp/x]" in run("runs", "T-1001").output
    deployment.refuses = 422
    assert "not started T-1001: 422: gone [/tmp/x]" in run("run", str(file)).output
    odd = tmp_path / "[odd].jsonl"
    odd.write_text("{nonsense")
    assert "[odd].jsonl:1:" in "".join(run("run", str(odd)).output.split())


def test_an_id_is_asked_for_as_it_is_written(deployment: Deployment) -> None:
    deployment.runs["T-1"] = "completed"
    for run_id in ("T-1/history", "T-1?x", "T-1#x"):
        assert f"no run {run_id} was accepted" in run("runs", run_id).output


def test_a_run_that_is_lost_while_it_is_shown_is_told(deployment: Deployment) -> None:
    deployment.runs["T-1"], deployment.forgets = "completed", True
    result = run("runs", "T-1")
    assert result.exit_code == 1
    assert "no run T-1 was accepted" in " ".join(result.output.split())


def test_a_client_of_a_deployment_asks_the_regions_that_its_manifest_names(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    described = manifest(tmp_path / "local")
    described.api_token_file.parent.mkdir(parents=True)
    described.api_token_file.write_text("token\n")
    (tmp_path / "local" / "deployment.json").write_text(described.model_dump_json())
    monkeypatch.setattr(clients.ssl, "create_default_context", lambda **_: None)
    real, made = httpx.Client, list[dict[str, Any]]()

    def connect(**options: Any) -> httpx.Client:
        made.append(options)
        return real(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"role": "active"})))

    monkeypatch.setattr(clients.httpx, "Client", connect)
    assert commands.client_of("local", tmp_path).active_region() == "a"
    assert made[0]["headers"] == {"Authorization": "Bearer token"}


def test_without_a_deployment_every_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    def none(*_: object) -> HoldfastClient:
        raise NoManifest("there is no deployment here; `holdfast up` makes one")

    monkeypatch.setattr(commands, "client_of", none)
    for arguments in (["runs"], ["run", str(file)]):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "`holdfast up` makes one" in result.output


def test_a_client_follows_the_active_role(deployment: Deployment, tmp_path: Path) -> None:
    caller = client(tmp_path)
    assert caller.start("run-1", {}).outcome == "ok"
    deployment.lost, deployment.active = {"a"}, "b"
    lost = caller.start("run-2", {})
    assert (lost.outcome, lost.detail) == ("unknown", "ConnectError")
    assert (caller.start("run-2", {}).outcome, caller.start("run-2", {}).region) == ("ok", "b")
    assert caller.run("run-2") is not None
    caller.close()


def test_a_region_that_is_busy_or_standby_leaves_the_start_unknown(deployment: Deployment, tmp_path: Path) -> None:
    caller = client(tmp_path)
    deployment.refuses = 429
    assert caller.start("run-1", {}).outcome == "unknown"
    deployment.refuses = 422
    refused = caller.start("run-1", {})
    assert (refused.outcome, refused.detail) == ("refused", "422: no")


def test_an_answer_that_makes_no_sense_says_nothing_of_a_region(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.active = "b"
    deployment.nonsense = {"a"}
    assert client(tmp_path).active_region() == "b"


def test_a_question_is_asked_again_until_the_active_region_answers(deployment: Deployment, tmp_path: Path) -> None:
    deployment.busy = 2
    deployment.runs["run-1"] = "running"
    view = client(tmp_path).run("run-1")
    assert view is not None
    assert view.status == "running"
    assert [line for line in deployment.asked if "runs" in line] == ["GET a/v1/runs/run-1"] * 3


def test_the_region_is_looked_for_again_when_it_is_lost_between_two_questions(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.runs["run-1"] = "running"
    caller = client(tmp_path)
    assert caller.run("run-1") is not None
    deployment.lost, deployment.active = {"a"}, "b"
    assert caller.run("run-1") is not None
    assert deployment.asked[-1] == "GET b/v1/runs/run-1"


@pytest.mark.parametrize("spoil", [{"active": None}, {"lost": {"a", "b"}}])
def test_a_question_that_nobody_answers_ends_in_time(
    deployment: Deployment, tmp_path: Path, spoil: dict[str, Any]
) -> None:
    for name, value in spoil.items():
        setattr(deployment, name, value)
    with pytest.raises(NotAnsweredError, match=r"GET /v1/runs had no answer within 0\.02 s"):
        client(tmp_path)._get("/v1/runs", seconds=0.02)


class ToldDrill:
    """Runs nothing, and answers with verdicts that a test has made."""

    verdicts: ClassVar[list[Verdict]] = []
    made: tuple[Any, ...] = ()

    def __init__(self, *about: Any) -> None:
        type(self).made = about

    def __enter__(self) -> ToldDrill:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was made."""

    def run(self, name: str, runs: int) -> tuple[Verdict, Path]:
        return self.verdicts.pop(0), Path("/reports/1")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> type[ToldDrill]:
    monkeypatch.setattr(chaos.drill, "Drill", ToldDrill)
    return ToldDrill


def verdict(spoil: Callable[[Any], None] | None = None) -> Verdict:
    history = region_loss()
    if spoil is not None:
        spoil(history)
    return verdict_of(history)


def without_effects(history: Any) -> None:
    history.effects = None


def without_a_run(history: Any) -> None:
    del history.workflows[3]


@pytest.mark.parametrize(
    ("spoils", "answer", "code"),
    [
        ([None, None], "valid", 0),
        ([None, without_effects], "unknown", 2),
        ([without_effects, without_a_run], "invalid", 1),
    ],
)
def test_the_worst_repeat_is_the_answer(
    told: type[ToldDrill], spoils: list[Callable[[Any], None] | None], answer: str, code: int
) -> None:
    told.verdicts = [verdict(spoil) for spoil in spoils]
    result = run("drill", "region-loss", "--repeat", "2", "--json")
    assert result.exit_code == code, result.output
    assert json.loads(result.stdout)["answer"] == answer


def test_a_witness_that_looks_like_markup_is_shown_as_it_is(told: type[ToldDrill]) -> None:
    def fail_a_run(history: Any) -> None:
        broken = {"status": "failed", "error": "gone [/tmp/x] [type=missing]"}
        history.workflows[3] = history.workflows[3].model_copy(update=broken)

    told.verdicts = [verdict(fail_a_run)]
    result = run("drill")
    assert result.exit_code == 1
    assert "run-03: failed: gone [/tmp/x] [type=missing]" in " ".join(result.output.split())


def test_the_runs_of_a_crashed_worker_are_told(told: type[ToldDrill]) -> None:
    def crash(history: Any) -> None:
        history.faults = [history.faults[0].model_copy(update={"name": "worker-crash", "target": "worker-1"})]

    told.verdicts = [verdict(crash)]
    said = " ".join(run("drill", "worker-crash").output.split())
    assert "the crashed worker's 6 runs moved on: half within 5.00 s, all within 5.00 s" in said


def test_a_verdict_is_shown_with_phases_witnesses_and_distribution(told: type[ToldDrill]) -> None:
    told.verdicts = [verdict(), verdict(without_a_run)]
    result = run("drill", "--repeat", "2")
    assert "RTO 5.00 s (detect 3.50, promote 0.50, activate 0.30, resume 0.70)" in result.output
    assert "run-03: accepted by region a" in result.output
    assert "1 valid, 1 invalid, 0 unknown" in result.output
    assert "p50" in result.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["flood"], "there is no drill 'flood'; there are region-loss, worker-crash, switchover"),
        (["--plant", "moth"], "there is no bug 'moth' to plant; there are acknowledged-before-committed"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(told: type[ToldDrill], arguments: list[str], named: str) -> None:
    result = run("drill", *arguments)
    assert result.exit_code == 2
    assert named in " ".join(result.output.split())
