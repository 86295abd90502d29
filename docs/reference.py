"""Writes docs/api.md, the reference of both libraries, out of their signatures and docstrings."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import langgraph_dapr
import pydantic_ai_dapr

PAGE = Path(__file__).with_name("api.md")
WIDTH = 100
SECTIONS: dict[ModuleType, dict[str, str]] = {
    pydantic_ai_dapr: {
        "Agents": "DaprWorkflowAgentRunner RunHandle RunResult start_together DaprDurability Retry patched",
        "Agents inside a workflow of your own": "DurableAgents",
        "Agents that ask agents": "ChildAgents ChildAgent",
        "People in the loop": "WaitForApproval approval_event",
        "Runs, from anywhere": "AgentRunClient RunInput RunStatus RunError RunEvent RECOVER",
        "What is being executed": "current_operation Operation Attempt durable_sleep durable_step",
        "Tools in other processes": "MCPServerToolset ToolHost RemoteToolset declared Denial access_policy",
        "Looking back": "HistoryEvent Step steps Export StateStore replay ReplayReport Difference verify Verification",
        "What can go wrong": "RunFailedError RunExistsError WorkflowUnavailableError HistoryTamperedError "
        "OperationFailedError ToolDeniedError PayloadTooLargeError PayloadLostError ExportError",
    },
    langgraph_dapr: {"Graphs": "DaprWorkflowGraphRunner GraphState Checkpoint PendingInterrupt"},
}
INTERNAL = {"activities", "bind_toolsets", "catch_up", "confirm", "deliver", "deps_codec", "drive", "for_agent"}
INTERNAL |= {"host_on", "register", "result_of", "started", "waiting"}
"""Methods by which the libraries' own parts call each other."""


def page() -> str:
    """The whole reference, as Markdown."""
    return "\n".join(
        ["# API reference", "", "Made by `.venv/bin/python docs/reference.py`, not by hand.", "", *_lines()]
    )


def _lines() -> Iterator[str]:
    for library, sections in SECTIONS.items():
        yield from (f"**`{library.__name__}`**: {(library.__doc__ or '').strip()}", "")
        for title, names in sections.items():
            yield f"- {title}: " + ", ".join(f"[{name}](#{name.lower()})" for name in names.split())
        yield ""
    for library, sections in SECTIONS.items():
        for title, names in sections.items():
            yield from (f"## {title}", "")
            for name in names.split():
                yield from (f"### {name}", "")
                yield from _entry(name, getattr(library, name), library.__name__)


def _entry(name: str, value: Any, library: str) -> Iterator[str]:
    if isinstance(value, str):
        notes = [_notes(module) for known, module in list(sys.modules.items()) if known.startswith(f"{library}.")]
        yield from (*_code(f'{name} = "{value}"'), next(found[name] for found in notes if name in found), "")
        return
    if not (isinstance(value, type) and issubclass(value, Exception)):
        yield from _code(_signature(name, value))
    yield from (inspect.getdoc(value) or "", "")
    if isinstance(value, type):
        for field, note in _notes(value).items():
            yield from (f"- `{field}`: {note}", "")
        for member, found in _members(value, library).items():
            function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
            shown = _signature(member, function)
            yield from (f"#### {name}.{member}", "")
            yield from _code(shown.replace("()", "", 1) if isinstance(found, property) else shown)
            yield from (inspect.cleandoc(function.__doc__ or ""), "")


def _members(value: type, library: str) -> dict[str, Any]:
    """What of a class is for its users: it has a docstring, and is the library's own."""
    own = [vars(one) for one in value.__mro__ if one.__module__.partition(".")[0] in (library, "pydantic_ai_dapr")]
    found = {name: member for members in reversed(own) for name, member in members.items()}
    return {
        name: member
        for name, member in found.items()
        if isinstance(member, property | classmethod) or inspect.isfunction(member)
        if name[0] != "_" and name not in INTERNAL and member.__doc__
    }


def _signature(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    fields: dict[str, str] = {}
    for one in reversed(value.__mro__ if isinstance(value, type) else ()):
        fields |= inspect.get_annotations(one)
    parameters = [
        one.replace(
            annotation=_Source(one.annotation if isinstance(one.annotation, str) else fields[one.name]),
            default=_Source("...") if inspect.isfunction(one.default) else one.default,
        )
        for one in signature.parameters.values()
        if one.name not in ("self", "cls")
    ]
    returned = inspect.Signature.empty if isinstance(value, type) else _Source(signature.return_annotation)
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        name = f"async {name}"
    line = name + str(inspect.Signature(parameters, return_annotation=returned))
    if len(line) <= WIDTH:
        return line
    lines = [str(one) for one in parameters]
    if by_name := [number for number, one in enumerate(parameters) if one.kind is one.KEYWORD_ONLY]:
        lines.insert(by_name[0], "*")
    return f"{name}(\n" + "".join(f"    {one},\n" for one in lines) + ")" + line.rpartition(")")[2]


class _Source(str):
    """An annotation as it is written in the code."""

    def __repr__(self) -> str:
        return str(self)


def _notes(value: Any) -> dict[str, str]:
    """What the code of a class or module says below its fields and constants."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(value)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else tree.body
    return {
        ast.unparse(field.target if isinstance(field, ast.AnnAssign) else field.targets[0]): inspect.cleandoc(said)
        for field, note in pairwise(body)
        if isinstance(field, ast.AnnAssign | ast.Assign) and isinstance(note, ast.Expr)
        if isinstance(note.value, ast.Constant) and isinstance(said := note.value.value, str)
    }


def _code(text: str) -> tuple[str, ...]:
    return ("```python", text, "```", "")


if __name__ == "__main__":
    PAGE.write_text(page())
