-- A message does not count as unread any more for some users, where it lies above their base.
-- The caller holds the conversation's row, and has left out those for whom it did not count before.
create or replace function note_uncounted(p_conversation uuid, p_seq bigint, p_users uuid[]) returns void language plpgsql as $$
begin
    -- In key order, as marks and sends lock them.
    perform from participants p
    where p.conversation_id = p_conversation and p.user_id = any(p_users) and count_base(p) < p_seq
    order by p.user_id for no key update;
    update participants p set uncounted = p.uncounted + 1
    where p.conversation_id = p_conversation and p.user_id = any(p_users) and count_base(p) < p_seq;
end $$;
