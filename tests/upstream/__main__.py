"""Runs PydanticAI's own tests for DBOS on `pydantic_ai_dapr`, and prints what became of them as a table.

    git clone https://github.com/pydantic/pydantic-ai /tmp/pydantic-ai
    .venv/bin/python -m tests.upstream /tmp/pydantic-ai

They need a checkout: PydanticAI's source distributions have none of its tests. It is copied to a scratch folder, which
gets an environment of its own with the PydanticAI that this library is pinned to, DBOS, and what the tests import. They
are run there on this library, and what fails once more on DBOS itself: that fails with this PydanticAI in any case.

Exit code 0: what fails is known, and why. 1: something else fails. 2: it could not be checked.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from infra.state import project_root
from infra.toolchain.uv import find_uv

ROOT = project_root()
REQUIRES = (
    str(ROOT / "app" / "pydantic_ai_dapr"),
    *("pydantic-ai-slim[anthropic,dbos,google,mcp,openai]", "dbos==3.4.0", "fastmcp-slim[client]==4.2.3"),
    *("opentelemetry-sdk", "logfire[httpx]==5.4.0", "dirty-equals==0.11", "inline-snapshot==0.36.1"),
    *("pytest==9.2.0", "pytest-examples==0.0.18", "pytest-mock==3.17.0", "pytest-recording==0.14.1"),
    *("pytest-timeout==2.4.0", "vcrpy==9.4.2", "aiohttp==3.14.5", "blockbuster==1.5.29", "brotli==1.2.1"),
)
MODULE, SECONDS = "tests/test_dbos.py", 600
ENGINE, WORDS, DESIGN = "about DBOS's own objects, options or deprecated wrapper", "words only", "by design"
KNOWN = {
    ENGINE: """
        test_dbos_agent_construction_warns_deprecated test_dbos_agent_event_stream_handler_property_outside_workflow
        test_agent_name_collision test_dbos_agent test_dbos_agent_run_stream_events
        test_dbos_agent_run_stream_in_workflow test_dbos_agent_run_stream_events_in_workflow
        test_dbos_agent_realtime_session_in_workflow test_dbos_agent_realtime_signaling_in_workflow
        test_dbos_agent_realtime_signaling_in_step test_dbos_agent_run_in_workflow_with_event_stream_handler
        test_dbos_agent_run_in_workflow_with_model test_dbos_cancel_suspended_response_runs_in_step
        test_dbos_agent_override_model_in_workflow test_dbos_model_stream_direct
        test_dbosify_mcptoolset_dispatches_to_dbosmcptoolset test_dbos_mcp_wrapper_visit_and_replace
        test_dbos_durability_registers_legacy_workflows_opt_in test_dbos_durability_legacy_run_sync_workflow
        test_dbos_durability_legacy_workflow_matches_wrapper_step_sequence
        test_dbos_durability_parallel_mode_applies_inside_run test_dbos_durability_event_stream_handler_step_config
        test_dbos_agent_run_sync_from_sync_tool_is_rejected
    """,
    WORDS: """
        test_agent_without_name test_agent_without_model test_mcp_toolset_without_id
        test_dbos_dynamic_get_tools_rejects_enqueue_in_workflow test_dbos_model_request_step_rejects_enqueue
        test_dbos_cancel_suspended_response_step_rejects_enqueue test_dbos_durability_rejects_idless_mcp_toolset
        test_dbos_durability_unregistered_model_instance_errors
        test_dbos_durability_unrebuildable_model_string_errors
        test_dbos_agent_with_unserializable_deps_type
    """,
    DESIGN: """
        test_toolset_without_id test_dynamic_toolset test_dbos_agent_run_in_workflow_with_toolsets
        test_dbos_agent_run_in_workflow_with_runtime_function_toolset test_dbos_agent_override_tools_in_workflow
        test_dbos_durability_same_toolset_instance_reused test_dbos_plain_tool_cancel_works_in_workflow
        test_dbos_durability_rejects_cancellation_token_in_workflow test_dbos_agent_run_sync_in_workflow
    """,
}
"""Why a test fails here, though it passes on DBOS: see docs/conformance.md."""
WHY = {name: why for why, names in KNOWN.items() for name in names.split()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.upstream", description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a checkout of PydanticAI, with its tests")
    parser.add_argument("--scratch", type=Path, help="where to run them (default: a temporary folder, removed again)")
    options = parser.parse_args(arguments)
    if not (options.checkout / MODULE).is_file():
        print(f"{options.checkout} has no {MODULE}; clone https://github.com/pydantic/pydantic-ai")
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        scratch = options.scratch or Path(temporary)
        try:
            python = _prepared(scratch, options.checkout / "tests")
            here = _results(scratch, python, MODULE)
            failed = [f"{MODULE}::{name}" for name, wrong in here.items() if wrong]
            on_dbos = _results(scratch, python, "--baseline", *failed) if failed else {}
        except (subprocess.SubprocessError, OSError) as error:
            print(f"the tests could not be run: {error}\n{getattr(error, 'stderr', '') or ''}")
            return 2
    return told(on_dbos, here)


def _prepared(scratch: Path, tests: Path) -> Path:
    """The interpreter of an environment beside a copy of the tests, with what they are to be run by among them."""
    uv = find_uv(ROOT / ".holdfast" / "uv")
    if uv is None:
        raise OSError("uv is not there; `make setup` installs it")
    shutil.copytree(tests, scratch / "tests", dirs_exist_ok=True)
    for own in ("support", "upstream"):
        shutil.copytree(ROOT / "tests" / own, scratch / "tests" / own, dirs_exist_ok=True)
    module = scratch / MODULE
    text = module.read_text().replace("'enable_otlp': True", "'enable_otlp': False")  # nobody listens
    fixtures = "from tests.upstream.overrides import blockbuster_enabled, mock_vcr_aiohttp_content  # noqa\n"
    module.write_text(f"{text}\n\n{fixtures}")
    (scratch / "pytest.ini").write_text("[pytest]\nmarkers =\n    xdist_group\n    vcr\n    moves_cache_prefix\n")
    python = scratch / "env" / "bin" / "python"
    _run([uv, "venv", "--allow-existing", scratch / "env", "--python", sys.executable], scratch)
    _run([uv, "pip", "install", "--python", python, *REQUIRES], scratch)
    return python


def _results(scratch: Path, python: Path, *options: str) -> dict[str, str]:
    """What became of each test: nothing where it passed, else the first line of what went wrong."""
    report = scratch / "report.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-q", "-p", "tests.upstream.as_dbos", *options]
    ended = subprocess.run(
        [*command, "--timeout=30", "--tb=line", f"--junitxml={report}"],
        cwd=scratch,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    if not report.is_file() or ended.returncode not in (0, 1):
        raise subprocess.CalledProcessError(ended.returncode, ended.args, stderr=ended.stdout[-4000:] + ended.stderr)
    found: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314  # pytest has just written it
        wrong = [one for one in case if one.tag in ("failure", "error")]
        name = str(case.get("name"))
        found[name] = found.get(name) or (wrong[0].get("message") or "failed").splitlines()[0] if wrong else ""
    return found


def told(on_dbos: dict[str, str], here: dict[str, str]) -> int:
    """The table, and what nobody knows the reason of. Returns the exit code."""
    broken = {name for name, wrong in here.items() if wrong and on_dbos.get(name)}
    own = {name for name, wrong in here.items() if wrong and WHY.get(name) == ENGINE} - broken
    applies = here.keys() - broken - own
    failed = {name for name in applies if here[name]}
    rows = {
        "tests": len(here),
        ENGINE: len(own),
        "fail on DBOS too, with this PydanticAI": len(broken),
        "**apply**": len(applies),
        "pass": len(applies - failed),
        f"fail, {WORDS}": sum(WHY.get(name) == WORDS for name in failed),
        f"fail, {DESIGN}": sum(WHY.get(name) == DESIGN for name in failed),
        "fail, unknown why": len(unknown := sorted(failed - WHY.keys())),
    }
    print("| | DBOS |\n|---|---|")
    for what, count in rows.items():
        print(f"| {what} | {count} |")
    for name in unknown:
        print(f"\n{name}: {here[name]}")
    if not applies:
        print(f"\nnone of them runs, here or on DBOS: {next(iter(here.values()), 'there is none')}")
        return 2
    return 1 if unknown else 0


def _run(command: list[str | Path], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
