-- The history (history_id) as a number, for rows that have to tell it from another one.
create or replace function history_number() returns bigint language sql stable as $$
    select hashtextextended(history_id(), 0)
$$;
