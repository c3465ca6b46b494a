-- Whether messages of a conversation cause notices for a participant. No other place says so: both windows, the text of
-- a notice and its withdrawal ask here. now() instead of clock_timestamp(), so that a query looks it up once.
create or replace function wants_notices(p participants) returns boolean language sql stable parallel safe as $$
    select coalesce(p.muted_until, '-infinity') < now()
$$;
