-- The messages of some conversations that a snapshot does not see, as p_user may read them: those that were added,
-- edited or deleted since. They come in the order of the given conversations, and in each in order of seq.
--
-- p_after: for each conversation, only messages with a greater seq.
-- p_newest: for each, of the added messages only this number, the last ones of the conversation, and the last one that is
--     not quiet; null: all.
-- p_snapshot: the snapshot for each.
-- p_limit, p_bytes: the result ends after p_limit messages or p_bytes of them (message_bytes). It then has one row more, with
--     is_beyond.
create or replace function unseen_messages(
    p_user uuid, p_conversation uuid[], p_after bigint[], p_newest bigint[], p_snapshot pg_snapshot[], p_limit int,
    p_bytes bigint
) returns table (
    conversation uuid, seq bigint, id uuid, created bigint, sender uuid, content_type text, content bytea, nonce bytea,
    ephemeral_public_key bytea, revision int, edited bigint, reply_to bigint, attachments uuid[], thumbnail bytea,
    temp_id uuid, device uuid, is_quiet boolean, quiet_count bigint, is_gone boolean, deleted_by uuid, has_envelopes boolean,
    follows bigint, is_beyond boolean
) language plpgsql stable as $$
declare
    first bigint;
    first_added bigint;
    bytes bigint := 0;
    messages int := 0;
    m record;
begin
    for n in 1 .. cardinality(p_conversation) loop
        first_added := first_unseen(p_conversation[n], p_after[n], p_snapshot[n]);
        first := first_added;
        if p_newest[n] is not null then
            first := greatest(first, (
                select c.last_seq + 1 - p_newest[n] from conversations c where c.id = p_conversation[n]));
        end if;
        for m in
            select each.*
            from participants me
            join conversations c on c.id = me.conversation_id
            cross join lateral (
                (select * from readable_messages(c.id, me.user_id, floor_of(c, me)) a where a.seq >= first order by a.seq limit p_limit + 1)
                union all
                select a.* from (
                    select r.seq from revisions r
                    where r.conversation_id = p_conversation[n] and not pg_visible_in_snapshot(r.changed, p_snapshot[n])
                      and r.changed >= pg_snapshot_xmin(p_snapshot[n])
                    union
                    select h.seq from hidden h
                    where h.user_id = p_user and h.conversation_id = p_conversation[n]
                      and not pg_visible_in_snapshot(h.changed, p_snapshot[n])
                    union
                    select c.shown_seq where p_newest[n] > 0 and c.shown_seq >= first_added
                ) old
                join lateral readable_messages(c.id, me.user_id, floor_of(c, me)) a on a.seq = old.seq
                where old.seq > p_after[n] and old.seq < first
            ) each
            where me.conversation_id = p_conversation[n] and me.user_id = p_user
            order by each.seq limit p_limit + 1
        loop
            bytes := bytes + m.size;
            conversation := p_conversation[n];
            seq := m.seq;
            if messages = p_limit or messages > 0 and bytes > p_bytes then
                is_beyond := true;
                return next;
                return;
            end if;
            messages := messages + 1;
            id := m.id;
            created := (extract(epoch from m.created) * 1000000)::bigint;
            sender := m.sender_id;
            content_type := m.content_type;
            content := m.content;
            nonce := m.nonce;
            ephemeral_public_key := m.ephemeral_public_key;
            revision := nullif(m.revision, 0);
            edited := (extract(epoch from m.edited) * 1000000)::bigint;
            reply_to := m.reply_to;
            attachments := m.attachments;
            thumbnail := m.thumbnail;
            temp_id := m.temp_id;
            device := m.device_id;
            is_quiet := m.is_quiet;
            quiet_count := nullif(m.quiet_count, 0);
            is_gone := m.is_gone;
            deleted_by := m.deleted_by;
            has_envelopes := m.has_envelopes;
            follows := m.follows;
            is_beyond := false;
            return next;
        end loop;
    end loop;
end $$;
