"""Every runbook parses, names only commands that there are, and leads somewhere; what is malformed is named by line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from holdfast.cli import main

from chaos.faults import FAULTS
from chaos.runbooks.page import FOLDER, Command, Malformed, Runbook, Trouble, read, runbook_named, runbooks
from chaos.runbooks.results import TABLE, load, render

pytestmark = pytest.mark.unit

NAMES = {
    "app-rollout",
    "backup-and-restore",
    "capacity",
    "certificate-rotation",
    "database-node-rebuild",
    "dapr-upgrade",
    "failback",
    "model-outage",
    "region-evacuation",
    "region-loss",
    "scheduler-data-loss",
    "split-brain",
    "stuck-runs",
    "witness-loss",
}
PLACES = {"active", "standby", "a", "b", "witness"}
LINK = re.compile(r"\]\(([^)#]+)")
HOLDFAST = re.compile(r"\bholdfast ([a-z][^`|;)\n]*)")

PAGE = """\
---
fault: region-loss at active
---

# Region loss

## Symptom

It is gone.

## Decision

Wait.

## Steps

### 1. Look

```console
$ holdfast status  # repeat, within 60 s
region-$ACTIVE ... not run
[1]
$ holdfast runs
```

**Abort if** it says `both are gone`, or says
`no quorum`: see elsewhere.

### 2. Mend

```drill
lift
```

**Abort if** it can't be mended.

## Verification

```console
$ holdfast status  # disturbs runs
everything
```
"""


def written(tmp_path: Path, text: str = PAGE) -> Path:
    path = tmp_path / "region-loss.md"
    path.write_text(text, encoding="utf-8")
    return path


def pages() -> list[Path]:
    return sorted(FOLDER.glob("*.md"))


def test_there_is_a_page_for_each_situation() -> None:
    assert {page.name for page in runbooks()} == NAMES


@pytest.mark.parametrize("page", runbooks(), ids=lambda page: page.name)
def test_every_fault_of_a_page_is_in_the_catalogue(page: Runbook) -> None:
    assert all(one.fault in FAULTS and one.where in PLACES for one in page.troubles)


def commands_of(text: str) -> Iterator[list[str]]:
    """Every call of `holdfast` that a page shows, in its blocks and its prose, as words."""
    code = "\n".join([*re.findall(r"```\w*\n(.*?)```", text, re.DOTALL), *re.findall(r"`([^`\n]+)`", text)])
    for match in HOLDFAST.finditer(code.replace("$(", "\n")):
        yield shlex.split(match[1], comments=True)


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)
def test_every_command_of_a_page_is_one_of_the_command_line(path: Path) -> None:
    for words in commands_of(path.read_text(encoding="utf-8")):
        command, context = main, click.Context(main)
        while isinstance(command, click.Group) and words:
            found = command.get_command(context, words[0])
            if found is None and command.name == "drill":
                found = command.get_command(context, "experiment")
            assert found is not None, f"{path.name}: there is no `holdfast {words[0]}`"
            command, words = found, words[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options | {"--help"}, f"{path.name}: {words}"
        assert command.get_help(click.Context(command))


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_index_leads_to_every_page() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert {name for name in NAMES if f"]({name}.md)" not in index} == set()


def test_the_table_is_made_of_the_results_and_of_nothing_else() -> None:
    assert (FOLDER / TABLE).read_text(encoding="utf-8") == render(load(), NAMES)


def test_a_page_is_read_as_it_stands(tmp_path: Path) -> None:
    page = read(written(tmp_path))
    assert (page.name, page.title, page.symptom, page.decision) == (
        "region-loss",
        "Region loss",
        "It is gone.",
        "Wait.",
    )
    assert (page.fault, page.before, page.not_drilled) == (Trouble("region-loss", "active"), None, None)
    look, mend, verification = page.steps
    assert look.commands == (
        Command(20, "holdfast status", ("region-$ACTIVE ... not run",), 1, 60.0, repeat=True),
        Command(23, "holdfast runs"),
    )
    assert look.aborts_on == ("both are gone", "no quorum")
    assert (mend.lifts, mend.commands, mend.abort) == (True, (), "**Abort if** it can't be mended.")
    assert (verification.title, verification.commands[0].disturbs) == ("Verification", True)


def test_a_page_that_can_not_be_drilled_says_why(tmp_path: Path) -> None:
    text = PAGE.replace("region-loss at active\n", "none\nnot drilled: in a cloud only\n")
    page = read(written(tmp_path, text))
    assert (page.fault, page.not_drilled, page.troubles) == (None, "in a cloud only", ())


MALFORMED = [
    ("---\nfault: region-loss at active\n---\n", "", 1, "begins with a front matter"),
    ("fault: region-loss", "fault: [", 2, "no YAML"),
    ("fault: region-loss at active", "fault: region-loss", 2, "fault: String should match pattern"),
    ("fault:", "blame: nobody\nfault:", 2, "blame: Extra inputs are not permitted"),
    ("fault: region-loss at active\n", "", 1, "fault: Field required"),
    ("# Region loss\n", "", 4, "begins with its only title"),
    ("## Symptom", "## Symptoms", 5, "Symptom, Decision, Steps, Verification are wanted once each"),
    ("It is gone.", "", 7, "Symptom says nothing"),
    ("### 1. Look", "### 2. Look", 17, "step 1 is wanted here, as `### 1. What it does`"),
    ("### 2. Mend", "### Mend", 29, "step 2 is wanted here"),
    ("**Abort if** it can't", "Abort if it can't", 29, "step 2 lacks a paragraph that begins with **Abort if**"),
    ("lift\n", "lift all\n", 29, "one line, `lift`"),
    ("```drill\nlift\n```", "", 29, "has 0 blocks `console` or `drill`, not one"),
    ("```drill\nlift\n```", "```console\nholdfast up\n```", 32, "begins with a command"),
    ("```drill\nlift\n```", "```console\n```", 1, "begins with a command"),
    ("repeat, within 60 s", "repeat within 60 s", 20, "'repeat within 60 s' is none of"),
    ("[1]\n", "[1]\n[2]\n", 20, "one command has one exit code"),
    ("everything\n```\n", "everything\n", 37, "has no end"),
]


@pytest.mark.parametrize(("old", "new", "line", "said"), MALFORMED)
def test_a_malformed_page_is_named_by_its_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    path = written(tmp_path, PAGE.replace(old, new, 1))
    with pytest.raises(Malformed, match=re.escape(f"{path}:{line}: ")) as refused:
        read(path)
    assert said in str(refused.value)


def test_a_page_without_steps_is_malformed(tmp_path: Path) -> None:
    begin, end = PAGE.index("### 1."), PAGE.index("## Verification")
    with pytest.raises(Malformed, match="there is no step"):
        read(written(tmp_path, PAGE[:begin] + PAGE[end:]))


def test_a_heading_in_a_block_is_no_heading(tmp_path: Path) -> None:
    path = written(tmp_path, PAGE.replace("everything\n", "# Not a title\n"))
    assert read(path).steps[-1].commands[0].expected == ("# Not a title",)


def test_what_there_is_not_is_refused_with_what_there_is(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "README.md").write_text("no runbook")
    assert runbook_named("region-loss", tmp_path).title == "Region loss"
    with pytest.raises(KeyError, match="there is no runbook 'flood'; there are region-loss"):
        runbook_named("flood", tmp_path)
