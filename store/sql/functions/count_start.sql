-- A user begins a conversation with a stranger, or brings one into a group. Null, or the seconds until there may be another.
create or replace function count_start(p_user uuid, p_limit int, p_window_s float8 default 86400) returns float8 language plpgsql as $$
declare
    wait_s float8;
begin
    insert into starts as s (user_id, count) values (p_user, 0) on conflict do nothing;
    -- Their own starts come one after the other from here on.
    select extract(epoch from s.since + make_interval(secs => p_window_s) - clock_timestamp()) into wait_s
    from starts s where s.user_id = p_user for no key update;
    if wait_s <= 0 then
        update starts s set since = clock_timestamp(), count = 1 where s.user_id = p_user and p_limit > 0;
    else
        update starts s set count = s.count + 1 where s.user_id = p_user and s.count < p_limit;
    end if;
    return case when not found then greatest(wait_s, 1) end;
end $$;
