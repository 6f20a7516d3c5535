-- The database of unknown faces, version 1: the schema of a new file. Encrypted as a whole by SQLCipher
-- under a key of its own. It exists only while `sightings.keep` is on. Times are milliseconds since
-- 1970-01-01 UTC.

-- A face that was seen once or often, and that nobody has named.
create table sighting_group (
    -- Shown to the operator. autoincrement: the number of a forgotten face is not given to another one.
    id integer primary key autoincrement check (id >= 1),
    first_seen_at integer not null,
    last_seen_at integer not null check (last_seen_at >= first_seen_at),
    -- All sightings, those no longer kept included.
    count integer not null check (count >= 1),
    -- Hidden, and further sightings only renew it.
    ignored integer not null default 0 check (ignored in (0, 1))
) strict;

create index group_by_last_seen on sighting_group (ignored, last_seen_at, id);

-- One visit of an unknown visitor: the best look at it.
create table sighting (
    id integer primary key autoincrement,
    sighting_group integer not null references sighting_group (id) on delete cascade,
    seen_at integer not null,
    -- As measured when it was seen; see the gallery's samples.
    quality real not null check (quality between 0.0 and 1.0),
    eye_distance_px real not null check (eye_distance_px >= 0.0),
    sharpness real not null,
    yaw_deg real not null check (yaw_deg between -180.0 and 180.0),
    pitch_deg real not null check (pitch_deg between -180.0 and 180.0),
    roll_deg real not null check (roll_deg between -180.0 and 180.0),
    embedding_space text not null check (length(embedding_space) between 1 and 200),
    -- Unit-norm values, 32-bit floats, least significant byte first. Biometric data.
    embedding blob not null check (length(embedding) between 4 and 16384 and length(embedding) % 4 = 0),
    -- The face with what is around it. Biometric data.
    jpeg blob not null check (length(jpeg) between 1 and 262144)
) strict;

create index sighting_of_group on sighting (sighting_group, quality, id);
create index sighting_by_time on sighting (seen_at, id);
