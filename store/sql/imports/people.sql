-- name: changed
-- A page of users of the source that are new, or have changed.
select o.id, o.username, o.display_name, o.email, o.password_hash, coalesce(o.banned_until > now(), false),
       o.deleted is not null, o.has_login, o.avatar_url is not null, i.id is not null
from imported.old_users o left join imported.users i on i.id = o.id
where o.id > %(after)s::uuid and i.fingerprint is distinct from o.fingerprint
order by o.id limit %(limit)s;

-- name: forget
truncate imported.people;

-- name: note
-- What the rules make of a page of users.
insert into imported.people (id, username, username_reason, other_username, password_hash, display_name, email, notes)
select * from jsonb_to_recordset(%(rows)s::jsonb) as p(
    id uuid, username text, username_reason text, other_username text, password_hash text, display_name text,
    email text, notes jsonb);

-- name: take
-- All new and changed users in one transaction: which of them gets a name that several want does not depend on where an
-- earlier run was interrupted. The user who was there first gets it.
analyze imported.people;
create temporary table chosen on commit drop as
select p.*, o.username as old_username, o.created, o.confirmed, o.deleted, o.fingerprint,
       o.deleted is null and coalesce(o.banned_until > now(), false) as is_banned, here.id is not null as is_here,
       -- A user who has logged in here, or is deleted here, is no longer the source's.
       here.id is not null and (here.deleted is not null or here.is_closed or exists (
           select from devices d where d.user_id = p.id)) as is_own,
       case when here.id is null and o.deleted is not null then 'deleted user ' || left(md5(p.id::text), 16)
            when p.username is not null and row_number() over (
                partition by p.username, o.deleted is null
                order by here.username is distinct from p.username, o.created, p.id) = 1
                and not exists (select from users u where u.username = p.username and u.id <> p.id)
                and not exists (select from former_usernames f
                    where f.username_hash = username_hash(p.username) and f.until > now())
                and o.deleted is null then p.username
            else coalesce(here.username, p.other_username) end as new_username
from imported.people p join imported.old_users o on o.id = p.id left join users here on here.id = p.id;

insert into users (id, username, password_hash, created, display_name, shows_presence, messages_from, groups_from,
                   is_closed, deleted, suspended)
select c.id, c.new_username, case when c.deleted is null then nullif(c.password_hash, '') else '' end, c.created,
       c.display_name, c.deleted is null,
       case when c.deleted is null then 'everybody' else 'nobody' end,
       case when c.deleted is null then 'everybody' else 'nobody' end, c.deleted is not null, c.deleted,
       case when c.is_banned then clock_timestamp() end
from chosen c where not c.is_here;

create temporary table renamed on commit drop as
select c.id from chosen c join users u on u.id = c.id
where c.is_here and not c.is_own
  and (u.username, u.display_name) is distinct from (c.new_username, c.display_name);
update users u
set username = c.new_username, password_hash = nullif(c.password_hash, ''), display_name = c.display_name,
    profile_revision = u.profile_revision + (u.id in (select r.id from renamed r))::int
from chosen c
where u.id = c.id and c.is_here and not c.is_own
  and (u.username, u.password_hash, u.display_name) is distinct from (c.new_username, nullif(c.password_hash, ''), c.display_name);
update participants p set changed = pg_current_xact_id() from renamed r where p.user_id = r.id;

-- A ban that has ended lifts the suspension that an earlier run has made of it, and no operator's.
update users u set suspended = case when c.is_banned then clock_timestamp() end
from chosen c
where u.id = c.id and c.is_here and not c.is_own and (u.suspended is not null) <> c.is_banned
  and (c.is_banned or exists (
      select from imported.notes n where n.about = 'users' and n.id = c.id::text and n.reason = 'banned'));

delete from emails e using chosen c
where e.user_id = c.id and c.is_here and not c.is_own and e.address is distinct from c.email;
insert into emails (user_id, address, verified, seed, verification_hash, verification_expires, unsubscribe_hash)
select s.id, s.email, s.confirmed, s.seed, sha256(mail_token(s.seed, 'verify')), clock_timestamp(),
       sha256(mail_token(s.seed, 'unsubscribe'))
from (select c.id, c.email, c.confirmed, gen_random_uuid() as seed
      from chosen c where not c.is_own and c.email is not null offset 0) s
on conflict (user_id) do update set verified = excluded.verified
where emails.verified is null and excluded.verified is not null;

delete from imported.notes n using chosen c where n.about = 'users' and n.id = c.id::text;
insert into imported.notes (about, reason, id, detail)
select 'users', n.note ->> 0, c.id::text, n.note ->> 1 from chosen c cross join jsonb_array_elements(c.notes) n(note)
where not c.is_own
union all
select 'users', coalesce(c.username_reason, 'username_taken'), c.id::text,
       coalesce(c.old_username, '') || ' -> ' || c.new_username
from chosen c where not c.is_own and c.deleted is null and c.new_username is distinct from c.username
union all
select 'users', 'changed_after_login', c.id::text, null from chosen c
where c.is_own and c.id in (select i.id from imported.users i)
on conflict do nothing;

insert into imported.users (id, fingerprint) select c.id, c.fingerprint from chosen c
on conflict (id) do update set fingerprint = excluded.fingerprint;

insert into last_seen (user_id, at)
select o.id, o.last_seen from imported.old_users o join users u on u.id = o.id
where o.last_seen is not null and u.deleted is null
on conflict (user_id) do update set at = excluded.at where last_seen.at < excluded.at;

delete from imported.notes n where n.about = 'users' and n.reason = 'gone_at_source';
insert into imported.notes (about, reason, id)
select 'users', 'gone_at_source', i.id::text from imported.users i
where not exists (select from imported.old_users o where o.id = i.id);
