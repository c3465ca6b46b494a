-- The constraints of the migration before this one, checked for what was there: in a transaction of their own, which locks
-- out no reader and no writer.
alter table conversations validate constraint conversations_blocks;
alter table participants validate constraint participants_marks;
alter table messages validate constraint messages_numbers;
alter table messages validate constraint messages_deleted;
