-- Deletes the keys of devices that have just ended: they were revoked, or nobody is told any longer why their tokens have
-- ended. For all of a statement at once, so that the order of the locks is that of claims.
create or replace function drop_keys_of_ended() returns trigger language plpgsql as $$
declare
    ended uuid[];
begin
    select array_agg(n.id) into ended
    from changed n join before o on o.id = n.id
    where o.revoked is null and n.revoked is not null or o.family_hash is not null and n.family_hash is null;
    if ended is not null then
        perform drop_keys(ended);
    end if;
    return null;
end $$;

create or replace trigger devices_ended after update on devices referencing old table as before new table as changed
for each statement execute function drop_keys_of_ended();
