-- Adds files and their bytes to the figures of the day, and to the total or from it, in the transaction that
-- changes them: the figures are exact, and their sum is the total.
--
-- p_change: 'uploaded' or 'removed'.
create or replace function count_attachments(p_change text, p_files bigint, p_bytes bigint) returns void
language sql as $$
    -- The total before the figures, as in remove_attachments().
    update attachment_total t
    set complete_files = t.complete_files + case p_change when 'uploaded' then p_files else -p_files end,
        complete_bytes = t.complete_bytes + case p_change when 'uploaded' then p_bytes else -p_bytes end;
    insert into analytics (day, metric, value)
    -- In key order, like all writers of this table, so that they never wait for each other in a circle.
    select (clock_timestamp() at time zone 'UTC')::date, m.metric, m.value
    from (values ('attachment_bytes_' || p_change, p_bytes), ('attachments_' || p_change, p_files)) m(metric, value)
    order by m.metric
    on conflict (day, metric) do update set value = analytics.value + excluded.value
$$;
