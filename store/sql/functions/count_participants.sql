-- A conversation counts its participants, as they are shown to each other: lists of conversations need not count them.
-- The statement has locked the conversation, unless nothing else knows of it yet.
create or replace function count_participants() returns trigger language plpgsql as $$
begin
    update conversations c
    set participant_count = c.participant_count + moved.number * case tg_op when 'INSERT' then 1 else -1 end
    from (select r.conversation_id, count(*)::int as number from moved_rows r group by r.conversation_id) moved
    where c.id = moved.conversation_id;
    return null;
end $$;

create or replace trigger participants_added after insert on participants
referencing new table as moved_rows for each statement execute function count_participants();

create or replace trigger participants_gone after delete on participants
referencing old table as moved_rows for each statement execute function count_participants();

create or replace trigger withheld_added after insert on withheld
referencing new table as moved_rows for each statement execute function count_participants();

create or replace trigger withheld_gone after delete on withheld
referencing old table as moved_rows for each statement execute function count_participants();
