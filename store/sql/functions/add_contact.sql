-- A user makes another user a contact. Requests of the other user are accepted at once.
-- outcome:
--   'added'
--   'again': the other user was a contact already
--   'unknown': the other user does not exist, is deleted, or is the user
-- accepted: the conversations that were requests.
create or replace function add_contact(p_user uuid, p_other uuid, out outcome text, out accepted uuid[])
language plpgsql as $$
declare
    asked uuid;
begin
    perform lock_starts(p_other, true);
    -- The lock puts this before or after the deletion of the other account (anonymise_user).
    perform from users u where u.id = p_other and u.deleted is null for key share;
    if not found or p_user = p_other then
        outcome := 'unknown';
        return;
    end if;
    insert into contacts as k (user_id, contact_id) values (p_user, p_other)
    on conflict (user_id, contact_id) do update set is_contact = true where not k.is_contact;
    outcome := case when found then 'added' else 'again' end;
    accepted := '{}';
    if outcome = 'added' and not is_blocked(p_user, p_other) then
        for asked in
            select p.conversation_id from participants p where p.user_id = p_user and p.asked_by = p_other
            order by p.conversation_id
        loop
            perform accept_request(p_user, asked);
            accepted := accepted || asked;
        end loop;
    end if;
end $$;
