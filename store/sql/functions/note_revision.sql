-- Stamps a message that was edited or deleted: syncs find it by the transaction that wrote this row.
--
-- p_digest, p_edited: of an edit, which is recognised by them if it is repeated after later edits. The last 16 are
--     kept. Null for a deletion, after which no digest stays.
create or replace function note_revision(
    p_conversation uuid, p_seq bigint, p_digest bytea default null, p_edited timestamptz default null
) returns void language sql as $$
    insert into revisions (conversation_id, seq, digests, edited)
    values (p_conversation, p_seq, array_remove(array[p_digest], null), array_remove(array[p_edited], null))
    on conflict (conversation_id, seq) do update set
        changed = excluded.changed, at = excluded.at,
        digests = case when p_digest is null then '{}'
            else (revisions.digests || p_digest)[greatest(1, cardinality(revisions.digests) - 14):] end,
        edited = case when p_digest is null then '{}'
            else (revisions.edited || p_edited)[greatest(1, cardinality(revisions.edited) - 14):] end;
    update conversations set changed = pg_current_xact_id(), revised = pg_current_xact_id() where id = p_conversation;
$$;
