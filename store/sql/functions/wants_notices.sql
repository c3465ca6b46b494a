-- Whether messages of a conversation cause notices for a participant: the one place that says so, for the ends of both windows,
-- for what a notice says, and for whether it has become pointless. now(), not the clock: it is looked up once for a query.
create or replace function wants_notices(p participants) returns boolean language sql stable parallel safe as $$
    select coalesce(p.muted_until, '-infinity') < now()
$$;
