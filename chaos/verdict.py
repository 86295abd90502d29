"""Valid, invalid or unknown: one invalid check makes the experiment invalid, else one unknown makes it unknown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Answer = Literal["valid", "invalid", "unknown"]
EXIT_CODES: dict[Answer, int] = {"valid": 0, "invalid": 1, "unknown": 2}
WITNESSES = 20


class CheckResult(BaseModel):
    """One checker's answer, what it counted, and the operations that show it, first ones first."""

    model_config = ConfigDict(frozen=True)

    check: str
    claim: str
    answer: Answer
    counts: dict[str, int] = Field(default_factory=dict[str, int])
    witness: list[str] = Field(default_factory=list[str])


def result(check: str, claim: str, counts: dict[str, int], violations: list[str], missing: list[str]) -> CheckResult:
    """Invalid where there is a violation, else unknown where evidence is missing, else valid."""
    answer: Answer = "invalid" if violations else "unknown" if missing else "valid"
    witness = (violations or missing)[:WITNESSES]
    return CheckResult(check=check, claim=claim, answer=answer, counts=counts, witness=witness)


def short_of(promised: int, found: int, what: str) -> list[str]:
    """What is missing of evidence that the experiment promised."""
    return [f"{promised} {what} were promised, {found} were recorded"] if found < promised else []


def combined(results: Iterable[CheckResult]) -> Answer:
    """The experiment's answer. Without any result it is unknown."""
    return worst(one.answer for one in results)


def worst(given: Iterable[Answer]) -> Answer:
    """The worst of some answers. Without any it is unknown."""
    answers = set(given)
    if "invalid" in answers:
        return "invalid"
    return "unknown" if "unknown" in answers or not answers else "valid"
