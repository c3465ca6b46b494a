-- Begins another history: every cursor that was issued before becomes foreign. May run again at any time.
--
-- Returns a row for each table with numbers of transactions that this cluster has not assigned yet, as after a dump of
-- another cluster was restored. These rows get the number of this transaction: else each sync would take them for new.
-- Every column of type xid8 is treated.
create or replace function begin_history() returns table (changed_table text, changed_rows bigint)
language plpgsql as $$
declare
    assignments text;
    conditions text;
begin
    update history set id = gen_random_uuid();
    for changed_table, assignments, conditions in
        select a.attrelid::regclass::text,
               string_agg(format('%1$I = least(%1$I, pg_current_xact_id())', a.attname), ', '),
               string_agg(format('%I > pg_current_xact_id()', a.attname), ' or ')
        from pg_attribute a join pg_class c on c.oid = a.attrelid
        where a.atttypid = 'xid8'::regtype and c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace
          and not a.attisdropped
        group by a.attrelid order by 1
    loop
        execute format('update %s set %s where %s', changed_table, assignments, conditions);
        get diagnostics changed_rows = row_count;
        if changed_rows > 0 then
            return next;
        end if;
    end loop;
end $$;
