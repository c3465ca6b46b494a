-- What is to be removed, and how far sweeps have come. The release before this one goes on working: it takes no attachment
-- from a message and shows none.

-- Devices whose tokens ended long ago keep their row, to which others may refer, and nothing that a token could be told by.
alter table devices alter column token_hash drop not null;
create index devices_ended on devices (least(expires, revoked)) where token_hash is not null;
create index devices_former_ended on devices (former_expires) where former_expires is not null;

alter table attachments
    -- Since when its objects are being removed; the row goes last. No message can have it any more.
    add column doomed timestamptz,
    add constraint attachments_doomed check (doomed is null or conversation_id is null);
create index attachments_unused on attachments (created) where conversation_id is null;
create index attachments_thumbnail on attachments (thumbnail_key) where thumbnail_key is not null;

-- An attachment that loses its message is removed, however young it is.
create function doom_attachment() returns trigger language plpgsql as $$
begin
    new.doomed := clock_timestamp();
    return new;
end $$;
create trigger attachments_detached before update of conversation_id on attachments
for each row when (old.conversation_id is not null and new.conversation_id is null) execute function doom_attachment();

-- A message that is deleted for everyone loses its attachments. Sends and edits do not name the column, and are spared.
create function detach_attachments() returns trigger language plpgsql as $$
begin
    update attachments a set conversation_id = null, seq = null
    where a.conversation_id = new.conversation_id and a.seq = new.seq;
    return null;
end $$;
create trigger messages_detach after update of deleted on messages
for each row when (old.deleted is null and new.deleted is not null) execute function detach_attachments();

-- How far a piece of work has come that goes through all there is, again and again: what it has looked at last, in the order
-- of its keys; empty at the beginning.
create table sweeps (
    task text primary key,
    position text not null,
    moved timestamptz not null default clock_timestamp()
);
