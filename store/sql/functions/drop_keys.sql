-- Deletes all keys of some devices: they have ended.
create or replace function drop_keys(p_devices uuid[]) returns void language plpgsql as $$
begin
    -- In the order in which claims lock them.
    perform from key_pools p where p.device_id = any(p_devices) order by p.device_id, p.kind for update;
    delete from one_time_keys k where k.device_id = any(p_devices);
    delete from key_pools p where p.device_id = any(p_devices);
end $$;
