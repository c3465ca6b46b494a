-- A token for a mail, of 256 bits. It is made again whenever the mail is written again, so that a mail that was sent twice
-- has one link, and the links of mails from years ago still work; it is kept nowhere, only its hash is, to find it by.
create or replace function mail_token(p_seed uuid, p_purpose text) returns bytea language sql stable as $$
    select sha256(k.key || uuid_send(p_seed) || convert_to(p_purpose, 'UTF8')) from mail_key k
$$;
