"""Every request is authenticated and bounded before a handler sees it, and every error is a problem detail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel
from serving import Problem, harden
from serving.hardening import RateLimit

pytestmark = pytest.mark.unit

TOKEN = "the-token"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
LIMIT = 1000
TEN_MEGABYTES = 10_000_000


def test_what_is_guarded_elsewhere_is_bounded_in_size_alone() -> None:
    app = FastAPI()
    harden(app, token=TOKEN, max_body_bytes=LIMIT, guarded_elsewhere="/pages", rate_limit=RateLimit(0.001, 1))

    @app.post("/pages/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/pagesbeside")
    def beside() -> None: ...

    client = TestClient(app)
    for _ in range(3):
        assert client.post("/pages/echo", content=b"x" * 10).json() == 10
    assert client.post("/pages/echo", content=b"x" * (LIMIT + 1)).status_code == 413
    assert client.post("/pages/echo", content=iter([b"x" * LIMIT, b"x"])).status_code == 413
    assert client.get("/pages").status_code == 404
    for path in ("/pagesbeside", "/other/pages", "//pages"):
        assert client.get(path).status_code == 401


class Item(BaseModel):
    name: str


def an_app(rate_limit: RateLimit | None = None) -> FastAPI:
    app = FastAPI()
    app.state.handled = 0
    harden(app, token=TOKEN, max_body_bytes=LIMIT, public_paths=("/healthz",), rate_limit=rate_limit)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/items")
    def add(item: Item) -> Item:
        app.state.handled += 1
        return item

    @app.get("/numbers")
    def numbers(at_most: Annotated[int, Query(ge=1)]) -> int:
        return at_most

    @app.get("/problem")
    def problem() -> None:
        raise Problem(503, "standby", "ask the other region", headers={"Retry-After": "1"}, active_url="https://b")

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the password is hunter2")

    return app


@pytest.fixture
def app() -> FastAPI:
    return an_app()


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False, headers=AUTHORIZED) as client:
        yield client


def assert_problem(response: httpx.Response, status: int) -> dict[str, object]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize(
    "authorization",
    [None, "", "the-token", "Basic the-token", "Bearer ", "Bearer the-toke", "Bearer the-token2", "bearer the-token"],
)
def test_a_request_without_the_token_is_refused_and_not_handled(app: FastAPI, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = TestClient(app).post("/items", json={"name": "a"}, headers=headers)
    assert_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in response.text
    assert app.state.handled == 0


def test_a_token_of_other_bytes_is_refused_and_not_an_error(app: FastAPI) -> None:
    assert_problem(TestClient(app).get("/numbers", headers={"Authorization": "Bearer \xff\xfe".encode("latin-1")}), 401)


def test_a_stranger_does_not_learn_which_paths_exist(app: FastAPI) -> None:
    stranger = TestClient(app)
    assert stranger.get("/numbers").text == stranger.get("/nowhere").text


def test_the_right_token_opens(client: TestClient) -> None:
    assert client.post("/items", json={"name": "a"}).json() == {"name": "a"}


def test_a_public_path_needs_no_token_and_its_neighbours_do(app: FastAPI) -> None:
    stranger = TestClient(app)
    assert stranger.get("/healthz").json() == {"status": "ok"}
    assert_problem(stranger.get("/healthz/"), 401)
    assert_problem(stranger.get("/healthz/../items"), 401)


def test_a_body_that_says_it_is_too_large_is_refused(app: FastAPI, client: TestClient) -> None:
    response = client.post("/items", content=b" " * TEN_MEGABYTES)
    assert response.request.headers["content-length"] == str(TEN_MEGABYTES)
    assert str(LIMIT) in str(assert_problem(response, 413)["detail"])
    assert app.state.handled == 0


def test_a_body_of_unsaid_length_is_refused_once_it_is_too_large_and_read_no_further(app: FastAPI) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(TEN_MEGABYTES // 500):
            sent += 500
            yield b" " * 500

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=_Streaming(app), base_url="https://service") as client:
            return await client.post("/items", content=body(), headers=AUTHORIZED)

    response = asyncio.run(post())
    assert "content-length" not in response.request.headers
    assert str(LIMIT) in str(assert_problem(response, 413)["detail"])
    assert sent <= 2 * LIMIT
    assert app.state.handled == 0


def test_a_body_that_is_longer_than_it_says_is_refused(app: FastAPI) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 500

    async def post() -> httpx.Response:
        async with httpx.AsyncClient(transport=_Streaming(app), base_url="https://service") as client:
            return await client.post("/items", content=body(), headers=AUTHORIZED | {"Content-Length": "10"})

    assert_problem(asyncio.run(post()), 413)


def test_a_body_of_exactly_the_limit_is_accepted(client: TestClient) -> None:
    frame = len('{"name":""}')
    name = "a" * (LIMIT - frame)
    headers = {"Content-Type": "application/json"}
    assert client.post("/items", content=f'{{"name":"{name}"}}', headers=headers).status_code == 200
    assert_problem(client.post("/items", content=f'{{"name":"{name}a"}}', headers=headers), 413)


def test_more_requests_than_allowed_are_told_when_to_come_back() -> None:
    with TestClient(an_app(RateLimit(rate=0.5, burst=2)), headers=AUTHORIZED) as client:
        assert [client.get("/numbers?at_most=1").status_code for _ in range(2)] == [200, 200]
        response = client.get("/numbers?at_most=1")
    assert_problem(response, 429)
    assert 1 <= int(response.headers["retry-after"]) <= 3


def test_those_without_the_token_do_not_use_up_the_rate_of_those_with_it() -> None:
    with TestClient(an_app(RateLimit(rate=0.001, burst=1))) as client:
        for _ in range(5):
            assert client.get("/numbers?at_most=1").status_code == 401
        assert client.get("/numbers?at_most=1", headers=AUTHORIZED).status_code == 200


def test_health_is_answered_however_many_requests_there_are() -> None:
    with TestClient(an_app(RateLimit(rate=0.001, burst=1)), headers=AUTHORIZED) as client:
        client.get("/numbers?at_most=1")
        assert client.get("/numbers?at_most=1").status_code == 429
        assert client.get("/healthz").status_code == 200


def test_a_token_bucket_allows_its_burst_and_then_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("serving.hardening.time.monotonic", lambda: now)
    bucket = RateLimit(rate=2.0, burst=3)
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take() == pytest.approx(0.5)
    now += 0.5
    assert bucket.take() == 0.0
    assert bucket.take() > 0
    now += 3600
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.take() > 0


def test_an_unknown_path_is_a_problem(client: TestClient) -> None:
    assert_problem(client.get("/nowhere"), 404)


def test_a_wrong_method_is_a_problem_that_says_which_are_right(client: TestClient) -> None:
    response = client.delete("/items")
    assert_problem(response, 405)
    assert response.headers["allow"] == "POST"


def test_an_invalid_request_names_each_wrong_field(client: TestClient) -> None:
    assert "body.name" in str(assert_problem(client.post("/items", json={"nom": "a"}), 422)["detail"])
    assert "query.at_most" in str(assert_problem(client.get("/numbers?at_most=0"), 422)["detail"])


@pytest.mark.parametrize("body", ["", "{", "[1", "nul", '{"name": NaN'])
def test_a_body_that_is_no_json_is_an_invalid_request(client: TestClient, body: str) -> None:
    assert_problem(client.post("/items", content=body, headers={"Content-Type": "application/json"}), 422)


def test_a_failure_is_a_problem_that_tells_nothing_of_its_cause(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.get("/broken")
    assert_problem(response, 500)
    assert "hunter2" not in response.text
    assert "GET /broken failed" in caplog.text


def test_a_problem_has_its_own_members_and_headers(client: TestClient) -> None:
    response = client.get("/problem")
    assert assert_problem(response, 503) == {
        "type": "about:blank",
        "title": "standby",
        "status": 503,
        "detail": "ask the other region",
        "active_url": "https://b",
    }
    assert response.headers["retry-after"] == "1"


class _Streaming(httpx.AsyncBaseTransport):
    """Hands a request's body to the application piece by piece, as a server does."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        pieces = aiter(request.stream)
        headers = [(k.lower(), v) for k, v in request.headers.raw if k.lower() != b"transfer-encoding"]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "https",
            "path": request.url.path,
            "raw_path": request.url.raw_path,
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "server": ("service", 443),
            "client": ("client", 1),
        }
        status, answer_headers, answer = 0, list[tuple[bytes, bytes]](), b""

        async def receive() -> dict[str, object]:
            try:
                return {"type": "http.request", "body": await anext(pieces), "more_body": True}
            except StopAsyncIteration:
                return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            nonlocal status, answer_headers, answer
            if message["type"] == "http.response.start":
                status, answer_headers = message["status"], message["headers"]  # type: ignore[assignment]
            else:
                answer += message.get("body", b"")  # type: ignore[operator]

        await self._app(scope, receive, send)  # type: ignore[arg-type]
        return httpx.Response(status, headers=answer_headers, content=answer, request=request)
