"""Which region is active, whether the other could take over at this moment, and how long the last time took."""

from __future__ import annotations

from dashboards.board import Board, Panel, Query, Row

FAILOVER = Board(
    "holdfast-failover",
    "Holdfast · failover",
    "Which region is active, whether the other could take over at this moment, and how long the last time took.",
    (
        Row(
            "At this moment",
            (
                Panel(
                    "Active",
                    "One region, and never two. None for the seconds of a failover.",
                    "bool_yes_no",
                    (Query("max by (region) (holdfast_region_active)", "{{region}}"),),
                    now=True,
                    width=6,
                ),
                Panel(
                    "Epoch",
                    "Grows at each promotion. Effects of an older one are refused.",
                    "none",
                    (Query("max(holdfast_epoch)"),),
                    now=True,
                    width=6,
                ),
                Panel(
                    "Standby in step",
                    "Without one, a loss of the active region loses what was acknowledged since.",
                    "bool_yes_no",
                    (Query("max(patroni_sync_standby)"),),
                    now=True,
                    width=6,
                ),
                Panel(
                    "Votes on the lease",
                    "Members of the lease store that see a leader. Two of three are needed.",
                    "none",
                    (Query("sum(etcd_server_has_leader)"),),
                    now=True,
                    width=6,
                ),
            ),
        ),
        Row(
            "The last activation",
            (
                Panel(
                    "Phases",
                    "From silence to the lease's end (detect), to the promotion, to workers at work (activate), "
                    "to every open run woken (resume). A switchover has no detection.",
                    "s",
                    (Query("max by (region, phase) (holdfast_failover_phase_seconds)", "{{region}} {{phase}}"),),
                ),
                Panel(
                    "Since the last change of role",
                    "By region.",
                    "s",
                    (Query("time() - max by (region) (holdfast_role_since_seconds)", "{{region}}"),),
                ),
                Panel(
                    "What agents did",
                    "Promotions, activations, sweeps and their failures, by event.",
                    "short",
                    (
                        Query(
                            "sum by (region, event) (increase(holdfast_agent_events_total[$__rate_interval]))",
                            "{{region}} {{event}}",
                        ),
                    ),
                ),
                Panel(
                    "Signals to open runs",
                    "How many runs were woken, also a second time.",
                    "short",
                    (Query("sum by (region) (holdfast_runs_swept_total)", "{{region}}"),),
                ),
            ),
        ),
        Row(
            "Signs of trouble",
            (
                Panel(
                    "Silence of the other region",
                    "As the standby sees it. After the agreed seconds it asks the witness, and releases the lease.",
                    "s",
                    (Query("max by (region) (holdfast_peer_silent_seconds)", "seen by {{region}}"),),
                ),
                Panel(
                    "Age of the lease",
                    "Since each Patroni last reached the lease store. The active region stops when it reaches the TTL.",
                    "s",
                    (Query("max by (region) (holdfast_lease_age_seconds)", "{{region}}"),),
                ),
                Panel(
                    "Replication lag",
                    "What the standby has not replayed yet.",
                    "bytes",
                    (Query("max(patroni_xlog_location) - max(patroni_xlog_replayed_location > 0)", "standby"),),
                ),
                Panel(
                    "Parts that answer",
                    "Of all that Prometheus looks at. Sidecars of a standby are not started, and count as missing.",
                    "percentunit",
                    (Query("avg by (job) (up)", "{{job}}"),),
                ),
            ),
        ),
    ),
)
