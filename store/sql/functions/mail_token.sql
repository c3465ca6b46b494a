-- A token for a mail, of 256 bits. It is computed each time that the mail is written, so a mail that was sent twice has
-- one link, and links in mails from years ago still work. Only its hash is stored, to find the user by.
create or replace function mail_token(p_seed uuid, p_purpose text) returns bytea language sql stable as $$
    select sha256(k.key || uuid_send(p_seed) || convert_to(p_purpose, 'UTF8')) from mail_key k
$$;
