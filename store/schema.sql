-- The whole schema, as all files of store/sql/migrations/ leave it: to be read, never to be run.
-- Made by `python -m tests.store.make_schema`; tests/store/test_schema.py compares it with a migrated database.

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
    id uuid not null,
    -- Canonical (runtime/usernames.py). That of a deleted user has spaces, which no name that a user can take has.
    username text not null,
    -- Null: the user has no password, and logs in by an external issuer (external_identities).
    password_hash text,
    created timestamptz not null default clock_timestamp(),
    display_name text,
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
    messages_from text not null default 'everybody',
    groups_from text not null default 'everybody',
    -- The user has asked to delete the account: no device logs in (account_deletions).
    is_closed boolean not null default false,
    -- When an operator suspended the user; null: the user is not suspended (devices.is_suspended).
    suspended timestamptz,
    -- When the account was deleted. The row stays, since messages, marks and settings refer to it.
    deleted timestamptz,
    constraint users_pkey primary key (id),
    constraint users_username unique (username),
    constraint users_deleted check (deleted is null or is_closed and display_name is null and avatar is null and
        password_hash = ''),
    constraint users_display_name_check check (length(display_name) >= 1 and length(display_name) <= 128),
    constraint users_groups_from_check check (groups_from = any (array['everybody', 'contacts', 'nobody'])),
    constraint users_messages_from_check check (messages_from = any (array['everybody', 'contacts', 'nobody'])),
    constraint users_username_check check ((username is nfc normalized)),
    constraint users_username_check1 check (username ~
        '^[^\x01-\x2f\x3a-\x60\x7b-\xa0][^\x01-\x2c\x2f\x3a-\x5e\x60\x7b-\xa0]{0,31}$' or username ~ '^deleted user
        [0-9a-f]{16}$'),
    -- The row of an avatar that is shown is never removed. The indexes find whose it is: for downloads, and before a row is
    -- removed.
    constraint users_avatar foreign key (avatar) references attachments(id)
);
create unique index users_by_avatar on users (avatar) where avatar is not null;
create index users_created on users (created);
create index users_suspended on users (suspended) where suspended is not null;
create trigger users_own_settings before update on users for each row when (old.gives_receipts is distinct from
    new.gives_receipts or old.shows_presence is distinct from new.shows_presence or old.messages_from is distinct from
    new.messages_from or old.groups_from is distinct from new.groups_from) execute function note_own_settings();

create table devices (
    id uuid not null,
    user_id uuid not null,
    name text not null,
    -- A token is the secret of its family, which all tokens of a device share, and a secret of its own (decision 35). A
    -- token with the right family that is none of those below has ended. Null a long time after the device's tokens
    -- have ended: other tables may still refer to the row, and no device is told the reason any longer.
    family_hash bytea,
    -- The token that was shown last of those that were new then.
    token_hash bytea,
    -- New tokens: the replies to the last renewals. None of them has been shown; the first that is ends all others.
    next_hashes bytea[] not null default '{}'::bytea[],
    -- The token before token_hash: requests with it may be under way.
    former_hash bytea,
    former_until timestamptz,
    -- The history (history_number) in which one of these was written last.
    history bigint,
    created timestamptz not null default clock_timestamp(),
    revoked timestamptz,
    -- It was revoked since a token was shown that had ended.
    is_reused boolean not null default false,
    -- An operator has suspended the user. The same as in users, so that a token is looked up in this table alone.
    is_suspended boolean not null default false,
    expires timestamptz not null default (now() + '90 days'::interval),
    -- When the user last showed the password on this device: at the login, or since.
    confirmed timestamptz not null default clock_timestamp(),
    -- When the device was used last, up to an hour earlier (store/device_uses.py), and the client's name and version, as
    -- the client has told it at the login or in a hello.
    last_used timestamptz not null default clock_timestamp(),
    client text,
    -- What others need in order to encrypt for the device, as it has published it, and how often that was something else.
    -- Null: the device has published nothing, or has ended (forget_identity).
    identity bytea,
    identity_revision int not null default 0,
    constraint devices_pkey primary key (id),
    constraint devices_family unique (family_hash),
    constraint devices_check check (not is_reused or revoked is not null),
    constraint devices_check1 check ((family_hash is null) = (token_hash is null)),
    constraint devices_check2 check ((former_hash is null) = (former_until is null)),
    constraint devices_client_check check (length(client) >= 1 and length(client) <= 64),
    constraint devices_family_hash_check check (length(family_hash) = 32),
    constraint devices_former_hash_check check (length(former_hash) = 32),
    constraint devices_identity check (identity is null or length(identity) >= 1 and length(identity) <= 4096 and
        identity_revision > 0),
    constraint devices_next_hashes_check check (cardinality(next_hashes) <= 4),
    constraint devices_token_hash_check check (length(token_hash) = 32),
    constraint devices_user_id_fkey foreign key (user_id) references users(id)
) with (fillfactor=85);
create index devices_ended on devices (least(expires, revoked)) where family_hash is not null;
create index devices_identity_expires on devices (expires) where identity is not null;
create index devices_revoked on devices (revoked) where revoked is not null;
create index devices_user on devices (user_id);
create trigger devices_ended after update on devices referencing old table as before new table as changed for each
    statement execute function drop_keys_of_ended();
create trigger devices_identity before update on devices for each row when (new.identity is not null and (new.revoked is
    not null or new.family_hash is null)) execute function forget_identity();
create trigger devices_set_changed after update on devices for each row when (old.identity is distinct from
    new.identity) execute function note_identity();
create trigger devices_set_lost after delete on devices for each row when (old.identity is not null) execute function
    note_identity();

-- The one-time keys of devices, by kind (decision 55). The row of a pool is the lock of its keys: uploads and claims lock
-- it, or update it. Each key has a place in the pool, counted from 1 on and never used again: the keys with places after
-- `taken` up to `stored` are there, and a claim takes the first one by moving `taken`. Numbers grow with places.
create table key_pools (
    device_id uuid not null,
    kind text not null,
    stored bigint not null default 0,
    taken bigint not null default 0,
    -- The greatest numbers of a one-time key and of a last-resort key that were ever stored: keys up to them are not taken
    -- again.
    highest_number bigint not null default 0,
    last_resort_number bigint not null default 0,
    -- The key that is handed out when there is no other, as often as needed.
    last_resort bytea,
    -- It was handed out, to a user who reaches the device.
    is_given boolean not null default false,
    -- The history (history_number) in which the keys were uploaded. In another one they may have been claimed before.
    history bigint not null,
    -- The greatest size of a key that the pool has had.
    most_bytes int not null default 0,
    -- Since when few keys are left, or the last-resort key has been handed out: the device is told. Null: neither.
    low timestamptz,
    constraint key_pools_pkey primary key (device_id, kind),
    constraint key_pools_check check (taken >= 0 and taken <= stored),
    constraint key_pools_kind_check check (length(kind) >= 1 and length(kind) <= 32),
    constraint key_pools_last_resort_check check (length(last_resort) >= 1 and length(last_resort) <= 16384),
    constraint key_pools_device_id_fkey foreign key (device_id) references devices(id)
) with (fillfactor=50);
create index key_pools_low on key_pools (low) where low is not null;

-- The keys of pools: those of a row have the places from `place` on, in the order of their numbers. Claims only read rows;
-- an upload deletes those of which no key is left. Without a foreign key: uploads and drop_keys() have locked the pool.
create table one_time_keys (
    device_id uuid not null,
    kind text not null,
    place bigint not null,
    numbers bigint[] not null,
    keys bytea[] not null,
    constraint one_time_keys_pkey primary key (device_id, kind, place),
    constraint one_time_keys_check check (('\x'::bytea <> all (keys)) and cardinality(keys) = cardinality(numbers)),
    constraint one_time_keys_numbers_check check (0 < all (numbers)),
    constraint one_time_keys_place_check check (place > 0)
);

-- How often a user has claimed keys of a device since a time in the last hour; beyond a number of claims the user gets
-- last-resort keys. Without foreign keys: rows end by themselves.
create table key_claims (
    user_id uuid not null,
    device_id uuid not null,
    since timestamptz not null,
    claims int not null,
    constraint key_claims_pkey primary key (user_id, device_id)
) with (fillfactor=50);
create index key_claims_since on key_claims (since);

-- The accounts that their users have asked to delete. A row goes once the account is deleted and the devices of others
-- are told.
create table account_deletions (
    user_id uuid not null,
    -- From then on it is deleted; before, a login keeps the account.
    due timestamptz not null,
    -- The user's messages are deleted for everyone.
    deletes_messages boolean not null,
    -- How far the deletion of messages has come: in this conversation up to this seq, and all conversations with a lesser
    -- id.
    position_id uuid not null default '00000000-0000-0000-0000-000000000000'::uuid,
    position_seq bigint not null default 0,
    -- The number of steps, and when the first of those began that the nodes are not told of yet: no cursor passes them.
    steps int not null default 0,
    untold_since timestamptz,
    constraint account_deletions_pkey primary key (user_id),
    constraint account_deletions_user_id_fkey foreign key (user_id) references users(id)
);
create index account_deletions_due on account_deletions (due);
create index account_deletions_untold on account_deletions (untold_since) where untold_since is not null;

-- The names of deleted users, hashed with the key of mail_key, until another user may take them.
create table former_usernames (
    username_hash bytea not null,
    until timestamptz not null,
    constraint former_usernames_pkey primary key (username_hash),
    constraint former_usernames_username_hash_check check (length(username_hash) = 32)
);
create index former_usernames_until on former_usernames (until);

-- Users of an external issuer, such as an identity provider, who log in with its tokens (decision 46). What the issuer calls
-- a user never changes; names and addresses that it may tell are not used.
create table external_identities (
    issuer text not null,
    subject text not null,
    user_id uuid not null,
    created timestamptz not null default clock_timestamp(),
    constraint external_identities_pkey primary key (issuer, subject),
    constraint external_identities_user unique (user_id),
    constraint external_identities_issuer_check check (length(issuer) >= 1 and length(issuer) <= 255),
    constraint external_identities_subject_check check (length(subject) >= 1 and length(subject) <= 255),
    constraint external_identities_user_id_fkey foreign key (user_id) references users(id)
);

-- Invitations: codes with which new users register, if the operator wants that (store/invitations.py). Rows go some time
-- after their end.
create table invitations (
    id uuid not null,
    -- The hash of the code; the code itself is not stored.
    code_hash bytea not null,
    created timestamptz not null default clock_timestamp(),
    expires timestamptz not null,
    -- How many users may register with it, and how many have. The security event of each of them names the invitation.
    most_uses int not null,
    uses int not null default 0,
    constraint invitations_pkey primary key (id),
    constraint invitations_code unique (code_hash),
    constraint invitations_code_hash_check check (length(code_hash) = 32),
    constraint invitations_most_uses_check check (most_uses >= 1),
    constraint invitations_uses check (uses >= 0 and uses <= most_uses)
);
create index invitations_expires on invitations (expires);

-- When each user was online last. Apart from users, so that the rows that change all day are small and updated in
-- place.
create table last_seen (
    user_id uuid not null,
    at timestamptz not null,
    constraint last_seen_pkey primary key (user_id),
    constraint last_seen_user_id_fkey foreign key (user_id) references users(id)
) with (fillfactor=50);

-- The contacts of a user (is_contact), and the users whom a user blocks. A blocked contact does not count as a contact.
create table contacts (
    user_id uuid not null,
    contact_id uuid not null,
    is_contact boolean not null default true,
    is_blocked boolean not null default false,
    -- When the user was online last as the block began: the blocked user sees the presence of that time. Null: unknown.
    last_seen timestamptz,
    created timestamptz not null default clock_timestamp(),
    constraint contacts_pkey primary key (user_id, contact_id),
    constraint contacts_check check (user_id <> contact_id),
    constraint contacts_check1 check (is_contact or is_blocked),
    constraint contacts_last_seen check (is_blocked or last_seen is null),
    constraint contacts_contact_id_fkey foreign key (contact_id) references users(id),
    constraint contacts_user_id_fkey foreign key (user_id) references users(id)
);
-- The users whom a user blocks, and the blockers of a user: each list and each sign of typing looks them up.
create index contacts_blocked on contacts (user_id, contact_id) where is_blocked;
create index contacts_blockers on contacts (contact_id, user_id) where is_blocked;
-- The users who have a user as a contact: the deletion of an account looks them up.
create index contacts_contact on contacts (contact_id);
create trigger contacts_changed after insert or delete or update on contacts for each row execute function
    note_set_beside('contacts');

-- When a user has begun conversations with strangers, in the last 24 hours, in order (decision 29). places_free_at: the
-- time from which the user may fill as many places in groups as in any 24 hours (decision 40).
create table starts (
    user_id uuid not null,
    at timestamptz[] not null default '{}'::timestamptz[],
    places_free_at timestamptz not null default '-infinity'::timestamptz,
    constraint starts_pkey primary key (user_id),
    constraint starts_user_id_fkey foreign key (user_id) references users(id)
) with (fillfactor=50);

-- Conversations, participants and messages.

create table conversations (
    id uuid not null,
    kind text not null,
    name text,
    created timestamptz not null default clock_timestamp(),
    -- Two users have one direct conversation: its key is their ids, the lower first. That of a user's own conversation
    -- (kind 'self') is the user's id twice.
    direct_low uuid,
    direct_high uuid,
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
    settings_by uuid,
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
    constraint conversations_pkey primary key (id),
    constraint conversations_direct unique (direct_low, direct_high),
    constraint conversations_floor check (floor_seq >= 0 and floor_seq <= last_seq),
    constraint conversations_kind check ( case     when direct_low is null then kind = 'group' and name is not null and
        direct_high is null and not low_blocks and not high_blocks     else name is null and (direct_low <= direct_high)
        is true and kind =     case         when direct_low = direct_high then 'self'         else 'direct'     end
        end),
    constraint conversations_lifetime check (lifetime_s >= 60 and lifetime_s <= 315360000),
    constraint conversations_avatar foreign key (avatar) references attachments(id),
    constraint conversations_direct_high_fkey foreign key (direct_high) references users(id),
    constraint conversations_direct_low_fkey foreign key (direct_low) references users(id),
    constraint conversations_settings_by_fkey foreign key (settings_by) references users(id)
) with (fillfactor=50);
create unique index conversations_by_avatar on conversations (avatar) where avatar is not null;
create trigger conversations_expiry after insert on conversations for each row execute function note_expiry();

create table participants (
    conversation_id uuid not null,
    user_id uuid not null,
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
    role text not null default 'member',
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
    asked_by uuid,
    asked_seq bigint,
    -- The lifetime that this user has set while blocked by the other one, in seconds, 0 for none. It holds for this
    -- user alone.
    own_lifetime_s int,
    -- The transaction that added the row: a user who comes back has another row, and reads messages from before as
    -- history.
    added xid8 not null default pg_current_xact_id(),
    -- The device whose mark moved delivered_seq or private_delivered_seq last. Null: neither has moved, or a message of
    -- the user's own moved it last.
    delivered_by uuid,
    -- The other user who added this one, or gave the role, whichever was last.
    changed_by uuid,
    -- The transaction of the last message by a user whom this one blocks: no device was told live. Null: never.
    silenced xid8,
    constraint participants_pkey primary key (conversation_id, user_id),
    constraint participants_asked check ((asked_by is null) = (asked_seq is null)),
    constraint participants_marks check (least(joined_seq, since_seq, read_seq, private_read_seq, private_delivered_seq)
        >= 0 and read_seq <= delivered_seq),
    constraint participants_own_lifetime_s_check check (own_lifetime_s >= 0 and own_lifetime_s <= 315360000),
    constraint participants_role_check check (role = any (array['admin', 'member'])),
    constraint participants_asked_by_fkey foreign key (asked_by) references users(id),
    constraint participants_changed_by_fkey foreign key (changed_by) references users(id),
    constraint participants_conversation_id_fkey foreign key (conversation_id) references conversations(id),
    constraint participants_user_id_fkey foreign key (user_id) references users(id)
) with (fillfactor=50);
create index participants_user on participants (user_id);
create trigger participants_added after insert on participants referencing new table as moved_rows for each statement
    execute function count_participants();
create trigger participants_gone after delete on participants referencing old table as moved_rows for each statement
    execute function count_participants();

-- Users who have left a conversation or were removed, and have not come back. Apart from participants, so that no query
-- for participants finds them by mistake.
create table departures (
    user_id uuid not null,
    conversation_id uuid not null,
    -- The stay: messages above since_seq and up to left_seq were sent to this user, too.
    since_seq bigint not null,
    left_seq bigint not null,
    -- The marks at the end of the stay.
    delivered_seq bigint not null default 0,
    read_seq bigint not null default 0,
    private_delivered_seq bigint not null default 0,
    private_read_seq bigint not null default 0,
    removed_by uuid,
    departed timestamptz not null default clock_timestamp(),
    changed xid8 not null default pg_current_xact_id(),
    -- The others see another end of the stay, or none yet: the user has declined, or is withheld.
    is_private boolean not null default false,
    constraint departures_pkey primary key (user_id, conversation_id),
    constraint departures_check check (since_seq <= left_seq),
    constraint departures_conversation_id_fkey foreign key (conversation_id) references conversations(id),
    constraint departures_removed_by_fkey foreign key (removed_by) references users(id),
    constraint departures_user_id_fkey foreign key (user_id) references users(id)
);
create index departures_conversation on departures (conversation_id);

-- Former stays, if messages were sent meanwhile: of users who have come back, and of users who were withheld and then
-- removed. The messages of a stay remain sent to its user, with the marks at its end. A row goes with its messages.
create table stays (
    conversation_id uuid not null,
    user_id uuid not null,
    since_seq bigint not null,
    left_seq bigint not null,
    delivered_seq bigint not null,
    read_seq bigint not null,
    removed_by uuid,
    departed timestamptz not null,
    constraint stays_pkey primary key (conversation_id, user_id, left_seq),
    constraint stays_order check (since_seq <= left_seq),
    constraint stays_conversation_id_fkey foreign key (conversation_id) references conversations(id),
    constraint stays_removed_by_fkey foreign key (removed_by) references users(id),
    constraint stays_user_id_fkey foreign key (user_id) references users(id)
);

-- Users who seem to take part in a conversation and do not: the user who asked them is one whom they block, or they
-- have declined. Apart from participants, so that no query for messages, marks or notices finds them by mistake. The
-- others see only the profile of such a user change.
create table withheld (
    conversation_id uuid not null,
    user_id uuid not null,
    joined_seq bigint not null default 0,
    since_seq bigint not null default 0,
    delivered_seq bigint not null default 0,
    read_seq bigint not null default 0,
    role text not null default 'member',
    changed_by uuid,
    changed xid8 not null default pg_current_xact_id(),
    constraint withheld_pkey primary key (conversation_id, user_id),
    constraint withheld_role_check check (role = any (array['admin', 'member'])),
    constraint withheld_changed_by_fkey foreign key (changed_by) references users(id),
    constraint withheld_conversation_id_fkey foreign key (conversation_id) references conversations(id),
    constraint withheld_user_id_fkey foreign key (user_id) references users(id)
);
create index withheld_user on withheld (user_id);
create trigger withheld_added after insert on withheld referencing new table as moved_rows for each statement execute
    function count_participants();
create trigger withheld_gone after delete on withheld referencing old table as moved_rows for each statement execute
    function count_participants();

-- The devices_version of a conversation at which a user's devices changed last, or at which the user joined or left with
-- devices. No row: never.
create table device_changes (
    conversation_id uuid not null,
    user_id uuid not null,
    version bigint not null,
    constraint device_changes_pkey primary key (conversation_id, user_id),
    constraint device_changes_conversation_id_fkey foreign key (conversation_id) references conversations(id),
    constraint device_changes_user_id_fkey foreign key (user_id) references users(id)
);
create index device_changes_user on device_changes (user_id, version);

-- The participants of a conversation as they are shown to each other.
create view shown_participants as
 select p.conversation_id,
    p.user_id,
    p.joined_seq,
    p.since_seq,
    p.delivered_seq,
    p.read_seq,
    p.role,
    p.changed_by,
    p.changed,
    p.marked,
    false as is_withheld
   from participants p
union all
 select w.conversation_id,
    w.user_id,
    w.joined_seq,
    w.since_seq,
    w.delivered_seq,
    w.read_seq,
    w.role,
    w.changed_by,
    w.changed,
    null::xid8 as marked,
    true as is_withheld
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
    constraint messages_pkey primary key (conversation_id, seq),
    constraint messages_deleted check (deleted is null or content = '\x'::bytea and nonce is null),
    constraint messages_deleted_by check (deleted_by is null or deleted is not null and deleted_by <> sender_id),
    constraint messages_numbers check (least(seq, reply_to) >= 1 and reply_to < seq and revision >= 0 and follows >= 0
        and follows < seq)
);
-- The messages that stopped counting as unread, or never counted for a user; a conversation has few. A deleted message
-- keeps its place here. Quiet messages, of which a conversation may have many, are counted by quiet_count.
create index messages_uncounted on messages (conversation_id, seq) where (deleted is not null or is_silent) and not
    is_quiet;
create trigger messages_orphan after update of deleted on messages for each row when (old.deleted is null and
    new.deleted is not null) execute function orphan_attachments();

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
    constraint envelopes_pkey primary key (conversation_id, seq, part),
    constraint envelopes_numbers check (seq >= 1 and part >= 0 and revision >= 0),
    constraint envelopes_sizes check (cardinality(devices) >= 1 and cardinality(devices) <= 256 and cardinality(ends) =
        cardinality(devices) and length(body) >= 1 and length(body) <= 196608 and ends[cardinality(ends)] =
        length(body))
);
-- Ciphertext does not compress, and a device's part of it is read without the rest.
create index envelopes_created on envelopes (created);

-- Messages that were edited, or deleted for everyone: the transaction and the time of the last change.
create table revisions (
    conversation_id uuid not null,
    seq bigint not null,
    changed xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp(),
    -- The digests and the times of the last edits, the newest at the end: a repeated edit is recognised by its digest.
    digests bytea[] not null default '{}'::bytea[],
    edited timestamptz[] not null default '{}'::timestamptz[],
    constraint revisions_pkey primary key (conversation_id, seq)
);
create index revisions_at on revisions (at);
create index revisions_changed on revisions (conversation_id, changed);

-- Messages that a user has deleted for themselves.
create table hidden (
    user_id uuid not null,
    conversation_id uuid not null,
    seq bigint not null,
    changed xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp(),
    constraint hidden_pkey primary key (user_id, conversation_id, seq)
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
    id uuid not null,
    user_id uuid not null,
    object_key text not null,
    size_bytes bigint not null,
    -- False: the size is what the service before this one said, until the object store is asked.
    is_sized boolean not null default true,
    media_type text not null,
    -- SHA-256 of the ciphertext; of a file in several parts, of part_digests. Null: nobody knows it, since the service
    -- before this one kept none.
    digest bytea,
    -- SHA-256 of each part, joined. Null once the upload is complete.
    part_digests bytea,
    -- The object store's name of the multipart upload. Null: the file has one part.
    upload text,
    thumbnail_of uuid,
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
    constraint attachments_pkey primary key (id),
    constraint attachments_object unique (object_key),
    constraint attachments_thumbnail unique (thumbnail_of),
    constraint attachments_avatar check (not is_avatar or conversation_id is null and thumbnail_of is null),
    constraint attachments_check check ((conversation_id is null) = (seq is null)),
    constraint attachments_completed check (conversation_id is null or completed is not null),
    constraint attachments_digest check (digest is not null or completed is not null),
    constraint attachments_digest_check check (length(digest) = 32),
    constraint attachments_media_type_check check (length(media_type) >= 1 and length(media_type) <= 127),
    constraint attachments_orphaned check (orphaned is null or conversation_id is null),
    constraint attachments_part_digests_check check (length(part_digests) > 0 and (length(part_digests) % 32) = 0),
    constraint attachments_parts check ((completed is null) = (part_digests is not null)),
    constraint attachments_shown check (not is_shown or is_avatar and completed is not null and orphaned is null),
    constraint attachments_size_bytes_check check (size_bytes >= 1 and size_bytes <= '5497558138880'::bigint),
    constraint attachments_message foreign key (conversation_id, seq) references messages(conversation_id, seq),
    constraint attachments_thumbnail_of_fkey foreign key (thumbnail_of) references attachments(id) on delete set null,
    constraint attachments_user_id_fkey foreign key (user_id) references users(id)
);
create index attachments_of_message on attachments (conversation_id, seq) where conversation_id is not null;
create index attachments_unused on attachments (created) where conversation_id is null and not is_shown;
create index attachments_unused_of_user on attachments (user_id) where conversation_id is null;
create trigger attachments_added after insert on attachments referencing new table as changed for each statement execute
    function count_stored_bytes();
create trigger attachments_orphaned before update of conversation_id on attachments for each row when
    (old.conversation_id is not null and new.conversation_id is null) execute function mark_orphaned();
create trigger attachments_removed after delete on attachments referencing old table as changed for each statement
    execute function count_stored_bytes();

-- Avatars as clients are told of them: the id, the size in 8 bytes and the digest, in one value.
create view avatars as
 select id,
    (uuid_send(id) || int8send(size_bytes)) || digest as told
   from attachments a;

-- What the quotas of attachments count for each user who has declared any.
create table attachment_usage (
    user_id uuid not null,
    -- Declared sizes, from the declaration until the objects are gone.
    stored_bytes bigint not null default 0,
    -- The day (UTC) of the last declaration, and the bytes that were declared on it. Null: none yet.
    day date,
    declared_bytes bigint not null default 0,
    constraint attachment_usage_pkey primary key (user_id),
    constraint attachment_usage_declared_bytes_check check (declared_bytes >= 0),
    constraint attachment_usage_stored_bytes_check check (stored_bytes >= 0),
    constraint attachment_usage_user_id_fkey foreign key (user_id) references users(id)
);

-- The sum of the stored bytes of all users, deleted ones among them.
create table attachment_total (
    stored_bytes bigint not null default 0,
    is_only boolean not null default true,
    -- The files that are complete and not removed, and their bytes: the sums of all figures of attachments.
    complete_files bigint not null default 0,
    complete_bytes bigint not null default 0,
    constraint attachment_total_pkey primary key (is_only),
    constraint attachment_total_complete_bytes_check check (complete_bytes >= 0),
    constraint attachment_total_complete_files_check check (complete_files >= 0),
    constraint attachment_total_is_only_check check (is_only),
    constraint attachment_total_stored_bytes_check check (stored_bytes >= 0)
);

-- Lifetimes (decision 23): when to look for expired messages in each conversation, and what remains to be done about
-- those below its floor. Apart from conversations and without a foreign key: sends do not touch it, and its updates
-- take no lock that a send needs.
create table expiries (
    conversation_id uuid not null,
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
    is_cleared boolean not null default true,
    constraint expiries_pkey primary key (conversation_id)
);
create index expiries_due on expiries (due) where is_cleared and due is not null;
create index expiries_oldest on expiries (oldest) where is_cleared;
create index expiries_uncleared on expiries (conversation_id) where not is_cleared;

-- The history that cursors belong to: a database that is restored from a copy gets another id.
create table history (
    id uuid not null default gen_random_uuid(),
    is_only boolean not null default true,
    constraint history_pkey primary key (is_only),
    constraint history_is_only_check check (is_only)
);

-- Work that may wait.

-- What follows from a commit: the commit of each message adds a row. At the end of the debounce window, one transaction
-- turns it into a job for each recipient whose devices have not marked it delivered, and into a row of read_windows if
-- other recipients have it and have not read it.
create table outbox (
    id bigint not null generated always as identity,
    conversation_id uuid not null,
    seq bigint not null,
    created timestamptz not null default clock_timestamp(),
    constraint outbox_pkey primary key (id)
);

-- Messages that one device of a recipient has, and the recipient has not read. At the end of the read window the
-- notifiers of the recipient's other devices are told.
create table read_windows (
    id bigint not null generated always as identity,
    conversation_id uuid not null,
    seq bigint not null,
    -- When the message was created.
    created timestamptz not null,
    -- The only recipient to look at; null: all.
    user_id uuid,
    constraint read_windows_pkey primary key (id)
);

-- A row lives from the commit that enqueues the job until the job has ended. Redis carries only its id.
create table jobs (
    id bigint not null generated by default as identity,
    task text not null,
    -- The arguments: ids and names, never content.
    payload jsonb not null default '{}'::jsonb,
    -- At most one job of a task waits with the same key.
    key text,
    -- 0 comes before 1, and 1 before 2.
    priority smallint not null default 1,
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
    is_cancelled boolean not null default false,
    constraint jobs_pkey primary key (id),
    constraint jobs_key_check check (length(key) >= 1 and length(key) <= 200),
    constraint jobs_payload_check check (jsonb_typeof(payload) = 'object' and length(payload::text) <= 16384),
    constraint jobs_priority_check check (priority >= 0 and priority <= 2),
    constraint jobs_task_check check (task ~ '^[a-z][a-z0-9_]{0,62}$')
) with (fillfactor=70);
create index jobs_due on jobs (task, priority, due);
create unique index jobs_key on jobs (task, key) where key is not null;

-- Jobs that have failed for good. An operator can see them and replay them.
create table dead_jobs (
    id bigint not null,
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
    constraint dead_jobs_pkey primary key (id),
    constraint dead_jobs_volatile unique (volatile_id)
);
create index dead_jobs_died on dead_jobs (died);
create index dead_jobs_task on dead_jobs (task, id);
-- The deletion of an account: reasons may name addresses.
create index dead_jobs_user on dead_jobs ((payload ->> 'user'));

create table schedules (
    name text not null,
    task text not null,
    payload jsonb not null default '{}'::jsonb,
    -- A cron expression, or 'every N s'.
    rule text not null,
    zone text not null default 'UTC',
    -- What happens to ticks at which no worker ran: no job, one job for all, or one job for each.
    missed text not null default 'once',
    next timestamptz not null,
    last timestamptz,
    is_paused boolean not null default false,
    constraint schedules_pkey primary key (name),
    constraint schedules_missed_check check (missed = any (array['skip', 'once', 'all'])),
    constraint schedules_name_check check (name ~ '^[a-z][a-z0-9_]{0,62}$')
);

-- Tasks whose jobs wait until an operator resumes them.
create table paused_tasks (
    task text not null,
    since timestamptz not null default clock_timestamp(),
    constraint paused_tasks_pkey primary key (task)
);

-- How far work has come that never ends.
create table progress (
    task text not null,
    upto timestamptz not null,
    constraint progress_pkey primary key (task)
);

-- How far work has come that goes through all rows, again and again: the last one that it looked at, in the order of
-- its keys; empty at the beginning.
create table sweeps (
    task text not null,
    position text not null,
    -- The number of moves: a worker that has looked on meanwhile must not move it back.
    moves bigint not null,
    constraint sweeps_pkey primary key (task)
);

-- How users are told that messages wait, and when not.

create table notifiers (
    id uuid not null,
    user_id uuid not null,
    -- The device at a push service; the notifier goes when the device is revoked.
    device_id uuid,
    kind text not null,
    -- The address and its keys, by kind (store/notifiers.py).
    target jsonb not null,
    -- SHA-256 of the kind and of what identifies the target: one row for a URL, for the e-mail, for a device at a push
    -- service.
    target_hash bytea not null,
    created timestamptz not null default clock_timestamp(),
    -- Failures since the last notice that it took: when they began, how many, and the last error.
    failing_since timestamptz,
    failures int not null default 0,
    last_error text,
    constraint notifiers_pkey primary key (id),
    constraint notifiers_target unique (user_id, target_hash),
    constraint notifiers_check check ((failing_since is null) = (last_error is null)),
    constraint notifiers_kind_check check (kind = any (array['webhook', 'email', 'web_push', 'apns', 'fcm'])),
    constraint notifiers_last_error_check check (length(last_error) <= 200),
    constraint notifiers_target_check check (jsonb_typeof(target) = 'object' and length(target::text) <= 4096),
    constraint notifiers_target_hash_check check (length(target_hash) = 32),
    constraint notifiers_device_id_fkey foreign key (device_id) references devices(id),
    constraint notifiers_user_id_fkey foreign key (user_id) references users(id)
) with (fillfactor=70);
create index notifiers_device on notifiers (device_id) where device_id is not null;
create index notifiers_hash on notifiers (target_hash);

-- The last notice that a notifier of a user took. It says when the next one may follow, and whether the service still
-- shows this one.
create table notices (
    id bigint not null generated always as identity,
    user_id uuid not null,
    -- Null: the deployment's webhook.
    notifier_id uuid,
    -- A notice with the same name is not sent again.
    name text not null,
    told timestamptz not null,
    -- The number of notices in a row between which no device of the user received or read a message.
    times int not null,
    -- The number of waiting messages that it told; 0 once the notice is withdrawn.
    unread bigint not null,
    -- The sums of the user's marks (waiting_of) at that time: a change is a sign of the user's devices.
    delivered bigint not null,
    read bigint not null,
    -- When to check next whether the notice is pointless; null: it is withdrawn, cannot be withdrawn, or is too old.
    look timestamptz,
    constraint notices_pkey primary key (id),
    constraint notices_one unique nulls not distinct (user_id, notifier_id),
    constraint notices_times_check check (times >= 1),
    constraint notices_notifier_id_fkey foreign key (notifier_id) references notifiers(id) on delete cascade,
    constraint notices_user_id_fkey foreign key (user_id) references users(id)
) with (fillfactor=70);
create index notices_look on notices (look) where look is not null;
create index notices_notifier on notices (notifier_id) where notifier_id is not null;

-- When a user wants no notices, each day: from one minute of the day to another, which may be past midnight.
create table quiet_hours (
    user_id uuid not null,
    from_minute smallint not null,
    until_minute smallint not null,
    -- A name of the IANA database.
    zone text not null,
    constraint quiet_hours_pkey primary key (user_id),
    constraint quiet_hours_check check (from_minute <> until_minute),
    constraint quiet_hours_from_minute_check check (from_minute >= 0 and from_minute <= 1439),
    constraint quiet_hours_until_minute_check check (until_minute >= 0 and until_minute <= 1439),
    constraint quiet_hours_zone_check check (length(zone) >= 1 and length(zone) <= 64),
    constraint quiet_hours_user_id_fkey foreign key (user_id) references users(id)
);
create trigger quiet_hours_changed after insert or delete or update on quiet_hours for each row execute function
    note_set_beside('settings');

-- The secret of the tokens in mails; see mail_token().
create table mail_key (
    is_only boolean not null default true,
    key bytea not null,
    constraint mail_key_pkey primary key (is_only),
    constraint mail_key_is_only_check check (is_only),
    constraint mail_key_key_check check (length(key) = 32)
);

-- The e-mail addresses of users, whether they are verified, and the mails that the users want.
create table emails (
    user_id uuid not null,
    -- Null: removed. The row stays, with the number of mails that were asked for.
    address text,
    -- When the user showed that they read mails to this address.
    verified timestamptz,
    wants_digest boolean not null default false,
    wants_device_notice boolean not null default true,
    -- When a digest is due: the hour of the day in a time zone of the IANA database.
    digest_hour smallint not null default 8,
    zone text not null default 'UTC',
    -- When the next digest is due; null if the user wants no digest.
    next_digest timestamptz,
    last_digest timestamptz,
    -- The seed of the tokens of this address, and the hashes by which they are found. A changed address has others.
    seed uuid,
    -- SHA-256 of the mailbox, under which mails are counted (mailboxes); null, of imported users: that of the address.
    mailbox_hash bytea,
    verification_hash bytea,
    verification_expires timestamptz,
    unsubscribe_hash bytea,
    -- The number of mails to unverified addresses that were asked for since asked_since.
    asked int not null default 0,
    asked_since timestamptz not null default clock_timestamp(),
    constraint emails_pkey primary key (user_id),
    constraint emails_unsubscribe unique (unsubscribe_hash),
    constraint emails_verification unique (verification_hash),
    constraint emails_address_check check (octet_length(address) >= 3 and octet_length(address) <= 254),
    constraint emails_check check (verified is null or address is not null),
    constraint emails_check1 check (next_digest is null or verified is not null and wants_digest),
    constraint emails_check2 check (num_nulls(address, seed, verification_hash, verification_expires, unsubscribe_hash)
        = any (array[0, 5])),
    constraint emails_digest_hour_check check (digest_hour >= 0 and digest_hour <= 23),
    constraint emails_mailbox_hash_check check (length(mailbox_hash) = 32),
    constraint emails_unsubscribe_hash_check check (length(unsubscribe_hash) = 32),
    constraint emails_verification_hash_check check (length(verification_hash) = 32),
    constraint emails_zone_check check (length(zone) >= 1 and length(zone) <= 64),
    constraint emails_user_id_fkey foreign key (user_id) references users(id)
);
create index emails_digest on emails (next_digest) where next_digest is not null;
-- The accounts with an address, for users who do not know their password.
create index emails_verified on emails (address) where verified is not null;

-- Mails that let users set another password (store/password_resets.py).
create table password_resets (
    -- The seed of the token; see mail_token().
    id uuid not null,
    -- Null: no account was found, or its user has a mail by now.
    user_id uuid,
    asked timestamptz not null default clock_timestamp(),
    -- The hash by which the token is found; null: it is void.
    token_hash bytea,
    expires timestamptz not null,
    -- Whether a device of the user asked, by its token; else it may have been a stranger.
    is_own boolean not null default false,
    constraint password_resets_pkey primary key (id),
    constraint password_resets_token unique (token_hash),
    constraint password_resets_check check (user_id is not null or token_hash is null),
    constraint password_resets_token_hash_check check (length(token_hash) = 32),
    constraint password_resets_user_id_fkey foreign key (user_id) references users(id)
);
create index password_resets_asked on password_resets (asked);
create index password_resets_user on password_resets (user_id, asked) where user_id is not null;

-- Exports: files with all data of an account, in the object store (store/exports.py). Rows go once their objects are gone.
create table exports (
    id uuid not null,
    user_id uuid not null,
    asked timestamptz not null,
    -- When all parts were in the object store, how many they are, and when they are deleted; null: a job makes them.
    ready timestamptz,
    expires timestamptz,
    parts int,
    size_bytes bigint,
    constraint exports_pkey primary key (id),
    constraint exports_check check (num_nulls(ready, expires, parts, size_bytes) = any (array[0, 4])),
    constraint exports_parts_check check (parts >= 1),
    constraint exports_size_bytes_check check (size_bytes >= 1),
    constraint exports_user_id_fkey foreign key (user_id) references users(id)
);
create index exports_asked on exports (asked) where ready is null;
create index exports_expires on exports (expires) where expires is not null;
create index exports_user on exports (user_id);

-- How many mails went to unverified addresses of a mailbox lately, for all users together. Users who remove or change
-- the address do not change the count.
create table mailboxes (
    -- SHA-256 of the mailbox, as runtime.email_address.mailbox() writes it: its owner is not kept.
    mailbox_hash bytea not null,
    -- Mails that went there since sent_since.
    sent int not null default 0,
    sent_since timestamptz not null default clock_timestamp(),
    constraint mailboxes_pkey primary key (mailbox_hash),
    constraint mailboxes_mailbox_hash_check check (length(mailbox_hash) = 32),
    constraint mailboxes_sent_check check (sent >= 0)
);
create index mailboxes_sent on mailboxes (sent_since);

-- Mails to unverified addresses that went out: the token of each verifies the address, for a user who has it too. So a
-- stranger who uses up the mails to a mailbox does not keep its owner from verifying it.
create table sent_verifications (
    token_hash bytea not null,
    -- SHA-256 of the address, as it was given.
    address_hash bytea not null,
    expires timestamptz not null,
    constraint sent_verifications_pkey primary key (token_hash),
    constraint sent_verifications_address_hash_check check (length(address_hash) = 32),
    constraint sent_verifications_token_hash_check check (length(token_hash) = 32)
);
create index sent_verifications_address on sent_verifications (address_hash, expires);
create index sent_verifications_expires on sent_verifications (expires);

-- Events of the security of accounts, for users and operators (store/security_events.py). Without foreign keys:
-- an event may outlive the device, and that of a deletion outlives the user.
create table security_events (
    id bigint not null generated always as identity,
    kind text not null,
    -- The user whose account it is; null: it concerns none, such as a login with an unknown name.
    user_id uuid,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    -- The operator's name, for operators alone. Null: the operator is known only as a holder of the operators' token.
    operator text,
    -- The device that acted, or that was made.
    device_id uuid,
    -- The network that the request came from: a /24 of IPv4, a /48 of IPv6. No whole address is kept.
    network cidr,
    -- The program that the request named as its own.
    client text,
    detail jsonb not null default '{}'::jsonb,
    -- Events that any attacker can cause at will are counted: the same event of a user in one hour has one row; so are
    -- those of a kind of which the user has many (note_security_event). Null: such an event has a row of its own.
    hour timestamptz,
    times bigint not null default 1,
    -- When it happened last, if it is counted.
    last timestamptz,
    constraint security_events_pkey primary key (id),
    constraint security_events_actor_check check (actor = any (array['user', 'operator', 'system'])),
    constraint security_events_check check ((hour is null) = (last is null)),
    constraint security_events_check1 check (hour is not null or times = 1),
    constraint security_events_client_check check (length(client) >= 1 and length(client) <= 256),
    constraint security_events_detail_check check (jsonb_typeof(detail) = 'object' and length(detail::text) <= 1024),
    constraint security_events_kind_check check (kind ~ '^[a-z][a-z_]{0,39}$'),
    constraint security_events_network_check check (masklen(network::inet) = case family(network::inet)     when 4 then
        24     else 48 end),
    constraint security_events_operator check (operator is null or actor = 'operator'),
    constraint security_events_operator_check check (length(operator) >= 1 and length(operator) <= 64),
    constraint security_events_times_check check (times >= 1)
);
create index security_events_at on security_events (at);
create unique index security_events_counted on security_events (user_id, kind, hour, detail) nulls not distinct where
    hour is not null;
create index security_events_own on security_events (user_id, kind, at) where hour is null;
create index security_events_user on security_events (user_id, id);

-- For clients that encrypt.

-- The state of a conversation's cryptography after its last control message, for a device that joins by itself: with MLS the
-- GroupInfo and the ratchet tree. A state of an earlier control message is kept until the next one is put, and shown to
-- no device.
create table group_states (
    conversation_id uuid not null,
    -- The control message after which this is the state.
    control_seq bigint not null,
    -- Grows with each state that is put.
    revision int not null default 0,
    -- The participant who put it, and the device.
    user_id uuid not null,
    device_id uuid not null,
    put timestamptz not null default clock_timestamp(),
    body bytea not null,
    constraint group_states_pkey primary key (conversation_id),
    constraint group_states_numbers check (control_seq >= 1 and revision >= 0),
    constraint group_states_size check (length(body) >= 1 and length(body) <= 1048576),
    constraint group_states_conversation_id_fkey foreign key (conversation_id) references conversations(id),
    constraint group_states_user_id_fkey foreign key (user_id) references users(id)
);

-- Ciphertext and keys do not compress.

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
    reason text not null,
    -- How often the device has reported the message, each time after it was healed or edited.
    tries int not null default 1,
    -- The device has been given an envelope since.
    is_healed boolean not null default false,
    at timestamptz not null default clock_timestamp(),
    constraint undecryptable_pkey primary key (conversation_id, seq, device_id),
    constraint undecryptable_reason_check check (length(reason) >= 1 and length(reason) <= 32)
) with (fillfactor=85);
create index undecryptable_at on undecryptable (at);
create index undecryptable_device on undecryptable (device_id) where not is_healed;
create index undecryptable_sender on undecryptable (sender_id, at) where not is_healed;

-- Reports that still hold: the message has that revision, and the device takes part. told_device: the device that wrote the
-- message; null if that has ended or is not known, and all others of the sender's are told.
create view open_reports as
 select u.conversation_id,
    u.seq,
    r.user_id,
    u.device_id,
    u.revision,
    u.reason,
    u.sender_id,
    w.id as told_device,
    u.at
   from undecryptable u
     join messages m on m.conversation_id = u.conversation_id and m.seq = u.seq and m.revision = u.revision and m.deleted is null
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
    constraint analytics_pkey primary key (day, metric)
) with (fillfactor=50);

-- A user had a live connection on a day (UTC). Without a foreign key: the figure stays when a user goes.
create table activity (
    day date not null,
    user_id uuid not null,
    constraint activity_pkey primary key (day, user_id)
);

-- The time from a message's commit to a device's delivered mark, sampled: the number of samples of a day in each bucket
-- (store/latencies.py).
create table latencies (
    day date not null,
    bucket smallint not null,
    count bigint not null,
    constraint latencies_pkey primary key (day, bucket),
    constraint latencies_bucket_check check (bucket >= 0),
    constraint latencies_count_check check (count >= 0)
) with (fillfactor=50);

create table function_sets (
    checksum text not null,
    applied timestamptz not null default clock_timestamp(),
    constraint function_sets_pkey primary key (checksum)
);

create table migrations (
    version int not null,
    name text not null,
    checksum text not null,
    applied timestamptz not null default clock_timestamp(),
    constraint migrations_pkey primary key (version)
);

-- Functions, each in store/sql/functions/, in a file of its name.

-- No user takes part in a conversation any longer, as it is shown, or none that is not deleted: no user can read its
-- messages, and the next run of retention deletes them.
-- abandon_conversation(p_conversation uuid) returns void

-- A user accepts a request and takes part like every participant.
-- accept_request(p_user uuid, p_conversation uuid, out outcome text, out participant_ids uuid[], out
--     participants_version bigint) returns record

-- A user makes another user a contact.
-- add_contact(p_user uuid, p_other uuid, out outcome text, out accepted uuid[]) returns record

-- The direct conversation of two users, which is made if there is none.
-- add_direct(p_conversation uuid, p_user uuid, p_other uuid, p_limit int, out outcome text, out conversation uuid, out
--     wait_s float8) returns record

-- Gives devices envelopes for a message that was sent before: it stays as it is, but for its envelopes.
-- add_envelopes(p_user uuid, p_device uuid, p_conversation uuid, p_seq bigint, p_revision bigint, p_envelopes bytea,
--     p_devices uuid[], p_ends bigint[], p_parts int, out outcome text, out message messages, out participant_ids
--     uuid[], out envelope_devices uuid[], out envelope_bodies bytea[], out refused_for uuid[]) returns record

-- A group with its first participants.
-- add_group(p_conversation uuid, p_name text, p_users uuid[], p_admin uuid, p_limit int, p_places int, out outcome
--     text, out refused uuid[], out wait_s float8) returns record

-- Adds a notifier of a user.
-- add_notifier(p_id uuid, p_user uuid, p_device uuid, p_kind text, p_target jsonb, p_target_hash bytea, p_limit int,
--     out outcome text, out id uuid) returns record

-- A user becomes a participant of a group.
-- add_participant(p_user uuid, p_conversation uuid, p_other uuid, p_limit int, p_starts int, p_places int, out outcome
--     text, out participant_ids uuid[], out participants_version bigint, out wait_s float8) returns record

-- The conversation of a user's own devices, which is made if there is none.
-- add_self(p_conversation uuid, p_user uuid, out outcome text, out conversation uuid) returns record

-- Adds a user.
-- add_user(p_user uuid, p_username text, p_password_hash text, p_code_hash bytea, p_issuer text, p_subject text,
--     p_source jsonb, out outcome text) returns text

-- The last step of the deletion of an account: what is left of the user goes, but for the row in users, which others'
-- rows refer to.
-- anonymise_user(p_user uuid, p_held_s float8) returns boolean

-- A user asks for a file with all data of the account.
-- ask_export(p_user uuid, p_window_s float8, p_most_s float8, p_source jsonb, out outcome text, out id uuid, out wait_s
--     float8) returns record

-- A user who does not know the password asks for a mail with a link that sets another one.
-- ask_password_reset(p_username text, p_address text, p_known uuid, p_lifetime_s float8, p_margin_s float8, p_window_s
--     float8, p_most int, p_accounts int) returns void

-- A worker says that it still runs these jobs, and keeps its claims for p_claim_ms more.
-- beat_jobs(p_ids bigint[], p_worker text, p_claim_ms bigint) returns table(id bigint, is_cancelled boolean)

-- Begins another history: every cursor that was issued before becomes foreign.
-- begin_history() returns table(changed_table text, changed_rows bigint)

-- Changes the name or the avatar of a conversation, what later participants may read, or the lifetime of messages.
-- change_conversation(p_user uuid, p_conversation uuid, p_name text, p_avatar uuid, p_joiners_see_all boolean,
--     p_lifetime_s int, out outcome text, out participant_ids uuid[], out participants_version bigint, out name text,
--     out floor_seq bigint, out joiners_see_all boolean, out lifetime_s int, out settings_by uuid, out
--     others_lifetime_s int, out others_settings_by uuid, out avatar bytea) returns record

-- Changes the password of a user.
-- change_password(p_user uuid, p_device uuid, p_old_hash text, p_new_hash text, p_ends_others boolean, p_source jsonb
--     default '{"actor": "system"}'::jsonb) returns boolean

-- The users whose devices have changed in a conversation since a version of its device set, the last change first.
-- changed_devices(p_conversation uuid, p_known bigint, p_present bigint) returns uuid[]

-- A worker begins to run jobs.
-- claim_jobs(p_ids bigint[], p_worker text, p_claim_ms bigint) returns table(id bigint, outcome text, task text,
--     payload bytea, version bigint, attempt bigint, priority bigint, now_ms bigint)

-- Claims one-time keys for several users in one transaction: for each claim a key of each of some kinds of each device
-- of the users that it names (key_owners), the first of its pool (key_pools), or the last-resort key if there is none.
-- claim_keys(p_waits boolean, p_user uuid[], p_after uuid[], p_limit bigint[], p_bytes bigint[], p_of bigint[], p_other
--     uuid[], p_kinds text[], p_most int, p_few int) returns table(n bigint, owner_id uuid, device uuid, identity
--     bytea, identity_revision int, key_kind text, key_number bigint, key_bytes bytea, is_last_resort boolean, has_more
--     boolean, is_locked boolean, is_low boolean)

-- A user, or an operator, asks to delete the account: all devices are logged out at once, notifiers go, and after
-- p_delay_s seconds a job deletes the account (store/account_deletions.py).
-- close_account(p_user uuid, p_delay_s float8, p_deletes_messages boolean, p_source jsonb, out due bigint) returns
--     bigint

-- Notes that files are in the object store as they were declared, and counts them among the figures of the day.
-- complete_attachments(p_user uuid, p_ids uuid[]) returns uuid[]

-- Adds files and their bytes to the figures of the day, in the transaction that changes them, after the total: the
-- figures are exact, and their sum is the total.
-- count_attachments(p_change text, p_files bigint, p_bytes bigint) returns void

-- The base of a participant without the floor of the conversation: no message up to it counts as unread.
-- count_base(p participants) returns bigint

-- A conversation counts its participants, as they are shown to each other: lists of conversations need not count them.
-- count_participants() returns trigger

-- Counts places in groups that a user fills: the participants of a new group, or one who is added.
-- count_places(p_user uuid, p_places int, p_limit int) returns float8

-- Counts that a user begins a conversation with a stranger, or brings a stranger into a group.
-- count_start(p_user uuid, p_limit int, p_window_s float8 default 86400) returns float8

-- Keeps the stored bytes of each user, and of the deployment, equal to the sums of the sizes of their rows, whichever
-- statement adds or removes rows, and the total of complete files, too.
-- count_stored_bytes() returns trigger

-- Declares files that a user is about to upload, or refuses all of them for a quota.
-- declare_attachments(p_user uuid, p_ids uuid[], p_keys text[], p_sizes bigint[], p_media_types text[], p_digests
--     bytea[], p_part_digests bytea[], p_thumbnail_of uuid[], p_are_avatars boolean, p_open_uploads bigint,
--     p_bytes_per_day bigint, p_bytes_per_user bigint, p_bytes_total bigint, out outcome text) returns text

-- A user declines a request: nothing of the conversation comes from now on, and the others are not told.
-- decline_request(p_user uuid, p_conversation uuid, out outcome text, out participants_version bigint) returns record

-- Deletes a message for everyone: its content is erased, and a tombstone stays.
-- delete_message(p_user uuid, p_conversation uuid, p_seq bigint, out outcome text, out id uuid, out created bigint, out
--     sender uuid, out participant_ids uuid[], out actor uuid, out is_quiet boolean, out quiet_count bigint) returns
--     record

-- The first time after p_after at which it is p_hour o'clock in the zone.
-- digest_after(p_hour int, p_zone text, p_after timestamptz) returns timestamptz

-- Deletes all keys of some devices: they have ended.
-- drop_keys(p_devices uuid[]) returns void

-- Deletes the keys of devices that have just ended: they were revoked, or nobody is told any longer why their tokens
-- have ended.
-- drop_keys_of_ended() returns trigger

-- A digest of the content of an edit, with that of its envelopes: a retry has the same.
-- edit_digest(p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea, p_attachments uuid[],
--     p_thumbnail bytea, p_envelope_digest bytea) returns bytea

-- Replaces the content of a message, and its attachments: those that it does not keep are orphaned.
-- edit_message(p_user uuid, p_conversation uuid, p_seq bigint, p_revision bigint, p_content_type text, p_content bytea,
--     p_nonce bytea, p_ephemeral_public_key bytea, p_attachments uuid[], p_thumbnail bytea, p_device uuid,
--     p_devices_version bigint, p_envelopes bytea, p_envelope_devices uuid[], p_envelope_ends bigint[],
--     p_envelope_digest bytea, p_parts int, out outcome text, out id uuid, out created bigint, out revision bigint, out
--     edited bigint, out participant_ids uuid[], out reply_to bigint, out hidden_for uuid, out temp_id uuid, out
--     is_quiet boolean, out quiet_count bigint, out devices_version bigint, out refused_for uuid[], out has_envelopes
--     boolean, out follows bigint, out envelope_devices uuid[], out envelope_bodies bytea[]) returns record

-- Records the ends of runs.
-- end_jobs(p_ids bigint[], p_versions bigint[], p_outcomes text[], p_delays_ms bigint[], p_reasons text[], p_tracebacks
--     text[], p_worker text) returns void

-- The stay of a user in a group ends.
-- end_stay(c conversations, p_user uuid, p_by uuid, out participant_ids uuid[], out since_seq bigint, out left_seq
--     bigint, out delivered_seq bigint, out read_seq bigint, out heir uuid, out was_participant boolean) returns record

-- Enqueues a job, in the transaction of the commit that it follows from.
-- enqueue(p_task text, p_payload jsonb, p_key text default null::text, p_delay_s float8 default 0, p_max_wait_s float8
--     default null::float8, p_priority int default 1) returns bigint

-- As enqueue(), for a caller that hands the job to Redis: a new job that is due now counts as handed for p_lease_s
-- seconds, unless that is null.
-- enqueue_at_once(p_task text, p_payload jsonb, p_key text, p_delay_s float8, p_max_wait_s float8, p_priority int,
--     p_lease_s float8, out id bigint, out is_handed boolean) returns record

-- A message is deleted for everyone: its content is erased, and a tombstone stays.
-- erase_message(c conversations, m messages, p_by uuid) returns uuid[]

-- A step of the deletion of an account: some messages of the user are deleted for everyone, in one conversation, on
-- from where the last step ended.
-- erase_own_messages(p_user uuid, p_look_at int, p_limit int) returns bigint

-- The last message above p_floor that was created at p_until or before; p_floor if there is none.
-- expired_upto(p_conversation uuid, p_floor bigint, p_last bigint, p_until timestamptz) returns bigint

-- The first message after p_seq that is not quiet: a request causes one notice, for this one.
-- first_counted(p_conversation uuid, p_seq bigint) returns bigint

-- The first seq above p_floor whose message the snapshot does not see; one above the last seq if it sees all.
-- first_unseen(p_conversation uuid, p_floor bigint, p_snapshot pg_snapshot) returns bigint

-- The floor of a participant: the participant may read nothing at or below it.
-- floor_of(c conversations, p participants) returns bigint

-- Takes its identity from a device that has ended: it was revoked, or nobody is told any longer why its tokens have
-- ended.
-- forget_identity() returns trigger

-- The stays in a conversation that have ended, as the participants see them: first and last seq, the marks at the end,
-- and the user who ended it (null: the user themselves).
-- former_stays(p_conversation uuid) returns table(user_id uuid, since_seq bigint, left_seq bigint, delivered_seq
--     bigint, read_seq bigint, removed_by uuid, departed timestamptz)

-- Gives up uploads of a user, with their thumbnails: all, or none.
-- give_up_attachments(p_user uuid, p_ids uuid[], out outcome text, out ids uuid[], out keys text[], out uploads text[])
--     returns record

-- The avatar after a change that names one: p_given, or none if that is the nil UUID, or the former one if it is null.
-- given_avatar(p_given uuid, p_former uuid) returns uuid

-- Whether a user has made another user a contact, also if they block that user by now: the block must not show in what
-- the other user is refused, or may begin.
-- has_added(p_user uuid, p_other uuid) returns boolean

-- Whether a token that went to this address, for whichever user, is good for p_margin_s longer.
-- has_sent_verification(p_address text, p_margin_s float8) returns boolean

-- Deletes a message for one user.
-- hide_message(p_user uuid, p_conversation uuid, p_seq bigint, out outcome text, out id uuid, out created bigint, out
--     sender uuid, out actor uuid, out is_quiet boolean, out quiet_count bigint) returns record

-- The participants who have deleted a message for themselves: their devices are told a tombstone of it, and nothing
-- else (holders_of).
-- hiders_of(c conversations, m messages) returns table(user_id uuid)

-- The id of the history that numbers of transactions in cursors belong to.
-- history_id() returns text

-- The history (history_id) as a number, for rows that have to tell it from another one.
-- history_number() returns bigint

-- The id of a history, with its timeline (history_id).
-- history_with(p_timeline text) returns text

-- The participants whose devices hold a message or may read it: they are told when it changes, and of the message
-- itself if its push was lost.
-- holders_of(c conversations, m messages) returns table(user_id uuid, joined timestamptz)

-- A user's notices that were put off are due now: the reason for waiting may be over.
-- hurry_notices(p_user uuid) returns void

-- Whether a user blocks another user.
-- is_blocked(p_user uuid, p_other uuid) returns boolean

-- Whether a user blocks the other user of a direct conversation.
-- is_blocker(c conversations, p_user uuid) returns boolean

-- Whether a participant shows no marks to the others: in a request, and in a direct conversation while one of the two
-- blocks the other.
-- is_private(c conversations, p participants) returns boolean

-- The users, among some, whose devices a user may see with their identities and keys: the user, users who have the user
-- as a contact, and users who share a conversation with the user.
-- key_owners(p_users uuid[], p_of bigint[], p_others uuid[]) returns table(n bigint, user_id uuid, is_reached boolean)

-- What the server holds of a device: a row for each kind; one row without a kind if there is none.
-- key_status(p_device uuid) returns table(identity bytea, identity_revision int, history bigint, kind text, count
--     bigint, first bigint, highest bigint, digest bytea, last_resort bigint, is_given boolean)

-- The envelopes of a message as of a revision: each device with the bytes from the last part that names it.
-- latest_envelopes(p_conversation uuid, p_seq bigint, p_revision int, out devices uuid[], out bodies bytea[]) returns
--     record

-- A step of the deletion of an account: the user leaves some groups, and the conversation of the user's own devices,
-- and the other user of some direct conversations can send no more.
-- leave_conversations(p_user uuid, p_limit int) returns bigint

-- A page of the devices with an identity of those users, among some, whose devices a user may see (key_owners): those
-- after a device, in the order of their ids.
-- list_devices(p_user uuid, p_users uuid[], p_after uuid, p_limit bigint, p_bytes bigint) returns table(owner_id uuid,
--     device uuid, identity bytea, identity_revision int)

-- Locks those of some files that a message could take now, with their thumbnails: they belong to none and are not
-- orphaned.
-- lock_attachments(p_ids uuid[]) returns uuid[]

-- Puts a change of a user's devices (p_is_change) before or after each joining of that user: the later transaction sees
-- the earlier one.
-- lock_device_set(p_user uuid, p_is_change boolean) returns void

-- Makes changes about one pair of users wait for each other.
-- lock_pair(p_user uuid, p_other uuid) returns void

-- Locks the pools that a claim needs (claim_keys), one after the other, in the order in which uploads lock those of a
-- device.
-- lock_pools(p_user uuid[], p_after uuid[], p_of bigint[], p_other uuid[], p_kinds text[]) returns void

-- Puts what a user begins (conversations, places in groups) before or after other users' blocking of that user: the
-- later transaction sees the earlier one.
-- lock_starts(p_user uuid, p_is_blocking boolean) returns void

-- A token for a mail, of 256 bits.
-- mail_token(p_seed uuid, p_purpose text) returns bytea

-- An attachment that loses its message is orphaned at once, however young it is.
-- mark_orphaned() returns trigger

-- Whether a user may do in a group what its administrators may do: every participant may while the group shows no
-- administrator.
-- may_change(p_conversation uuid, p_user uuid) returns boolean

-- The bytes of a message that a page counts: content, thumbnail, nonce, key and the ids of its attachments.
-- message_bytes(m messages) returns integer

-- The message that a user wants to change, if the user may read it, and what decides about the change.
-- message_to_change(p_user uuid, p_conversation uuid, p_seq bigint, out conversation conversations, out me
--     participants, out message messages) returns record

-- Looks at conversations where messages may have expired, those that have waited longest first, and moves their floors
-- past the expired messages.
-- move_floors(p_days float8, p_archives boolean, p_limit int, out looked_at int, out moved int) returns record

-- A step of the deletion of an account begins, which changes what devices of others hold.
-- note_deletion_step(p_user uuid) returns account_deletions

-- A new conversation gets its row in expiries.
-- note_expiry() returns trigger

-- A device has got an identity, or another one, or has lost it: each conversation where its user takes part, as the
-- others see it, gets the next version of its device set in the same transaction.
-- note_identity() returns trigger

-- Counts and stamps a change of a user's own settings in the table users, so that the user's devices are told.
-- note_own_settings() returns trigger

-- Gives a conversation the next version of its list of participants, or of its settings.
-- note_participants(p_conversation uuid) returns uuid[]

-- The devices of a user have joined a conversation with the user, or left it.
-- note_participation(p_conversation uuid, p_user uuid) returns void

-- Stamps a message that was edited or deleted: syncs find it by the transaction that wrote this row.
-- note_revision(p_conversation uuid, p_seq bigint, p_digest bytea default null::bytea, p_edited timestamptz default
--     null::timestamptz) returns void

-- Notes an event of an account's security, in the transaction of what it records.
-- note_security_event(p_kind text, p_user uuid, p_source jsonb, p_detail jsonb default '{}'::jsonb, p_device uuid
--     default null::uuid, p_is_counted boolean default false) returns bigint

-- Counts and stamps a change of what a user has set in a table of its own, so that the user's devices are told.
-- note_set_beside() returns trigger

-- Notes the sizes that the object store has told of files whose size was not known, and counts them: the bytes of users
-- and of the deployment stay the sums over the rows, and so do the figures of the day.
-- note_sizes(p_ids uuid[], p_sizes bigint[]) returns void

-- A message stops counting as unread for some users, where it lies above their base.
-- note_uncounted(p_conversation uuid, p_seq bigint, p_users uuid[]) returns void

-- A withheld user takes part in the conversation, by an act of their own; they may read no message from before.
-- open_withheld(p_conversation uuid, p_user uuid) returns boolean

-- A message that is deleted for everyone loses its attachments.
-- orphan_attachments() returns trigger

-- Publishes what a device gives (put_keys), and tells what the server holds after that (key_status): a row for each
-- kind.
-- publish_keys(p_device uuid, p_identity bytea, p_history bigint, p_kinds text[], p_numbers bigint[], p_keys bytea[],
--     p_last_kinds text[], p_last_numbers bigint[], p_last_keys bytea[], p_is_anew boolean, p_most int, p_most_kinds
--     int, p_few int) returns table(outcome text, identity bytea, identity_revision int, history bigint, kind text,
--     count bigint, first bigint, highest bigint, digest bytea, last_resort bigint, is_given boolean)

-- Sets the address of a user and the mails that the user wants.
-- put_email(p_user uuid, p_address text, p_wants_digest boolean, p_wants_device_notice boolean, p_digest_hour int,
--     p_zone text, p_lifetime_s float8, p_window_s float8, p_most int, p_mailbox bytea, p_mailbox_window_s float8,
--     p_most_to_mailbox int, p_margin_s float8, p_source jsonb, out outcome text, out wait_s float8, out sends_mail
--     boolean) returns record

-- A participant puts the state of a conversation's cryptography after its last control message.
-- put_group_state(p_user uuid, p_device uuid, p_conversation uuid, p_control_seq bigint, p_body bytea, out outcome
--     text, out control_seq bigint) returns record

-- Publishes what a device gives: an identity, and one-time keys and last-resort keys of some kinds.
-- put_keys(p_device uuid, p_identity bytea, p_history bigint, p_kinds text[], p_numbers bigint[], p_keys bytea[],
--     p_last_kinds text[], p_last_numbers bigint[], p_last_keys bytea[], p_is_anew boolean, p_most int, p_most_kinds
--     int, p_few int) returns text

-- How many of a conversation's messages up to p_seq are quiet; null: not known, since p_seq lies below the floor.
-- quiet_at(c conversations, p_seq bigint) returns bigint

-- How many of a conversation's messages up to p_seq are quiet, by the message after it.
-- quiet_upto(p_conversation uuid, p_seq bigint) returns bigint

-- Gives conversations the next version of their device set, since the devices of a user have changed there.
-- raise_devices_version(p_user uuid, p_conversations uuid[]) returns void

-- The messages of a conversation that a participant may read, as this participant sees them.
-- readable_messages(p_conversation uuid, p_user uuid, p_floor bigint) returns table(seq bigint, id uuid, sender_id
--     uuid, created timestamptz, content_type text, content bytea, nonce bytea, ephemeral_public_key bytea, revision
--     int, edited timestamptz, reply_to bigint, attachments uuid[], thumbnail bytea, temp_id uuid, device_id uuid,
--     is_quiet boolean, quiet_count bigint, is_gone boolean, deleted_by uuid, has_envelopes boolean, follows bigint,
--     deleted timestamptz, is_silent boolean, size int)

-- The recipients of a message, and their marks: all users who took part when it was sent, other than its sender.
-- recipients_of(p_conversation uuid, p_seq bigint, p_sender uuid) returns table(user_id uuid, delivered_seq bigint,
--     read_seq bigint)

-- Why a message of p_user cannot have these attachments, by the first that it cannot have; null: it can.
-- refused_attachment(p_user uuid, p_ids uuid[], p_held uuid[], p_conversation uuid, p_seq bigint) returns text

-- Removes the rows of orphaned attachments whose objects are gone.
-- remove_attachments(p_ids uuid[]) returns bigint

-- A participant leaves a group (p_user and p_other are the same), or an administrator removes a participant.
-- remove_participant(p_user uuid, p_conversation uuid, p_other uuid, out outcome text, out participant_ids uuid[], out
--     participants_version bigint, out since_seq bigint, out left_seq bigint, out delivered_seq bigint, out read_seq
--     bigint, out heir uuid, out was_participant boolean) returns record

-- Gives a device a new token, for one that it shows.
-- renew_token(p_device uuid, p_family_hash bytea, p_token_hash bytea, p_new_hash bytea, p_lifetime_s float8,
--     p_overlap_s float8, p_most int, out state text, out expires bigint, out at bigint) returns record

-- Notes that a device cannot decrypt a message, for the device that wrote it (told_reports in undecryptable.sql).
-- report_undecryptable(p_user uuid, p_device uuid, p_conversation uuid, p_seq bigint, p_revision bigint, p_reason text,
--     p_most int, p_most_open int, p_days int) returns text

-- The number of requests whose first message that is not quiet a user has not read.
-- requests_waiting(p_user uuid) returns bigint

-- A user sets another password by the token of a mail.
-- reset_password(p_hash bytea, p_password_hash text, p_source jsonb, out outcome text) returns text

-- Revokes all devices of a user, and deletes their notifiers.
-- revoke_devices(p_user uuid, p_except uuid default null::uuid, p_source jsonb default '{"actor": "system"}'::jsonb)
--     returns bigint

-- Commits a batch of sends in one transaction and one round trip.
-- send_batch(p_lock_ms int, p_conversations uuid[], p_conversation uuid[], p_known_version bigint[], p_id uuid[],
--     p_sender uuid[], p_temp_id uuid[], p_digest bytea[], p_content_type text[], p_content bytea[], p_nonce bytea[],
--     p_ephemeral_public_key bytea[], p_reply_to bigint[], p_attachments text[], p_thumbnail bytea[], p_device uuid[],
--     p_is_quiet boolean[], p_devices_version bigint[], p_envelopes bytea[], p_envelope_devices uuid[], p_envelope_ends
--     bigint[], p_envelope_of bigint[], p_envelope_upto bigint[], p_follows bigint[]) returns table(n bigint, outcome
--     text, seq bigint, id uuid, created bigint, device uuid, quiet_count bigint, recipients_version bigint,
--     participant_ids uuid[], devices_version bigint, refused_for uuid[], control_seq bigint)

-- Commits a batch of one send.
-- send_one(p_lock_ms int, p_conversation uuid, p_known_version bigint, p_id uuid, p_sender uuid, p_temp_id uuid,
--     p_digest bytea, p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea, p_reply_to
--     bigint, p_attachments uuid[], p_thumbnail bytea, p_device uuid, p_is_quiet boolean, p_devices_version bigint,
--     p_envelopes bytea, p_envelope_devices uuid[], p_envelope_ends bigint[], p_finds_devices boolean, p_follows
--     bigint, out outcome text, out seq bigint, out id uuid, out created bigint, out device uuid, out quiet_count
--     bigint, out recipients_version bigint, out participant_ids uuid[], out devices_version bigint, out refused_for
--     uuid[], out control_seq bigint) returns record

-- A user blocks another user, or ends the block.
-- set_blocked(p_user uuid, p_other uuid, p_is_blocked boolean, p_is_online boolean, out outcome text, out shown uuid[],
--     out declined uuid[]) returns record

-- Changes the profile and the settings of a user.
-- set_profile(p_user uuid, p_display_name text, p_avatar uuid, p_gives_receipts boolean, p_shows_presence boolean,
--     p_messages_from text, p_groups_from text, out outcome text, out display_name text, out avatar bytea, out revision
--     int, out gives_receipts boolean, out shows_presence boolean, out messages_from text, out groups_from text, out
--     is_profile_changed boolean, out is_shown_otherwise boolean) returns record

-- An administrator gives a participant of a group another role.
-- set_role(p_user uuid, p_conversation uuid, p_other uuid, p_role text, out outcome text, out participant_ids uuid[],
--     out participants_version bigint) returns record

-- An operator suspends a user, or lifts that: no device logs in, and the tokens of the devices are refused, until it is
-- lifted.
-- set_suspended(p_user uuid, p_is_suspended boolean, p_source jsonb) returns boolean

-- The consequences of showing a token: the first use of a new one ends all others of its device, and one that has ended
-- revokes the device (decision 35).
-- show_token(p_family_hash bytea, p_token_hash bytea, p_overlap_s float8) returns text

-- The administrator who deleted a message for everyone, as a user is shown it.
-- shown_deleter(p_deleted_by uuid, p_conversation uuid, p_seq bigint, p_user uuid) returns uuid

-- The id of the history that a standby follows, as history_id tells it on the primary.
-- standby_history() returns text

-- A message takes these files, and their thumbnails; those that it has already stay.
-- take_attachments(p_conversation uuid, p_seq bigint, p_ids uuid[]) returns void

-- A user or a group gets another avatar, or none, and lets go of the one that it had, whose objects a job deletes.
-- take_avatar(p_user uuid, p_avatar uuid, p_former uuid) returns text

-- The mail that asks a user to verify the address, just before it goes out: it is counted for its mailbox, and its
-- token is noted.
-- take_verification(p_user uuid, p_window_s float8, p_most int, p_margin_s float8, out address text, out token bytea)
--     returns record

-- Whether a setting (users.messages_from, users.groups_from) lets another user begin a conversation.
-- takes_from(p_setting text, p_is_contact boolean) returns boolean

-- The time in a temp_id that is a UUID of version 7 (RFC 9562), in milliseconds since 1970; null in any other.
-- temp_id_ms(temp_id uuid) returns bigint

-- The state of a token of a device's family:   'current': the token that was shown last of those that were new then
-- 'next': new, and not shown yet   'former': the one before; requests with it may be under way   'ended': none of these
-- 'expired', 'revoked', 'reused': so is the device   'suspended': so is its user
-- token_state(d devices, p_token_hash bytea) returns text

-- The users who are told that a user types in a conversation, and the user; null if the user takes no part.
-- typing_to(p_conversation uuid, p_user uuid) returns uuid[]

-- By how much participants.uncounted shrinks when the base of a participant moves from p_after to p_upto.
-- uncounted_between(p_conversation uuid, p_user uuid, p_after bigint, p_upto bigint) returns bigint

-- The messages above p_after up to p_upto that never count as unread for a user: deleted for everyone, deleted by the
-- user, or sent by a user whom they blocked.
-- uncounted_seqs(p_conversation uuid, p_user uuid, p_after bigint, p_upto bigint) returns setof bigint

-- Those of some devices that are not of the device set of a conversation: that have no identity, or whose user does not
-- take part, as the participants are shown.
-- unlisted_devices(p_conversation uuid, p_devices uuid[]) returns uuid[]

-- The number of messages that a participant has not read, without counting messages.
-- unread_count(c conversations, p participants) returns bigint

-- The number of a user's unread messages, as the list of conversations shows them, and of conversations that have any.
-- unread_of(p_user uuid, out unread bigint, out conversations bigint) returns record

-- Whether a snapshot does not see what a transaction wrote.
-- unseen(p_changed xid8, p_snapshot pg_snapshot) returns boolean

-- The messages of some conversations that a snapshot does not see, as p_user may read them: those that were added,
-- edited or deleted since.
-- unseen_messages(p_user uuid, p_conversation uuid[], p_after bigint[], p_newest bigint[], p_snapshot pg_snapshot[],
--     p_limit int, p_bytes bigint) returns table(conversation uuid, seq bigint, id uuid, created bigint, sender uuid,
--     content_type text, content bytea, nonce bytea, ephemeral_public_key bytea, revision int, edited bigint, reply_to
--     bigint, attachments uuid[], thumbnail bytea, temp_id uuid, device uuid, is_quiet boolean, quiet_count bigint,
--     is_gone boolean, deleted_by uuid, has_envelopes boolean, follows bigint, is_beyond boolean)

-- Why a send of a batch was not stored, for send_batch(), which calls it in the statement that stores the others and
-- says what the columns mean: a retry has the first answer, all others a refusal.
-- unsent(p_conversation uuid, p_sender uuid, p_temp_id uuid, p_digest bytea, p_reply_to bigint, p_devices_version
--     bigint, p_follows bigint, p_refused text, p_unlisted uuid[], p_is_locked boolean, out outcome text, out seq
--     bigint, out id uuid, out created bigint, out device uuid, out quiet_count bigint, out recipients_version bigint,
--     out devices_version bigint, out refused_for uuid[], out control_seq bigint) returns record

-- The form in which the name of a deleted user is kept.
-- username_hash(p_username text) returns bytea

-- A user shows the token that was sent to an address.
-- verify_email(p_hash bytea, p_user uuid, p_source jsonb, out outcome text) returns text

-- An operator voids the password of a user, who sets another one by a link: all devices are logged out, and links of
-- before are void.
-- void_password(p_user uuid, p_lifetime_s float8, p_source jsonb) returns bytea

-- The tokens of mails that set another password are void: the user has another password by now, or another address.
-- void_resets(p_user uuid) returns void

-- The messages that wait for a user, as notices use them.
-- waiting_of(p_user uuid, p_read_after interval, out is_undelivered boolean, out unread_by uuid[], out oldest
--     timestamptz, out newest timestamptz, out delivered bigint, out read bigint) returns record

-- Whether messages of a conversation cause notices for a participant.
-- wants_notices(p participants) returns boolean

-- A participant gets nothing of a conversation from now on, and the others see no change.
-- withhold(p_conversation uuid, p_user uuid) returns void
