-- name: of
-- What a user shows, and what of it to whom.
select u.username, u.display_name, u.profile_revision::bigint, u.gives_receipts, u.shows_presence
from users u where u.id = %(user)s::uuid;

-- name: set
-- See set_profile() in functions/.
select display_name, revision::bigint, gives_receipts, shows_presence, is_renamed, is_shown_otherwise
from set_profile(%(user)s::uuid, %(display_name)s::text, %(gives_receipts)s::boolean, %(shows_presence)s::boolean);
