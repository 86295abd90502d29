"""The regions' page: who is active since when, whether the other could take over now, and the handing over."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from serving import Problem

from service.console.access import Note, OperatorForm, Visitor
from service.console.pages import render
from service.console.trail import recorded
from service.region import ActiveRegion

router = APIRouter(prefix="/regions")


@router.get("")
def regions(request: Request, visitor: Visitor) -> Response:
    """Both regions, as this one's agent sees them, and every activation that is recorded."""
    console = request.app.state.console
    config, role, sight = console.region.config, console.region.role(), console.neighbour.look()
    other = next(iter(config.peers), None)
    standby = sight.node(other) if other else None
    return render(
        request,
        "regions",
        names=sorted({config.region, *config.peers}),
        other=other,
        epochs=console.epochs.all()[::-1][:50],
        is_active=role is not None and role.role == "active",
        in_step=standby is not None and standby.in_step,
    )


@router.post("/switchover")
def switchover(request: Request, where: ActiveRegion, session: Visitor, form: OperatorForm) -> Response:
    """Have the lease handed over, once the operator has typed the name of the region that takes over."""
    console = request.app.state.console
    other = next(iter(where.config.peers), None)
    if other is None or form.get("confirm", "").strip() != other:
        raise Problem(422, "invalid request", f"type the name of the region that takes over, {other}, to confirm")
    with recorded(request, session, "switch over", f"region {other}"):
        candidate = console.neighbour.switch_over()
    session.notes.append(Note("done", f"Region {candidate} takes over, and the runs go on there."))
    return RedirectResponse("/console/regions", 303)
