"""Ports are allocated once, by name, and never two deployments' at the same time."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from infra.local import ports
from infra.local.errors import PartError
from infra.local.links import LINKS, between
from infra.topology import Settings

pytestmark = pytest.mark.unit


def test_every_port_has_a_name_of_its_own_and_all_fit_into_a_block() -> None:
    names = ports.port_names()
    assert len(set(names)) == len(names) <= ports.BLOCK


def test_ports_stay_the_same_for_as_long_as_the_deployment_exists(tmp_path: Path) -> None:
    settings = Settings(name="one", directory=tmp_path)
    first = ports.allocate(settings)
    assert ports.allocate(dataclasses.replace(settings, workers=9)) == first
    assert ports.load(tmp_path) == first
    assert all(ports.FIRST <= port < ports.LAST for port in first.values())


def test_a_block_in_which_somebody_listens_is_passed_over(tmp_path: Path) -> None:
    settings = Settings(name="one", directory=tmp_path)
    first = ports.allocate(settings)
    (tmp_path / ports.FILE).unlink()
    with socket.create_server(("127.0.0.1", first["a.postgres"])):
        second = ports.allocate(settings)
    assert not set(first.values()) & set(second.values())


def test_a_taken_port_is_named_with_whose_it_is_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PartError, match=rf"port {port}, which is a\.api's.*holdfast down"):
            ports.check_free({"a.api": port})


def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / ports.FILE).write_text("{")
    with pytest.raises(PartError, match=r"ports\.json is damaged.*holdfast down"):
        ports.load(tmp_path)


def test_every_line_between_sites_has_a_link_in_each_direction_that_is_dialled() -> None:
    assert len({link.name for link in LINKS}) == len(LINKS) == 22
    for source, to in (("a", "b"), ("b", "a"), ("a", "w"), ("b", "w"), ("w", "a"), ("w", "b")):
        assert between(source, to, "etcd-peer").name == f"{source}-{to}.etcd-peer"
    assert between("a", "b", "etcd-client").upstream == "b.etcd"
    names = set(ports.port_names())
    assert {link.port for link in LINKS} | {link.upstream for link in LINKS} <= names


def test_a_line_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match=r"w-a\.postgres"):
        between("w", "a", "postgres")
