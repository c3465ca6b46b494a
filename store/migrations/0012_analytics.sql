-- outside a transaction
-- Who was active on which day, how long deliveries took, and an index for who is new. The index is made beside a table
-- that is written to. Each statement may be run again after a failure.

-- A user had a live connection on a day (UTC). No foreign key: what was counted stays counted when a user goes.
create table if not exists activity (
    day date not null,
    user_id uuid not null,
    primary key (day, user_id)
);

-- From a message's commit to a device's delivered mark, sampled: how many samples of a day fell into which bucket
-- (store/latencies.py).
create table if not exists latencies (
    day date not null,
    bucket smallint not null check (bucket >= 0),
    count bigint not null check (count >= 0),
    primary key (day, bucket)
) with (fillfactor = 50);

-- The row of a day's messages moves with each look at the outbox: in place, if its page has room.
alter table analytics set (fillfactor = 50);

drop index concurrently if exists users_created;
create index concurrently users_created on users (created);
