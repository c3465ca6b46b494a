-- Counts that a user begins a conversation with a stranger, or brings a stranger into a group. Returns null, or the
-- seconds until the next may begin: at most p_limit in any p_window_s seconds.
create or replace function count_start(p_user uuid, p_limit int, p_window_s float8 default 86400) returns float8
language plpgsql as $$
declare
    stamp timestamptz;
    recent timestamptz[];
    oldest timestamptz;
begin
    insert into starts as s (user_id) values (p_user) on conflict do nothing;
    -- From here on the starts of one user wait for each other, so the array is in order.
    select s.at into recent from starts s where s.user_id = p_user for no key update;
    stamp := clock_timestamp();
    recent := array(select t from unnest(recent) t where t > stamp - make_interval(secs => p_window_s) order by t);
    if cardinality(recent) < p_limit then
        update starts s set at = recent || stamp where s.user_id = p_user;
        return null;
    end if;
    -- The time when one less than the limit remains in the window. With a limit of 0: a window later.
    oldest := coalesce(recent[cardinality(recent) - p_limit + 1], stamp);
    return greatest(extract(epoch from oldest - stamp) + p_window_s, 1);
end $$;
