-- name: of
-- The profile of a user, what others see of it, and from whom the user takes messages and groups.
select u.username, u.display_name, u.profile_revision::bigint, u.gives_receipts, u.shows_presence, u.messages_from,
       u.groups_from
from users u where u.id = %(user)s::uuid;

-- name: shown
-- The profile of a user, as another user sees it: without the display name if the viewer blocks the user.
select u.username, case when not is_blocked(%(viewer)s::uuid, u.id) then u.display_name end, u.profile_revision::bigint
from users u where u.id = %(user)s::uuid;

-- name: set
-- See set_profile() in functions/.
select display_name, revision::bigint, gives_receipts, shows_presence, messages_from, groups_from, is_renamed,
       is_shown_otherwise
from set_profile(%(user)s::uuid, %(display_name)s::text, %(gives_receipts)s::boolean, %(shows_presence)s::boolean,
                 %(messages_from)s::text, %(groups_from)s::text);
