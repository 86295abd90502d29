"""What the API and the worker stand on: the role file, the sidecars, the hosted agent, the app channel."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from pydantic_ai_dapr import WorkflowUnavailableError
from refund_desk.hosted import hosted
from run_index import IndexUnavailableError
from service.app_channel import serve_app_channel
from service.config import ServiceConfig
from service.hosting import Effects, load_hosted
from service.role import RoleFile
from service.sidecars import Sidecars
from service.state_store import state_store

from infra.state import project_root
from tests.support.regions import MemoryWorkflows, service_config, write_role

pytestmark = pytest.mark.unit


class TestRoleFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "role.json"

    def test_there_is_no_role_before_one_is_written(self, path: Path) -> None:
        assert RoleFile(path).read() is None

    def test_a_role_is_what_was_written_last(self, path: Path) -> None:
        file = RoleFile(path)
        seen: list[tuple[str, int]] = []
        for role, epoch in (("standby", 3), ("activating", 4), ("active", 4)):
            write_role(path, role, epoch)
            read = file.read()
            assert read is not None
            seen.append((read.role, read.epoch))
        assert seen == [("standby", 3), ("activating", 4), ("active", 4)]

    def test_a_file_that_has_not_changed_is_not_read_again(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_role(path, "active")
        file = RoleFile(path)
        first = file.read()
        for name in ("read_text", "read_bytes"):
            monkeypatch.setattr(Path, name, lambda *_, **__: pytest.fail("it was read again"))
        assert file.read() is first

    def test_a_role_is_gone_with_its_file(self, path: Path) -> None:
        write_role(path, "active")
        file = RoleFile(path)
        assert file.read() is not None
        path.unlink()
        assert file.read() is None
        write_role(path, "standby")
        assert file.read() is not None

    @pytest.mark.parametrize(
        "content", [b"", b"\x00" * 80, b"\xff\xfe", b"{", b"[]", b'{"region": "a", "role": "king", "epoch": 1}']
    )
    def test_what_is_no_role_is_none_until_one_is_written(self, path: Path, content: bytes) -> None:
        write_role(path, "active")
        file = RoleFile(path)
        assert file.read() is not None
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
        assert (file.read(), file.read()) == (None, None)
        write_role(path, "standby")
        assert file.read() is not None

    def test_a_file_that_goes_while_it_is_looked_at_is_none(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        stat = os.stat

        def stat_and_remove(path_: Path) -> os.stat_result:
            seen = stat(path_)
            path_.unlink()
            return seen

        write_role(path, "active")
        monkeypatch.setattr("service.role.os.stat", stat_and_remove)
        assert RoleFile(path).read() is None


class TestSidecars:
    @pytest.fixture
    def two(self) -> list[MemoryWorkflows]:
        made = [MemoryWorkflows([]) for _ in range(2)]
        for one in made:
            one.become("run-1", "running")
        return made

    def test_the_next_one_is_asked_when_one_does_not_answer_and_stays_preferred(
        self, two: list[MemoryWorkflows]
    ) -> None:
        sidecars = Sidecars(two)
        two[0].unavailable = True
        assert sidecars.ask(lambda client: client.status("run-1")) is not None
        two[0].unavailable = False
        sidecars.ask(lambda client: client.status("run-1"))
        assert (len(two[0].asked), len(two[1].asked)) == (1, 2)
        two[1].unavailable = True
        assert sidecars.ask(lambda client: client.status("run-1")) is not None

    def test_when_none_answers_the_last_failure_is_told(self, two: list[MemoryWorkflows]) -> None:
        for one in two:
            one.unavailable = True
        with pytest.raises(WorkflowUnavailableError, match="UNAVAILABLE"):
            Sidecars(two).ask(lambda client: client.status("run-1"))
        assert [len(one.asked) for one in two] == [1, 1]

    def test_an_error_that_an_answer_is_goes_to_the_caller_at_once(self, two: list[MemoryWorkflows]) -> None:
        def refuse(client: object) -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            Sidecars(two).ask(refuse)

    def test_a_region_without_sidecars_says_so(self) -> None:
        with pytest.raises(WorkflowUnavailableError, match="the region has no sidecar"):
            Sidecars([]).ask(lambda client: client.status("run-1"))


class TestStateStore:
    def test_a_database_that_is_lost_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            nobody = f"host=127.0.0.1 port={server.getsockname()[1]} user=x dbname=x password=s3cret"
        with pytest.raises(IndexUnavailableError, match="the state store can't be read: OperationalError") as error:
            state_store("desk", nobody).stored("run-1", 3)
        assert "s3cret" not in str(error.value)


HOSTING = project_root() / "docs" / "hosting.md"


class TestHosting:
    def test_an_agent_is_found_by_its_reference(self) -> None:
        assert load_hosted("refund_desk.hosted:hosted") is hosted

    def test_the_agent_of_the_documentation_is_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (code,) = re.findall(r"```python\n# helpdesk.py\n(.*?)```", HOSTING.read_text(encoding="utf-8"), re.DOTALL)
        (tmp_path / "helpdesk.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        helpdesk = load_hosted("helpdesk:hosted")
        helpdesk.warm_up()
        question = helpdesk.input_type.model_validate({"customer": "Ada", "text": "Where is my order?"})
        agent = helpdesk.build_agent(model="test", model_latency_seconds=0.0, effects=None)
        assert "nothing about" in agent.run_sync(helpdesk.prompt(question), deps=helpdesk.deps(question)).output

    @pytest.mark.parametrize("reference", ["no_such_module:hosted", "refund_desk.hosted:nobody", "refund_desk.hosted"])
    def test_an_agent_that_is_not_there_is_named(self, reference: str) -> None:
        with pytest.raises(ValueError, match=f"agent '{reference}' can't be loaded: "):
            load_hosted(reference)

    def test_effects_carry_those_on_whose_behalf_they_are_sent(self) -> None:
        effects = Effects(url="https://p", ca=Path("ca"), token_file=Path("t"), region="a", epoch=3, worker="w")
        assert (effects.region, effects.epoch, effects.worker) == ("a", 3, "w")


class TestServiceConfig:
    def test_a_region_is_bounded_unless_said_otherwise(self, tmp_path: Path) -> None:
        config = ServiceConfig.model_validate(service_config(tmp_path))
        assert (config.max_body_bytes, config.rate_per_second, config.rate_burst) == (1_000_000, 200.0, 400)

    @pytest.mark.parametrize("change", [{"peer": {}}, {"listen": "8443"}, {"sidecars": [{"grpc_port": 1}]}])
    def test_what_is_not_understood_is_refused(self, tmp_path: Path, change: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            ServiceConfig.model_validate(service_config(tmp_path, **change))


@pytest.fixture(scope="module")
def get() -> Iterator[Callable[..., httpx.Response]]:
    server = serve_app_channel(0, "the-token", lambda: b"up 1\n")
    host, port = server.server_address[:2]
    assert host == "127.0.0.1"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield lambda path, **headers: client.get(path, headers=headers)
    server.shutdown()
    server.server_close()


class TestAppChannel:
    def test_the_sidecar_is_told_to_drain_briefly(self, get: Callable[..., httpx.Response]) -> None:
        response = get("/dapr/config", **{"dapr-api-token": "the-token"})
        assert response.status_code == 200
        assert response.json()["drainOngoingCallTimeout"] == "250ms"
        assert response.json()["drainRebalancedActors"] is True
        assert response.headers["content-type"] == "application/json"

    def test_whoever_holds_the_token_is_told_the_metrics(self, get: Callable[..., httpx.Response]) -> None:
        response = get("/metrics", **{"dapr-api-token": "the-token"})
        assert (response.status_code, response.content) == (200, b"up 1\n")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")

    @pytest.mark.parametrize("token", [None, "", "the-toke", "the-token2", "é"])
    @pytest.mark.parametrize("path", ["/dapr/config", "/metrics", "/nowhere"])
    def test_nobody_else_is_told_anything(
        self, get: Callable[..., httpx.Response], token: str | None, path: str
    ) -> None:
        headers = {} if token is None else {"dapr-api-token": token.encode()}
        response = get(path, **headers)
        assert (response.status_code, response.content) == (401, b"")

    @pytest.mark.parametrize("path", ["/", "/dapr", "/dapr/config/", "/dapr/subscribe", "/healthz"])
    def test_there_is_nothing_else_to_ask(self, get: Callable[..., httpx.Response], path: str) -> None:
        response = get(path, **{"dapr-api-token": "the-token"})
        assert (response.status_code, response.content) == (404, b"")

    def test_it_is_answered_in_threads_that_hold_up_no_end(self, get: Callable[..., httpx.Response]) -> None:
        get("/dapr/config")
        assert all(thread.daemon for thread in threading.enumerate() if thread.name == "app-channel")
