-- The messages above p_after up to p_upto that never count as unread for a user: deleted for everyone, deleted by the
-- user, or sent by a user whom they blocked. Without quiet messages, which quiet_at() counts.
create or replace function uncounted_seqs(p_conversation uuid, p_user uuid, p_after bigint, p_upto bigint)
returns setof bigint language sql stable as $$
    select m.seq from messages m
    where m.conversation_id = p_conversation and m.seq > p_after and m.seq <= p_upto
      and (m.deleted is not null or m.is_silent) and not m.is_quiet and (m.deleted is not null or m.sender_id <> p_user)
    union
    select h.seq from hidden h
    where h.user_id = p_user and h.conversation_id = p_conversation and h.seq > p_after and h.seq <= p_upto
      -- The offset makes Postgres look up each by its key.
      and not exists (
          select from messages m where m.conversation_id = p_conversation and m.seq = h.seq and m.is_quiet offset 0
      )
$$;
