-- The messages of a conversation that a participant may read, as this participant sees them. Every query that reads
-- messages for a user reads them here: no other place says who may read what (tests/store/test_readable.py).
--
-- p_floor: floor_of() of the conversation and the participant.
-- temp_id: null unless the participant is the sender.
-- is_gone: the participant sees a tombstone, since the message was deleted for everyone or by the participant, or its
--     sender was blocked when sending it.
-- deleted_by: the administrator whom the tombstone names; see shown_deleter().
-- size: see message_bytes().
-- deleted, is_silent: as stored. is_gone includes them.
--
-- Postgres inlines this function: a query computes only the columns that it uses, of only the messages that it asks
-- for.
create or replace function readable_messages(p_conversation uuid, p_user uuid, p_floor bigint) returns table (
    seq bigint, id uuid, sender_id uuid, created timestamptz, content_type text, content bytea, nonce bytea,
    ephemeral_public_key bytea, revision int, edited timestamptz, reply_to bigint, attachments uuid[], thumbnail bytea,
    temp_id uuid, device_id uuid, is_quiet boolean, quiet_count bigint, is_gone boolean, deleted_by uuid,
    has_envelopes boolean, follows bigint, deleted timestamptz, is_silent boolean, size int
) language sql stable parallel safe as $$
    select m.seq, m.id, m.sender_id, m.created, m.content_type, m.content, m.nonce, m.ephemeral_public_key, m.revision,
           m.edited, m.reply_to, m.attachments, m.thumbnail, case when m.sender_id = p_user then m.temp_id end,
           m.device_id, m.is_quiet, m.quiet_count,
           m.deleted is not null or m.is_silent and m.sender_id <> p_user or exists (
               -- The offset makes Postgres look up each message by the key. Without it, it may hash all that the user
               -- has hidden.
               select from hidden h where h.user_id = p_user and h.conversation_id = p_conversation and h.seq = m.seq
               offset 0
           ), shown_deleter(m.deleted_by, p_conversation, m.seq, p_user), m.has_envelopes, m.follows, m.deleted, m.is_silent, message_bytes(m)
    from messages m where m.conversation_id = p_conversation and m.seq > p_floor
$$;
