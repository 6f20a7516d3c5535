-- The database of the accounts, version 3: the schema of a new file. Encrypted as a whole by SQLCipher,
-- apart from gallery and events, so that a copy of either says nothing about who may sign in. Times are
-- milliseconds since 1970-01-01 UTC. No secret is kept: of passwords an Argon2id hash, of every other
-- secret, which is random and long, its SHA-256.

-- Somebody who may sign in.
create table user (
    -- autoincrement: a number is not given again after its user is removed.
    id integer primary key autoincrement,
    name text not null check (length(name) between 1 and 60),
    -- The name in lower case: by this it is found, and unique.
    name_key text not null unique check (length(name_key) >= 1),
    role text not null check (role in ('viewer', 'operator', 'admin', 'owner')),
    -- Cannot sign in, and has no sessions.
    disabled integer not null default 0 check (disabled in (0, 1)),
    salt blob not null check (length(salt) = 16),
    hash blob not null check (length(hash) = 32),
    -- Parameters of Argon2id that the hash was made with.
    memory_kib integer not null check (memory_kib between 8 and 1048576),
    passes integer not null check (passes between 1 and 64),
    lanes integer not null check (lanes between 1 and 16),
    created_at integer not null,
    -- Of any of their sessions, to the minute.
    last_seen_at integer
) strict;

-- One browser that is signed in.
create table session (
    id integer primary key autoincrement,
    -- SHA-256 of what the cookie holds.
    token_hash blob not null unique check (length(token_hash) = 32),
    user integer not null references user (id) on delete cascade,
    created_at integer not null,
    -- To the minute.
    last_seen_at integer not null,
    -- Where it signed in from, and what the browser called itself.
    address text not null check (length(address) <= 64),
    agent text not null check (length(agent) <= 200)
) strict;

create index session_of_user on session (user, created_at);

-- A link by which somebody makes an account with a role that was chosen before.
create table invitation (
    id integer primary key autoincrement,
    token_hash blob not null unique check (length(token_hash) = 32),
    role text not null check (role in ('viewer', 'operator', 'admin', 'owner')),
    note text check (length(note) between 1 and 200),
    -- Who invites; null: the command line.
    made_by integer references user (id) on delete cascade,
    made_at integer not null,
    expires_at integer not null
) strict;

create index invitation_of_user on invitation (made_by) where made_by is not null;
create index invitation_by_expiry on invitation (expires_at);

-- Somebody asks for an account. Becomes a user when an admin approves, with this password.
create table access_request (
    id integer primary key autoincrement,
    name text not null check (length(name) between 1 and 60),
    -- Not unique: whoever asks second for a name must not replace the password of the first.
    name_key text not null check (length(name_key) >= 1),
    message text check (length(message) between 1 and 500),
    salt blob not null check (length(salt) = 16),
    hash blob not null check (length(hash) = 32),
    memory_kib integer not null check (memory_kib between 8 and 1048576),
    passes integer not null check (passes between 1 and 64),
    lanes integer not null check (lanes between 1 and 16),
    requested_at integer not null,
    address text not null check (length(address) <= 64)
) strict;

create index access_request_by_name on access_request (name_key);
create index access_request_by_time on access_request (requested_at);

-- What a program signs in with.
create table token (
    id integer primary key autoincrement,
    token_hash blob not null unique check (length(token_hash) = 32),
    name text not null check (length(name) between 1 and 60),
    -- JSON array of scopes.
    scopes text not null check (json_valid(scopes)),
    -- It works for as long as they may sign in.
    made_by integer not null references user (id) on delete cascade,
    made_at integer not null,
    expires_at integer not null,
    -- To the minute.
    last_used_at integer
) strict;

create index token_of_user on token (made_by);

-- What was changed, by whom. Outlives the users it tells of, so that it names and does not refer.
create table audit (
    id integer primary key autoincrement,
    at integer not null,
    -- Name of a user, of a token, or of what else acted; null: nobody that is known.
    who text check (length(who) between 1 and 80),
    -- Name of the operation in the API.
    operation text not null check (length(operation) between 1 and 64),
    -- What it was done to: the path, which holds numbers and never a name.
    target text not null check (length(target) <= 200),
    -- HTTP status of the answer.
    outcome integer not null check (outcome between 100 and 599),
    address text not null check (length(address) <= 64),
    -- What was changed, beyond the path: numbers, roles, names of settings. No name of a subject, no secret.
    detail text check (length(detail) between 1 and 200),
    -- A refusal that is repeated within a minute is counted here and stands once.
    times integer not null default 1 check (times >= 1)
) strict;

create index audit_by_time on audit (at);
-- Whose entries are erased when there are too many, refusals first.
create index audit_by_who on audit (coalesce(who, ''), (outcome < 400));
-- The refusal that another one repeats.
create index audit_refused on audit (coalesce(who, ''), operation, address, at)
    where outcome >= 400;

-- How many entries of the audit log are whose; kept by the two triggers, so that nobody has to count.
create table audit_share (
    -- As in the log; empty: nobody that is known.
    who text not null primary key check (length(who) <= 80),
    entries integer not null check (entries >= 0)
) strict, without rowid;

create index audit_share_by_entries on audit_share (entries);

create trigger audit_counted after insert on audit begin
    insert into audit_share values (coalesce(new.who, ''), 1)
    on conflict (who) do update set entries = entries + 1;
end;

create trigger audit_uncounted after delete on audit begin
    update audit_share set entries = entries - 1 where who = coalesce(old.who, '');
    delete from audit_share where who = coalesce(old.who, '') and entries = 0;
end;

-- The audit log as a chain, so that what was changed in it, or taken out, shows. A link outlives its entry, which
-- is erased when it is old, until everything before it is gone too.
create table audit_link (
    -- The entry's.
    id integer primary key not null,
    -- When the entry was made.
    at integer not null,
    -- SHA-256 of everything the entry says but how often it was repeated.
    content blob not null check (length(content) = 32),
    -- SHA-256 of the link before this and of content.
    link blob not null unique check (length(link) = 32)
) strict;

-- Where the chain begins: the last link that is gone, or zeros.
create table audit_anchor (
    id integer primary key check (id = 1),
    entry integer not null,
    link blob not null check (length(link) = 32)
) strict;

insert into audit_anchor values (1, 0, zeroblob(32));

create trigger audit_unchanged before update of id, at, who, operation, target, outcome, address, detail on audit
when exists (select 1 from audit_link where id = old.id) begin
    select raise(abort, 'entries of the audit log are not changed');
end;

create trigger audit_link_unchanged before update on audit_link begin
    select raise(abort, 'links of the audit log are not changed');
end;

-- The code with which the first owner is made, while there is none.
create table setup (
    id integer primary key check (id = 1),
    code_hash blob not null check (length(code_hash) = 32),
    made_at integer not null
) strict;
