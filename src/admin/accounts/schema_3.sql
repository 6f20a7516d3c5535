-- From version 2 to 3: the audit log as a chain. The entries there are, are linked by the program when it
-- opens the file.
create table audit_link (
    id integer primary key not null,
    at integer not null,
    content blob not null check (length(content) = 32),
    link blob not null unique check (length(link) = 32)
) strict;
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
