-- name: add_user
-- Adds a user; a taken name violates users_username. No row: a deleted user had the name, a short time ago.
with made as (
    insert into users (id, username, password_hash)
    select %(user)s::uuid, %(username)s, %(password_hash)s
    where not exists (
        select from former_usernames f where f.username_hash = username_hash(%(username)s) and f.until > now()
    )
    returning id
)
select note_security_event('registered', made.id, %(source)s::jsonb) from made;

-- name: password_hash_of
-- The hash of a user's password.
select password_hash from users where id = %(user)s::uuid;

-- name: change_password
-- See change_password() in functions/.
select change_password(
    %(user)s::uuid, %(device)s::uuid, %(old_hash)s, %(new_hash)s, p_ends_others => %(ends_others)s,
    p_source => %(source)s::jsonb);

-- name: user_by_name
-- The user of a name, for a login or a look-up.
select id, username, password_hash from users where username = %(username)s and deleted is null;
