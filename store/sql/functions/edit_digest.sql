-- A digest of the content of an edit, with that of its envelopes: a retry has the same. Each part goes in with its length, so
-- that no two contents make the same bytes, and null differs from empty. A content type contains no NUL.
create or replace function edit_digest(
    p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea, p_attachments uuid[],
    p_thumbnail bytea, p_envelope_digest bytea
) returns bytea language sql stable parallel safe as $$
    select substring(sha256(
        convert_to(p_content_type, 'UTF8') || '\x00'::bytea
        || int8send(length(p_content)) || p_content
        || coalesce(int8send(length(p_nonce)) || p_nonce, '\xff'::bytea)
        || coalesce(int8send(length(p_ephemeral_public_key)) || p_ephemeral_public_key, '\xff'::bytea)
        || coalesce(int8send(length(p_thumbnail)) || p_thumbnail, '\xff'::bytea)
        || coalesce('\xfe'::bytea || p_envelope_digest, ''::bytea)
        || convert_to(coalesce(p_attachments::text, ''), 'UTF8')
    ) for 16)
$$;
