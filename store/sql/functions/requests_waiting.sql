-- The number of requests whose first message that is not quiet a user has not read. In a notice each counts as one
-- message, however many follow.
create or replace function requests_waiting(p_user uuid) returns bigint language sql stable as $$
    select count(*) from participants me
    -- The limit makes Postgres look up each by its key. Without it, a plan made for few conversations reads them all.
    cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
    where me.user_id = p_user and me.asked_by is not null and wants_notices(me)
      and unread_count(c, me) > 0 and exists (
          select from readable_messages(c.id, me.user_id, floor_of(c, me)) m
          where m.seq = first_counted(c.id, me.asked_seq) and m.seq > greatest(count_base(me), c.floor_seq)
            and not m.is_gone and m.sender_id <> p_user)
$$;
