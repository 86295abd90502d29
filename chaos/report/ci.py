"""What continuous integration reads of reports: JUnit XML, and a summary in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import median
from xml.etree import ElementTree

from chaos.report.folder import Report
from chaos.verdict import Answer, CheckResult

ANSWERS: tuple[Answer, ...] = ("valid", "invalid", "unknown")
NEVER_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SPECIAL_IN_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~@<>])")


def answer_of(reports: Sequence[Report]) -> Answer:
    """One invalid report makes all invalid, else one unknown makes them unknown. Without any they are unknown."""
    answers = {report.verdict.answer for report in reports}
    if "invalid" in answers:
        return "invalid"
    return "unknown" if "unknown" in answers or not answers else "valid"


def as_junit(reports: Sequence[Report]) -> str:
    """One suite for each experiment, one case for each check: an invalid one has failed, an unknown one is an error.

    A report without any check has a case that is an error: what checked nothing passes nowhere.
    """
    whole = ElementTree.Element("testsuites", name="holdfast")
    for experiment, own in by_experiment(reports).items():
        suite = ElementTree.SubElement(whole, "testsuite", name=_xml(experiment))
        for report in own:
            run = f" ({report.folder.name})" if len(own) > 1 else ""
            for check in report.verdict.checks or [_nothing()]:
                _case(suite, _xml(f"holdfast.{experiment}"), _xml(f"{check.check} {check.claim}{run}"), check)
        _count(suite)
    _count(whole)
    ElementTree.indent(whole, " ")
    return ElementTree.tostring(whole, encoding="unicode", xml_declaration=True) + "\n"


def as_markdown(reports: Sequence[Report]) -> str:
    """Verdict first, then a row for each experiment, then what each report that is not valid shows."""
    count = sum(report.verdict.answer == "valid" for report in reports)
    parts = [f"## {answer_of(reports)}: {count} of {len(reports)} {'report is' if count == 1 else 'reports are'} valid"]
    rows = [_row(experiment, own) for experiment, own in by_experiment(reports).items()]
    parts.append(
        grid(["experiment", *ANSWERS, "RTO median", "RTO most", "runs", "lost", "applied twice", "run again"], rows)
    )
    if len(reports) == 1:
        cells = [
            [check.check, check.claim, f"**{check.answer}**", ", ".join(f"{k} {v}" for k, v in check.counts.items())]
            for check in reports[0].verdict.checks
        ]
        parts.append(grid(["check", "claim", "answer", "counts"], cells))
    parts += [deviation(report) for report in reports if report.verdict.answer != "valid"]
    return "\n\n".join(parts) + "\n"


def by_experiment(reports: Sequence[Report]) -> Mapping[str, list[Report]]:
    """The reports of each experiment, in the order in which they were given; a planted bug makes an own one."""
    found: dict[str, list[Report]] = {}
    for report in reports:
        planted = f" with {report.verdict.planted}" if report.verdict.planted else ""
        found.setdefault(report.verdict.experiment + planted, []).append(report)
    return found


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; cells may hold emphasis of ours, all else in them has to be `plain`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(text: str) -> str:
    """Text that stays text in Markdown, on one line."""
    return SPECIAL_IN_MARKDOWN.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def _row(experiment: str, own: Sequence[Report]) -> list[str]:
    answers = [report.verdict.answer for report in own]
    rtos = [report.verdict.recovery.rto for report in own if report.verdict.recovery.rto is not None]
    seconds = [f"{median(rtos):.2f} s", f"{max(rtos):.2f} s"] if rtos else ["", ""]
    sums = [
        summed(own, *path) for path in (("K2", "lost"), ("K2", "duplicate-applied"), ("K5", "executed-again-completed"))
    ]
    runs = str(sum(report.verdict.runs for report in own))
    return [plain(experiment), *(str(answers.count(one)) for one in ANSWERS), *seconds, runs, *sums]


def summed(own: Sequence[Report], check: str, count: str) -> str:
    """The sum of a count; nothing where one of the reports did not count it."""
    values = [one.counts.get(count) for report in own for one in report.verdict.checks if one.check == check]
    known = [value for value in values if value is not None]
    return str(sum(known)) if len(known) == len(own) else "?"


def deviation(report: Report) -> str:
    """What a report that isn't valid shows."""
    verdict = report.verdict
    head = f"**{plain(verdict.experiment)} is {verdict.answer}** in {plain(report.folder.name)}"
    deciding = [check for check in verdict.checks if check.answer != "valid"]
    lines = [f"- {check.check} {check.answer}: {plain(line)}" for check in deciding for line in check.witness[:3]]
    return "\n".join([head, "", *(lines or ["- nothing was checked"])])


def _nothing() -> CheckResult:
    return CheckResult(check="-", claim="something was checked", answer="unknown", witness=["no check was made"])


def _case(suite: ElementTree.Element, where: str, name: str, check: CheckResult) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=where, name=name)
    if check.answer != "valid":
        kind = "failure" if check.answer == "invalid" else "error"
        message = check.witness[0] if check.witness else check.answer
        found = ElementTree.SubElement(case, kind, message=_xml(message), type=check.answer)
        found.text = _xml("\n".join(check.witness))
    counts = "\n".join(f"{name}: {value}" for name, value in check.counts.items())
    if counts:
        ElementTree.SubElement(case, "system-out").text = _xml(counts)


def _count(element: ElementTree.Element) -> None:
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error")):
        element.set(name, str(sum(1 for _ in element.iter(tag))))


def _xml(text: str) -> str:
    """The text without the characters that no XML may hold, not even escaped."""
    return NEVER_IN_XML.sub("\ufffd", text)
