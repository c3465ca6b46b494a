-- A user's notices that were put off are due now: the reason for waiting may be over.
create or replace function hurry_notices(p_user uuid) returns void language sql as $$
    with waiting as (
        select j.id from jobs j
        where (j.task = 'offline_notice' and j.key = p_user::text
               or j.task = 'notify' and j.key = any(array(
                   select n.id::text from notifiers n where n.user_id = p_user
                   union all select 'deployment-' || p_user)))
          and not j.is_handed and j.claimed_until is null and j.due > clock_timestamp()
        order by j.id for update
    )
    update jobs j set due = clock_timestamp() from waiting where j.id = waiting.id
$$;
