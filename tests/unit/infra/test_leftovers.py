"""What is left of a deployment is found by its marks, its ports and its files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.leftovers import known_ports, leftovers

pytestmark = pytest.mark.unit


def test_nothing_left_is_false(tmp_path: Path) -> None:
    assert not leftovers(tmp_path / "local", (1,))


def test_a_directory_is_left(tmp_path: Path) -> None:
    assert str(leftovers(tmp_path)) == f"files in {tmp_path}"


def test_a_process_with_the_deployments_marks_is_left(tmp_path: Path) -> None:
    marks = {"HOLDFAST_DEPLOYMENT": str(tmp_path / "local"), "HOLDFAST_SITE": "witness"}
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **marks},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = leftovers(tmp_path / "local")
        process.kill()

    assert list(found.processes) == [process.pid]
    assert " of witness)" in str(found)


def test_an_open_port_is_left(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        found = leftovers(tmp_path / "local", (port, 1))

    assert found.ports == (port,)
    assert f"port {port} is open" in str(found)


def test_ports_are_those_that_the_deployment_allocated(tmp_path: Path) -> None:
    assert known_ports(tmp_path) == ()
    (tmp_path / "ports.json").write_text(json.dumps({"base": 20000, "ports": {"payments": 20001, "wan": 20000}}))
    assert known_ports(tmp_path) == (20000, 20001)
    (tmp_path / "ports.json").write_text("{")
    assert known_ports(tmp_path) == ()
