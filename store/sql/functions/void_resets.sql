-- The tokens of mails that set another password are void: the user has another password by now, or another address.
create or replace function void_resets(p_user uuid) returns void language sql as $$
    update password_resets r set token_hash = null where r.user_id = p_user and r.token_hash is not null;
$$;
