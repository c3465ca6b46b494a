-- name: counts
-- Rows of each table of the source, and how many of them are here.
select 'users', (select count(*) from imported.old_users), (select count(*) from imported.users)
union all
select 'conversations', (select count(*) from imported.old_conversations),
       (select count(*) from imported.conversations)
union all
select 'participants', (select count(*) from imported.old_participants), (select count(*) from imported.participants)
union all
select 'contacts', (select count(*) from imported.old_contacts), (select count(*) from imported.contacts)
union all
select 'messages', (select count(*) from imported.listed), (select count(*) from imported.messages)
union all
select 'attachments', (select count(*) from imported.old_attachments), (select count(*) from imported.attachments);

-- name: notes
-- The number of notes of each reason, with the first ones.
select n.about, n.reason, count(*), (array_agg(n.id order by n.id))[:%(examples)s],
       (array_agg(n.detail order by n.id))[:%(examples)s]
from imported.notes n group by n.about, n.reason order by n.about, n.reason;
