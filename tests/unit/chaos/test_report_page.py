"""The page of a report: what it draws, from which lines, and that nothing recorded becomes markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from chaos.history import AgentEvent, Fault, History, Intrusion, RoleSample
from chaos.report import PAGE, Report, verdict_of, write_report
from chaos.report.figures import Source, figures, phases, sources_of
from chaos.report.lanes import stretches
from chaos.report.story import happened
from chaos.report.trace import trace
from chaos.report.witness import Piece, pieces, problems
from chaos.verdict import CheckResult
from tests.support.histories import FAULT_AT, LOST_PID, RUNS, region_loss, run_id
from tests.support.reports import report_of, twice_executed

pytestmark = pytest.mark.unit

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028'\"&`"


def report(history: History, folder: Path) -> Report:
    report_of(history, folder)
    return Report.load(folder)


def drawn(history: History) -> dict[str, Any]:
    found = trace(history, problems(verdict_of(history).checks, history))
    assert found is not None
    return json.loads(json.dumps(found))


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its texts, and what is in its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in = {"application/json": "data"}.get(dict(attrs).get("type") or "", tag)

    def handle_data(self, data: str) -> None:
        self.inside[self._in] = self.inside.get(self._in, "") + data

    def handle_endtag(self, tag: str) -> None:
        self._in = ""


def test_every_execution_names_the_lines_that_it_was_recorded_in() -> None:
    history = region_loss()
    found = drawn(history)
    first = next(run for run in found["runs"] if run[0] == run_id(1))
    steps = first[4]
    assert [step[0] for step in steps] == [1, 2, 3, 3, 4, 5]
    for ordinal, name, region, _, epoch, begin, until, _, _, started, ended in steps:
        attempt = (history.attempts or [])[started - 1]
        assert (attempt.run_id, attempt.ordinal, attempt.phase) == (run_id(1), ordinal, "started")
        assert found["texts"][name] == "step"
        assert (found["regions"][region], epoch) == (attempt.region, attempt.epoch)
        assert begin == round((attempt.at - found["begin"]) * 1000) <= until
        if ended:
            assert (history.attempts or [])[ended - 1].phase == "ended"
    start, end = first[1], first[2]
    assert history.operations[start[2] - 1].run_id == run_id(1)
    assert (history.workflows or [])[end[2] - 1].run_id == run_id(1)
    for *_, line in first[5]:
        assert (history.effects or [])[line - 1].run_id == run_id(1)


def test_an_execution_is_done_cut_open_or_failed() -> None:
    history = region_loss(1)
    assert history.attempts is not None
    states = [step[7] for step in drawn(history)["runs"][0][4]]
    assert states == [0, 0, 1, 0, 0, 0]
    history.faults = [history.faults[0].model_copy(update={"killed": []})]
    history.attempts[-1] = history.attempts[-1].model_copy(update={"outcome": "error"})
    found = drawn(history)
    assert [step[7] for run in found["runs"] for step in run[4]] == [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]


def test_of_several_tries_to_start_a_run_the_accepted_one_is_shown() -> None:
    history = region_loss()
    lost = history.operations[0].model_copy(update={"outcome": "unknown"})
    history.operations.insert(0, lost)
    found = drawn(history)
    outcome, _, line = found["runs"][0][1]
    assert (found["texts"][outcome], line) == ("ok", 2)


def test_a_fault_is_drawn_from_its_injection_to_its_lifting() -> None:
    history = region_loss()
    history.faults = [
        history.faults[0],
        Fault(name="partition", target="a-b", at=FAULT_AT + 1, until=FAULT_AT + 3.5),
    ]
    found = drawn(history)
    zero = round((FAULT_AT - found["begin"]) * 1000)
    assert [fault[2:] for fault in found["faults"]] == [
        [zero, None, 1, 1],
        [zero + 1000, zero + 3500, 0, 2],
    ]


def test_only_the_release_that_was_made_has_a_mark() -> None:
    history = region_loss()
    refused = AgentEvent.model_validate(
        {"region": "b", "at": FAULT_AT + 3, "event": "early-release", "decision": "refused"}
    )
    history.events = [refused, *(history.events or [])]
    found = drawn(history)
    assert [(found["texts"][event[1]], event[3]) for event in found["events"]] == [
        ("lease released", 2),
        ("promoted", 3),
        ("active", 4),
    ]


def roles(history: History) -> list[tuple[str, str, float, float, int | None]]:
    from chaos.checks.writers import executions

    found = stretches(history, executions(history), ["a", "b"], FAULT_AT - 1, FAULT_AT + 11)
    return [
        (one.region, one.role, round(one.begin - FAULT_AT, 3), round(one.end - FAULT_AT, 3), one.epoch) for one in found
    ]


def test_roles_follow_the_agents_and_end_where_a_region_is_lost() -> None:
    history = region_loss()
    history.roles = None
    assert roles(history) == [
        ("a", "active", -1, 0, 1),
        ("a", "lost", 0, 11, 1),
        ("b", "unknown", -1, 4, None),
        ("b", "activating", 4, 4.3, 2),
        ("b", "active", 4.3, 11, 2),
    ]


def test_a_region_is_what_its_agent_says_that_it_had_been_and_starts_again() -> None:
    history = region_loss()
    history.roles = None
    told = [
        {"region": "b", "at": FAULT_AT + 4, "event": "promoted", "epoch": 2},
        {"region": "b", "at": FAULT_AT + 4.3, "event": "role-changed", "from": "standby", "to": "active", "epoch": 2},
        {"region": "a", "at": FAULT_AT + 8, "event": "agent-started", "role": "active"},
        {"region": "a", "at": FAULT_AT + 9, "event": "role-changed", "from": "active", "to": "standby", "epoch": 2},
        {"region": "a", "at": FAULT_AT + 9, "event": "unrelated"},
    ]
    history.events = [AgentEvent.model_validate(event) for event in told]
    assert roles(history)[1:] == [
        ("a", "lost", 0, 8, 1),
        ("a", "starting", 8, 9, 1),
        ("a", "standby", 9, 11, 2),
        ("b", "standby", -1, 4, None),
        ("b", "activating", 4, 4.3, 2),
        ("b", "active", 4.3, 11, 2),
    ]


def test_a_region_that_gives_no_answer_is_shown_so_until_it_gives_one() -> None:
    history = region_loss()
    history.faults, history.events = [], []
    agents = ["active", "active", None, "active", None, None, None, "standby"]
    history.roles = [
        RoleSample(at=FAULT_AT + number, region="a", agent=agent, epoch=1 if agent else None)
        for number, agent in enumerate(agents)
    ]
    history.roles.append(RoleSample(at=FAULT_AT + 5, region="b", agent="standby"))
    history.attempts = [one for one in history.attempts or [] if one.region == "a"]
    assert roles(history) == [
        ("a", "active", -1, 4, 1),
        ("a", "no answer", 4, 7, 1),
        ("a", "standby", 7, 11, 1),
        ("b", "unknown", -1, 5, None),
        ("b", "standby", 5, 11, None),
    ]


def test_a_region_that_is_lost_gives_no_answer_and_stays_lost() -> None:
    history = region_loss()
    history.roles = [RoleSample(at=FAULT_AT + at, region="a") for at in (1, 2, 3)]
    assert [role for region, role, *_ in roles(history) if region == "a"] == ["active", "lost"]


def test_a_fault_is_listed_with_how_long_it_lasted(tmp_path: Path) -> None:
    history = region_loss()
    history.faults = [history.faults[0], Fault(name="split", target="a-b", at=FAULT_AT + 1, until=FAULT_AT + 3.5)]
    text = report_of(history, tmp_path).read_text()
    assert "<td>region a</td><td>–</td>" in text
    assert "<td>a-b</td><td>2.5 s</td>" in text


def test_doors_that_were_tried_are_shown_with_what_they_answered(tmp_path: Path) -> None:
    history = region_loss()
    tried = {"name": "no-certificate", "door": "etcd of region a", "expected": "refused"}
    history.intrusions = [
        Intrusion(**tried, observed="handshake failed", refused=True),
        Intrusion(**tried, observed="<b>200</b>", refused=False),
    ]
    text = report_of(history, tmp_path).read_text()
    assert "</svg>refused</td>" in text
    assert "</svg>let in</td>" in text
    assert "&lt;b&gt;200&lt;/b&gt;" in text
    assert "intrusions.jsonl:2" in text


def test_every_figure_names_the_lines_that_it_came_from(tmp_path: Path) -> None:
    made = report(region_loss(), tmp_path)
    rto = figures(made)[0]
    assert (rto.name, rto.value, str(rto.sources[0])) == ("RTO", "5.00", "faults.jsonl:1")
    resumed = rto.sources[1]
    assert resumed.line is not None
    attempt = (made.history.attempts or [])[resumed.line - 1]
    assert (attempt.phase, attempt.at) == ("started", FAULT_AT + 5)
    assert [(one.name, str(one.end)) for one in phases(made.history, made.verdict.recovery)] == [
        ("detect", "events.jsonl:1"),
        ("promote", "events.jsonl:2"),
        ("activate", "events.jsonl:3"),
        ("resume", str(resumed)),
    ]


def test_what_was_not_recorded_has_no_figure_and_no_source(tmp_path: Path) -> None:
    history = region_loss()
    history.events, history.attempts, history.workflows = [], [], None
    made = report(history, tmp_path)
    assert [(one.value, one.sources) for one in figures(made)[:2]] == [
        (None, ()),
        (None, (Source("operations"), Source("observations"))),
    ]
    assert phases(made.history, made.verdict.recovery) == []
    assert sources_of(CheckResult(check="K1", claim="", answer="unknown"), history) == (Source("operations"),)
    assert sources_of(CheckResult(check="K99", claim="", answer="unknown"), history) == ()


def test_a_phase_whose_record_is_gone_is_shown_without_a_source() -> None:
    history = region_loss()
    recovery = verdict_of(history).recovery
    history.events, history.attempts = [], []
    assert {one.end for one in phases(history, recovery)} == {None}


def test_tokens_that_were_spent_again_are_those_of_the_check_of_cost(tmp_path: Path) -> None:
    made = report(region_loss(), tmp_path)
    cost = CheckResult(check="K13", claim="", answer="valid", counts={"tokens": 999, "tokens-again": 321})
    unread = cost.model_copy(update={"counts": {"tokens": 0, "tokens-again": 0}})
    checks = [check for check in made.verdict.checks if check.check != "K13"]
    for told, value in ((checks, None), ([*checks, cost], "321"), ([*checks, unread], None)):
        again = Report(tmp_path, made.verdict.model_copy(update={"checks": told}))
        assert next(one.value for one in figures(again) if one.unit == "tokens again") == value


def test_of_a_crashed_worker_the_last_run_that_moved_is_told(tmp_path: Path) -> None:
    history = region_loss(3)
    history.faults = [Fault(name="worker-crash", target="worker-1", at=FAULT_AT, killed=[LOST_PID], proven=True)]
    assert figures(report(history, tmp_path))[1].value == "5.00"


def test_a_sentence_tells_what_happened(tmp_path: Path) -> None:
    good = happened(report(region_loss(), tmp_path / "good"))
    assert good.startswith("Region-loss of region a met 6 runs in flight, and the first went on 5.00 s later; 7 of 7")
    assert "0 effects were applied twice" in good
    bad = happened(report(twice_executed(), tmp_path / "bad"))
    assert "K5 (“a completed operation is never executed again”) does not hold: run-02:1: executed by b/" in bad
    history = region_loss()
    history.effects, history.attempts, history.workflows = None, [], None
    unsure = happened(report(history, tmp_path / "unsure"))
    assert unsure.startswith("Region-loss of region a, and none was seen to go on; K1 (")
    assert "could not be checked: the runs were not recorded; nor could K2, " in unsure


def test_a_fault_that_moves_nothing_is_told_so(tmp_path: Path) -> None:
    history = region_loss()
    history.faults = [Fault(name="split", target="region a", at=FAULT_AT + 5.05, proven=True)]
    assert ", and work went on in region b; " in happened(report(history, tmp_path))


def test_a_sentence_about_nothing_claims_nothing(tmp_path: Path) -> None:
    made = report(History(experiment="x"), tmp_path)
    assert happened(made).startswith("No fault was injected; K1 (")
    nothing = Report(tmp_path, made.verdict.model_copy(update={"checks": []}))
    assert happened(nothing) == "No fault was injected; nothing was checked."
    silent = made.verdict.checks[0].model_copy(update={"answer": "unknown", "witness": []})
    assert "no witness" in happened(Report(tmp_path, made.verdict.model_copy(update={"checks": [silent]})))


def test_a_witness_is_taken_apart_at_the_runs_and_operations_that_it_names() -> None:
    text = "run-1:3: executed by b/w (pid 2), and run-1 (run-1:4), not run-2:3 nor run-1:x."
    assert [piece.ref for piece in pieces(text, ["run-1"]) if piece.ref] == ["run-1:3", "run-1", "run-1:4"]
    assert "".join(piece.text for piece in pieces(text, ["run-1"])) == text
    assert pieces("", ["run-1"]) == []
    assert pieces("nothing", []) == [Piece("nothing")]


def test_errors_come_in_the_order_in_which_they_happened_before_what_is_unknown() -> None:
    history = twice_executed()
    found = [one for one in problems(verdict_of(history).checks, history) if one.check == "K5"]
    assert [(one.run_id, one.ordinal, one.at, one.place) for one in found] == [
        (run_id(2), 1, FAULT_AT + 5.2, "K5-0"),
        (run_id(4), 1, FAULT_AT + 5.6, "K5-1"),
    ]
    checks = [
        CheckResult(check="K4", claim="", answer="invalid", witness=["epoch 3: two regions", f"{run_id(RUNS)}: late"]),
        CheckResult(check="K2", claim="", answer="unknown", witness=[f"{run_id(1)}: unread"]),
        CheckResult(check="K1", claim="", answer="invalid", witness=[f"{run_id(0)}: lost"]),
    ]
    assert [one.run_id for one in problems(checks, history)] == [run_id(0), run_id(RUNS), None, run_id(1)]


def test_the_page_shows_the_verdict_first_and_names_every_operation_of_a_witness(tmp_path: Path) -> None:
    page = Page(report_of(twice_executed(), tmp_path).read_text())
    tags = [tag for tag, _ in page.elements]
    assert tags.index("header") < tags.index("main")
    links = {attributes.get("href") for tag, attributes in page.elements if tag == "a"}
    assert f"#{run_id(2)}%3A1" in links or f"#{run_id(2)}:1" in links
    assert "history/attempts.jsonl" in links
    assert ("li", "K5-0") in [(tag, attributes.get("id")) for tag, attributes in page.elements]


def test_the_page_asks_for_nothing_and_allows_no_other_script(tmp_path: Path) -> None:
    text = report_of(region_loss(), tmp_path).read_text()
    page = Page(text)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    for kind, inside in (("style", "style"), ("script", "script")):
        digest = base64.b64encode(hashlib.sha256(page.inside[inside].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert [tag for tag, attributes in page.elements if "src" in attributes or "style" in attributes] == []
    assert [a for tag, a in page.elements if tag == "link"] == []
    assert re.findall(r"(?:https?:)?//[a-z]", page.inside["script"].replace("// ", "")) == []


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    history = region_loss()
    evil = {"run_id": HOSTILE}
    assert history.attempts is not None
    assert history.workflows is not None
    history.operations[0] = history.operations[0].model_copy(update=evil)
    history.attempts = [
        one.model_copy(update=evil | {"name": HOSTILE, "worker": HOSTILE}) if one.run_id == run_id(0) else one
        for one in history.attempts
    ]
    broken = {"status": "failed", "error": HOSTILE, "run_id": HOSTILE}
    history.workflows[0] = history.workflows[0].model_copy(update=broken)
    history.faults = [history.faults[0].model_copy(update={"evidence": {HOSTILE: HOSTILE}, "target": HOSTILE})]
    history.experiment = HOSTILE
    (tmp_path / "journal.json").write_text(json.dumps({"experiment": {"title": HOSTILE}}))
    (tmp_path / "a<b>.txt").write_text("")
    harmless = Page(report_of(region_loss(), tmp_path / "harmless").read_text())
    page = Page(write_report(tmp_path, history, verdict_of(history, HOSTILE)).read_text())
    assert [tag for tag, _ in page.elements if tag in ("script", "img")] == ["script", "script"]
    assert [name for _, attributes in page.elements for name in attributes if name.startswith("on")] == []
    assert page.inside["script"] == harmless.inside["script"]
    data = json.loads(page.inside["data"])
    assert HOSTILE in [run[0] for run in data["runs"]]
    assert HOSTILE in data["texts"]
    assert "<" not in page.inside["data"]


def test_a_page_of_nothing_says_so(tmp_path: Path) -> None:
    history = History(experiment="region-loss")
    assert trace(history, []) is None
    text = report_of(history, tmp_path).read_text()
    assert 'id="timeline"' not in text
    assert "unknown" in text


def test_a_report_tells_the_claim_in_the_words_of_its_experiment(tmp_path: Path) -> None:
    made = report(region_loss(), tmp_path)
    assert made.claim == "region-loss"
    for journal, claim in (
        ({"experiment": {"title": "It holds"}}, "It holds"),
        ({"experiment": {"title": 3}}, "region-loss"),
        ([], "region-loss"),
    ):
        (tmp_path / "journal.json").write_text(json.dumps(journal))
        assert made.claim == claim


def test_all_that_lies_beside_the_page_is_listed(tmp_path: Path) -> None:
    (tmp_path / "logs" / "region-a").mkdir(parents=True)
    (tmp_path / "logs" / "region-a" / "worker 1.log").write_text("x" * 3000)
    page = Page(report_of(region_loss(), tmp_path).read_text())
    links = {attributes.get("href") for tag, attributes in page.elements if tag == "a"}
    assert {"logs/region-a/worker%201.log", "history/faults.jsonl", "verdict.json", "junit.xml", "summary.md"} <= links
    assert PAGE not in links


def test_a_recorded_history_is_never_written_over(tmp_path: Path) -> None:
    report_of(region_loss(), tmp_path)
    (tmp_path / "history" / "later.jsonl").write_text("{}\n")
    later = region_loss(2)
    write_report(tmp_path, later, verdict_of(later))
    assert len(History.load(tmp_path / "history").operations) == RUNS + 1
    assert (tmp_path / "history" / "later.jsonl").exists()
