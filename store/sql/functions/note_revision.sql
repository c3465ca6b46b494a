-- A message was edited or deleted: syncs find it by the transaction that wrote this.
create or replace function note_revision(p_conversation uuid, p_seq bigint) returns void language sql as $$
    insert into revisions (conversation_id, seq) values (p_conversation, p_seq)
    on conflict (conversation_id, seq) do update set changed = excluded.changed, at = excluded.at;
    update conversations set changed = pg_current_xact_id() where id = p_conversation;
$$;
