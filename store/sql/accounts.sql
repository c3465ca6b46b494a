-- name: add_user
-- A new user; a taken name violates users_username.
insert into users (id, username, password_hash) values (%(user)s::uuid, %(username)s, %(password_hash)s);

-- name: user_by_name
-- Who logs in or is looked up.
select id, username, password_hash from users where username = %(username)s;

-- name: add_device
-- A device with its token; the token itself is not kept.
insert into devices (id, user_id, name, token_hash)
values (%(device)s::uuid, %(user)s::uuid, %(name)s, %(token_hash)s);

-- name: device_by_token
-- Who connects or asks; the time goes into the welcome.
select d.user_id, d.id, (extract(epoch from clock_timestamp()) * 1000000)::bigint
from devices d where d.token_hash = %(token_hash)s and d.revoked is null;
