-- Counts places in groups that a user fills: the participants of a new group, or one who is added. Returns null, or the
-- seconds until the user may fill so many: at most p_limit in 24 hours, spread evenly after the first p_limit.
-- p_places: negative to give places back that were counted in this transaction.
create or replace function count_places(p_user uuid, p_places int, p_limit int) returns float8
language plpgsql as $$
declare
    window_s constant float8 := 86400;
    free_at timestamptz;
begin
    insert into starts as s (user_id) values (p_user) on conflict do nothing;
    -- From here on the places of one user wait for each other. Like a token bucket, the row keeps the time when all
    -- places will be free again.
    select s.places_free_at into free_at from starts s where s.user_id = p_user for no key update;
    free_at := greatest(free_at, clock_timestamp()) + make_interval(secs => window_s * p_places / p_limit);
    if p_places > 0 and free_at > clock_timestamp() + make_interval(secs => window_s) then
        return greatest(extract(epoch from free_at - clock_timestamp()) - window_s, 1);
    end if;
    update starts s set places_free_at = free_at where s.user_id = p_user;
    return null;
end $$;
