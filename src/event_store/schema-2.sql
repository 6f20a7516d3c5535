-- From version 1 to 2: more ways to look for events, and what happened in each hour.

create index event_by_verdict on event (verdict, captured_at) where verdict is not null;
create index event_by_reason on event (reason, captured_at) where reason is not null;

-- What happened in each hour, so that charts count no events. Kept by the triggers below, in the
-- transaction of the event itself, and gone with the last event of its hour.
create table hour (
    -- Its beginning, by the time of capture.
    at integer primary key check (at % 3600000 = 0),
    -- Visits that ended in it, by their verdict.
    identified integer not null check (identified >= 0),
    unknown integer not null check (unknown >= 0),
    undecided integer not null check (undecided >= 0),
    -- How often somebody rang.
    ring integer not null check (ring >= 0)
) strict;

-- From capture to decision, for the events that are decisions: how many took how long.
create table hour_latency (
    at integer not null check (at % 3600000 = 0),
    -- Place among the bounds that query.rs and the triggers name; the last has none.
    bucket integer not null check (bucket between 0 and 13),
    count integer not null check (count >= 0),
    primary key (at, bucket)
) strict, without rowid;

insert into hour (at, identified, unknown, undecided, ring)
    select captured_at - captured_at % 3600000, sum(verdict is 'identified'), sum(verdict is 'unknown'),
        sum(verdict is 'undecided'), sum(kind = 'ring')
    from event where kind in ('ended', 'ring') group by 1;

insert into hour_latency (at, bucket, count)
    select captured_at - captured_at % 3600000, case when event.latency_ms <= 20 then 0
            when event.latency_ms <= 30 then 1
            when event.latency_ms <= 50 then 2
            when event.latency_ms <= 75 then 3
            when event.latency_ms <= 100 then 4
            when event.latency_ms <= 150 then 5
            when event.latency_ms <= 200 then 6
            when event.latency_ms <= 300 then 7
            when event.latency_ms <= 500 then 8
            when event.latency_ms <= 750 then 9
            when event.latency_ms <= 1000 then 10
            when event.latency_ms <= 2000 then 11
            when event.latency_ms <= 5000 then 12
            else 13 end, count(*)
    from event where kind in ('identified', 'unknown') group by 1, 2;

create trigger event_counted after insert on event begin
    insert into hour (at, identified, unknown, undecided, ring)
        select new.captured_at - new.captured_at % 3600000, new.verdict is 'identified',
            new.verdict is 'unknown', new.verdict is 'undecided', new.kind = 'ring'
        where new.kind in ('ended', 'ring')
        on conflict (at) do update set
            identified = identified + excluded.identified, unknown = unknown + excluded.unknown,
            undecided = undecided + excluded.undecided, ring = ring + excluded.ring;
    insert into hour_latency (at, bucket, count)
        select new.captured_at - new.captured_at % 3600000, case when new.latency_ms <= 20 then 0
            when new.latency_ms <= 30 then 1
            when new.latency_ms <= 50 then 2
            when new.latency_ms <= 75 then 3
            when new.latency_ms <= 100 then 4
            when new.latency_ms <= 150 then 5
            when new.latency_ms <= 200 then 6
            when new.latency_ms <= 300 then 7
            when new.latency_ms <= 500 then 8
            when new.latency_ms <= 750 then 9
            when new.latency_ms <= 1000 then 10
            when new.latency_ms <= 2000 then 11
            when new.latency_ms <= 5000 then 12
            else 13 end, 1
        where new.kind in ('identified', 'unknown')
        on conflict (at, bucket) do update set count = count + 1;
end;

create trigger event_uncounted after delete on event begin
    update hour set
        identified = identified - (old.verdict is 'identified'),
        unknown = unknown - (old.verdict is 'unknown'),
        undecided = undecided - (old.verdict is 'undecided'), ring = ring - (old.kind = 'ring')
        where at = old.captured_at - old.captured_at % 3600000 and old.kind in ('ended', 'ring');
    delete from hour where at = old.captured_at - old.captured_at % 3600000
        and identified + unknown + undecided + ring = 0;
    update hour_latency set count = count - 1
        where at = old.captured_at - old.captured_at % 3600000 and bucket = case when old.latency_ms <= 20 then 0
            when old.latency_ms <= 30 then 1
            when old.latency_ms <= 50 then 2
            when old.latency_ms <= 75 then 3
            when old.latency_ms <= 100 then 4
            when old.latency_ms <= 150 then 5
            when old.latency_ms <= 200 then 6
            when old.latency_ms <= 300 then 7
            when old.latency_ms <= 500 then 8
            when old.latency_ms <= 750 then 9
            when old.latency_ms <= 1000 then 10
            when old.latency_ms <= 2000 then 11
            when old.latency_ms <= 5000 then 12
            else 13 end
        and old.kind in ('identified', 'unknown');
    delete from hour_latency where at = old.captured_at - old.captured_at % 3600000 and count = 0;
end;
