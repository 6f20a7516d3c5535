-- The gallery database, version 5: the schema of a new file. Files of older versions are brought
-- here by the steps in store.rs; a test there compares the two. Encrypted as a whole by SQLCipher.
-- Times are milliseconds since 1970-01-01 UTC.

-- One person known to this device.
create table subject (
    -- 128 random bits: never given twice, also not after erasing or restoring a backup.
    id blob primary key not null check (length(id) = 16),
    -- As the operator wrote it, tidied. Personal data.
    name text not null check (length(name) between 1 and 120 and name = trim(name)),
    -- Lower case of the name, by Unicode's rules: SQLite's own know ASCII only.
    name_key text not null unique check (length(name_key) >= 1),
    -- Free text of the operator.
    notes text check (length(notes) between 1 and 2000),
    created_at integer not null,
    updated_at integer not null check (updated_at >= created_at),
    -- From then on the subject is not recognised. Null: never.
    expires_at integer,
    -- Whether it asked for a sensor of its own in home automation.
    announced integer not null default 0 check (announced in (0, 1)),
    -- When it was last recognised, to some hours; null: not since it was enrolled.
    last_seen_at integer,
    -- It is erased when it was not seen for so many days. Null: what the configuration says; 0: never.
    keep_unseen_days integer check (keep_unseen_days between 0 and 36500)
) strict, without rowid;

-- For the question who was not seen for longest.
create index subject_by_last_seen on subject (coalesce(last_seen_at, created_at));

-- That a subject agreed to being recognised. At most one: a new one replaces it.
create table consent (
    subject blob primary key not null references subject (id) on delete cascade,
    given_at integer not null,
    -- Who agreed: the subject, or whoever may agree for them. Personal data.
    given_by text not null check (length(given_by) between 1 and 120),
    -- Signed on paper, confirmed on a screen, or said to whoever enrolled them.
    way text not null check (way in ('written', 'screen', 'spoken')),
    -- Which version of the text they were shown.
    text_version text not null check (length(text_version) between 1 and 40),
    recorded_at integer not null,
    -- The user who recorded it, or the command line.
    recorded_by text not null check (length(recorded_by) between 1 and 80)
) strict, without rowid;

-- What the picture files of a subject are encrypted with: random, and gone with the subject, so that no
-- copy of a file that is left anywhere can be read.
create table media_key (
    subject blob primary key not null references subject (id) on delete cascade,
    key blob not null check (length(key) = 32)
) strict, without rowid;

-- For the question who expires next: most never do.
create index subject_expiring on subject (expires_at) where expires_at is not null;

-- The words of names, by the beginnings of which subjects are searched.
create table subject_word (
    -- In lower case, without the signs around and within it.
    word text not null check (length(word) >= 1),
    subject blob not null references subject (id) on delete cascade,
    primary key (word, subject)
) strict, without rowid;

create index subject_word_of_subject on subject_word (subject);

-- What the operator sorts subjects by: family, staff, second floor.
create table subject_group (
    -- autoincrement: the id of a group that is gone is not given again.
    id integer primary key autoincrement,
    -- As the operator wrote it, tidied.
    name text not null check (length(name) between 1 and 120 and name = trim(name)),
    -- Lower case of the name.
    name_key text not null unique check (length(name_key) >= 1)
) strict;

create table group_member (
    subject_group integer not null references subject_group (id) on delete cascade,
    subject blob not null references subject (id) on delete cascade,
    primary key (subject_group, subject)
) strict, without rowid;

create index group_member_of_subject on group_member (subject);

-- The networks whose embeddings are here. One space has one number of values.
create table embedding_space (
    -- As the model manifest names it.
    name text primary key not null check (length(name) between 1 and 200),
    dimensions integer not null check (dimensions between 1 and 4096),
    unique (name, dimensions)
) strict, without rowid;

-- One image given for enrolment.
create table sample (
    -- autoincrement: the id of an erased sample is not given again.
    id integer primary key autoincrement,
    subject blob not null references subject (id) on delete cascade,
    -- A picture file, or a frame of this device's camera.
    origin text not null check (origin in ('file', 'camera')),
    -- The verdict of the quality stage.
    quality real not null check (quality between 0.0 and 1.0),
    -- Between the centres of the eyes, in pixels of the source image.
    eye_distance_px real not null check (eye_distance_px >= 0.0),
    -- In the unit of the quality stage.
    sharpness real not null,
    -- Pose of the head in degrees.
    yaw_deg real not null check (yaw_deg between -180.0 and 180.0),
    pitch_deg real not null check (pitch_deg between -180.0 and 180.0),
    roll_deg real not null check (roll_deg between -180.0 and 180.0),
    enrolled_at integer not null,
    -- Lets a template name both, so that it cannot belong to another subject than its sample.
    unique (id, subject)
) strict;

create index sample_of_subject on sample (subject);

-- The face of a sample, where pictures are kept.
create table picture (
    sample integer primary key not null references sample (id) on delete cascade,
    -- SHA-256 of the encrypted file in the folder of the media, and its name.
    file blob unique check (length(file) = 32),
    -- The picture itself, as version 3 kept it, until it is moved to a file. A square around the face,
    -- made and encoded by limen: never the bytes that were given.
    jpeg blob check (length(jpeg) between 1 and 262144),
    check ((file is null) <> (jpeg is null))
) strict;

-- The stored reference of one sample in one embedding space.
create table template (
    id integer primary key autoincrement,
    sample integer not null,
    subject blob not null,
    embedding_space text not null,
    dimensions integer not null,
    -- Unit-norm values, 32-bit floats, least significant byte first. Biometric data.
    embedding blob not null check (length(embedding) = 4 * dimensions),
    enrolled_at integer not null,
    unique (sample, embedding_space),
    foreign key (sample, subject) references sample (id, subject) on delete cascade,
    foreign key (embedding_space, dimensions) references embedding_space (name, dimensions)
) strict;

create index template_of_subject on template (subject);

-- Facts about the database itself.
create table meta (
    key text primary key not null,
    value text not null
) strict, without rowid;

-- A face of which an operator has said that it is not this subject, though it looks like it.
create table counter_example (
    id integer primary key autoincrement,
    subject blob not null references subject (id) on delete cascade,
    embedding_space text not null,
    dimensions integer not null,
    -- As a template's. Biometric data of somebody unnamed; it goes with the subject.
    embedding blob not null check (length(embedding) = 4 * dimensions),
    added_at integer not null,
    foreign key (embedding_space, dimensions) references embedding_space (name, dimensions)
) strict;

create index counter_example_of_subject on counter_example (subject, embedding_space);

-- Who was erased, so that a backup from before does not bring them back: SHA-256 of an id, never the id.
create table erasure (
    mark blob primary key not null check (length(mark) = 32),
    erased_at integer not null
) strict, without rowid;

-- Whether, when and with what the door opens for whom.
create table door_policy (
    id integer primary key check (id = 1),
    -- As door/policy.rs reads it.
    document text not null check (json_valid(document)),
    changed_at integer not null
) strict;

-- What PINs and passes are made with: random, so that it outlasts a change of the root key and moves to
-- another device with a backup.
create table door_secret (
    id integer primary key check (id = 1),
    secret blob not null check (length(secret) = 32)
) strict;

-- Ways in without a face.
create table credential (
    -- autoincrement: the number of one that is gone is not given again.
    id integer primary key autoincrement,
    kind text not null check (kind in ('pin', 'pass')),
    -- Argon2id of a PIN; the public code of a pass.
    key blob not null check (length(key) = case kind when 'pin' then 32 else 8 end),
    -- Whose it is: a subject, or else a visitor, for whom the rules of a group hold.
    subject blob references subject (id) on delete cascade,
    subject_group integer references subject_group (id) on delete cascade,
    -- What the operator calls a visitor. Personal data; it goes when the pass has ended.
    label text check (length(label) between 1 and 120),
    valid_from integer,
    valid_until integer,
    -- Null: as often as one likes.
    uses_left integer check (uses_left >= 0),
    -- Whether the code of a pass changes every half minute.
    rotating integer not null default 0 check (rotating in (0, 1)),
    created_at integer not null,
    last_used_at integer,
    unique (kind, key),
    check (subject is null or (subject_group is null and label is null))
) strict;

create index credential_of_subject on credential (subject) where subject is not null;
create index credential_of_group on credential (subject_group) where subject_group is not null;
create index credential_ending on credential (valid_until) where valid_until is not null;
