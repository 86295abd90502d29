"""Which region was active when: by what each said of itself, and by what its agent did."""

from __future__ import annotations

from collections import defaultdict

from chaos.history import History, RoleSample

_KNOWN = "200"
"""The answer to a start that the region had accepted before: true whoever gives it."""
PRIMARY = frozenset({"primary", "master", "leader"})


def begun_epochs(history: History) -> dict[tuple[int, str], float]:
    """When each epoch's region began it: its database was primary."""
    found: dict[tuple[int, str], float] = {}
    for event in history.events or []:
        epoch = event.member("epoch")
        if event.event == "promoted" and isinstance(epoch, int):
            key = epoch, event.region
            found[key] = min(event.at, found.get(key, event.at))
    return found


def late_acknowledgements(history: History) -> list[str]:
    """Starts that one region acknowledged, asked for after another had begun a later epoch: two primaries."""
    changes = sorted((at, epoch, region) for (epoch, region), at in begun_epochs(history).items())
    found: list[str] = []
    for one in history.accepted:
        if one.detail == _KNOWN:
            continue
        since = [change for change in changes if change[0] < one.invoked_at]
        if (
            since
            and since[-1][2] != one.region
            and not any(
                region == one.region and at <= one.answered_at for at, _, region in changes if at > since[-1][0]
            )
        ):
            at, epoch, region = since[-1]
            found.append(
                f"{one.run_id}: acknowledged by region {one.region} {one.answered_at - at:.3f} s after region "
                f"{region} had begun epoch {epoch}"
            )
    return found


def contradictions(history: History) -> list[str]:
    """Epochs in which two regions said that they were active, timelines on which two were primaries."""
    active: dict[int, dict[str, RoleSample]] = defaultdict(dict)
    primary: dict[int, dict[str, RoleSample]] = defaultdict(dict)
    for sample in history.roles or []:
        if sample.agent == "active" and sample.epoch is not None:
            active[sample.epoch].setdefault(sample.region, sample)
        if sample.database in PRIMARY and sample.timeline is not None:
            primary[sample.timeline].setdefault(sample.region, sample)
    found = [
        f"epoch {epoch}: regions {' and '.join(sorted(samples))} both said that they were active"
        for epoch, samples in active.items()
        if len(samples) > 1
    ]
    return found + [
        f"timeline {timeline}: the databases of regions {' and '.join(sorted(samples))} were both primary"
        for timeline, samples in primary.items()
        if len(samples) > 1
    ]


def stale_claims(history: History) -> int:
    """How often a region said that it was active though another had begun a later epoch: nobody hears it."""
    epochs = begun_epochs(history)
    return sum(
        sample.agent == "active"
        and any(
            at < sample.at and epoch > (sample.epoch or 0) and region != sample.region
            for (epoch, region), at in epochs.items()
        )
        for sample in history.roles or []
    )


def unsampled(history: History) -> list[str]:
    """What is missing of the samples that the experiment promised: of every region, before and after the fault."""
    if not history.bounds.roles:
        return []
    samples, at = history.roles or [], history.fault_at
    regions = {sample.region for sample in samples}
    missing = [] if len(regions) > 1 else ["the regions' roles were promised, and were not sampled"]
    if at is None:
        return missing
    for region in sorted(regions):
        mine = [sample for sample in samples if sample.region == region]
        if not any(one.at < at and one.agent for one in mine) or not any(one.at > at for one in mine):
            missing.append(f"region {region}: its role was not sampled before and after the fault")
    return missing
