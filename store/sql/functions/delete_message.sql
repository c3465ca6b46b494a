-- A message is gone for everyone: its content is erased, a tombstone stays.
--
-- outcome: 'deleted', 'again' (it was), or why not: 'stranger', 'unknown', 'foreign'.
create or replace function delete_message(
    p_user uuid, p_conversation uuid, p_seq bigint,
    out outcome text, out id uuid, out created bigint, out sender uuid, out members uuid[]
) language plpgsql as $$
declare
    floor bigint;
    old messages;
begin
    perform from conversations c where c.id = p_conversation for no key update;
    select greatest(p.joined_seq, c.floor_seq) into floor
    from participants p join conversations c on c.id = p.conversation_id
    where p.conversation_id = p_conversation and p.user_id = p_user;
    if not found then
        outcome := 'stranger';
        return;
    end if;
    select m.* into old from messages m where m.conversation_id = p_conversation and m.seq = p_seq and m.seq > floor;
    outcome := case
        when not found then 'unknown'
        when old.sender_id <> p_user then 'foreign'
        when old.deleted is not null then 'again'
        else 'deleted' end;
    if outcome = 'deleted' then
        update messages m
        set content_type = '', content = '', nonce = null, ephemeral_public_key = null, deleted = clock_timestamp()
        where m.conversation_id = p_conversation and m.seq = p_seq;
        perform note_revision(p_conversation, p_seq);
        -- For a blocker, and for who has hidden it, it did not count before.
        perform note_uncounted(p_conversation, p_seq, array(
            select p.user_id from participants p
            where p.conversation_id = p_conversation and not old.is_silent and not exists (
                select from hidden h
                where h.user_id = p.user_id and h.conversation_id = p_conversation and h.seq = p_seq)));
        members := case when old.is_silent then array[p_user] else (
            select array_agg(p.user_id) from participants p
            where p.conversation_id = p_conversation and p.joined_seq < p_seq
        ) end;
    end if;
    id := old.id;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    sender := old.sender_id;
end $$;
