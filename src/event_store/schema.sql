-- The event database, version 1: the schema of a new file. Encrypted as a whole by SQLCipher, apart
-- from the gallery, so that a flood of events can neither fill nor damage that. Times are
-- milliseconds since 1970-01-01 UTC. No name is kept: names are looked up in the gallery.

-- Something that happened at the door.
create table event (
    -- The order of delivery. autoincrement: a number is not given again after its event is erased.
    sequence integer primary key autoincrement check (sequence >= 1),
    -- By which receivers tell that they have seen it: RFC 9562, version 7.
    id blob not null unique check (length(id) = 16),
    kind text not null check (kind in ('identified', 'unknown', 'ended', 'ring')),
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
    check ((published_at is null) = (published_expired is null))
) strict;

create index event_by_time on event (captured_at);
create index event_by_kind on event (kind, captured_at);
create index event_of_subject on event (subject, captured_at) where subject is not null;

-- Events the broker has not acknowledged.
create table outbox (
    sequence integer primary key references event (sequence) on delete cascade
) strict;

-- The picture of the face an event is about. Biometric data.
create table crop (
    sequence integer primary key references event (sequence) on delete cascade,
    jpeg blob not null check (length(jpeg) between 1 and 262144)
) strict;

-- What was switched at run time and outlasts a restart.
create table switch (
    name text primary key not null check (name in ('face_unlock')),
    is_on integer not null check (is_on in (0, 1))
) strict, without rowid;
