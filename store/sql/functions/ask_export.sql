-- A user asks for a file with all data of the account. A job makes it.
--
-- p_window_s: a user may ask once in this time.
-- p_most_s: an export that is not ready after this time has failed, and does not count.
-- p_source: of the security event (note_security_event).
-- outcome:
--   'made': id is the new export
--   'limited': the next one is possible in wait_s seconds
create or replace function ask_export(
    p_user uuid, p_window_s float8, p_most_s float8, p_source jsonb, out outcome text, out id uuid, out wait_s float8
) language plpgsql as $$
declare
    stamp timestamptz := clock_timestamp();
    last timestamptz;
begin
    -- One request after the other.
    perform from users u where u.id = p_user for no key update;
    select max(x.asked) into last from exports x
    where x.user_id = p_user and (x.ready is not null or x.asked > stamp - make_interval(secs => p_most_s));
    if last > stamp - make_interval(secs => p_window_s) then
        outcome := 'limited';
        wait_s := extract(epoch from last - stamp) + p_window_s;
        return;
    end if;
    id := gen_random_uuid();
    insert into exports (id, user_id, asked) values (ask_export.id, p_user, stamp);
    perform enqueue('export', jsonb_build_object('export', id, 'user', p_user), p_key => id::text);
    perform note_security_event('export_asked', p_user, p_source);
    outcome := 'made';
end $$;
