-- The state of a conversation's cryptography after its last control message, for a device that joins by itself: with MLS the
-- GroupInfo and the ratchet tree. A state of an earlier control message is kept until the next one is put, and shown to
-- no device.
create table group_states (
    conversation_id uuid primary key references conversations,
    -- The control message after which this is the state.
    control_seq bigint not null,
    -- Grows with each state that is put.
    revision int not null default 0,
    -- The participant who put it, and the device.
    user_id uuid not null references users,
    device_id uuid not null,
    put timestamptz not null default clock_timestamp(),
    body bytea not null,
    constraint group_states_numbers check (control_seq >= 1 and revision >= 0),
    constraint group_states_size check (length(body) between 1 and 1048576)
);
-- Ciphertext and keys do not compress.
alter table group_states alter body set storage external;
