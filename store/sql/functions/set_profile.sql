-- Changes the profile and the settings of a user. Lists of participants show the new name and avatar from now on, so
-- each conversation of the user counts as changed.
--
-- p_display_name, p_avatar, p_gives_receipts, p_shows_presence, p_messages_from, p_groups_from: null leaves it as it
--     is. A display name of '' and the avatar with the nil UUID remove it.
-- outcome: null: it is done. Else nothing is: why the avatar cannot be had (take_avatar).
-- avatar: as clients are told of it.
-- is_profile_changed: the display name or the avatar has changed.
-- is_shown_otherwise: shows_presence has changed.
create or replace function set_profile(
    p_user uuid, p_display_name text, p_avatar uuid, p_gives_receipts boolean, p_shows_presence boolean,
    p_messages_from text, p_groups_from text,
    out outcome text, out display_name text, out avatar bytea, out revision int, out gives_receipts boolean,
    out shows_presence boolean, out messages_from text, out groups_from text,
    out is_profile_changed boolean, out is_shown_otherwise boolean
) language plpgsql as $$
declare
    old users;
    new_avatar uuid;
begin
    select * into old from users u where u.id = p_user for no key update;
    display_name := case when p_display_name is null then old.display_name else nullif(p_display_name, '') end;
    new_avatar := given_avatar(p_avatar, old.avatar);
    if new_avatar is distinct from old.avatar then
        outcome := take_avatar(p_user, new_avatar, old.avatar);
        if outcome is not null then
            return;
        end if;
    end if;
    avatar := (select v.told from avatars v where v.id = new_avatar);
    gives_receipts := coalesce(p_gives_receipts, old.gives_receipts);
    shows_presence := coalesce(p_shows_presence, old.shows_presence);
    messages_from := coalesce(p_messages_from, old.messages_from);
    groups_from := coalesce(p_groups_from, old.groups_from);
    is_profile_changed := (display_name, new_avatar) is distinct from (old.display_name, old.avatar);
    is_shown_otherwise := shows_presence <> old.shows_presence;
    revision := old.profile_revision + is_profile_changed::int;
    update users u
    set display_name = set_profile.display_name, avatar = new_avatar, gives_receipts = set_profile.gives_receipts,
        shows_presence = set_profile.shows_presence, messages_from = set_profile.messages_from,
        groups_from = set_profile.groups_from, profile_revision = set_profile.revision
    where u.id = p_user;
    if is_profile_changed then
        -- In the order of their keys, as marks and sends lock them.
        perform from participants p where p.user_id = p_user order by p.conversation_id for no key update;
        update participants p set changed = pg_current_xact_id() where p.user_id = p_user;
        update withheld w set changed = pg_current_xact_id() where w.user_id = p_user;
    end if;
end $$;
