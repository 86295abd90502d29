"""What the command line makes of a region's histories: found, taken away, checked without a region, run again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.testclient import TestClient
from holdfast import approvals, histories, runs
from holdfast import client as clients
from holdfast.cli import main
from holdfast.client import HoldfastClient, Start
from pydantic_ai_dapr import Export
from refund_desk.agent import build_agent
from refund_desk.effects import MemoryEffects
from refund_desk.hosted import hosted
from refund_desk.model import DETERMINISTIC, deterministic_model
from refund_desk.ticket import Ticket
from service.api import build_app
from starlette.types import Receive, Scope, Send

from infra.manifest import NoManifest
from tests.support.deployments import manifest
from tests.support.held_runs import CALL, HeldRun
from tests.support.recorded_runs import recording
from tests.support.regions import TOKEN, MemoryIndex, MemoryWorkflows, region, write_role
from tests.support.signed_exports import SIGNER, Authority, signed

# A test's client has no time: what it asks is answered in the process.
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:You should not use the 'timeout' argument")]

TICKET = {"ticket_id": "T-1", "customer": "Bruno Costa", "order_id": "ORD-10038", "body": "It stopped working"}
AGENT = build_agent(deterministic_model(), MemoryEffects())


@cache
def refund() -> Export:
    """The history of a run that has refunded something."""
    ticket = Ticket.model_validate(TICKET)
    run, engine = recording(AGENT)
    engine.name = "pydantic_ai_dapr.refund-desk"
    deps = hosted.deps(ticket).model_dump(mode="json")
    engine.input = {"run_id": "run-1", "prompt": hosted.prompt(ticket), "deps": deps}
    engine.run(run.serve)
    return engine.export()


def changed(export: Export, before: bytes, after: bytes) -> Export:
    """The export with the first event that holds `before` changed, also as readers see it."""
    recorded = list(export.recorded)
    position = next(number for number, one in enumerate(recorded) if before in one)
    recorded[position] = recorded[position].replace(before, after)
    assert len(before) == len(after)
    return Export.of(export.instance_id, recorded, export.signatures, export.certificates, export.payloads)


@pytest.fixture
def workflows() -> MemoryWorkflows:
    return MemoryWorkflows([])


@pytest.fixture(autouse=True)
def deployment(tmp_path: Path, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two regions' APIs over one database: b is active, a standby. A test may write other roles there."""
    apis, index = {}, MemoryIndex([])
    for name, role in (("a", "standby"), ("b", "active")):
        (tmp_path / name).mkdir()
        write_role(tmp_path / name / "role.json", role)
        apis[name] = build_app(region(tmp_path / name, index, workflows, region=name), TOKEN)

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"])[b"host"].decode()
        await apis[host](scope, receive, send)

    def connect(**options: Any) -> TestClient:
        return TestClient(ask, headers=options["headers"], raise_server_exceptions=False)

    def client_of(stack: str, state: Path | None) -> HoldfastClient:
        return HoldfastClient({"a": "https://a", "b": "https://b"}, ca=tmp_path, token=TOKEN)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clients.httpx, "Client", connect)
    monkeypatch.setattr(clients.ssl, "create_default_context", lambda **_: None)
    monkeypatch.setattr(clients, "LOOK_AGAIN_SECONDS", 0.001)
    for module in (runs, histories, approvals):
        monkeypatch.setattr(module, "client_of", client_of)
    client = client_of("", None)
    assert client.start("run-1", TICKET).region == "b"
    workflows.become("run-1", "completed", output={"output": {"outcome": "refunded"}})
    workflows.histories["run-1"], workflows.exports["run-1"] = refund().history(), refund()
    yield tmp_path
    client.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="holdfast")


def said(result: Result) -> str:
    return " ".join(result.output.split())


def told(*arguments: str, exits: int = 0) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == exits, result.output
    return json.loads(result.stdout)


class TestRuns:
    @pytest.mark.parametrize(
        ("filters", "shown"),
        [
            ([], True),
            (
                ["--agent", "refund-desk", "--id", "un-", "--since", "2026-01-01", "--until", "2026-01-01T00:00:01"],
                True,
            ),
            (["--since", "2026-01-01T00:00:00+00:00"], True),
            (["--since", "2026-01-01T00:01"], False),
            (["--until", "2026-01-01"], False),
            (["--agent", "nobody"], False),
            (["--id", "T-"], False),
            (["--status", "failed"], False),
        ],
    )
    def test_runs_are_found_by_what_is_known_of_them(self, filters: list[str], shown: bool) -> None:
        assert [one["run_id"] for one in told("runs", *filters)["runs"]] == (["run-1"] if shown else [])

    def test_a_time_that_is_none_is_refused(self) -> None:
        result = run("runs", "--since", "yesterday")
        assert result.exit_code == 2
        assert "'yesterday' does not match the formats" in said(result)

    def test_a_run_is_shown_with_every_step(self) -> None:
        shown = run("runs", "run-1").stdout
        assert "1 model model, attempt 1, " in shown
        assert "2 tool lookup_order, attempt 1, " in shown
        assert '"args": {"order_id": "ORD-10038"}' in shown
        assert [one["ordinal"] for one in told("runs", "run-1")["steps"]] == list(range(1, 15))

    def test_a_rerun_says_of_what(self) -> None:
        run("rerun", "run-1", "--from", "2", "--no-wait")
        assert "run run-1 again from operation 2" in run("runs", "run-1~2").stdout

    def test_what_is_no_run_s_id_is_refused(self) -> None:
        result = run("runs", "run 1")
        assert result.exit_code == 2
        assert "path.run_id" in said(result)

    def test_an_answer_that_makes_no_sense_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(HoldfastClient, "_get", lambda *_: b"[]")
        result = run("runs", "run-1")
        assert result.exit_code == 2
        assert "the region's answer can't be read" in said(result)


class TestExport:
    def test_an_export_is_a_file_that_the_library_reads(self, deployment: Path) -> None:
        result = run("export", "run-1")
        assert result.exit_code == 0, result.output
        events = len(refund().recorded)
        assert f"run-1: {events} events, 0 signatures, in run-1.json" in result.stdout
        assert Export.load(deployment / "run-1.json") == refund()
        assert told("export", "run-1", "other.json") == {
            "ok": True,
            "run_id": "run-1",
            "file": "other.json",
            "events": events,
            "signatures": 0,
        }
        assert (deployment / "other.json").read_bytes() == (deployment / "run-1.json").read_bytes()

    def test_a_run_that_nobody_accepted_leaves_no_file(self, deployment: Path) -> None:
        result = run("export", "run-9")
        assert result.exit_code == 1
        assert "no run run-9 was accepted; `holdfast runs` lists them" in said(result)
        assert not (deployment / "run-9.json").exists()

    def test_a_run_without_a_history_is_told(self, workflows: MemoryWorkflows) -> None:
        workflows.exports.clear()
        result = run("export", "run-1")
        assert result.exit_code == 1
        assert "its history has no beginning" in said(result)

    def test_a_file_that_can_not_be_written_is_told(self) -> None:
        assert told("export", "run-1", "nowhere/run.json", exits=2)["error"].startswith("nowhere/run.json can't be")


@pytest.mark.parametrize("command", [["runs"], ["runs", "run-1"], ["export", "run-1"], ["rerun", "run-1"]])
def test_without_an_active_region_every_command_ends_in_time(
    deployment: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    write_role(deployment / "b" / "role.json", "standby")
    ticks = iter(range(0, 100_000, 10))
    monkeypatch.setattr(clients.time, "monotonic", lambda: next(ticks))
    result = run(*command)
    assert result.exit_code == 2
    assert "no region is active; see `holdfast status`" in said(result)


class TestReplay:
    @pytest.fixture
    def file(self, deployment: Path) -> str:
        refund().save(deployment / "run.json")
        return "run.json"

    def test_the_same_code_does_the_same_without_a_region(self, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clients.httpx, "Client", lambda **_: pytest.fail("a region was asked"))
        result = run("replay", file, "--model", DETERMINISTIC)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("run-1: the code does the same, 16 actions over ")
        assert told("replay", file, "--model", DETERMINISTIC)["ok"] is True

    def test_the_first_difference_is_shown(self, deployment: Path) -> None:
        other = changed(refund(), b"ORD-10038", b"ORD-10039")
        other.save(deployment / "other.json")
        result = run("replay", "other.json")
        assert result.exit_code == 1
        assert "the code does something else at event" in result.stdout
        answer = told("replay", "other.json", exits=1)
        assert answer["ok"] is False
        assert "+++ code" in answer["difference"]

    def test_a_run_that_was_cut_short_by_another_limit_is_a_difference(self, file: str) -> None:
        assert told("replay", file, "--max-iterations", "2", exits=1)["difference"]

    @pytest.mark.parametrize(
        ("agent", "why"),
        [
            ("nobody:hosted", "agent 'nobody:hosted' can't be loaded"),
            (f"{__name__}:AGENT", "is a Agent, not what a region hosts; `python -m pydantic_ai_dapr replay` takes"),
            (f"{__name__}:OTHER", "run run-1 is of pydantic_ai_dapr.refund-desk, not of pydantic_ai_dapr.other"),
        ],
    )
    def test_an_agent_that_is_not_the_run_s_can_not_be_checked(self, file: str, agent: str, why: str) -> None:
        assert why in told("replay", file, "--agent", agent, exits=2)["error"]

    def test_a_model_that_can_not_be_had_is_told(self, file: str) -> None:
        assert "nobody's" in told("replay", file, "--model", "nobody's:model", exits=2)["error"]

    @pytest.mark.parametrize("command", ["replay", "verify"])
    @pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "pydantic-ai-dapr/history", "version": 9}'])
    def test_what_is_no_export_can_not_be_checked(self, deployment: Path, command: str, content: str) -> None:
        (deployment / "wrong.json").write_text(content)
        (deployment / "root.crt").write_bytes(Authority().anchors)
        more = ["--trust-anchors", "root.crt"] if command == "verify" else []
        assert told(command, "wrong.json", *more, exits=2)["error"].startswith("wrong.json ")
        assert run(command, "none.json", *more).exit_code == 2


OTHER = type("Other", (type(hosted),), {})(name="other")


class TestVerify:
    @pytest.fixture
    def proven(self, deployment: Path) -> Export:
        authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
        export = signed(refund(), key, authority.workload(key))
        export.save(deployment / "run.json")
        (deployment / "root.crt").write_bytes(authority.anchors)
        return export

    def test_a_signed_history_is_proven(self, proven: Export) -> None:
        result = run("verify", "run.json", "--trust-anchors", "root.crt", "--signer", SIGNER)
        assert result.exit_code == 0, result.output
        events = len(proven.recorded)
        assert result.stdout == f"run-1: {events} of {events} events are proven, signed by {SIGNER}\n"

    def test_a_tampered_history_is_not(self, proven: Export, deployment: Path) -> None:
        changed(proven, b"ORD-10038", b"ORD-10039").save(deployment / "run.json")
        result = run("verify", "run.json", "--trust-anchors", "root.crt")
        assert result.exit_code == 1
        assert "was changed after they were signed" in result.stdout
        answer = told("verify", "run.json", "--trust-anchors", "root.crt", exits=1)
        assert (answer["ok"], answer["proven"]) == (False, 0)

    def test_another_signer_and_another_root_prove_nothing(self, proven: Export, deployment: Path) -> None:
        other = told("verify", "run.json", "--trust-anchors", "root.crt", "--signer", f"{SIGNER}s", exits=1)
        assert f"signed by {SIGNER}, not by {SIGNER}s" in other["reason"]
        (deployment / "root.crt").write_bytes(Authority("other").anchors)
        assert "can't be trusted" in told("verify", "run.json", "--trust-anchors", "root.crt", exits=1)["reason"]

    def test_a_history_without_its_end_says_so(self, proven: Export, deployment: Path) -> None:
        cut = Export.of("run-1", proven.recorded[:3], proven.signatures[:1], proven.certificates)
        cut.save(deployment / "run.json")
        result = run("verify", "run.json", "--trust-anchors", "root.crt")
        assert result.exit_code == 0, result.output
        assert "the history has no end" in result.stdout

    def test_the_deployment_s_own_root_and_signer_are_the_default(self, proven: Export, deployment: Path) -> None:
        described = manifest(deployment / "local").model_copy(update={"signer": SIGNER, "ca": deployment / "root.crt"})
        (deployment / "local").mkdir()
        (deployment / "local" / "deployment.json").write_text(described.model_dump_json())
        answer = told("verify", "run.json", "--state", str(deployment))
        assert (answer["ok"], answer["signers"]) == (True, [SIGNER])
        assert told("verify", "run.json", "--state", str(deployment), "--signer", "spiffe://x/y", exits=1)["reason"]

    @pytest.mark.usefixtures("proven")
    def test_without_a_deployment_a_root_is_asked_for(self, deployment: Path) -> None:
        error = told("verify", "run.json", "--state", str(deployment), exits=2)["error"]
        assert "name a root that you trust with --trust-anchors" in error

    @pytest.mark.usefixtures("proven")
    def test_what_is_no_root_is_told(self, deployment: Path) -> None:
        (deployment / "root.crt").write_text("no certificate")
        assert (
            "root.crt has no trust anchors"
            in told("verify", "run.json", "--trust-anchors", "root.crt", exits=2)["error"]
        )


class TestRerun:
    @pytest.fixture
    def ends(self, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """How reruns end, in turn."""
        ways: list[str] = []
        become = workflows.become

        def end(run_id: str, status: str, *more: Any, **members: Any) -> None:
            become(run_id, ways.pop(0) if status == "running" else status, *more, **members)

        monkeypatch.setattr(workflows, "become", end)
        return ways

    def test_a_run_is_run_again_under_the_next_number(self, workflows: MemoryWorkflows, ends: list[str]) -> None:
        ends += ["completed", "completed", "completed"]
        result = run("rerun", "run-1")
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines() == ["run-1~2: completed", "next: `holdfast runs run-1~2`"]
        assert told("rerun", "run-1~2") == {
            "ok": True,
            "run_id": "run-1~3",
            "rerun_of": "run-1~2",
            "status": "completed",
        }
        assert told("rerun", "run-1", "--fresh")["run_id"] == "run-1~4"
        assert [workflows.inputs[f"run-1~{number}"].run_id for number in (2, 3, 4)] == ["run-1", "run-1", "run-1~4"]

    def test_a_run_is_run_again_from_a_step(self, workflows: MemoryWorkflows) -> None:
        answer = told("rerun", "run-1", "--from", "4", "--no-wait")
        assert (answer["ok"], answer["status"]) == (True, None)
        assert workflows.reruns == {"run-1~2": ("run-1", 4)}

    def test_a_rerun_that_fails_does_not_hold(self, ends: list[str]) -> None:
        ends.append("failed")
        assert told("rerun", "run-1", exits=1)["status"] == "failed"

    def test_a_rerun_that_does_not_end_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(runs, "_WAIT_SECONDS", 0.01)
        result = run("rerun", "run-1")
        assert result.exit_code == 1
        assert "run-1~2: not ended yet" in result.stdout

    @pytest.mark.parametrize(
        ("arguments", "status", "code", "why"),
        [
            (["run-9"], "completed", 1, "no run run-9 was accepted; `holdfast runs` lists them"),
            (["run-1"], "running", 1, "run run-1 is running; only a run that has ended can be run again"),
            (["run-1", "--from", "99"], "completed", 2, "run run-1 can't be run again from operation 99"),
            (["run-1", "--from", "0"], "completed", 2, "0 is not in the range x>=1"),
            (["run-1", "--from", "2", "--fresh"], "completed", 2, "leave --fresh or --from out"),
        ],
    )
    def test_what_can_not_be_run_again_is_told(
        self, workflows: MemoryWorkflows, arguments: list[str], status: str, code: int, why: str
    ) -> None:
        workflows.become("run-1", status)
        result = run("rerun", *arguments)
        assert result.exit_code == code, result.output
        assert why in said(result)
        assert set(workflows.states) == {"run-1"}

    def test_a_rerun_whose_answer_was_lost_is_asked_for_again_and_is_one(
        self, workflows: MemoryWorkflows, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(histories, "AGAIN_SECONDS", 0.001)
        real, lost = HoldfastClient.rerun, [1]

        def once_lost(caller: HoldfastClient, *arguments: Any, **options: Any) -> Start:
            answer = real(caller, *arguments, **options)
            return Start("unknown", "b", "ReadTimeout") if lost and lost.pop() else answer

        monkeypatch.setattr(HoldfastClient, "rerun", once_lost)
        assert told("rerun", "run-1", "--no-wait")["run_id"] == "run-1~2"
        assert set(workflows.states) == {"run-1", "run-1~2"}

    def test_a_rerun_that_is_not_answered_is_told_to_be_unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(histories, "_RERUN_SECONDS", 0.0)
        monkeypatch.setattr(HoldfastClient, "rerun", lambda *_, **__: Start("unknown", "b", "ReadTimeout"))
        error = told("rerun", "run-1", exits=2)["error"]
        assert "whether run-1~2 was started is unknown after 0 s (ReadTimeout)" in error


def test_without_a_deployment_every_command_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> HoldfastClient:
        raise NoManifest("there is no deployment here; `holdfast up` makes one")

    monkeypatch.setattr(histories, "client_of", none)
    for command in ("export", "rerun"):
        assert "`holdfast up` makes one" in told(command, "run-1", exits=2)["error"]


class TestApprove:
    @pytest.fixture(autouse=True)
    def held(self, deployment: Path, workflows: MemoryWorkflows) -> HeldRun:
        """The run waits for a supervisor."""
        held = HeldRun()
        workflows.become("run-1", "running")
        workflows.histories["run-1"] = held.events()
        return held

    @pytest.mark.parametrize(("options", "approved"), [([], True), (["--deny", "--message", "no"], False)])
    def test_the_one_call_that_waits_is_decided(
        self, workflows: MemoryWorkflows, options: list[str], approved: bool
    ) -> None:
        answer = told("approve", "run-1", "--who", "Ada", *options)
        assert answer == {"ok": True, "run_id": "run-1", "tool_call_id": CALL, "approved": approved}
        assert workflows.decisions == [("run-1", CALL, approved, None if approved else "no", "Ada")]
        assert ("approved" if approved else "denied") in said(run("approve", "run-1", *options))

    def test_what_waits_is_listed_and_nothing_decided(self, workflows: MemoryWorkflows) -> None:
        assert told("approve", "run-1", "--list")["waiting"][0]["tool_call_id"] == CALL
        assert "await_supervisor" in said(run("approve", "run-1", "--list"))
        assert workflows.decisions == []

    def test_a_run_that_waits_for_nothing_is_told(self, held: HeldRun, workflows: MemoryWorkflows) -> None:
        held.decide(True)
        workflows.histories["run-1"] = held.events()
        assert "waits for no decision" in told("approve", "run-1", exits=1)["error"]
        assert "was approved before" in told("approve", "run-1", "--call", CALL, "--deny", exits=1)["error"]
        assert told("approve", "run-1", "--call", CALL)["ok"]

    def test_one_of_several_calls_has_to_be_chosen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        several = [clients.WaitingView(tool_call_id=one, tool="pay") for one in ("c1", "c2")]
        monkeypatch.setattr(clients.HoldfastClient, "waiting", lambda *_: several)
        assert "2 calls (c1, c2): choose one with --call" in told("approve", "run-1", exits=1)["error"]

    def test_a_decision_without_an_answer_may_be_repeated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lost = clients.Start("unknown", "b", "ReadTimeout")
        monkeypatch.setattr(clients.HoldfastClient, "approve", lambda *_, **__: lost)
        assert "may be repeated" in told("approve", "run-1", "--call", CALL, exits=2)["error"]
