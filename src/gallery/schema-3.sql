-- From version 2 to 3: pictures of samples, groups, the words that names are searched by, and counter
-- examples.

create index subject_expiring on subject (expires_at) where expires_at is not null;

create table subject_word (
    word text not null check (length(word) >= 1),
    subject blob not null references subject (id) on delete cascade,
    primary key (word, subject)
) strict, without rowid;

create index subject_word_of_subject on subject_word (subject);

-- As SubjectName::words does it: signs become spaces, and what stands between spaces is a word.
insert or ignore into subject_word (word, subject)
with recursive
    sign (at, of) as (
        select 1, substr(signs, 1, 1) from (select '-.,;:''’"()/_&+' as signs)
        union all
        select at + 1, substr('-.,;:''’"()/_&+', at + 1, 1) from sign where at < length('-.,;:''’"()/_&+')
    ),
    plain (subject, at, text) as (
        select id, 0, name_key from subject
        union all
        select subject, plain.at + 1, replace(text, of, ' ') from plain join sign on sign.at = plain.at + 1
    ),
    word (subject, head, rest) as (
        select subject, '', text || ' ' from plain where at = (select max(at) from sign)
        union all
        select subject, substr(rest, 1, instr(rest, ' ') - 1), substr(rest, instr(rest, ' ') + 1)
        from word where rest <> ''
    )
select head, subject from word where head <> '';

create table subject_group (
    id integer primary key autoincrement,
    name text not null check (length(name) between 1 and 120 and name = trim(name)),
    name_key text not null unique check (length(name_key) >= 1)
) strict;

create table group_member (
    subject_group integer not null references subject_group (id) on delete cascade,
    subject blob not null references subject (id) on delete cascade,
    primary key (subject_group, subject)
) strict, without rowid;

create index group_member_of_subject on group_member (subject);

create table picture (
    sample integer primary key not null references sample (id) on delete cascade,
    jpeg blob not null check (length(jpeg) between 1 and 262144)
) strict;

create table counter_example (
    id integer primary key autoincrement,
    subject blob not null references subject (id) on delete cascade,
    embedding_space text not null,
    dimensions integer not null,
    embedding blob not null check (length(embedding) = 4 * dimensions),
    added_at integer not null,
    foreign key (embedding_space, dimensions) references embedding_space (name, dimensions)
) strict;

create index counter_example_of_subject on counter_example (subject, embedding_space);
