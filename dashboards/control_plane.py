"""What runs stand on, by utilisation, saturation and errors: processes, database, lease store, Dapr."""

from __future__ import annotations

from dashboards.board import Board, Panel, Query, Row

CONTROL_PLANE = Board(
    "holdfast-control-plane",
    "Holdfast · control plane",
    "What runs stand on, by utilisation, saturation and errors: processes, database, lease store, Dapr.",
    (
        Row(
            "Processes",
            (
                Panel(
                    "Processors in use",
                    "By part, in whole processors.",
                    "none",
                    (
                        Query(
                            "sum by (region, job) (rate(process_cpu_seconds_total[$__rate_interval]))",
                            "{{region}} {{job}}",
                        ),
                    ),
                ),
                Panel(
                    "Memory",
                    "Resident, by part.",
                    "bytes",
                    (Query("sum by (region, job) (process_resident_memory_bytes)", "{{region}} {{job}}"),),
                ),
                Panel(
                    "Open files",
                    "Of those allowed, the fullest process of each part.",
                    "percentunit",
                    (
                        Query(
                            "max by (region, job) (process_open_fds / process_max_fds)",
                            "{{region}} {{job}}",
                        ),
                    ),
                ),
                Panel(
                    "Restarts",
                    "In five minutes, by part.",
                    "short",
                    (Query("sum by (region, job) (changes(process_start_time_seconds[5m]))", "{{region}} {{job}}"),),
                ),
            ),
        ),
        Row(
            "Database",
            (
                Panel(
                    "Connections in use",
                    "Of those it takes.",
                    "percentunit",
                    (Query("pg_stat_database_numbackends / pg_settings_max_connections", "{{region}}"),),
                ),
                Panel(
                    "Transactions",
                    "Committed and rolled back.",
                    "reqps",
                    (
                        Query("rate(pg_stat_database_xact_commit_total[$__rate_interval])", "{{region}} committed"),
                        Query("rate(pg_stat_database_xact_rollback_total[$__rate_interval])", "{{region}} rolled back"),
                    ),
                ),
                Panel(
                    "Read from memory",
                    "Of all blocks that were read.",
                    "percentunit",
                    (
                        Query(
                            "increase(pg_stat_database_blks_hit_total[$__rate_interval])"
                            " / clamp_min(increase(pg_stat_database_blks_hit_total[$__rate_interval])"
                            " + increase(pg_stat_database_blks_read_total[$__rate_interval]), 1)",
                            "{{region}}",
                        ),
                    ),
                ),
                Panel(
                    "Size",
                    "Of the database, histories included.",
                    "bytes",
                    (Query("pg_database_size_bytes", "{{region}}"),),
                ),
                Panel(
                    "Oldest transaction",
                    "A commit that waits for a standby is one.",
                    "s",
                    (Query("max by (region) (pg_stat_activity_max_tx_duration)", "{{region}}"),),
                ),
                Panel(
                    "Deadlocks and conflicts",
                    "Since the database was started.",
                    "short",
                    (
                        Query("pg_stat_database_deadlocks_total", "{{region}} deadlocks"),
                        Query("pg_stat_database_conflicts_total", "{{region}} conflicts"),
                    ),
                ),
            ),
        ),
        Row(
            "Lease store",
            (
                Panel(
                    "Until a write is on the disk",
                    "The 99th percentile. Leases expire where it comes near the heartbeat's time.",
                    "s",
                    (
                        Query(
                            "histogram_quantile(0.99, sum by (le, region) "
                            "(rate(etcd_disk_wal_fsync_duration_seconds_bucket[$__rate_interval])))",
                            "{{region}}",
                        ),
                    ),
                ),
                Panel(
                    "Changes of leader",
                    "As each member has seen them.",
                    "short",
                    (Query("sum by (region) (etcd_server_leader_changes_seen_total)", "{{region}}"),),
                ),
                Panel(
                    "Proposals",
                    "Failed, and waiting.",
                    "short",
                    (
                        Query("sum by (region) (etcd_server_proposals_failed_total)", "{{region}} failed"),
                        Query("sum by (region) (etcd_server_proposals_pending)", "{{region}} waiting"),
                    ),
                ),
                Panel(
                    "Size",
                    "Of each member's data.",
                    "bytes",
                    (Query("sum by (region) (etcd_mvcc_db_total_size_in_bytes{job='etcd'})", "{{region}}"),),
                ),
            ),
        ),
        Row(
            "Dapr",
            (
                Panel(
                    "Operations on workflows",
                    "Started, stopped, looked at and told of events, by what became of it.",
                    "reqps",
                    (
                        Query(
                            "sum by (operation, status) "
                            "(rate(dapr_runtime_workflow_operation_count[$__rate_interval]))",
                            "{{operation}} {{status}}",
                        ),
                    ),
                ),
                Panel(
                    "Until an activity is answered",
                    "The 95th percentile, as Dapr sees it: what a step takes, and what saving it costs.",
                    "ms",
                    (
                        Query(
                            "histogram_quantile(0.95, sum by (le, region) "
                            "(rate(dapr_runtime_workflow_activity_execution_latency_bucket[$__rate_interval])))",
                            "{{region}}",
                        ),
                    ),
                ),
                Panel(
                    "Sidecars that the scheduler knows",
                    "As many as there are workers in the active region, none in the other.",
                    "short",
                    (Query("sum by (region) (dapr_scheduler_sidecars_connected)", "{{region}}"),),
                ),
                Panel(
                    "Wake-ups",
                    "Made and triggered by the scheduler.",
                    "reqps",
                    (
                        Query(
                            "sum by (region) (rate(dapr_scheduler_jobs_created_total[$__rate_interval]))",
                            "{{region}} made",
                        ),
                        Query(
                            "sum by (region) (rate(dapr_scheduler_jobs_triggered_total[$__rate_interval]))",
                            "{{region}} triggered",
                        ),
                    ),
                ),
            ),
        ),
    ),
)
