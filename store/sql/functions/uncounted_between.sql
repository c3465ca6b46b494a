-- By how much participants.uncounted shrinks when the base of a participant moves from p_after to p_upto. Each message
-- is subtracted once for each participant, when the base passes it.
--
-- Volatile: it sees everything committed until now, also if the calling statement began before that and then waited for
--     the participant's row. Every transaction that raises `uncounted`, or moves a floor, updates this row, so the
--     function sees exactly the messages that the row has counted.
create or replace function uncounted_between(p_conversation uuid, p_user uuid, p_after bigint, p_upto bigint)
returns bigint language plpgsql volatile as $$
begin
    return (
        select count(s.seq) from conversations c
        cross join lateral uncounted_seqs(p_conversation, p_user, greatest(p_after, c.floor_seq), p_upto) s(seq)
        where c.id = p_conversation
    );
end $$;
