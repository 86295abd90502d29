"""The boundary between Pulumi and the processes: one part at a time is brought up, looked at or taken down.

Every call may be repeated, in any state. Parts may be brought up side by side.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from infra.local import etcd, payments, postgres, region, wan, witness
from infra.local.errors import PartError
from infra.local.files import check_reachable, exclusively, make_directory, write
from infra.local.health import Looker
from infra.local.identity import Authority
from infra.local.layout import SITE_NAMES, Layout
from infra.local.manifest import write_manifest
from infra.local.ports import FILE as PORTS_FILE
from infra.local.ports import load
from infra.local.site import Site
from infra.local.supervisor import await_true, log_tail, start_site, status, stop_site
from infra.state import MANIFEST
from infra.toolchain import ToolchainError, ensure_account
from infra.topology import APP_SECRETS, DATABASE_SECRETS, Settings

__all__ = ["PARTS", "Observation", "PartError", "converge", "layout_of", "observe", "remove", "site_of"]

PARTS = ("root", "wan", "payments", "witness", "region-a", "region-b")
_SITE_SECONDS, _REGION_SECONDS = 30.0, 120.0
_SECRETS = (*APP_SECRETS, *(f"postgres-{of}" for of in DATABASE_SECRETS))

_MEMBERS = {name: where for where, name in SITE_NAMES.items()}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Observation:
    """What was seen of a part."""

    exists: bool
    healthy: bool
    detail: str


def converge(part: str, settings: Settings, progress: Progress) -> dict[str, str]:
    """Where the part answers; it is up and does its work afterwards, or `PartError` says why not."""
    _known(part)
    started = time.monotonic()
    try:
        facts = _root(settings, progress) if part == "root" else _site(part, settings, progress)
    except ToolchainError as error:
        raise PartError(str(error)) from error
    except OSError as error:
        raise PartError(f"{part}: {error}: repeat `holdfast up` once that is mended") from error
    progress(f"{part} is up after {time.monotonic() - started:.1f} s")
    return facts


def observe(part: str, settings: Settings) -> Observation:
    """A quick look that changes nothing."""
    _known(part)
    layout = _existing(settings)
    if layout is None or not layout.client.certificate.exists():
        return Observation(False, False, "not there")
    if part == "root":
        missing = [name for name in _SECRETS if not layout.secret(name).exists()]
        return Observation(True, not missing, f"missing: {', '.join(missing)}" if missing else "")
    if not layout.tls(part).certificate.exists():
        return Observation(False, False, "not there")
    try:
        site = site_of(part, layout)
        with Looker(layout) as look:
            for sight in _sights(part, site, look):
                if not sight.good:
                    return Observation(True, False, sight.detail)
    except (OSError, ToolchainError, PartError) as error:
        return Observation(True, False, str(error))
    return Observation(True, True, "")


def remove(part: str, settings: Settings) -> None:
    """Nothing of the part runs or exists afterwards; `root` is the last, and takes the directory with it."""
    _known(part)
    if not settings.directory.exists():
        return
    if part != "root":
        stop_site(Site(part, settings.directory / part, settings.directory, ensure_account(), ()))
        _delete(settings, part)
        return
    for name in (MANIFEST, PORTS_FILE, "pki", "secrets", ".lock"):
        _delete(settings, name)
    with contextlib.suppress(OSError):
        settings.directory.rmdir()


def layout_of(settings: Settings) -> Layout:
    """Where everything of an existing deployment is."""
    layout = _existing(settings)
    if layout is None:
        raise PartError(f"nothing is deployed in {settings.directory}: start with `holdfast up`")
    return layout


def site_of(part: str, layout: Layout) -> Site:
    """The part's processes, as they are to run."""
    if part in ("region-a", "region-b"):
        return region.site(layout, part[-1])
    return {wan.NAME: wan.site, payments.NAME: payments.site, witness.NAME: witness.site}[part](layout)


def _root(settings: Settings, progress: Progress) -> dict[str, str]:
    account = ensure_account()
    check_reachable(settings.directory, account)
    make_directory(settings.directory)
    layout = Layout.of(settings)
    with exclusively(layout.root):
        make_directory(layout.pki)
        make_directory(layout.root / "secrets")
        progress("certificates and secrets")
        Authority(layout.pki).leaf(layout.client, "holdfast client")
        for name in _SECRETS:
            if not layout.secret(name).exists():
                # PostgreSQL's stay with whoever runs `up`; the app's are read by the services.
                owner = None if name.startswith("postgres-") else account
                write(layout.secret(name), secrets.token_urlsafe(32) + "\n", owner)
        write_manifest(layout)
    return {"ca": str(layout.ca), "client_cert": str(layout.client.certificate)}


def _site(part: str, settings: Settings, progress: Progress) -> dict[str, str]:
    layout = layout_of(settings)
    changed = _write_files(part, layout)
    if part in _MEMBERS and etcd.rejoin(layout, _MEMBERS[part]):
        progress("its lease store's member was lost: joining anew")
    site = site_of(part, layout)
    # What the supervisor was started with decides, not what was written since.
    configuration = site.directory / "process-compose.yaml"
    changed |= not configuration.exists() or configuration.read_text(encoding="utf-8") != site.supervision()
    running = status(site.socket) is not None
    if changed and running:
        progress("its settings changed: restarting it")
        stop_site(site)
    elif not running:
        progress("starting")
    if start_site(site) and running and not changed:
        progress("restarting what had died")
    with exclusively(layout.root):
        write_manifest(layout)
    _await_ready(part, site, layout, progress)
    return _facts(part, layout)


def _write_files(part: str, layout: Layout) -> bool:
    if part in ("region-a", "region-b"):
        return region.write_files(layout, part[-1])
    writers = {wan.NAME: wan, payments.NAME: payments, witness.NAME: witness}
    return writers[part].write_files(layout)


def _await_ready(part: str, site: Site, layout: Layout, progress: Progress) -> None:
    said = ""
    promise = postgres.Promise(layout) if part == SITE_NAMES[postgres.MAKER] else None
    with Looker(layout) as look:
        if part == wan.NAME and look.processes(site).good and not look.links().good:
            wan.reset(layout)
        deadline = _REGION_SECONDS if part.startswith("region") else _SITE_SECONDS

        def seen() -> tuple[bool | None, str]:
            nonlocal said
            for sight in _sights(part, site, look, converging=True):
                if not sight.good:
                    if sight.detail != said:
                        said = sight.detail
                        progress(f"waiting: {said}")
                    with contextlib.suppress(httpx.HTTPError):
                        if promise and promise.mend(look.patroni(postgres.MAKER) or {}):
                            progress("nobody made the database that was promised: it is made anew")
                    return None, sight.detail
            return True, ""

        await_true(f"{part} ready", seen, deadline, lambda: _last_words(site))
        if part.startswith("region"):
            try:
                if look.apply_dynamic(part[-1]):
                    progress("lease settings changed")
            except httpx.HTTPError as error:
                raise PartError(f"Patroni refused its settings ({error}): repeat `holdfast up`") from error


def _sights(part: str, site: Site, look: Looker, *, converging: bool = False):
    yield look.processes(site)
    if part == wan.NAME:
        yield look.links()
    if not part.startswith("region"):
        yield look.listening(site)
        return
    where = part[-1]
    yield look.quorum(where)
    yield look.synchronous(where) if converging else look.database(where)
    yield look.listening(site)
    yield look.agent(where)
    yield look.api(where)


def _facts(part: str, layout: Layout) -> dict[str, str]:
    if part == wan.NAME:
        return {"toxiproxy": f"http://{layout.address('wan.toxiproxy')}"}
    if part == payments.NAME:
        return {"url": layout.url("payments")}
    if part == witness.NAME:
        facts = {"observer": layout.url("w.observer"), "etcd": layout.url("w.etcd")}
        return facts | ({"prometheus": layout.url("w.prometheus")} if layout.settings.prometheus.enabled else {})
    where = part[-1]
    names = ("api", "agent", "patroni", "etcd")
    return {name: layout.url(f"{where}.{name}") for name in names} | {"postgres": layout.address(f"{where}.postgres")}


def _last_words(site: Site) -> str:
    """The end of the logs of whatever does not run, or of the database, and where the rest is."""
    seen = status(site.socket) or {}
    suspects = [name for name, one in seen.items() if one.status != "Disabled" and not one.running]
    restarted = [name for name, one in seen.items() if one.restarts and name not in suspects]
    shown = (suspects + restarted or [site.processes[0].name])[:3]
    tails = [f"  last lines of {name}:\n{log_tail(site, name)}" for name in shown]
    return "\n".join([*tails, f"  all logs: {site.directory / 'logs'}; then repeat `holdfast up`"])


def _existing(settings: Settings) -> Layout | None:
    ports = load(settings.directory)
    return None if ports is None else Layout(settings, ensure_account(), ports)


def _delete(settings: Settings, name: str) -> None:
    path = settings.directory / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _known(part: str) -> None:
    if part not in PARTS:
        raise PartError(f"{part!r} is none of {', '.join(PARTS)}")
