-- A message stops counting as unread for some users, where it lies above their base. The caller has locked the
-- conversation, and leaves out users for whom the message did not count before.
create or replace function note_uncounted(p_conversation uuid, p_seq bigint, p_users uuid[]) returns void
language plpgsql as $$
begin
    -- In the order of their keys, as marks and sends lock them.
    perform from participants p
    where p.conversation_id = p_conversation and p.user_id = any(p_users) and count_base(p) < p_seq
    order by p.user_id for no key update;
    update participants p set uncounted = p.uncounted + 1
    where p.conversation_id = p_conversation and p.user_id = any(p_users) and count_base(p) < p_seq;
end $$;
