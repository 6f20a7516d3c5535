-- From version 4 to 5: the door's policy, its secret, PINs and passes.

create table door_policy (
    id integer primary key check (id = 1),
    document text not null check (json_valid(document)),
    changed_at integer not null
) strict;

create table door_secret (
    id integer primary key check (id = 1),
    secret blob not null check (length(secret) = 32)
) strict;

create table credential (
    id integer primary key autoincrement,
    kind text not null check (kind in ('pin', 'pass')),
    key blob not null check (length(key) = case kind when 'pin' then 32 else 8 end),
    subject blob references subject (id) on delete cascade,
    subject_group integer references subject_group (id) on delete cascade,
    label text check (length(label) between 1 and 120),
    valid_from integer,
    valid_until integer,
    uses_left integer check (uses_left >= 0),
    rotating integer not null default 0 check (rotating in (0, 1)),
    created_at integer not null,
    last_used_at integer,
    unique (kind, key),
    check (subject is null or (subject_group is null and label is null))
) strict;

create index credential_of_subject on credential (subject) where subject is not null;
create index credential_of_group on credential (subject_group) where subject_group is not null;
create index credential_ending on credential (valid_until) where valid_until is not null;
