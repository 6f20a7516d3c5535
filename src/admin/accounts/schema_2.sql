-- From version 1 to 2: details in the audit log, refusals that are counted, and whose entries it holds.
alter table audit add column detail text check (length(detail) between 1 and 200);
alter table audit add column times integer not null default 1 check (times >= 1);
create index audit_by_who on audit (coalesce(who, ''), (outcome < 400));
create index audit_refused on audit (coalesce(who, ''), operation, address, at)
    where outcome >= 400;
create table audit_share (
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
insert into audit_share select coalesce(who, ''), count(*) from audit group by 1;
drop index access_request_by_address;
