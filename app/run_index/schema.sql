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

-- Columns that came later. Asked for first: to alter a table, even by nothing, is a commit that waits for a standby.
do $$
begin
    if not exists (
        select from information_schema.columns
        where table_schema = 'holdfast' and table_name = 'runs' and column_name = 'rerun_step'
    ) then
        alter table holdfast.runs
            add column agent text not null default '',
            add column rerun_of text,
            add column rerun_step integer;
    end if;
end
$$;

-- What a sweep reads: its size follows the runs that are open, not those ever made.
create index if not exists runs_open on holdfast.runs (accepted_at, run_id) where closed_at is null;
create index if not exists runs_by_acceptance on holdfast.runs (accepted_at desc, run_id desc);

-- Which region became active in which epoch, and when: what tells in which region an operation was executed.
create table if not exists holdfast.epochs (
    epoch         integer primary key,
    region        text not null,
    activated_at  timestamptz not null,
    swept_at      timestamptz,
    swept_runs    integer,
    sweep_seconds double precision
);

-- Who did what from where. A row is there before the deed; its outcome, after it.
create table if not exists holdfast.audit (
    id      bigint generated always as identity primary key,
    at      timestamptz not null default clock_timestamp(),
    who     text not null,
    role    text not null,
    source  text not null,
    region  text not null,
    action  text not null,
    subject text not null,
    detail  text not null,
    outcome text
);
