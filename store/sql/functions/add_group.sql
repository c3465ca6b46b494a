-- A group with its first participants. p_admin is one of them and becomes the administrator. Users who do not have
-- p_admin as a contact are asked to accept. Users who block p_admin are withheld from the group, and the others see no
-- difference.
--
-- p_users: the participants, each once.
-- p_limit: how many conversations with strangers p_admin may begin in 24 hours.
-- p_places: how many places in groups p_admin may fill in 24 hours.
-- outcome:
--   'made'
--   'unknown': one of the users does not exist, or is deleted
--   'refused': the users in refused take no groups from p_admin
--   'limited': p_admin has begun p_limit conversations; the next may begin in wait_s seconds
--   'crowded': p_admin has filled p_places places in groups, or nearly; this group may begin in wait_s seconds
create or replace function add_group(
    p_conversation uuid, p_name text, p_users uuid[], p_admin uuid, p_limit int, p_places int,
    out outcome text, out refused uuid[], out wait_s float8
) language plpgsql as $$
declare
    known uuid[];
    blockers uuid[];
    found_users int;
begin
    perform lock_starts(p_admin, false);
    perform lock_device_set(u, false) from unnest(p_users) u;
    known := array(
        select k.user_id from unnest(p_users) u(id)
        cross join lateral (
            select k.user_id from contacts k
            where k.user_id = u.id and k.contact_id = p_admin and k.is_contact limit 1
        ) k
    ) || p_admin;
    blockers := array(select b.user_id from contacts b
        where b.contact_id = p_admin and b.is_blocked and b.user_id = any(p_users));
    select count(*), array_agg(u.id) filter (where u.id <> p_admin and not takes_from(u.groups_from, u.id = any(known)))
    into found_users, refused
    from (
        -- The lock puts this before or after the deletion of an account (anonymise_user).
        select u.id, u.groups_from from users u where u.id = any(p_users) and u.deleted is null for key share
    ) u;
    outcome := case
        when found_users < cardinality(p_users) then 'unknown'
        when refused is not null then 'refused'
        else 'made' end;
    if outcome = 'made' then
        wait_s := count_places(p_admin, cardinality(p_users), p_places);
        if wait_s is not null then
            outcome := 'crowded';
        elsif not p_users <@ known then
            wait_s := count_start(p_admin, p_limit);
            if wait_s is not null then
                outcome := 'limited';
                perform count_places(p_admin, -cardinality(p_users), p_places);
            end if;
        end if;
    end if;
    if outcome <> 'made' then
        return;
    end if;
    insert into conversations (id, kind, name) values (p_conversation, 'group', p_name);
    insert into participants (conversation_id, user_id, role, changed_by, asked_by, asked_seq)
    select p_conversation, u, case when u = p_admin then 'admin' else 'member' end, nullif(p_admin, u),
           case when u <> all(known) then p_admin end, case when u <> all(known) then 0 end
    from unnest(p_users) u where u <> all(blockers) order by u;
    insert into withheld (conversation_id, user_id, changed_by)
    select p_conversation, u, p_admin from unnest(blockers) u order by u;
end $$;
