-- Adds a notifier of a user. A notifier with the same hash gets the new target instead. A device at a push service
-- belongs to the user who added it last: other users lose it.
--
-- p_target_hash: SHA-256 of what identifies the target (store/notifiers.py).
-- p_limit: the most notifiers of one user.
-- outcome:
--   'added'
--   'again': the notifier was there already
--   'full': the user has p_limit notifiers
--   'revoked': the device is revoked
create or replace function add_notifier(
    p_id uuid, p_user uuid, p_device uuid, p_kind text, p_target jsonb, p_target_hash bytea, p_limit int,
    out outcome text, out id uuid
) language plpgsql as $$
declare
    former notifiers;
begin
    -- Calls for one user wait for each other, so the limit counts what earlier calls have committed.
    perform from users u where u.id = p_user for no key update;
    if p_device is not null then
        perform from devices d where d.id = p_device and d.user_id = p_user and d.revoked is null for share;
        if not found then
            outcome := 'revoked';
            return;
        end if;
        delete from notifiers n where n.target_hash = p_target_hash and n.user_id <> p_user;
    end if;
    select * into former from notifiers n where n.user_id = p_user and n.target_hash = p_target_hash;
    if found then
        outcome := 'again';
        id := former.id;
        update notifiers n
        set target = p_target, device_id = p_device, failing_since = null, failures = 0, last_error = null
        where n.id = former.id;
        return;
    end if;
    if (select count(*) from notifiers n where n.user_id = p_user) >= p_limit then
        outcome := 'full';
        return;
    end if;
    outcome := 'added';
    id := p_id;
    insert into notifiers (id, user_id, device_id, kind, target, target_hash)
    values (p_id, p_user, p_device, p_kind, p_target, p_target_hash);
end $$;
