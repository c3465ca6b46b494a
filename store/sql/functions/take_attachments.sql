-- A message takes these files, and their thumbnails; those that it has already stay. The caller holds the locks of
-- lock_attachments(), and the message can have them (refused_attachment).
create or replace function take_attachments(p_conversation uuid, p_seq bigint, p_ids uuid[]) returns void
language sql as $$
    update attachments a set conversation_id = p_conversation, seq = p_seq
    where a.id = any(p_ids || array(select t.id from attachments t where t.thumbnail_of = any(p_ids)))
      and a.conversation_id is null
$$;
