-- The first time after p_after at which it is p_hour o'clock in the zone. If a change of the clocks skips the hour, it
-- is the end of the skipped hour; if it repeats the hour, it is one of the two.
create or replace function digest_after(p_hour int, p_zone text, p_after timestamptz) returns timestamptz
language sql stable as $$
    select min(t) from generate_series(0, 1) d
    cross join lateral (
        select (date_trunc('day', p_after at time zone p_zone) + make_interval(days => d, hours => p_hour))
               at time zone p_zone
    ) at(t)
    where t > p_after
$$;
