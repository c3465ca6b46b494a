-- Adds a user. A taken name violates users_username, and a user of the issuer who has one already violates
-- external_identities_pkey: the transaction is undone, and the invitation has its use again.
--
-- p_password_hash: null: the user has no password.
-- p_code_hash: of the invitation's code, which has one use less then; null: the user needs none.
-- p_issuer, p_subject: of the external identity with which the user logs in; null: none.
-- p_source: of the security event (note_security_event).
-- outcome:
--   'added'
--   'taken': a deleted user had the name, a short time ago
--   'void': there is no such invitation, or it has expired or has no use left
create or replace function add_user(
    p_user uuid, p_username text, p_password_hash text, p_code_hash bytea, p_issuer text, p_subject text,
    p_source jsonb, out outcome text
) language plpgsql as $$
declare
    invitation uuid;
begin
    if p_code_hash is not null then
        -- If registrations at once need the last use, the first to lock the row has it; the others see no use left.
        update invitations i set uses = i.uses + 1
        where i.code_hash = p_code_hash and i.uses < i.most_uses and i.expires > clock_timestamp()
        returning i.id into invitation;
        if not found then
            outcome := 'void';
            return;
        end if;
    end if;
    if exists (
        select from former_usernames f where f.username_hash = username_hash(p_username) and f.until > now()
    ) then
        update invitations i set uses = i.uses - 1 where i.id = invitation;
        outcome := 'taken';
        return;
    end if;
    insert into users (id, username, password_hash) values (p_user, p_username, p_password_hash);
    insert into external_identities (issuer, subject, user_id)
    select p_issuer, p_subject, p_user where p_subject is not null;
    perform note_security_event(
        'registered', p_user, p_source,
        jsonb_strip_nulls(jsonb_build_object(
            'invitation', invitation, 'by', case when p_subject is not null then 'external_token' end)));
    outcome := 'added';
end $$;
