-- Notes that a device cannot decrypt a message, for the device that wrote it (told_reports in undecryptable.sql).
--
-- p_revision: of the message, as the device knows it.
-- p_most, p_most_open: how often a device may report a message, each time after it was healed or edited; and how many messages
--     that are not healed it may have reported within p_days.
-- outcome:
--   'noted'
--   'again': it was noted already, or may not be told to the sender, which is not told to the device
--   'stranger', 'unknown', 'deleted', 'conflict': as of edit_message()
--   'own': the device itself wrote the message
--   'unidentified': the device has no identity, so it can get no envelopes
--   'often', 'many': beyond p_most or p_most_open
create or replace function report_undecryptable(
    p_user uuid, p_device uuid, p_conversation uuid, p_seq bigint, p_revision bigint, p_reason text,
    p_most int, p_most_open int, p_days int
) returns text language plpgsql as $$
declare
    target record;
    old messages;
    noted record;
begin
    select * into target from message_to_change(p_user, p_conversation, p_seq);
    old := target.message;
    if (target.me).user_id is null then
        return 'stranger';
    elsif old.id is null then
        return 'unknown';
    elsif old.deleted is not null or old.is_silent and old.sender_id <> p_user
          or exists (select from hidden h
                     where h.user_id = p_user and h.conversation_id = p_conversation and h.seq = p_seq) then
        return 'deleted';
    elsif old.device_id = p_device then
        return 'own';
    elsif old.revision <> p_revision then
        return 'conflict';
    elsif not exists (select from devices d where d.id = p_device and d.identity is not null) then
        return 'unidentified';
    elsif is_private(target.conversation, target.me) then
        -- It would tell the sender that a request has come, or that a block has ended.
        return 'again';
    end if;
    select u.revision, u.is_healed, u.tries, u.at < clock_timestamp() - make_interval(days => p_days) as is_over into noted
    from undecryptable u
    where u.conversation_id = p_conversation and u.seq = p_seq and u.device_id = p_device;
    if found and noted.revision = p_revision and not noted.is_healed and not noted.is_over then
        return 'again';
    elsif noted.tries >= p_most then
        return 'often';
    elsif (select count(*) from (
               select from undecryptable u
               where u.device_id = p_device and not u.is_healed
                 and u.at > clock_timestamp() - make_interval(days => p_days)
               limit p_most_open
           ) o) >= p_most_open then
        return 'many';
    end if;
    insert into undecryptable as u (conversation_id, seq, device_id, sender_id, revision, reason)
    values (p_conversation, p_seq, p_device, old.sender_id, p_revision, p_reason)
    on conflict (conversation_id, seq, device_id) do update set
        revision = excluded.revision, reason = excluded.reason, tries = u.tries + 1, is_healed = false, at = excluded.at;
    return 'noted';
end $$;
