-- name: sharing
-- Those of some users who share a conversation with a user; the user, too.
select distinct p.user_id
from participants me
join participants p on p.conversation_id = me.conversation_id and p.user_id = any(%(users)s::uuid[])
where me.user_id = %(user)s::uuid;
