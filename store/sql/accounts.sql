-- name: add_user
-- See add_user() in functions/.
select add_user(%(user)s::uuid, %(username)s, %(password_hash)s, %(code_hash)s::bytea, %(source)s::jsonb);

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
