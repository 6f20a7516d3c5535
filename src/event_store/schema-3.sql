-- From version 2 to 3: what the door made of it. A constraint of a column cannot be changed, so the table is made
-- anew; foreign keys are off meanwhile, and the counts of the hours stay as they are.

create table event_3 (
    -- The order of delivery. autoincrement: a number is not given again after its event is erased.
    sequence integer primary key autoincrement check (sequence >= 1),
    -- By which receivers tell that they have seen it: RFC 9562, version 7.
    id blob not null unique check (length(id) = 16),
    kind text not null check (kind in ('identified', 'unknown', 'ended', 'ring', 'granted', 'denied', 'alarm')),
    -- Which face within one run of the program.
    track integer check (track >= 0),
    captured_at integer not null,
    decided_at integer not null,
    -- From then on it must open nothing.
    expires_at integer not null,
    -- The boot it was captured in and the monotonic clock then, in microseconds: nobody can set that.
    boot blob not null check (length(boot) = 16),
    captured_monotonic_us integer not null check (captured_monotonic_us >= 0),
    latency_ms real not null check (latency_ms >= 0.0),
    -- Who, as the gallery calls them. Set to null when they are erased there.
    subject blob check (length(subject) = 16),
    -- Comparison score of the decisive probe, or the best one below the threshold.
    score real check (score between -1.0 and 1.0),
    -- Lead over the next subject.
    margin real check (margin between 0.0 and 2.0),
    -- Quality score of the decisive probe.
    quality real check (quality between 0.0 and 1.0),
    looks integer not null check (looks >= 0),
    probes integer not null check (probes >= 0),
    -- How long the face was in view, once the visit has ended.
    seen_ms integer check (seen_ms >= 0),
    verdict text check (verdict in ('identified', 'unknown', 'undecided')),
    -- Code of the main reason for there being no match.
    reason text check (length(reason) between 1 and 64),
    -- JSON object: code of a reason, number of looks.
    reasons text not null default '{}' check (json_valid(reasons)),
    -- When the broker acknowledged it, and whether it was delivered as expired.
    published_at integer,
    published_expired integer check (published_expired in (0, 1)),
    -- JSON object: what the door made of it, for the kinds that are about the door.
    door text check (door is null or json_valid(door)),
    check ((published_at is null) = (published_expired is null))
) strict;

insert into event_3 (sequence, id, kind, track, captured_at, decided_at, expires_at, boot, captured_monotonic_us,
        latency_ms, subject, score, margin, quality, looks, probes, seen_ms, verdict, reason, reasons,
        published_at, published_expired)
    select sequence, id, kind, track, captured_at, decided_at, expires_at, boot, captured_monotonic_us,
        latency_ms, subject, score, margin, quality, looks, probes, seen_ms, verdict, reason, reasons,
        published_at, published_expired
    from event;

-- The next number goes on from that of the old table, also where its last events are erased.
insert into sqlite_sequence (name, seq)
    select 'event_3', 0 where not exists (select 1 from sqlite_sequence where name = 'event_3');
update sqlite_sequence set seq = max(seq, coalesce((select seq from sqlite_sequence where name = 'event'), 0))
    where name = 'event_3';

-- With its indexes and triggers.
drop table event;
alter table event_3 rename to event;

create index event_by_time on event (captured_at);
create index event_by_kind on event (kind, captured_at);
create index event_of_subject on event (subject, captured_at) where subject is not null;
create index event_by_verdict on event (verdict, captured_at) where verdict is not null;
create index event_by_reason on event (reason, captured_at) where reason is not null;

create trigger event_counted after insert on event begin
    insert into hour (at, identified, unknown, undecided, ring)
        select new.captured_at - new.captured_at % 3600000, new.verdict is 'identified',
            new.verdict is 'unknown', new.verdict is 'undecided', new.kind = 'ring'
        where new.kind in ('ended', 'ring')
        on conflict (at) do update set
            identified = identified + excluded.identified, unknown = unknown + excluded.unknown,
            undecided = undecided + excluded.undecided, ring = ring + excluded.ring;
    insert into hour_latency (at,
            up_to_20, up_to_30, up_to_50, up_to_75, up_to_100, up_to_150, up_to_200, up_to_300,
            up_to_500, up_to_750, up_to_1000, up_to_2000, up_to_5000, longer)
        select new.captured_at - new.captured_at % 3600000,
            new.latency_ms <= 20, new.latency_ms > 20 and new.latency_ms <= 30, new.latency_ms > 30 and
            new.latency_ms <= 50, new.latency_ms > 50 and new.latency_ms <= 75, new.latency_ms > 75 and
            new.latency_ms <= 100, new.latency_ms > 100 and new.latency_ms <= 150, new.latency_ms > 150
            and new.latency_ms <= 200, new.latency_ms > 200 and new.latency_ms <= 300, new.latency_ms >
            300 and new.latency_ms <= 500, new.latency_ms > 500 and new.latency_ms <= 750,
            new.latency_ms > 750 and new.latency_ms <= 1000, new.latency_ms > 1000 and new.latency_ms <=
            2000, new.latency_ms > 2000 and new.latency_ms <= 5000, new.latency_ms > 5000
        where new.kind in ('identified', 'unknown')
        on conflict (at) do update set
            up_to_20 = up_to_20 + excluded.up_to_20, up_to_30 = up_to_30 + excluded.up_to_30, up_to_50 =
            up_to_50 + excluded.up_to_50, up_to_75 = up_to_75 + excluded.up_to_75, up_to_100 = up_to_100
            + excluded.up_to_100, up_to_150 = up_to_150 + excluded.up_to_150, up_to_200 = up_to_200 +
            excluded.up_to_200, up_to_300 = up_to_300 + excluded.up_to_300, up_to_500 = up_to_500 +
            excluded.up_to_500, up_to_750 = up_to_750 + excluded.up_to_750, up_to_1000 = up_to_1000 +
            excluded.up_to_1000, up_to_2000 = up_to_2000 + excluded.up_to_2000, up_to_5000 = up_to_5000
            + excluded.up_to_5000, longer = longer + excluded.longer;
end;

create trigger event_uncounted after delete on event begin
    update hour set
        identified = identified - (old.verdict is 'identified'),
        unknown = unknown - (old.verdict is 'unknown'),
        undecided = undecided - (old.verdict is 'undecided'), ring = ring - (old.kind = 'ring')
        where at = old.captured_at - old.captured_at % 3600000 and old.kind in ('ended', 'ring');
    delete from hour where at = old.captured_at - old.captured_at % 3600000
        and identified + unknown + undecided + ring = 0;
    update hour_latency set
            up_to_20 = up_to_20 - (old.latency_ms <= 20), up_to_30 = up_to_30 - (old.latency_ms > 20 and
            old.latency_ms <= 30), up_to_50 = up_to_50 - (old.latency_ms > 30 and old.latency_ms <= 50),
            up_to_75 = up_to_75 - (old.latency_ms > 50 and old.latency_ms <= 75), up_to_100 = up_to_100
            - (old.latency_ms > 75 and old.latency_ms <= 100), up_to_150 = up_to_150 - (old.latency_ms >
            100 and old.latency_ms <= 150), up_to_200 = up_to_200 - (old.latency_ms > 150 and
            old.latency_ms <= 200), up_to_300 = up_to_300 - (old.latency_ms > 200 and old.latency_ms <=
            300), up_to_500 = up_to_500 - (old.latency_ms > 300 and old.latency_ms <= 500), up_to_750 =
            up_to_750 - (old.latency_ms > 500 and old.latency_ms <= 750), up_to_1000 = up_to_1000 -
            (old.latency_ms > 750 and old.latency_ms <= 1000), up_to_2000 = up_to_2000 - (old.latency_ms
            > 1000 and old.latency_ms <= 2000), up_to_5000 = up_to_5000 - (old.latency_ms > 2000 and
            old.latency_ms <= 5000), longer = longer - (old.latency_ms > 5000)
        where at = old.captured_at - old.captured_at % 3600000 and old.kind in ('identified', 'unknown');
    delete from hour_latency where at = old.captured_at - old.captured_at % 3600000
        and up_to_20 + up_to_30 + up_to_50 + up_to_75 + up_to_100 + up_to_150 + up_to_200 + up_to_300
            + up_to_500 + up_to_750 + up_to_1000 + up_to_2000 + up_to_5000 + longer = 0;
end;
