-- All tables. Stored functions and triggers are in store/sql/functions/.
--
-- Hot tables (conversations, participants) leave room in each page, so that Postgres updates a row in place (HOT). So
-- no index may name a column that a send or a mark sets: last_seq, active_at, *_seq, changed, marked. The columns that
-- each send sets stand side by side: the log of such an update spans all columns from the first change to the last.
--
-- Postgres parses the text of each CHECK of a table for each statement that writes to it, whichever columns that sets.
-- So hot tables have few and short constraints.
--
-- Columns named added, changed, marked, silenced, own_* and *_changed of type xid8 hold the transaction that wrote the
-- row last (decision 9). A snapshot tells whether that was committed since.

-- Users and their devices.

create table users (
    id uuid primary key,
    -- Canonical (runtime/usernames.py). That of a deleted user has spaces, which no name that a user can take has.
    username text not null
        check (username is nfc normalized)
        check (username ~ '^[^\x01-\x2f\x3a-\x60\x7b-\xa0][^\x01-\x2c\x2f\x3a-\x5e\x60\x7b-\xa0]{0,31}$'
               or username ~ '^deleted user [0-9a-f]{16}$'),
    -- Null: the user has no password, and logs in by an external issuer (external_identities).
    password_hash text,
    created timestamptz not null default clock_timestamp(),
    display_name text check (length(display_name) between 1 and 128),
    -- The picture that others see of the user: an attachment that no message has (set_profile).
    avatar uuid,
    -- The number of changes of the profile: of two profiles the one with the greater revision is the later.
    profile_revision int not null default 0,
    -- Whether others see the marks of this user, and when the user is or was online.
    gives_receipts boolean not null default true,
    shows_presence boolean not null default true,
    -- The number of changes of the user's own settings and of the contacts, and the transaction that made the last one
    -- (note_own_settings, note_set_beside).
    settings_revision int not null default 0,
    contacts_revision int not null default 0,
    own_changed xid8 not null default pg_current_xact_id(),
    -- From whom the user takes first messages, and places in groups (decision 29). They arrive as requests unless the
    -- other user is a contact.
    messages_from text not null default 'everybody' check (messages_from in ('everybody', 'contacts', 'nobody')),
    groups_from text not null default 'everybody' check (groups_from in ('everybody', 'contacts', 'nobody')),
    -- The user has asked to delete the account: no device logs in (account_deletions).
    is_closed boolean not null default false,
    -- When an operator suspended the user; null: the user is not suspended (devices.is_suspended).
    suspended timestamptz,
    -- When the account was deleted. The row stays, since messages, marks and settings refer to it.
    deleted timestamptz,
    constraint users_username unique (username),
    constraint users_deleted check (
        deleted is null or is_closed and display_name is null and avatar is null and password_hash = '')
);
create index users_created on users (created);
create index users_suspended on users (suspended) where suspended is not null;

create table devices (
    id uuid primary key,
    user_id uuid not null references users,
    name text not null,
    -- A token is the secret of its family, which all tokens of a device share, and a secret of its own (decision 35). A
    -- token with the right family that is none of those below has ended. Null a long time after the device's tokens
    -- have ended: other tables may still refer to the row, and no device is told the reason any longer.
    family_hash bytea check (length(family_hash) = 32),
    -- The token that was shown last of those that were new then.
    token_hash bytea check (length(token_hash) = 32),
    -- New tokens: the replies to the last renewals. None of them has been shown; the first that is ends all others.
    next_hashes bytea[] not null default '{}' check (cardinality(next_hashes) <= 4),
    -- The token before token_hash: requests with it may be under way.
    former_hash bytea check (length(former_hash) = 32),
    former_until timestamptz,
    -- The history (history_number) in which one of these was written last.
    history bigint,
    created timestamptz not null default clock_timestamp(),
    revoked timestamptz,
    -- It was revoked since a token was shown that had ended.
    is_reused boolean not null default false check (not is_reused or revoked is not null),
    -- An operator has suspended the user. The same as in users, so that a token is looked up in this table alone.
    is_suspended boolean not null default false,
    expires timestamptz not null default now() + interval '90 days',
    -- When the user last showed the password on this device: at the login, or since.
    confirmed timestamptz not null default clock_timestamp(),
    -- When the device was used last, up to an hour earlier (store/device_uses.py), and the client's name and version, as
    -- the client has told it at the login or in a hello.
    last_used timestamptz not null default clock_timestamp(),
    client text check (length(client) between 1 and 64),
    -- What others need in order to encrypt for the device, as it has published it, and how often that was something else.
    -- Null: the device has published nothing, or has ended (forget_identity).
    identity bytea,
    identity_revision int not null default 0,
    constraint devices_family unique (family_hash),
    constraint devices_identity check (
        identity is null or length(identity) between 1 and 4096 and identity_revision > 0),
    check ((family_hash is null) = (token_hash is null)),
    check ((former_hash is null) = (former_until is null))
) with (fillfactor = 85);
create index devices_user on devices (user_id);
create index devices_revoked on devices (revoked) where revoked is not null;
create index devices_ended on devices (least(expires, revoked)) where family_hash is not null;
create index devices_identity_expires on devices (expires) where identity is not null;

-- The one-time keys of devices, by kind (decision 55). The row of a pool is the lock of its keys: uploads and claims lock
-- it, or update it. Each key has a place in the pool, counted from 1 on and never used again: the keys with places after
-- `taken` up to `stored` are there, and a claim takes the first one by moving `taken`. Numbers grow with places.
create table key_pools (
    device_id uuid not null references devices,
    kind text collate "C" not null check (length(kind) between 1 and 32),
    stored bigint not null default 0,
    taken bigint not null default 0 check (taken between 0 and stored),
    -- The greatest numbers of a one-time key and of a last-resort key that were ever stored: keys up to them are not taken
    -- again.
    highest_number bigint not null default 0,
    last_resort_number bigint not null default 0,
    -- The key that is handed out when there is no other, as often as needed.
    last_resort bytea check (length(last_resort) between 1 and 16384),
    -- It was handed out, to a user who reaches the device.
    is_given boolean not null default false,
    -- The history (history_number) in which the keys were uploaded. In another one they may have been claimed before.
    history bigint not null,
    -- The greatest size of a key that the pool has had.
    most_bytes int not null default 0,
    -- Since when few keys are left, or the last-resort key has been handed out: the device is told. Null: neither.
    low timestamptz,
    primary key (device_id, kind)
) with (fillfactor = 50);
create index key_pools_low on key_pools (low) where low is not null;

-- The keys of pools: those of a row have the places from `place` on, in the order of their numbers. Claims only read rows;
-- an upload deletes those of which no key is left. Without a foreign key: uploads and drop_keys() have locked the pool.
create table one_time_keys (
    device_id uuid not null,
    kind text collate "C" not null,
    place bigint not null check (place > 0),
    numbers bigint[] not null check (0 < all(numbers)),
    keys bytea[] not null check ('' <> all(keys) and cardinality(keys) = cardinality(numbers)),
    primary key (device_id, kind, place)
);

-- How often a user has claimed keys of a device since a time in the last hour; beyond a number of claims the user gets
-- last-resort keys. Without foreign keys: rows end by themselves.
create table key_claims (
    user_id uuid not null,
    device_id uuid not null,
    since timestamptz not null,
    claims int not null,
    primary key (user_id, device_id)
) with (fillfactor = 50);
create index key_claims_since on key_claims (since);

-- The accounts that their users have asked to delete. A row goes once the account is deleted and the devices of others
-- are told.
create table account_deletions (
    user_id uuid primary key references users,
    -- From then on it is deleted; before, a login keeps the account.
    due timestamptz not null,
    -- The user's messages are deleted for everyone.
    deletes_messages boolean not null,
    -- How far the deletion of messages has come: in this conversation up to this seq, and all conversations with a lesser
    -- id.
    position_id uuid not null default '00000000-0000-0000-0000-000000000000',
    position_seq bigint not null default 0,
    -- The number of steps, and when the first of those began that the nodes are not told of yet: no cursor passes them.
    steps int not null default 0,
    untold_since timestamptz
);
create index account_deletions_due on account_deletions (due);
create index account_deletions_untold on account_deletions (untold_since) where untold_since is not null;

-- The names of deleted users, hashed with the key of mail_key, until another user may take them.
create table former_usernames (
    username_hash bytea primary key check (length(username_hash) = 32),
    until timestamptz not null
);
create index former_usernames_until on former_usernames (until);

-- Users of an external issuer, such as an identity provider, who log in with its tokens (decision 46). What the issuer calls
-- a user never changes; names and addresses that it may tell are not used.
create table external_identities (
    issuer text not null check (length(issuer) between 1 and 255),
    subject text not null check (length(subject) between 1 and 255),
    user_id uuid not null references users,
    created timestamptz not null default clock_timestamp(),
    primary key (issuer, subject),
    constraint external_identities_user unique (user_id)
);

-- Invitations: codes with which new users register, if the operator wants that (store/invitations.py). Rows go some time
-- after their end.
create table invitations (
    id uuid primary key,
    -- The hash of the code; the code itself is not stored.
    code_hash bytea not null check (length(code_hash) = 32),
    created timestamptz not null default clock_timestamp(),
    expires timestamptz not null,
    -- How many users may register with it, and how many have. The security event of each of them names the invitation.
    most_uses int not null check (most_uses >= 1),
    uses int not null default 0,
    constraint invitations_code unique (code_hash),
    constraint invitations_uses check (uses between 0 and most_uses)
);
create index invitations_expires on invitations (expires);

-- When each user was online last. Apart from users, so that the rows that change all day are small and updated in
-- place.
create table last_seen (
    user_id uuid primary key references users,
    at timestamptz not null
) with (fillfactor = 50);

-- The contacts of a user (is_contact), and the users whom a user blocks. A blocked contact does not count as a contact.
create table contacts (
    user_id uuid not null references users,
    contact_id uuid not null references users,
    is_contact boolean not null default true,
    is_blocked boolean not null default false,
    -- When the user was online last as the block began: the blocked user sees the presence of that time. Null: unknown.
    last_seen timestamptz,
    created timestamptz not null default clock_timestamp(),
    primary key (user_id, contact_id),
    check (user_id <> contact_id),
    check (is_contact or is_blocked),
    constraint contacts_last_seen check (is_blocked or last_seen is null)
);
-- The users whom a user blocks, and the blockers of a user: each list and each sign of typing looks them up.
create index contacts_blocked on contacts (user_id, contact_id) where is_blocked;
create index contacts_blockers on contacts (contact_id, user_id) where is_blocked;
-- The users who have a user as a contact: the deletion of an account looks them up.
create index contacts_contact on contacts (contact_id);

-- When a user has begun conversations with strangers, in the last 24 hours, in order (decision 29). places_free_at: the
-- time from which the user may fill as many places in groups as in any 24 hours (decision 40).
create table starts (
    user_id uuid primary key references users,
    at timestamptz[] not null default '{}',
    places_free_at timestamptz not null default '-infinity'
) with (fillfactor = 50);

-- Conversations, participants and messages.

create table conversations (
    id uuid primary key,
    kind text not null,
    name text,
    created timestamptz not null default clock_timestamp(),
    -- Two users have one direct conversation: its key is their ids, the lower first. That of a user's own conversation
    -- (kind 'self') is the user's id twice.
    direct_low uuid references users,
    direct_high uuid references users,
    last_seq bigint not null default 0,
    -- When the last message was sent that is not quiet, or the conversation began: the order of lists.
    active_at timestamptz not null default clock_timestamp(),
    changed xid8 not null default pg_current_xact_id(),
    -- Quiet messages (decision 3): how many of the messages are quiet; the last one that is not, if quiet ones follow it
    -- (0: all are quiet; null: none follow, and it is last_seq); and when the last quiet one was sent.
    quiet_count bigint not null default 0,
    shown_seq bigint,
    last_quiet_at timestamptz,
    participants_version bigint not null default 1,
    -- Moves with each change of the users who get messages, also with a change that the others are not told of
    -- (withheld). Nodes check their cached lists of recipients by it.
    recipients_version bigint not null default 1,
    -- The picture of a group, as that of a user (change_conversation).
    avatar uuid,
    -- Whether a user who joins may read messages from before.
    joiners_see_all boolean not null default false,
    -- In a direct conversation: whether each user blocks the other. The same as in contacts, so that a send need not
    -- look there.
    low_blocks boolean not null default false,
    high_blocks boolean not null default false,
    -- Direct, and one of the two users is deleted: the other can send no more.
    is_closed boolean not null default false,
    -- The floor: messages at or below it are gone for everyone.
    floor_seq bigint not null default 0,
    -- The transaction that moved the floor last; null: the floor has never moved.
    floor_changed xid8,
    -- The last change of participants or settings; written with participants_version.
    participants_changed xid8 not null default pg_current_xact_id(),
    -- The lifetime of messages, in seconds; null: as long as the deployment keeps them.
    lifetime_s int,
    -- The user who changed the name, the avatar, the lifetime or joiners_see_all last; null: they are as at the beginning.
    settings_by uuid references users,
    -- The transaction that edited a message last, or deleted one for everyone; null: none did.
    revised xid8,
    -- How many users take part, as they are shown to each other (count_participants).
    participant_count int not null default 0,
    -- Grows with each change of the devices for which others encrypt here (raise_devices_version), and the transaction of
    -- the last one. 0 and null: the set is as it was at the beginning.
    devices_version bigint not null default 0,
    -- The last control message; 0: there was none.
    control_seq bigint not null default 0,
    devices_changed xid8,
    constraint conversations_direct unique (direct_low, direct_high),
    constraint conversations_kind check (
        case when direct_low is null
            then kind = 'group' and name is not null and direct_high is null and not low_blocks and not high_blocks
            else name is null and (direct_low <= direct_high) is true
                and kind = case when direct_low = direct_high then 'self' else 'direct' end end),
    constraint conversations_floor check (floor_seq between 0 and last_seq),
    constraint conversations_lifetime check (lifetime_s between 60 and 315360000)
) with (fillfactor = 50);

create table participants (
    conversation_id uuid not null references conversations,
    user_id uuid not null references users,
    -- The participant may read no message at or below it.
    joined_seq bigint not null default 0,
    -- The last message when the participant joined: it and those before it were sent to others.
    since_seq bigint not null default 0,
    delivered_seq bigint not null default 0,
    read_seq bigint not null default 0,
    -- The last message that the user has written. From before the user came back, only the last 50 messages of the
    -- conversation count.
    written_seq bigint not null default 0,
    changed xid8 not null default pg_current_xact_id(),
    role text not null default 'member' check (role in ('admin', 'member')),
    joined timestamptz not null default clock_timestamp(),
    muted_until timestamptz,
    -- What belongs to this user alone, such as muting: the number of changes, and the transaction of the last one.
    own_revision int not null default 0,
    own_changed xid8 not null default pg_current_xact_id(),
    -- The read mark that no other user sees: of messages of a user whom this one blocks, or of all if this one gives no
    -- receipts.
    private_read_seq bigint not null default 0,
    -- The number of messages above the base that do not count as unread, without quiet ones: see uncounted_seqs() and
    -- unread_count().
    uncounted bigint not null default 0,
    -- The delivered mark that no other user sees: in a request, and while one of the two blocks the other.
    private_delivered_seq bigint not null default 0,
    -- The last move of the marks. Apart from changed: marks move most often, and concern the fewest devices.
    marked xid8 not null default pg_current_xact_id(),
    -- The last move of private marks, and the last change of how others are shown to this user. The other participants
    -- cannot notice when they move.
    own_marked xid8,
    own_shown xid8,
    -- A request (decision 29): the user who asks this one to take part, and the last message at that time. Null: it is
    -- not a request.
    asked_by uuid references users,
    asked_seq bigint,
    -- The lifetime that this user has set while blocked by the other one, in seconds, 0 for none. It holds for this
    -- user alone.
    own_lifetime_s int check (own_lifetime_s between 0 and 315360000),
    -- The transaction that added the row: a user who comes back has another row, and reads messages from before as
    -- history.
    added xid8 not null default pg_current_xact_id(),
    -- The device whose mark moved delivered_seq or private_delivered_seq last. Null: neither has moved, or a message of
    -- the user's own moved it last.
    delivered_by uuid,
    -- The other user who added this one, or gave the role, whichever was last.
    changed_by uuid references users,
    -- The transaction of the last message by a user whom this one blocks: no device was told live. Null: never.
    silenced xid8,
    primary key (conversation_id, user_id),
    constraint participants_marks check (
        least(joined_seq, since_seq, read_seq, private_read_seq, private_delivered_seq) >= 0
            and read_seq <= delivered_seq),
    constraint participants_asked check ((asked_by is null) = (asked_seq is null))
) with (fillfactor = 50);
create index participants_user on participants (user_id);

-- Users who have left a conversation or were removed, and have not come back. Apart from participants, so that no query
-- for participants finds them by mistake.
create table departures (
    user_id uuid not null references users,
    conversation_id uuid not null references conversations,
    -- The stay: messages above since_seq and up to left_seq were sent to this user, too.
    since_seq bigint not null,
    left_seq bigint not null,
    -- The marks at the end of the stay.
    delivered_seq bigint not null default 0,
    read_seq bigint not null default 0,
    private_delivered_seq bigint not null default 0,
    private_read_seq bigint not null default 0,
    removed_by uuid references users,
    departed timestamptz not null default clock_timestamp(),
    changed xid8 not null default pg_current_xact_id(),
    -- The others see another end of the stay, or none yet: the user has declined, or is withheld.
    is_private boolean not null default false,
    primary key (user_id, conversation_id),
    check (since_seq <= left_seq)
);
create index departures_conversation on departures (conversation_id);

-- Former stays, if messages were sent meanwhile: of users who have come back, and of users who were withheld and then
-- removed. The messages of a stay remain sent to its user, with the marks at its end. A row goes with its messages.
create table stays (
    conversation_id uuid not null references conversations,
    user_id uuid not null references users,
    since_seq bigint not null,
    left_seq bigint not null,
    delivered_seq bigint not null,
    read_seq bigint not null,
    removed_by uuid references users,
    departed timestamptz not null,
    primary key (conversation_id, user_id, left_seq),
    constraint stays_order check (since_seq <= left_seq)
);

-- Users who seem to take part in a conversation and do not: the user who asked them is one whom they block, or they
-- have declined. Apart from participants, so that no query for messages, marks or notices finds them by mistake. The
-- others see only the profile of such a user change.
create table withheld (
    conversation_id uuid not null references conversations,
    user_id uuid not null references users,
    joined_seq bigint not null default 0,
    since_seq bigint not null default 0,
    delivered_seq bigint not null default 0,
    read_seq bigint not null default 0,
    role text not null default 'member' check (role in ('admin', 'member')),
    changed_by uuid references users,
    changed xid8 not null default pg_current_xact_id(),
    primary key (conversation_id, user_id)
);
create index withheld_user on withheld (user_id);

-- The devices_version of a conversation at which a user's devices changed last, or at which the user joined or left with
-- devices. No row: never.
create table device_changes (
    conversation_id uuid not null references conversations,
    user_id uuid not null references users,
    version bigint not null,
    primary key (conversation_id, user_id)
);
create index device_changes_user on device_changes (user_id, version);

-- The participants of a conversation as they are shown to each other.
create view shown_participants as
    select p.conversation_id, p.user_id, p.joined_seq, p.since_seq, p.delivered_seq, p.read_seq, p.role, p.changed_by,
           p.changed, p.marked, false as is_withheld
    from participants p
    union all
    select w.conversation_id, w.user_id, w.joined_seq, w.since_seq, w.delivered_seq, w.read_seq, w.role, w.changed_by,
           w.changed, null::xid8, true
    from withheld w;

-- Only send_batch() and send_one(), which it calls, insert into messages, sends and outbox. They have locked the
-- conversation and found the participant: a foreign key would look up the same rows again, once for each message
-- (decision 4).
create table messages (
    conversation_id uuid not null,
    seq bigint not null,
    id uuid not null,
    sender_id uuid not null,
    created timestamptz not null,
    content_type text not null,
    content bytea not null,
    nonce bytea,
    ephemeral_public_key bytea,
    -- Edits do not change it. The transactions that add messages to a conversation follow each other, so the messages
    -- that a snapshot does not see are those above some seq.
    added xid8 not null default pg_current_xact_id(),
    revision int not null default 0,
    edited timestamptz,
    deleted timestamptz,
    -- The administrator who deleted it for everyone; null: the sender did.
    deleted_by uuid,
    reply_to bigint,
    -- Sent to a user who blocks the sender: that user sees a tombstone from the beginning.
    is_silent boolean not null default false,
    -- The id by which the sender's devices know the message until they are told its seq.
    temp_id uuid,
    -- The device that wrote the content: the one that sent the message, or edited it last. Null: not known, as of an
    -- imported message, or erased. Without a foreign key, like the rest: a device may go before its messages.
    device_id uuid,
    -- It counts neither as unread nor for notices; and how many of the messages up to this one are so.
    is_quiet boolean not null default false,
    -- It was sent or edited with envelopes, which may be gone by now.
    has_envelopes boolean not null default false,
    -- A control message follows the one before, or 0. Null: it is none.
    follows bigint,
    quiet_count bigint not null default 0,
    -- The ids of its attachments, in the sender's order, and a small thumbnail, which is ciphertext. Null: none.
    attachments uuid[],
    thumbnail bytea,
    primary key (conversation_id, seq),
    constraint messages_numbers check (
        least(seq, reply_to) >= 1 and reply_to < seq and revision >= 0 and follows >= 0 and follows < seq),
    constraint messages_deleted check (deleted is null or content = '' and nonce is null),
    constraint messages_deleted_by check (deleted_by is null or deleted is not null and deleted_by <> sender_id)
);

-- The messages that stopped counting as unread, or never counted for a user; a conversation has few. A deleted message
-- keeps its place here. Quiet messages, of which a conversation may have many, are counted by quiet_count.
create index messages_uncounted on messages (conversation_id, seq)
    where (deleted is not null or is_silent) and not is_quiet;

-- Bytes that were sent with a message, or with an edit of it, each for one device: one row for all of them, since a row
-- for each device costs three times as much. Written with the message, and deleted with it or after some days
-- (forget_envelopes in envelopes.sql). Without foreign keys, as messages.
create table envelopes (
    conversation_id uuid not null,
    seq bigint not null,
    -- In the order in which they were written; of several parts that name a device the last one counts.
    part int not null,
    -- The revision of the message to which they belong: a reader of an earlier one does not get them.
    revision int not null,
    -- The devices, and the end of each one's envelope in the body.
    devices uuid[] not null,
    ends bigint[] not null,
    body bytea not null,
    created timestamptz not null,
    primary key (conversation_id, seq, part),
    constraint envelopes_numbers check (seq >= 1 and part >= 0 and revision >= 0),
    constraint envelopes_sizes check (
        cardinality(devices) between 1 and 256 and cardinality(ends) = cardinality(devices)
        and length(body) between 1 and 196608 and ends[cardinality(ends)] = length(body))
);
-- Ciphertext does not compress, and a device's part of it is read without the rest.
alter table envelopes alter body set storage external;
create index envelopes_created on envelopes (created);

-- Messages that were edited, or deleted for everyone: the transaction and the time of the last change.
create table revisions (
    conversation_id uuid not null,
    seq bigint not null,
    changed xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp(),
    -- The digests and the times of the last edits, the newest at the end: a repeated edit is recognised by its digest.
    digests bytea[] not null default '{}',
    edited timestamptz[] not null default '{}',
    primary key (conversation_id, seq)
);
create index revisions_changed on revisions (conversation_id, changed);
create index revisions_at on revisions (at);

-- Messages that a user has deleted for themselves.
create table hidden (
    user_id uuid not null,
    conversation_id uuid not null,
    seq bigint not null,
    changed xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp(),
    primary key (user_id, conversation_id, seq)
);
create index hidden_at on hidden (at);
create index hidden_message on hidden (conversation_id, seq);

-- Idempotency keys: the first answer to a temp_id, and the digest that a retry must match.
create table sends (
    sender_id uuid not null,
    temp_id uuid not null,
    conversation_id uuid not null,
    digest bytea not null,
    seq bigint not null,
    message_id uuid not null,
    created timestamptz not null,
    constraint sends_temp_id primary key (sender_id, temp_id)
);
create index sends_created on sends (created);

-- A file in the object store: declared, uploaded, then part of a message, or the avatar of a user or a group. A thumbnail
-- is a file of its own, which becomes part of a message, and loses it, together with the file that it shows.
create table attachments (
    id uuid primary key,
    user_id uuid not null references users,
    object_key text collate "C" not null,
    size_bytes bigint not null check (size_bytes between 1 and 5497558138880),
    -- False: the size is what the service before this one said, until the object store is asked.
    is_sized boolean not null default true,
    media_type text not null check (length(media_type) between 1 and 127),
    -- SHA-256 of the ciphertext; of a file in several parts, of part_digests. Null: nobody knows it, since the service
    -- before this one kept none.
    digest bytea check (length(digest) = 32),
    -- SHA-256 of each part, joined. Null once the upload is complete.
    part_digests bytea check (length(part_digests) > 0 and length(part_digests) % 32 = 0),
    -- The object store's name of the multipart upload. Null: the file has one part.
    upload text,
    thumbnail_of uuid references attachments on delete set null,
    -- When the object store was seen to have the file as declared. Only such a file becomes part of a message.
    completed timestamptz,
    conversation_id uuid,
    seq bigint,
    created timestamptz not null default clock_timestamp(),
    -- When neither a message nor an avatar referred to the file any longer. From then on its objects are deleted, the row
    -- last, and nothing can take it.
    orphaned timestamptz,
    -- It was declared as an avatar: no message takes it.
    is_avatar boolean not null default false,
    -- A user or a group has it as its avatar now (take_avatar).
    is_shown boolean not null default false,
    constraint attachments_object unique (object_key),
    constraint attachments_thumbnail unique (thumbnail_of),
    constraint attachments_message foreign key (conversation_id, seq) references messages,
    check ((conversation_id is null) = (seq is null)),
    constraint attachments_orphaned check (orphaned is null or conversation_id is null),
    constraint attachments_completed check (conversation_id is null or completed is not null),
    constraint attachments_avatar check (not is_avatar or conversation_id is null and thumbnail_of is null),
    constraint attachments_shown check (not is_shown or is_avatar and completed is not null and orphaned is null),
    constraint attachments_parts check ((completed is null) = (part_digests is not null)),
    constraint attachments_digest check (digest is not null or completed is not null)
);
create index attachments_of_message on attachments (conversation_id, seq) where conversation_id is not null;
create index attachments_unused on attachments (created) where conversation_id is null and not is_shown;
create index attachments_unused_of_user on attachments (user_id) where conversation_id is null;

-- The row of an avatar that is shown is never removed. The indexes find whose it is: for downloads, and before a row is
-- removed.
alter table users add constraint users_avatar foreign key (avatar) references attachments;
alter table conversations add constraint conversations_avatar foreign key (avatar) references attachments;
create unique index users_by_avatar on users (avatar) where avatar is not null;
create unique index conversations_by_avatar on conversations (avatar) where avatar is not null;

-- Avatars as clients are told of them: the id, the size in 8 bytes and the digest, in one value.
create view avatars as
    select a.id, uuid_send(a.id) || int8send(a.size_bytes) || a.digest as told from attachments a;

-- What the quotas of attachments count for each user who has declared any.
create table attachment_usage (
    user_id uuid primary key references users,
    -- Declared sizes, from the declaration until the objects are gone.
    stored_bytes bigint not null default 0 check (stored_bytes >= 0),
    -- The day (UTC) of the last declaration, and the bytes that were declared on it. Null: none yet.
    day date,
    declared_bytes bigint not null default 0 check (declared_bytes >= 0)
);

-- The sum of the stored bytes of all users, deleted ones among them.
create table attachment_total (
    stored_bytes bigint not null default 0 check (stored_bytes >= 0),
    is_only boolean primary key default true check (is_only),
    -- The files that are complete and not removed, and their bytes: the sums of all figures of attachments.
    complete_files bigint not null default 0 check (complete_files >= 0),
    complete_bytes bigint not null default 0 check (complete_bytes >= 0)
);
insert into attachment_total default values;

-- Lifetimes (decision 23): when to look for expired messages in each conversation, and what remains to be done about
-- those below its floor. Apart from conversations and without a foreign key: sends do not touch it, and its updates
-- take no lock that a send needs.
create table expiries (
    conversation_id uuid primary key,
    -- No message above the floor was created before this time. Sends add younger messages, so it holds until the next
    -- look.
    oldest timestamptz not null,
    -- That time plus the conversation's lifetime; null: it has no lifetime.
    due timestamptz,
    -- The connected devices have been told of the floor.
    is_announced boolean not null default true,
    -- The messages below the floor are to be archived before they are deleted.
    wants_archive boolean not null default false,
    -- The messages below the floor are deleted. Until then the floor does not move.
    is_cleared boolean not null default true
);
create index expiries_oldest on expiries (oldest) where is_cleared;
create index expiries_due on expiries (due) where is_cleared and due is not null;
create index expiries_uncleared on expiries (conversation_id) where not is_cleared;

-- The history that cursors belong to: a database that is restored from a copy gets another id.
create table history (
    id uuid not null default gen_random_uuid(),
    is_only boolean primary key default true check (is_only)
);
insert into history default values;

-- Work that may wait.

-- What follows from a commit: the commit of each message adds a row. At the end of the debounce window, one transaction
-- turns it into a job for each recipient whose devices have not marked it delivered, and into a row of read_windows if
-- other recipients have it and have not read it.
create table outbox (
    id bigint generated always as identity primary key,
    conversation_id uuid not null,
    seq bigint not null,
    created timestamptz not null default clock_timestamp()
);

-- Messages that one device of a recipient has, and the recipient has not read. At the end of the read window the
-- notifiers of the recipient's other devices are told.
create table read_windows (
    id bigint generated always as identity primary key,
    conversation_id uuid not null,
    seq bigint not null,
    -- When the message was created.
    created timestamptz not null,
    -- The only recipient to look at; null: all.
    user_id uuid
);

-- A row lives from the commit that enqueues the job until the job has ended. Redis carries only its id.
create table jobs (
    id bigint generated by default as identity primary key,
    task text not null check (task ~ '^[a-z][a-z0-9_]{0,62}$'),
    -- The arguments: ids and names, never content.
    payload jsonb not null default '{}' check (jsonb_typeof(payload) = 'object' and length(payload::text) <= 16384),
    -- At most one job of a task waits with the same key.
    key text check (length(key) between 1 and 200),
    -- 0 comes before 1, and 1 before 2.
    priority smallint not null default 1 check (priority between 0 and 2),
    created timestamptz not null default clock_timestamp(),
    -- When it is to be handed to Redis: first, after a failed attempt, or because its worker gave no sign of life.
    due timestamptz not null default clock_timestamp(),
    is_handed boolean not null default false,
    -- Grows when a job is enqueued under the same key: if a run had begun before, another run follows.
    version int not null default 1,
    -- The number of runs that were begun.
    attempt int not null default 0,
    -- While it runs: the time until which its worker has claimed it. The worker prolongs that while it runs.
    claimed_until timestamptz,
    claimed_by text,
    -- An operator has cancelled it; a worker that runs it stops.
    is_cancelled boolean not null default false
) with (fillfactor = 70);
create unique index jobs_key on jobs (task, key) where key is not null;
create index jobs_due on jobs (task, priority, due);

-- Jobs that have failed for good. An operator can see them and replay them.
create table dead_jobs (
    id bigint primary key,
    task text not null,
    payload jsonb not null,
    key text,
    priority smallint not null default 1,
    attempts int not null,
    reason text not null,
    traceback text,
    enqueued timestamptz,
    died timestamptz not null default clock_timestamp(),
    -- The name of a job that was in Redis alone.
    volatile_id text,
    constraint dead_jobs_volatile unique (volatile_id)
);
-- The deletion of an account: reasons may name addresses.
create index dead_jobs_user on dead_jobs ((payload ->> 'user'));
create index dead_jobs_task on dead_jobs (task, id);
create index dead_jobs_died on dead_jobs (died);

create table schedules (
    name text primary key check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    task text not null,
    payload jsonb not null default '{}',
    -- A cron expression, or 'every N s'.
    rule text not null,
    zone text not null default 'UTC',
    -- What happens to ticks at which no worker ran: no job, one job for all, or one job for each.
    missed text not null default 'once' check (missed in ('skip', 'once', 'all')),
    next timestamptz not null,
    last timestamptz,
    is_paused boolean not null default false
);

-- Tasks whose jobs wait until an operator resumes them.
create table paused_tasks (
    task text primary key,
    since timestamptz not null default clock_timestamp()
);

-- How far work has come that never ends.
create table progress (
    task text primary key,
    upto timestamptz not null
);
-- The job that does this work locks the row, so the row must exist.
insert into progress values ('forget_temp_ids', '-infinity');

-- How far work has come that goes through all rows, again and again: the last one that it looked at, in the order of
-- its keys; empty at the beginning.
create table sweeps (
    task text primary key,
    position text not null,
    -- The number of moves: a worker that has looked on meanwhile must not move it back.
    moves bigint not null
);

-- How users are told that messages wait, and when not.

create table notifiers (
    id uuid primary key,
    user_id uuid not null references users,
    -- The device at a push service; the notifier goes when the device is revoked.
    device_id uuid references devices,
    kind text not null check (kind in ('webhook', 'email', 'web_push', 'apns', 'fcm')),
    -- The address and its keys, by kind (store/notifiers.py).
    target jsonb not null check (jsonb_typeof(target) = 'object' and length(target::text) <= 4096),
    -- SHA-256 of the kind and of what identifies the target: one row for a URL, for the e-mail, for a device at a push
    -- service.
    target_hash bytea not null check (length(target_hash) = 32),
    created timestamptz not null default clock_timestamp(),
    -- Failures since the last notice that it took: when they began, how many, and the last error.
    failing_since timestamptz,
    failures int not null default 0,
    last_error text check (length(last_error) <= 200),
    check ((failing_since is null) = (last_error is null)),
    constraint notifiers_target unique (user_id, target_hash)
) with (fillfactor = 70);
create index notifiers_device on notifiers (device_id) where device_id is not null;
create index notifiers_hash on notifiers (target_hash);

-- The last notice that a notifier of a user took. It says when the next one may follow, and whether the service still
-- shows this one.
create table notices (
    id bigint generated always as identity primary key,
    user_id uuid not null references users,
    -- Null: the deployment's webhook.
    notifier_id uuid references notifiers on delete cascade,
    -- A notice with the same name is not sent again.
    name text not null,
    told timestamptz not null,
    -- The number of notices in a row between which no device of the user received or read a message.
    times int not null check (times >= 1),
    -- The number of waiting messages that it told; 0 once the notice is withdrawn.
    unread bigint not null,
    -- The sums of the user's marks (waiting_of) at that time: a change is a sign of the user's devices.
    delivered bigint not null,
    read bigint not null,
    -- When to check next whether the notice is pointless; null: it is withdrawn, cannot be withdrawn, or is too old.
    look timestamptz,
    constraint notices_one unique nulls not distinct (user_id, notifier_id)
) with (fillfactor = 70);
create index notices_notifier on notices (notifier_id) where notifier_id is not null;
create index notices_look on notices (look) where look is not null;

-- When a user wants no notices, each day: from one minute of the day to another, which may be past midnight.
create table quiet_hours (
    user_id uuid primary key references users,
    from_minute smallint not null check (from_minute between 0 and 1439),
    until_minute smallint not null check (until_minute between 0 and 1439),
    -- A name of the IANA database.
    zone text not null check (length(zone) between 1 and 64),
    check (from_minute <> until_minute)
);

-- The secret of the tokens in mails; see mail_token().
create table mail_key (
    is_only boolean primary key default true check (is_only),
    key bytea not null check (length(key) = 32)
);
insert into mail_key (key)
select sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- The e-mail addresses of users, whether they are verified, and the mails that the users want.
create table emails (
    user_id uuid primary key references users,
    -- Null: removed. The row stays, with the number of mails that were asked for.
    address text check (octet_length(address) between 3 and 254),
    -- When the user showed that they read mails to this address.
    verified timestamptz check (verified is null or address is not null),
    wants_digest boolean not null default false,
    wants_device_notice boolean not null default true,
    -- When a digest is due: the hour of the day in a time zone of the IANA database.
    digest_hour smallint not null default 8 check (digest_hour between 0 and 23),
    zone text not null default 'UTC' check (length(zone) between 1 and 64),
    -- When the next digest is due; null if the user wants no digest.
    next_digest timestamptz check (next_digest is null or verified is not null and wants_digest),
    last_digest timestamptz,
    -- The seed of the tokens of this address, and the hashes by which they are found. A changed address has others.
    seed uuid,
    -- SHA-256 of the mailbox, under which mails are counted (mailboxes); null, of imported users: that of the address.
    mailbox_hash bytea check (length(mailbox_hash) = 32),
    verification_hash bytea check (length(verification_hash) = 32),
    verification_expires timestamptz,
    unsubscribe_hash bytea check (length(unsubscribe_hash) = 32),
    -- The number of mails to unverified addresses that were asked for since asked_since.
    asked int not null default 0,
    asked_since timestamptz not null default clock_timestamp(),
    constraint emails_verification unique (verification_hash),
    constraint emails_unsubscribe unique (unsubscribe_hash),
    check (num_nulls(address, seed, verification_hash, verification_expires, unsubscribe_hash) in (0, 5))
);
create index emails_digest on emails (next_digest) where next_digest is not null;
-- The accounts with an address, for users who do not know their password.
create index emails_verified on emails (address) where verified is not null;

-- Mails that let users set another password (store/password_resets.py).
create table password_resets (
    -- The seed of the token; see mail_token().
    id uuid primary key,
    -- Null: no account was found, or its user has a mail by now.
    user_id uuid references users,
    asked timestamptz not null default clock_timestamp(),
    -- The hash by which the token is found; null: it is void.
    token_hash bytea check (length(token_hash) = 32),
    expires timestamptz not null,
    -- Whether a device of the user asked, by its token; else it may have been a stranger.
    is_own boolean not null default false,
    constraint password_resets_token unique (token_hash),
    check (user_id is not null or token_hash is null)
);
create index password_resets_user on password_resets (user_id, asked) where user_id is not null;
create index password_resets_asked on password_resets (asked);

-- Exports: files with all data of an account, in the object store (store/exports.py). Rows go once their objects are gone.
create table exports (
    id uuid primary key,
    user_id uuid not null references users,
    asked timestamptz not null,
    -- When all parts were in the object store, how many they are, and when they are deleted; null: a job makes them.
    ready timestamptz,
    expires timestamptz,
    parts int check (parts >= 1),
    size_bytes bigint check (size_bytes >= 1),
    check (num_nulls(ready, expires, parts, size_bytes) in (0, 4))
);
create index exports_user on exports (user_id);
create index exports_asked on exports (asked) where ready is null;
create index exports_expires on exports (expires) where expires is not null;

-- How many mails went to unverified addresses of a mailbox lately, for all users together. Users who remove or change
-- the address do not change the count.
create table mailboxes (
    -- SHA-256 of the mailbox, as runtime.email_address.mailbox() writes it: its owner is not kept.
    mailbox_hash bytea primary key check (length(mailbox_hash) = 32),
    -- Mails that went there since sent_since.
    sent int not null default 0 check (sent >= 0),
    sent_since timestamptz not null default clock_timestamp()
);
create index mailboxes_sent on mailboxes (sent_since);

-- Mails to unverified addresses that went out: the token of each verifies the address, for a user who has it too. So a
-- stranger who uses up the mails to a mailbox does not keep its owner from verifying it.
create table sent_verifications (
    token_hash bytea primary key check (length(token_hash) = 32),
    -- SHA-256 of the address, as it was given.
    address_hash bytea not null check (length(address_hash) = 32),
    expires timestamptz not null
);
create index sent_verifications_address on sent_verifications (address_hash, expires);
create index sent_verifications_expires on sent_verifications (expires);

-- Events of the security of accounts, for users and operators (store/security_events.py). Without foreign keys:
-- an event may outlive the device, and that of a deletion outlives the user.
create table security_events (
    id bigint generated always as identity primary key,
    kind text not null check (kind ~ '^[a-z][a-z_]{0,39}$'),
    -- The user whose account it is; null: it concerns none, such as a login with an unknown name.
    user_id uuid,
    at timestamptz not null default clock_timestamp(),
    actor text not null check (actor in ('user', 'operator', 'system')),
    -- The operator's name, for operators alone. Null: the operator is known only as a holder of the operators' token.
    operator text check (length(operator) between 1 and 64),
    -- The device that acted, or that was made.
    device_id uuid,
    -- The network that the request came from: a /24 of IPv4, a /48 of IPv6. No whole address is kept.
    network cidr check (masklen(network) = case family(network) when 4 then 24 else 48 end),
    -- The program that the request named as its own.
    client text check (length(client) between 1 and 256),
    detail jsonb not null default '{}' check (jsonb_typeof(detail) = 'object' and length(detail::text) <= 1024),
    -- Events that any attacker can cause at will are counted: the same event of a user in one hour has one row; so are
    -- those of a kind of which the user has many (note_security_event). Null: such an event has a row of its own.
    hour timestamptz,
    times bigint not null default 1 check (times >= 1),
    -- When it happened last, if it is counted.
    last timestamptz,
    check ((hour is null) = (last is null)),
    constraint security_events_operator check (operator is null or actor = 'operator'),
    check (hour is not null or times = 1)
);
create index security_events_user on security_events (user_id, id);
create index security_events_at on security_events (at);
create index security_events_own on security_events (user_id, kind, at) where hour is null;
create unique index security_events_counted on security_events (user_id, kind, hour, detail) nulls not distinct
    where hour is not null;

-- For clients that encrypt.

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

-- Figures.

-- Figures of one day, such as messages or daily active users; exact once the day is over. The row of a day's messages
-- changes with each look at the outbox: in place, if its page has room.
create table analytics (
    day date not null,
    metric text not null,
    value bigint not null,
    primary key (day, metric)
) with (fillfactor = 50);

-- A user had a live connection on a day (UTC). Without a foreign key: the figure stays when a user goes.
create table activity (
    day date not null,
    user_id uuid not null,
    primary key (day, user_id)
);

-- The time from a message's commit to a device's delivered mark, sampled: the number of samples of a day in each bucket
-- (store/latencies.py).
create table latencies (
    day date not null,
    bucket smallint not null check (bucket >= 0),
    count bigint not null check (count >= 0),
    primary key (day, bucket)
) with (fillfactor = 50);
