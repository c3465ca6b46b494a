-- Publishes what a device gives (put_keys), and tells what the server holds after that (key_status): a row for each kind.
-- One row without more than an outcome other than 'put': nothing was stored.
create or replace function publish_keys(
    p_device uuid, p_identity bytea, p_history bigint, p_kinds text[], p_numbers bigint[], p_keys bytea[],
    p_last_kinds text[], p_last_numbers bigint[], p_last_keys bytea[], p_is_anew boolean,
    p_most int, p_most_kinds int, p_few int
) returns table (
    outcome text, identity bytea, identity_revision int, history bigint, kind text, count bigint, first bigint,
    highest bigint, digest bytea, last_resort bigint, is_given boolean
)
language plpgsql set plan_cache_mode = force_generic_plan as $$
declare
    done constant text := put_keys(
        p_device, p_identity, p_history, p_kinds, p_numbers, p_keys, p_last_kinds, p_last_numbers, p_last_keys, p_is_anew,
        p_most, p_most_kinds, p_few);
begin
    if done <> 'put' then
        outcome := done;
        return next;
    else
        return query select done, s.* from key_status(p_device) s;
    end if;
end $$;
