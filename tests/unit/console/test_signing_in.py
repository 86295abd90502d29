"""Nobody sees anything without a session, which is bounded, bound to its browser, and opened by a token alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from service.api import build_app
from service.console import access
from service.console.access import MOST_ADDRESSES, MOST_SESSIONS, TRIES, Sessions, own_path

from tests.support.regions import OPERATOR, TOKEN, VIEWER, MemoryIndex, MemoryTrail, region, write_role
from tests.unit.console.conftest import ADDRESS, Passing, Person

pytestmark = pytest.mark.unit

Visitor = Callable[[], Person]
PAGES = ("/", "/runs", "/runs/run-1", "/runs/run-1/steps/1/1", "/runs/run-1/history", "/regions", "/audit", "/session")
DEEDS = (
    "/logout",
    "/runs/run-1/cancel",
    "/runs/run-1/rerun",
    "/runs/run-1/decide",
    "/runs/run-1/replay",
    "/regions/switchover",
)


@pytest.mark.parametrize("page", PAGES[1:])
def test_who_is_not_signed_in_is_asked_who_they_are(visitor: Visitor, asked: list[str], page: str) -> None:
    response = visitor().get(f"{page}?x=1")
    assert response.status_code == 303
    assert response.headers["location"].startswith("/console/login?next=%2Fconsole")
    assert response.headers["location"].endswith("%3Fx%3D1")
    assert asked == []


@pytest.mark.parametrize("deed", DEEDS)
def test_who_is_not_signed_in_does_nothing(visitor: Visitor, asked: list[str], deed: str) -> None:
    response = visitor().client.post(f"/console{deed}", data={"csrf": ""}, follow_redirects=False)
    assert response.headers["location"] == "/console/login?next=%2Fconsole%2Fruns"
    assert asked == []


def test_the_api_s_token_opens_no_page_and_a_session_no_api(visitor: Visitor, operator: Person) -> None:
    nobody = visitor()
    nobody.client.headers["Authorization"] = f"Bearer {TOKEN}"
    assert nobody.get("/runs").status_code == 303
    assert nobody.sign_in(TOKEN).status_code == 401
    assert operator.client.get("/v1/runs").status_code == 401
    assert operator.client.get("/consoles").status_code == 401


@pytest.mark.parametrize(("token", "role"), [(VIEWER, "viewer"), (OPERATOR, "operator")])
def test_a_token_opens_a_session_with_its_role(visitor: Visitor, token: str, role: str, trail: MemoryTrail) -> None:
    person = visitor()
    response = person.sign_in(f" {token} ", " Ada  Lovelace ", "/console/regions?x=1")
    assert (response.status_code, response.headers["location"]) == (303, "/console/regions?x=1")
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("__Host-holdfast-a=")
    for property_ in ("HttpOnly", "Secure", "SameSite=strict", "Path=/", "Max-Age=3600"):
        assert property_ in cookie
    assert "Domain" not in cookie
    assert "<b>Ada Lovelace</b>" in person.get("/runs").text
    [entry] = trail.entries
    assert (entry.who, entry.role, entry.source, entry.region, entry.action, entry.outcome) == (
        "Ada Lovelace",
        role,
        "testclient",
        "a",
        "sign in",
        "done",
    )
    assert person.get("/session").status_code == 204
    assert person.get("/login").headers["location"] == "/console/runs"


@pytest.mark.parametrize("token", ["", "wrong", OPERATOR[:-1], f"{OPERATOR}x", "\udcff", "Ä" * 20])
def test_another_token_opens_nothing(visitor: Visitor, trail: MemoryTrail, token: str) -> None:
    person = visitor()
    if token == "\udcff":
        body = b"who=Ada&token=%ff"
        headers = {"content-type": "application/x-www-form-urlencoded"}
        response = person.client.post("/console/login", content=body, headers=headers)
    else:
        response = person.sign_in(token)
    assert response.status_code == 401
    assert "nobody’s token" in response.text or "nobody&#39;s token" in response.text
    assert "set-cookie" not in response.headers
    assert trail.entries == []


@pytest.mark.parametrize("who", ["", "  ", "x" * 81, "a\x00b"])
def test_who_does_not_say_who_they_are_stays_outside(visitor: Visitor, who: str) -> None:
    response = visitor().sign_in(OPERATOR, who)
    assert response.status_code == 422
    assert "Say who you are" in response.text


def test_an_address_may_try_a_few_times_and_then_waits(
    visitor: Visitor, clock: Passing, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = visitor()
    for _ in range(TRIES):
        assert person.sign_in("wrong").status_code == 401
    refused = person.sign_in(OPERATOR)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert "set-cookie" not in refused.headers


def test_addresses_are_counted_apart_and_not_remembered_without_end() -> None:
    sessions = Sessions({"viewer": VIEWER}, lifetime=10, idle=10)
    for _ in range(TRIES):
        assert sessions.may_try("first") == 0
    assert sessions.may_try("first") > 0
    for number in range(MOST_ADDRESSES):
        assert sessions.may_try(str(number)) == 0
    assert sessions.may_try("first") == 0


@pytest.mark.parametrize(
    ("passed", "is_over"), [([599, 599], False), ([601], True), ([590] * 6, False), ([590] * 7, True)]
)
def test_a_session_ends_when_nobody_uses_it_and_at_its_end_anyway(
    operator: Person, clock: Passing, passed: list[int], is_over: bool
) -> None:
    for seconds in passed:
        clock.now += seconds
        response = operator.get("/session")
    assert response.status_code == (303 if is_over else 204)


def test_a_session_that_is_over_does_nothing(operator: Person, clock: Passing, asked: list[str]) -> None:
    csrf = operator.csrf()
    clock.now += 601
    assert operator.post("/runs/run-1/cancel", csrf=csrf).headers["location"].startswith("/console/login")
    assert not [one for one in asked if "terminate" in one]


def test_who_signs_out_is_out_wherever_the_cookie_is(operator: Person, visitor: Visitor, trail: MemoryTrail) -> None:
    thief = visitor()
    thief.client.cookies.update(operator.client.cookies)
    assert thief.get("/session").status_code == 204
    response = operator.post("/logout")
    assert (response.status_code, response.headers["location"]) == (303, "/console/login")
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert thief.get("/session").status_code == 303
    assert [one.action for one in trail.entries] == ["sign in", "sign out"]


def test_the_oldest_session_goes_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions({"viewer": VIEWER}, lifetime=10, idle=10)
    opened = [sessions.sign_in(VIEWER, "Ada") for _ in range(MOST_SESSIONS + 1)]
    names = [one[0] for one in opened if one]
    assert sessions.find(names[0]) is None
    assert sessions.find(names[1]) is not None
    assert len(set(names)) == MOST_SESSIONS + 1


def test_short_or_equal_tokens_are_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="viewer token has 5 characters; give it 16"):
        Sessions({"viewer": "short"}, lifetime=1, idle=1)
    with pytest.raises(ValueError, match="must differ"):
        Sessions({"viewer": VIEWER, "operator": VIEWER}, lifetime=1, idle=1)


@pytest.mark.parametrize(
    ("wanted", "leads_to"),
    [
        ("/console/regions", "/console/regions"),
        ("/console/runs?id=x", "/console/runs?id=x"),
        ("", "/console/runs"),
        ("https://evil.example/console/", "/console/runs"),
        ("//evil.example", "/console/runs"),
        ("/console\\@evil.example", "/console/runs"),
        ("/console/\\evil", "/console/runs"),
        ("/console/x\r\nSet-Cookie: a=b", "/console/runs"),
        ("/console/logout", "/console/runs"),
        ("javascript:alert(1)", "/console/runs"),
    ],
)
def test_signing_in_leads_nowhere_else(wanted: str, leads_to: str) -> None:
    assert own_path(wanted) == leads_to


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("csrf", ["", "wrong", "\x00"])
def test_a_form_without_its_session_s_secret_does_nothing(
    operator: Person, trail: MemoryTrail, ended: object, deed: str, csrf: str
) -> None:
    before = len(trail.entries)
    response = operator.post(deed, csrf=csrf, confirm="b")
    assert response.status_code == 403
    assert "not of this session" in response.text
    assert len(trail.entries) == before


def test_another_session_s_secret_is_none(operator: Person, viewer: Person) -> None:
    assert operator.post("/logout", csrf=viewer.csrf()).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_form_of_another_site_is_refused(operator: Person, headers: dict[str, str], path: str) -> None:
    fields = {"csrf": operator.csrf(), "token": OPERATOR, "who": "Eve"}
    response = operator.client.post(f"/console{path}", data=fields, headers=headers, follow_redirects=False)
    assert (response.status_code, "another site" in response.text) == (403, True)


def test_the_own_pages_forms_are_taken(operator: Person) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "Origin": ADDRESS}
    fields = {"csrf": operator.csrf()}
    assert operator.client.post("/console/logout", data=fields, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 415),
        (b"&".join(b"a=b" for _ in range(60)), "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe=1", "application/x-www-form-urlencoded", 400),
        (b"x" * 20_001, "application/x-www-form-urlencoded", 413),
    ],
)
def test_what_is_no_form_is_refused(operator: Person, body: bytes, kind: str, status: int) -> None:
    response = operator.client.post("/console/logout", content=body, headers={"content-type": kind})
    assert response.status_code == status


@pytest.mark.parametrize("path", ["/runs", "/regions", "/audit", "/nowhere", "/static/console.js", "/login", "/runs/x"])
def test_every_answer_tells_the_browser_to_guard_it(operator: Person, path: str) -> None:
    headers = operator.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == ("no-cache" if "static" in path else "no-store")


def test_no_page_has_a_script_or_a_style_in_it(operator: Person, ended: object) -> None:
    for path in ("/runs", "/runs/run-1", "/regions", "/audit", "/login"):
        text = operator.get(path).text.lower()
        assert "style=" not in text
        assert "<style" not in text
        assert "onclick" not in text
        assert text.count("<script") == text.count('<script src="/console/static/console.js" defer></script>')


def test_one_session_can_not_keep_the_console_busy(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "REQUESTS_AT_ONCE", 5)
    monkeypatch.setattr(access, "REQUESTS_PER_SECOND", 0.001)
    busy, other = visitor(), visitor()
    for person in (busy, other):
        person.sign_in(VIEWER)
    assert [busy.get("/session").status_code for _ in range(6)] == [204] * 5 + [429]
    assert other.get("/session").status_code == 204


def test_in_a_standby_people_sign_in_though_nothing_can_be_recorded(
    visitor: Visitor, trail: MemoryTrail, role_file: Path
) -> None:
    write_role(role_file, "standby")
    trail.unavailable = {"begin"}
    person = visitor()
    assert person.sign_in(OPERATOR).status_code == 303
    assert person.get("/runs").status_code == 200
    assert trail.entries == []


def test_there_is_no_console_where_none_is_configured(tmp_path: Path, role_file: Path) -> None:
    app: FastAPI = build_app(region(tmp_path, MemoryIndex([])), TOKEN)
    assert TestClient(app).get("/console/runs").status_code == 401
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert TestClient(app).get("/console/runs", headers=headers).status_code == 404
