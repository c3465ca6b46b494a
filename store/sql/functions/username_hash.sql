-- The form in which the name of a deleted user is kept. Names can be guessed, so a hash without a key would tell them.
create or replace function username_hash(p_username text) returns bytea language sql stable as $$
    select sha256(k.key || convert_to('username ' || p_username, 'UTF8')) from mail_key k
$$;
