-- outside a transaction
-- Keys of sends that are old enough to be forgotten. The table is written all the time: the index is made beside it.
drop index concurrently if exists sends_created;
create index concurrently sends_created on sends (created);
