-- The first time after p_after at which it is that hour there. An hour that a change of the clocks leaves out comes as
-- soon as it would have ended; one that it repeats comes once.
create or replace function digest_after(p_hour int, p_zone text, p_after timestamptz) returns timestamptz language sql stable as $$
    select min(t) from generate_series(0, 1) d
    cross join lateral (
        select (date_trunc('day', p_after at time zone p_zone) + make_interval(days => d, hours => p_hour))
               at time zone p_zone
    ) at(t)
    where t > p_after
$$;
