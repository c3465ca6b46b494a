-- name: add_user
-- See add_user() in functions/.
select add_user(
    %(user)s::uuid, %(username)s, %(password_hash)s, %(code_hash)s::bytea, %(issuer)s, %(subject)s, %(source)s::jsonb);

-- name: password_hash_of
-- The hash of a user's password; null: the user has none.
select password_hash from users where id = %(user)s::uuid;

-- name: replace_hash
-- Another hash of the same password: nothing that the user knows of changes. No row: the user has another one by now.
update users u set password_hash = %(new_hash)s where u.id = %(user)s::uuid and u.password_hash = %(old_hash)s
returning u.id;

-- name: change_password
-- See change_password() in functions/.
select change_password(
    %(user)s::uuid, %(device)s::uuid, %(old_hash)s, %(new_hash)s, p_ends_others => %(ends_others)s,
    p_source => %(source)s::jsonb);

-- name: user_by_name
-- The user of a name, for a login or a look-up.
select id, username, password_hash from users where username = %(username)s and deleted is null;

-- name: user_by_identity
-- The user who logs in with the tokens of an external issuer for this subject.
select u.id, u.username
from external_identities x join users u on u.id = x.user_id
where x.issuer = %(issuer)s and x.subject = %(subject)s;
