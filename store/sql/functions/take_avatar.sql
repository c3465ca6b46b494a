-- A user or a group gets another avatar, or none, and lets go of the one that it had, whose objects a job deletes. The
-- caller has locked the row of the user or the group, and writes the new id there.
--
-- p_user: who sets it: no other user has uploaded it.
-- p_avatar: the new one; null: none.
-- p_former: the one until now; null: none.
-- Returns null if that is done, or why nothing is:
--   'unattachable': it does not exist, is another user's, was not declared as an avatar, or is orphaned
--   'incomplete': it is not complete
--   'used': it is shown already, by another user or group
create or replace function take_avatar(p_user uuid, p_avatar uuid, p_former uuid) returns text language plpgsql as $$
declare
    file attachments;
begin
    -- In the order of their ids, as every transaction locks attachments. One that waited finds the file shown, or
    -- orphaned by the clean-up.
    perform from attachments a where a.id in (p_avatar, p_former) order by a.id for no key update;
    if p_avatar is not null then
        select * into file from attachments a where a.id = p_avatar;
        if not found or file.user_id <> p_user or not file.is_avatar or file.orphaned is not null then
            return 'unattachable';
        elsif file.is_shown then
            return 'used';
        elsif file.completed is null then
            return 'incomplete';
        end if;
        update attachments a set is_shown = true where a.id = p_avatar;
    end if;
    update attachments a set is_shown = false, orphaned = clock_timestamp() where a.id = p_former;
    return null;
end $$;
