-- Messages that devices cannot decrypt: the devices that wrote them are told, until they add envelopes (add_envelopes), for
-- some days. Without foreign keys, as messages.
create table undecryptable (
    conversation_id uuid not null,
    seq bigint not null,
    -- The device that cannot decrypt it.
    device_id uuid not null,
    -- The sender of the message.
    sender_id uuid not null,
    -- The revision of the message; the report is void once it has another one.
    revision int not null,
    reason text not null check (length(reason) between 1 and 32),
    -- How often the device has reported the message, each time after it was healed or edited.
    tries int not null default 1,
    -- The device has been given an envelope since.
    is_healed boolean not null default false,
    at timestamptz not null default clock_timestamp(),
    primary key (conversation_id, seq, device_id)
) with (fillfactor = 85);
create index undecryptable_device on undecryptable (device_id) where not is_healed;
create index undecryptable_sender on undecryptable (sender_id, at) where not is_healed;
create index undecryptable_at on undecryptable (at);

-- Reports that still hold: the message has that revision, and the device takes part. told_device: the device that wrote the
-- message; null if that has ended or is not known, and all others of the sender's are told.
create view open_reports as
    select u.conversation_id, u.seq, r.user_id, u.device_id, u.revision, u.reason, u.sender_id, w.id as told_device, u.at
    from undecryptable u
    join messages m on m.conversation_id = u.conversation_id and m.seq = u.seq and m.revision = u.revision
        and m.deleted is null
    join devices r on r.id = u.device_id and r.identity is not null
    join participants p on p.conversation_id = u.conversation_id and p.user_id = r.user_id
    join participants s on s.conversation_id = u.conversation_id and s.user_id = u.sender_id
    left join devices w on w.id = m.device_id and w.identity is not null
    where not u.is_healed;
