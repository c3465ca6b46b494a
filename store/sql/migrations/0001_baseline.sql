-- All tables. Stored functions and triggers stand in store/sql/functions/.
--
-- Hot tables (conversations, participants) leave room in each page, so that what a send or a mark moves is updated in
-- place (HOT): no index may name a column that they move (last_seq, active_at, *_seq, changed, marked). The columns that
-- each send moves stand side by side: Postgres logs of such an update what lies between the first and the last change.
--
-- Postgres reads the text of each CHECK of a table anew for each statement that writes to it, whichever columns that sets.
-- So the constraints of hot tables are few and short.
--
-- Columns named added, changed, marked and *_changed hold the transaction that wrote the row last (decision 9). Together
-- with a snapshot they tell what has been committed since.

-- Users and their devices.

create table users (
    id uuid primary key,
    username text not null check (username ~ '^[a-z0-9][a-z0-9_.-]{0,31}$'),
    password_hash text not null,
    created timestamptz not null default clock_timestamp(),
    display_name text check (length(display_name) between 1 and 128),
    avatar_key text,
    -- How often the profile was changed: of two profiles the greater revision counts.
    profile_revision int not null default 0,
    -- Whether others see how far this user has read, and when the user is or was online.
    gives_receipts boolean not null default true,
    shows_presence boolean not null default true,
    -- What the user has set for themselves (note_own_settings, note_set_beside), and whom they know (note_set_beside): how
    -- often it has changed, and, of both, by which transaction last.
    settings_revision int not null default 0,
    contacts_revision int not null default 0,
    own_changed xid8 not null default pg_current_xact_id(),
    -- From whom a first message, and a place in a group, is taken (decision 29); what others than contacts bring is a request.
    messages_from text not null default 'everybody' check (messages_from in ('everybody', 'contacts', 'nobody')),
    groups_from text not null default 'everybody' check (groups_from in ('everybody', 'contacts', 'nobody')),
    constraint users_username unique (username)
);
create index users_created on users (created);

create table devices (
    id uuid primary key,
    user_id uuid not null references users,
    name text not null,
    -- Null once the token has ended long ago: others may refer to the row, and a token cannot be told by it any more.
    token_hash bytea check (length(token_hash) = 32),
    created timestamptz not null default clock_timestamp(),
    revoked timestamptz,
    expires timestamptz not null default now() + interval '90 days',
    -- The token before the last refresh: good for a while, should the reply to that have been lost.
    former_token_hash bytea check (length(former_token_hash) = 32),
    former_expires timestamptz,
    constraint devices_token unique (token_hash),
    check ((former_token_hash is null) = (former_expires is null))
);
create index devices_user on devices (user_id);
create unique index devices_former_token on devices (former_token_hash) where former_token_hash is not null;
create index devices_revoked on devices (revoked) where revoked is not null;
create index devices_ended on devices (least(expires, revoked)) where token_hash is not null;
create index devices_former_ended on devices (former_expires) where former_expires is not null;

-- When a user was online last: apart from users, so that what moves all day is small and updated in place.
create table last_seen (
    user_id uuid primary key references users,
    at timestamptz not null
) with (fillfactor = 50);

-- Whom a user knows (is_contact), and whom a user blocks, who counts as no contact meanwhile.
create table contacts (
    user_id uuid not null references users,
    contact_id uuid not null references users,
    is_contact boolean not null default true,
    is_blocked boolean not null default false,
    -- When the user was online last when the block began: who is blocked sees presence as it was then. Null: not known.
    last_seen timestamptz,
    created timestamptz not null default clock_timestamp(),
    primary key (user_id, contact_id),
    check (user_id <> contact_id),
    check (is_contact or is_blocked),
    constraint contacts_last_seen check (is_blocked or last_seen is null)
);
-- Whom a user blocks, and who blocks a user: looked up with each list, and for each sign of typing.
create index contacts_blocked on contacts (user_id, contact_id) where is_blocked;
create index contacts_blockers on contacts (contact_id, user_id) where is_blocked;

-- When a user has begun conversations with strangers, of late, in order: as many as may be in 24 hours (decision 29).
create table starts (
    user_id uuid primary key references users,
    at timestamptz[] not null default '{}'
) with (fillfactor = 50);

-- Conversations, participants and messages.

create table conversations (
    id uuid primary key,
    kind text not null,
    name text,
    created timestamptz not null default clock_timestamp(),
    -- Two users have one direct conversation: its key is their ids, the lower first.
    direct_low uuid references users,
    direct_high uuid references users,
    last_seq bigint not null default 0,
    active_at timestamptz not null default clock_timestamp(),
    changed xid8 not null default pg_current_xact_id(),
    participants_version bigint not null default 1,
    -- Moves with each change of who gets messages, also with one that the others are not told of (withheld): lists of participants
    -- that are kept are checked by it.
    recipients_version bigint not null default 1,
    avatar_key text,
    -- Whether who joins later may read what was said before.
    joiners_see_all boolean not null default false,
    -- In a direct conversation, whether the one user blocks the other; as in contacts, where a send need not look.
    low_blocks boolean not null default false,
    high_blocks boolean not null default false,
    -- What lies at or below it is gone for everyone.
    floor_seq bigint not null default 0,
    -- The floor was moved last by; null: never.
    floor_changed xid8,
    -- Who takes part, or what the group is like: written with participants_version.
    participants_changed xid8 not null default pg_current_xact_id(),
    -- For how long messages live; null: as long as the deployment keeps them.
    lifetime_s int,
    -- The user who changed the name, the lifetime or joiners_see_all last; null: nobody has.
    settings_by uuid references users,
    constraint conversations_direct unique (direct_low, direct_high),
    constraint conversations_kind check (
        case when direct_low is null
            then kind = 'group' and name is not null and direct_high is null and not low_blocks and not high_blocks
            else kind = 'direct' and name is null and (direct_low < direct_high) is true end),
    constraint conversations_floor check (floor_seq between 0 and last_seq),
    constraint conversations_lifetime check (lifetime_s between 60 and 315360000)
) with (fillfactor = 50);

create table participants (
    conversation_id uuid not null references conversations,
    user_id uuid not null references users,
    -- What lies at or below it, the participant may not read.
    joined_seq bigint not null default 0,
    -- The last message when the participant joined: it and those before it were sent to others.
    since_seq bigint not null default 0,
    delivered_seq bigint not null default 0,
    read_seq bigint not null default 0,
    -- Where the last message is that the user has written; of one from before they came back, if it was among the last 50.
    written_seq bigint not null default 0,
    changed xid8 not null default pg_current_xact_id(),
    role text not null default 'member' check (role in ('admin', 'member')),
    joined timestamptz not null default clock_timestamp(),
    muted_until timestamptz,
    -- What is the user's own in it, and nobody else's to know: how often it was set, and by which transaction last.
    own_revision int not null default 0,
    own_changed xid8 not null default pg_current_xact_id(),
    -- Read, but shown to no other user: messages of a user whom this one blocks, or all where this one gives no receipts.
    private_read_seq bigint not null default 0,
    -- Of the messages that would count as unread, how many do not: see uncounted_seqs() and unread_count().
    uncounted bigint not null default 0,
    -- Delivered, but shown to no other user: while it is a request, or a block is there.
    private_delivered_seq bigint not null default 0,
    -- Up-to marks move far more often than anything else of a participant, and concern far fewer.
    marked xid8 not null default pg_current_xact_id(),
    -- Nor these: private marks, and how others are shown to the user alone. Who else takes part cannot notice when they moved.
    own_marked xid8,
    own_shown xid8,
    -- A request (decision 29): who asks this user to take part, and what the last message was then. Null: none any more.
    asked_by uuid references users,
    asked_seq bigint,
    -- The lifetime that this user has set while blocked by the other one, 0 for none: it holds for this user alone.
    own_lifetime_s int check (own_lifetime_s between 0 and 315360000),
    -- Who comes, or comes back, has another row: what was said before is read as history.
    added xid8 not null default pg_current_xact_id(),
    -- The device whose mark moved delivered_seq, or private_delivered_seq, last; null: none has, or what moved it last was a message of the user's own.
    delivered_by uuid,
    -- The other user who let this one take part, or gave the role, whichever was last.
    changed_by uuid references users,
    -- Somebody whom the user blocks has written here last by: no device of the user was told live. Null: never.
    silenced xid8,
    primary key (conversation_id, user_id),
    constraint participants_marks check (
        least(joined_seq, since_seq, read_seq, private_read_seq, private_delivered_seq) >= 0 and read_seq <= delivered_seq),
    constraint participants_asked check ((asked_by is null) = (asked_seq is null))
) with (fillfactor = 50);
create index participants_user on participants (user_id);

-- Users who have left a conversation, or were removed, and have not come back. Apart from participants: no query for
-- those who take part can find one of them by mistake.
create table departures (
    user_id uuid not null references users,
    conversation_id uuid not null references conversations,
    -- The stay: what was sent after the first and up to the second was sent to this user, too.
    since_seq bigint not null,
    left_seq bigint not null,
    -- The marks at its end.
    delivered_seq bigint not null default 0,
    read_seq bigint not null default 0,
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

-- Former stays of users who have come back, if anything was sent meanwhile, and of users who were withheld and then removed: the
-- messages of a stay remain sent to its user, who had come as far with them as the marks at its end say. Gone with the messages.
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

-- Users who seem to take part in a conversation, and do not: they were asked by somebody whom they block, or have declined.
-- Apart from participants: no query for those who get messages, marks or notices can find one of them by mistake. What the
-- others see of them never changes but for their profile.
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

-- Those who take part in a conversation, as they are shown to each other.
create view shown_participants as
    select p.conversation_id, p.user_id, p.joined_seq, p.since_seq, p.delivered_seq, p.read_seq, p.role, p.changed_by, p.changed,
           p.marked, false as is_withheld
    from participants p
    union all
    select w.conversation_id, w.user_id, w.joined_seq, w.since_seq, w.delivered_seq, w.read_seq, w.role, w.changed_by, w.changed,
           null::xid8, true
    from withheld w;

-- messages, sends and outbox are written by send_batch() alone, which has locked the conversation and found the
-- participant; a foreign key would look up the same rows again, once for each message.
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
    -- Not touched by edits: within a conversation messages are added one transaction after the other, so those that a
    -- snapshot does not see are the ones above some seq.
    added xid8 not null default pg_current_xact_id(),
    revision int not null default 0,
    edited timestamptz,
    deleted timestamptz,
    -- The administrator who deleted it for everyone; null: its sender.
    deleted_by uuid,
    reply_to bigint,
    -- Sent to a user who blocks the sender: for that user it is a tombstone from the beginning.
    is_silent boolean not null default false,
    -- What its sender's devices know it by, as long as they have not been told its seq.
    temp_id uuid,
    primary key (conversation_id, seq),
    constraint messages_numbers check (least(seq, reply_to) >= 1 and reply_to < seq and revision >= 0),
    constraint messages_deleted check (deleted is null or content = '' and nonce is null),
    constraint messages_deleted_by check (deleted_by is null or deleted is not null and deleted_by <> sender_id)
);

-- Those that do not count as unread, of which a conversation has few. A deletion leaves the place for good.
create index messages_uncounted on messages (conversation_id, seq) where deleted is not null or is_silent;

-- Messages that were edited, or deleted for everyone: when last, in xids and in time.
create table revisions (
    conversation_id uuid not null,
    seq bigint not null,
    changed xid8 not null default pg_current_xact_id(),
    at timestamptz not null default clock_timestamp(),
    -- Digests and times of the last edits, the newest at the end: an edit that is repeated is recognised by its digest.
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

-- Idempotency keys: what a retry of the same temp_id is answered with, and what it must be equal to.
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

-- A file in the object store: uploaded first, then part of a message.
create table attachments (
    id uuid primary key,
    user_id uuid not null references users,
    object_key text not null,
    file_name text check (length(file_name) between 1 and 255),
    size_bytes bigint not null check (size_bytes between 1 and 5368709120),
    mime_type text not null check (length(mime_type) between 1 and 127),
    thumbnail_key text,
    conversation_id uuid,
    seq bigint,
    created timestamptz not null default clock_timestamp(),
    -- When no message referred to the file any longer. From then on its objects are deleted, the row last, and no message
    -- can take it.
    orphaned timestamptz,
    constraint attachments_object unique (object_key),
    constraint attachments_message foreign key (conversation_id, seq) references messages,
    check ((conversation_id is null) = (seq is null)),
    constraint attachments_orphaned check (orphaned is null or conversation_id is null)
);
create index attachments_of_message on attachments (conversation_id, seq) where conversation_id is not null;
create index attachments_unused on attachments (created) where conversation_id is null;
create index attachments_thumbnail on attachments (thumbnail_key) where thumbnail_key is not null;

-- Lifetimes (decision 23): for each conversation, when to look for messages whose time has come, and what is still to be
-- done about those that are below its floor. Apart from conversations, and without a foreign key: sends do not touch it,
-- and what moves it takes no lock that a send would meet.
create table expiries (
    conversation_id uuid primary key,
    -- No message above the floor was created before. Sends make younger ones, so it holds until the next look.
    oldest timestamptz not null,
    -- That and the conversation's lifetime; null: it has none.
    due timestamptz,
    -- The devices that are connected have been told of the floor.
    is_announced boolean not null default true,
    -- What lies below the floor is to be archived before it is deleted.
    wants_archive boolean not null default false,
    -- What lies below the floor is deleted. Until then the floor stays.
    is_cleared boolean not null default true
);
create index expiries_oldest on expiries (oldest) where is_cleared;
create index expiries_due on expiries (due) where is_cleared and due is not null;
create index expiries_uncleared on expiries (conversation_id) where not is_cleared;

-- The history that cursors are about: a database that is restored from a copy gets another id.
create table history (
    id uuid not null default gen_random_uuid(),
    is_only boolean primary key default true check (is_only)
);
insert into history default values;

-- Work that may wait.

-- What must follow from a commit: each message's own commit appends a row. At the end of the debounce window it becomes,
-- in one transaction, a job for each recipient whose devices have not marked it delivered, and a row of read_windows if
-- others have it delivered and have not read it.
create table outbox (
    id bigint generated always as identity primary key,
    conversation_id uuid not null,
    seq bigint not null,
    created timestamptz not null default clock_timestamp()
);

-- Messages that were delivered to a device of a recipient and not read: at the end of the read window the notifiers of the
-- recipient's other devices are told.
create table read_windows (
    id bigint generated always as identity primary key,
    conversation_id uuid not null,
    seq bigint not null,
    -- When the message was.
    created timestamptz not null,
    -- The only recipient to be looked at; null: all of them.
    user_id uuid
);

-- A row lives from its enqueuer's commit until its job has ended. Redis only carries its number.
create table jobs (
    id bigint generated by default as identity primary key,
    task text not null check (task ~ '^[a-z][a-z0-9_]{0,62}$'),
    -- The arguments: ids and names of things, never content.
    payload jsonb not null default '{}' check (jsonb_typeof(payload) = 'object' and length(payload::text) <= 16384),
    -- Of jobs of one task with one key, one waits at a time.
    key text check (length(key) between 1 and 200),
    -- 0 comes before 1, 1 before 2.
    priority smallint not null default 1 check (priority between 0 and 2),
    created timestamptz not null default clock_timestamp(),
    -- When it is to be handed to Redis: for the first time, after a failed attempt, or for want of a sign of life.
    due timestamptz not null default clock_timestamp(),
    is_handed boolean not null default false,
    -- Raised by whoever enqueues under its key: a run that had begun before is followed by another.
    version int not null default 1,
    -- Runs that were begun.
    attempt int not null default 0,
    -- While it runs: until when it is its worker's, which says again and again that it is.
    claimed_until timestamptz,
    claimed_by text,
    -- An operator does not want it any more; whoever runs it stops.
    is_cancelled boolean not null default false
) with (fillfactor = 70);
create unique index jobs_key on jobs (task, key) where key is not null;
create index jobs_due on jobs (task, priority, due);

-- Jobs that were given up: an operator can see them and give them another try.
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
create index dead_jobs_task on dead_jobs (task, id);
create index dead_jobs_died on dead_jobs (died);

create table schedules (
    name text primary key check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    task text not null,
    payload jsonb not null default '{}',
    -- A cron expression, or 'every N s'.
    rule text not null,
    zone text not null default 'UTC',
    -- What becomes of ticks at which no worker was there: none of them, one job for all, or one job for each.
    missed text not null default 'once' check (missed in ('skip', 'once', 'all')),
    next timestamptz not null,
    last timestamptz,
    is_paused boolean not null default false
);

-- Tasks whose jobs wait until an operator says otherwise.
create table paused_tasks (
    task text primary key,
    since timestamptz not null default clock_timestamp()
);

-- How far a piece of work that goes on for ever has come.
create table progress (
    task text primary key,
    upto timestamptz not null
);
-- It is locked by whoever does that work, so it must be there.
insert into progress values ('forget_temp_ids', '-infinity');

-- How far a piece of work has come that goes through all there is, again and again: what it has looked at last, in the
-- order of its keys; empty at the beginning.
create table sweeps (
    task text primary key,
    position text not null,
    -- How often it was moved: who has looked on meanwhile is not to move it back.
    moves bigint not null
);

-- How users are told that something waits for them, and when not.

create table notifiers (
    id uuid primary key,
    user_id uuid not null references users,
    -- Of push services: the device that is told; when it is revoked, this goes too.
    device_id uuid references devices,
    kind text not null check (kind in ('webhook', 'email', 'web_push', 'apns', 'fcm')),
    -- Where to, and with which keys, by kind (store/notifiers.py).
    target jsonb not null check (jsonb_typeof(target) = 'object' and length(target::text) <= 4096),
    -- SHA-256 of the kind and of what tells the target apart: one row for a URL, the e-mail, a device at a push service.
    target_hash bytea not null check (length(target_hash) = 32),
    created timestamptz not null default clock_timestamp(),
    -- Since the last notice that it took: when and how often it failed, and how it did last.
    failing_since timestamptz,
    failures int not null default 0,
    last_error text check (length(last_error) <= 200),
    check ((failing_since is null) = (last_error is null)),
    constraint notifiers_target unique (user_id, target_hash)
) with (fillfactor = 70);
create index notifiers_device on notifiers (device_id) where device_id is not null;
create index notifiers_hash on notifiers (target_hash);

-- The last notice that a notifier of a user took. It says when the next one may follow, and whether the service still shows
-- this one.
create table notices (
    id bigint generated always as identity primary key,
    user_id uuid not null references users,
    -- Null: the deployment's webhook.
    notifier_id uuid references notifiers on delete cascade,
    -- The same notice once more is not sent again.
    name text not null,
    told timestamptz not null,
    -- Notices in a row between which nothing was delivered to, or read on, a device of the user.
    times int not null check (times >= 1),
    -- How many messages were said to wait; 0 once the notice is withdrawn.
    unread bigint not null,
    -- The sums of the user's marks (waiting_of) at that time: others are a sign of the user's devices.
    delivered bigint not null,
    read bigint not null,
    -- When to look next whether the notice has become pointless; null: it is withdrawn, or cannot be, or too old.
    look timestamptz,
    constraint notices_one unique nulls not distinct (user_id, notifier_id)
) with (fillfactor = 70);
create index notices_notifier on notices (notifier_id) where notifier_id is not null;
create index notices_look on notices (look) where look is not null;

-- When a user wants no notices, each day: from one minute of the day to another, perhaps over midnight.
create table quiet_hours (
    user_id uuid primary key references users,
    from_minute smallint not null check (from_minute between 0 and 1439),
    until_minute smallint not null check (until_minute between 0 and 1439),
    -- Of the IANA database.
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

-- E-mail addresses of users, whether they are theirs, and what the users want to be told by mail.
create table emails (
    user_id uuid primary key references users,
    -- Null: taken away. The row stays, and with it how many mails were asked for.
    address text check (octet_length(address) between 3 and 254),
    -- When the user showed that they read what is sent there.
    verified timestamptz check (verified is null or address is not null),
    wants_digest boolean not null default false,
    wants_device_notice boolean not null default true,
    -- The hour of the day, in a time zone of the IANA database, at which a digest is due.
    digest_hour smallint not null default 8 check (digest_hour between 0 and 23),
    zone text not null default 'UTC' check (length(zone) between 1 and 64),
    -- When the next one is; null if none is wanted.
    next_digest timestamptz check (next_digest is null or verified is not null and wants_digest),
    last_digest timestamptz,
    -- What the tokens of this address are made of, and what they are found by. Another address has others.
    seed uuid,
    verification_hash bytea check (length(verification_hash) = 32),
    verification_expires timestamptz,
    unsubscribe_hash bytea check (length(unsubscribe_hash) = 32),
    -- Mails to addresses that are not verified, asked for since.
    asked int not null default 0,
    asked_since timestamptz not null default clock_timestamp(),
    constraint emails_verification unique (verification_hash),
    constraint emails_unsubscribe unique (unsubscribe_hash),
    check (num_nulls(address, seed, verification_hash, verification_expires, unsubscribe_hash) in (0, 5))
);
create index emails_digest on emails (next_digest) where next_digest is not null;
-- Other users who ask for mail to an address.
create index emails_address on emails (address) where verified is null;

-- Figures.

-- Figures of one day, such as messages or daily active users; exact once the day is over. The row of a day's messages
-- moves with each look at the outbox: in place, if its page has room.
create table analytics (
    day date not null,
    metric text not null,
    value bigint not null,
    primary key (day, metric)
) with (fillfactor = 50);

-- A user had a live connection on a day (UTC). No foreign key: what was counted stays counted when a user goes.
create table activity (
    day date not null,
    user_id uuid not null,
    primary key (day, user_id)
);

-- From a message's commit to a device's delivered mark, sampled: how many samples of a day fell into which bucket
-- (store/latencies.py).
create table latencies (
    day date not null,
    bucket smallint not null check (bucket >= 0),
    count bigint not null check (count >= 0),
    primary key (day, bucket)
) with (fillfactor = 50);
