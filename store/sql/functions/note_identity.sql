-- A device has got an identity, or another one, or has lost it: each conversation where its user takes part, as the
-- others see it, gets the next version of its device set in the same transaction.
create or replace function note_identity() returns trigger language plpgsql as $$
declare
    places uuid[];
begin
    perform lock_device_set(old.user_id, true);
    places := array(
        select p.conversation_id from participants p where p.user_id = old.user_id
        union all select w.conversation_id from withheld w where w.user_id = old.user_id
    );
    if cardinality(places) > 0 then
        -- In id order, as each transaction locks them.
        perform from conversations c where c.id = any(places) order by c.id for no key update;
        perform raise_devices_version(old.user_id, places);
    end if;
    return null;
end $$;

create or replace trigger devices_set_changed after update on devices for each row
when (old.identity is distinct from new.identity)
execute function note_identity();

create or replace trigger devices_set_lost after delete on devices for each row
when (old.identity is not null)
execute function note_identity();
