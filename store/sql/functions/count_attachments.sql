-- Adds files and their bytes to the figures of the day, in the transaction that changes them, after the total: the
-- figures are exact, and their sum is the total.
--
-- p_change: 'uploaded' or 'removed'.
create or replace function count_attachments(p_change text, p_files bigint, p_bytes bigint) returns void
language sql as $$
    insert into analytics (day, metric, value)
    -- In key order, like all writers of this table, so that they never wait for each other in a circle.
    select (clock_timestamp() at time zone 'UTC')::date, m.metric, m.value
    from (values ('attachment_bytes_' || p_change, p_bytes), ('attachments_' || p_change, p_files)) m(metric, value)
    order by m.metric
    on conflict (day, metric) do update set value = analytics.value + excluded.value
$$;
