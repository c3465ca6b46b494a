-- The last step of the deletion of an account: what is left of the user goes, but for the row in users, which others'
-- rows refer to. Its name says that the user is deleted; others see the change like that of a display name.
--
-- p_held_s: for how long no other user can take the name.
-- Returns false if the user takes part in conversations again that are not left or closed, or has contacts left, so that
-- earlier steps have to be repeated.
create or replace function anonymise_user(p_user uuid, p_held_s float8) returns boolean language plpgsql as $$
declare
    old users;
begin
    -- Whoever adds this user to a conversation or to contacts has taken a lock that this one waits for, and is seen
    -- below; later ones find a deleted user.
    select * into old from users u where u.id = p_user for update;
    if exists (
        select from shown_participants p join conversations c on c.id = p.conversation_id
        where p.user_id = p_user and (c.kind <> 'direct' or not c.is_closed)
    ) or exists (select from contacts k where k.user_id = p_user)
      or exists (select from contacts k where k.contact_id = p_user) then
        return false;
    end if;
    perform note_deletion_step(p_user);
    insert into former_usernames (username_hash, until)
    values (username_hash(old.username), clock_timestamp() + make_interval(secs => p_held_s))
    on conflict (username_hash) do update set until = greatest(former_usernames.until, excluded.until);
    delete from notices n where n.user_id = p_user;
    delete from notifiers n where n.user_id = p_user;
    perform drop_keys(array(select d.id from devices d where d.user_id = p_user));
    delete from devices d where d.user_id = p_user;
    delete from key_claims c where c.user_id = p_user;
    delete from security_events e where e.user_id = p_user;
    -- Those whose objects are gone are, too; others were made in a deployment that has no object store any longer.
    delete from exports x where x.user_id = p_user;
    delete from password_resets r where r.user_id = p_user;
    delete from emails e where e.user_id = p_user;
    delete from external_identities x where x.user_id = p_user;
    delete from quiet_hours q where q.user_id = p_user;
    delete from starts s where s.user_id = p_user;
    delete from last_seen l where l.user_id = p_user;
    -- As an array: by the index, one look-up for each day.
    delete from activity a
    where a.user_id = p_user and a.day = any(array(
        select d::date from generate_series((select min(day) from activity), (select max(day) from activity), '1 day') d
    ));
    delete from dead_jobs j where j.payload ->> 'user' = p_user::text;
    perform take_avatar(p_user, null, old.avatar);
    -- A job deletes their objects, and then the rows. An avatar that a group shows stays with the group, like its name.
    update attachments a set orphaned = coalesce(a.orphaned, clock_timestamp())
    where a.user_id = p_user and a.conversation_id is null and not a.is_shown;
    delete from attachment_usage a where a.user_id = p_user;
    perform note_security_event('account_deleted', p_user, '{"actor": "system"}');
    -- In the order of their keys, as marks and sends lock them.
    perform from participants p where p.user_id = p_user order by p.conversation_id for no key update;
    update participants p
    set changed = pg_current_xact_id(), muted_until = null, own_lifetime_s = null, delivered_by = null
    where p.user_id = p_user;
    update withheld w set changed = pg_current_xact_id() where w.user_id = p_user;
    update users u
    set username = 'deleted user ' || left(replace(gen_random_uuid()::text, '-', ''), 16), password_hash = '',
        display_name = null, avatar = null, profile_revision = u.profile_revision + 1, gives_receipts = true,
        shows_presence = false, messages_from = 'nobody', groups_from = 'nobody', is_closed = true,
        suspended = null, deleted = clock_timestamp()
    where u.id = p_user;
    return true;
end $$;
