-- Takes its identity from a device that has ended: it was revoked, or nobody is told any longer why its tokens have ended.
-- It can get no other one. drop_keys_of_ended() deletes its keys.
create or replace function forget_identity() returns trigger language plpgsql as $$
begin
    new.identity := null;
    return new;
end $$;

create or replace trigger devices_identity before update on devices for each row
when (new.identity is not null and (new.revoked is not null or new.family_hash is null))
execute function forget_identity();
