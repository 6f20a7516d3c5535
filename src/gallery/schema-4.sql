-- From version 3 to 4: pictures in files of their own, when a subject was last seen, consent, and what was
-- erased.

alter table subject add column last_seen_at integer;
alter table subject add column keep_unseen_days integer check (keep_unseen_days between 0 and 36500);

-- Nobody knows when they were last seen: from now on it counts, also where the clock is behind.
update subject set last_seen_at = max(updated_at, cast(strftime('%s', 'now') as integer) * 1000);

create index subject_by_last_seen on subject (coalesce(last_seen_at, created_at));

create table consent (
    subject blob primary key not null references subject (id) on delete cascade,
    given_at integer not null,
    given_by text not null check (length(given_by) between 1 and 120),
    way text not null check (way in ('written', 'screen', 'spoken')),
    text_version text not null check (length(text_version) between 1 and 40),
    recorded_at integer not null,
    recorded_by text not null check (length(recorded_by) between 1 and 80)
) strict, without rowid;

create table media_key (
    subject blob primary key not null references subject (id) on delete cascade,
    key blob not null check (length(key) = 32)
) strict, without rowid;

alter table picture rename to picture_3;

create table picture (
    sample integer primary key not null references sample (id) on delete cascade,
    file blob unique check (length(file) = 32),
    jpeg blob check (length(jpeg) between 1 and 262144),
    check ((file is null) <> (jpeg is null))
) strict;

insert into picture (sample, jpeg) select sample, jpeg from picture_3;

drop table picture_3;

create table erasure (
    mark blob primary key not null check (length(mark) = 32),
    erased_at integer not null
) strict, without rowid;
