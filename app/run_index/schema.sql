create schema if not exists holdfast;

create table if not exists holdfast.runs (
    run_id       text primary key,
    input        jsonb not null,
    input_digest text not null,
    accepted_at  timestamptz not null default clock_timestamp(),
    scheduled_at timestamptz,
    closed_at    timestamptz,
    status       text not null default 'accepted',
    error        text
);

-- What a sweep reads: its size follows the runs that are open, not those ever made.
create index if not exists runs_open on holdfast.runs (accepted_at, run_id) where closed_at is null;
create index if not exists runs_by_acceptance on holdfast.runs (accepted_at desc, run_id desc);
