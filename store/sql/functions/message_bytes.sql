-- The bytes of a message that a page counts: content, thumbnail, nonce, key and the ids of its attachments.
create or replace function message_bytes(m messages) returns int language sql immutable parallel safe as $$
    select octet_length(m.content) + coalesce(octet_length(m.nonce), 0)
           + coalesce(octet_length(m.ephemeral_public_key), 0) + coalesce(octet_length(m.thumbnail), 0)
           + 17 * coalesce(cardinality(m.attachments), 0)
$$;
