-- name: of
-- The profile of a user, what others see of it, and from whom the user takes messages and groups.
select u.username, u.display_name, (select v.told from avatars v where v.id = u.avatar), u.profile_revision::bigint,
       u.gives_receipts, u.shows_presence, u.messages_from, u.groups_from
from users u where u.id = %(user)s::uuid;

-- name: shown
-- The profile of a user, as another user sees it: without display name and avatar if the viewer blocks the user.
select u.username, case when not b.is_blocked then u.display_name end,
       (select v.told from avatars v where v.id = u.avatar and not b.is_blocked), u.profile_revision::bigint
from users u cross join lateral is_blocked(%(viewer)s::uuid, u.id) b(is_blocked)
where u.id = %(user)s::uuid;

-- name: set
-- See set_profile() in functions/.
select outcome, is_profile_changed, is_shown_otherwise, display_name, avatar, revision::bigint, gives_receipts,
       shows_presence, messages_from, groups_from
from set_profile(%(user)s::uuid, %(display_name)s::text, %(avatar)s::uuid, %(gives_receipts)s::boolean,
                 %(shows_presence)s::boolean, %(messages_from)s::text, %(groups_from)s::text);
