-- Receipts apart from other changes, what is told of who has left, floors, settings of users and of groups.
-- Columns named changed, marked and members_changed hold a transaction, as in migration 2; null is from before this one.

alter table users
    -- How often the profile was changed: of two profiles the greater revision counts.
    add column profile_revision int not null default 0,
    -- Whether others see how far this user has read, and when the user is or was online.
    add column gives_receipts boolean not null default true,
    add column shows_presence boolean not null default true;

alter table conversations
    -- What lies at or below it is gone for everyone.
    add column floor_seq bigint not null default 0,
    -- Who takes part, or what the group is like: written with members_version.
    add column members_changed xid8;
alter table conversations alter column members_changed set default pg_current_xact_id();
alter table conversations
    add constraint conversations_floor check (floor_seq between 0 and last_seq) not valid;

alter table participants
    -- Up-to marks move far more often than anything else of a participant, and concern far fewer.
    add column marked xid8;
alter table participants alter column marked set default pg_current_xact_id();

-- Another version of a conversation's list of members, or of its settings; the list.
create or replace function note_members(p_conversation uuid) returns uuid[] language sql as $$
    update conversations
    set members_version = members_version + 1, changed = pg_current_xact_id(), members_changed = pg_current_xact_id()
    where id = p_conversation;
    select array_agg(p.user_id) from participants p where p.conversation_id = p_conversation;
$$;

-- Whether a participant shows nobody how far the messages of the other one have come: in a direct conversation with
-- somebody whom they block.
create function is_blocker(c conversations, p_user uuid) returns boolean language sql immutable parallel safe as $$
    select coalesce(c.low_blocks and p_user = c.direct_low or c.high_blocks and p_user = c.direct_high, false)
$$;

drop function add_participant(uuid, uuid, uuid, int);
create function add_participant(
    p_user uuid, p_conversation uuid, p_other uuid, p_limit int,
    out outcome text, out members uuid[], out members_version bigint
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when not may_change(p_conversation, p_user) then 'forbidden'
        when exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'again'
        when not exists (select from users u where u.id = p_other) then 'unknown'
        when (select count(*) from participants p where p.conversation_id = p_conversation) >= p_limit then 'full'
        else 'changed' end;
    if outcome = 'changed' then
        -- What was there before counts as read: who comes, or comes back, holds up no status of what was sent before,
        -- and marks never go back.
        insert into participants (conversation_id, user_id, joined_seq, delivered_seq, read_seq)
        values (p_conversation, p_other, case when conversation.joiners_see_all then 0 else conversation.last_seq end,
                conversation.last_seq, conversation.last_seq);
        delete from departures d where d.user_id = p_other and d.conversation_id = p_conversation;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;

drop function remove_participant(uuid, uuid, uuid);
create function remove_participant(
    p_user uuid, p_conversation uuid, p_other uuid,
    out outcome text, out members uuid[], out members_version bigint
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when conversation.id is null then 'stranger'
        when p_user <> p_other and not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        else 'changed' end;
    if outcome = 'changed' then
        with gone as (
            delete from participants p where p.conversation_id = p_conversation and p.user_id = p_other
            returning p.joined_seq
        )
        insert into departures (user_id, conversation_id, joined_seq, left_seq, removed_by)
        select p_other, p_conversation, least(g.joined_seq, conversation.last_seq), conversation.last_seq,
               nullif(p_user, p_other)
        from gone g;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;

drop function set_role(uuid, uuid, uuid, text);
create function set_role(
    p_user uuid, p_conversation uuid, p_other uuid, p_role text,
    out outcome text, out members uuid[], out members_version bigint
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    outcome := case
        when not found or not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when not may_change(p_conversation, p_user) then 'forbidden'
        when not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_other) then 'unknown'
        when exists (
            select from participants p
            where p.conversation_id = p_conversation and p.user_id = p_other and p.role = p_role) then 'again'
        else 'changed' end;
    if outcome = 'changed' then
        update participants p set role = p_role, changed = pg_current_xact_id()
        where p.conversation_id = p_conversation and p.user_id = p_other;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;

-- A group has another name, or shows those who join later another part of what was said before; null leaves as it is.
-- outcome: 'changed', 'again', or why not: 'stranger', 'forbidden'.
create function set_group(
    p_user uuid, p_conversation uuid, p_name text, p_joiners_see_all boolean,
    out outcome text, out members uuid[], out members_version bigint,
    out name text, out floor_seq bigint, out joiners_see_all boolean
) language plpgsql as $$
declare
    conversation conversations;
begin
    select * into conversation from conversations c where c.id = p_conversation and c.kind = 'group' for no key update;
    name := coalesce(p_name, conversation.name);
    joiners_see_all := coalesce(p_joiners_see_all, conversation.joiners_see_all);
    floor_seq := conversation.floor_seq;
    outcome := case
        when not found or not exists (
            select from participants p where p.conversation_id = p_conversation and p.user_id = p_user) then 'stranger'
        when not may_change(p_conversation, p_user) then 'forbidden'
        when (name, joiners_see_all) = (conversation.name, conversation.joiners_see_all) then 'again'
        else 'changed' end;
    if outcome = 'changed' then
        update conversations c set name = set_group.name, joiners_see_all = set_group.joiners_see_all
        where c.id = p_conversation;
        members := note_members(p_conversation);
        members_version := conversation.members_version + 1;
    end if;
end $$;

-- What others see of a user changes; null leaves as it is, a display name of '' takes it away. Lists of participants show
-- the new name from now on: where the user takes part they are other ones.
create function set_profile(
    p_user uuid, p_display_name text, p_gives_receipts boolean, p_shows_presence boolean,
    out display_name text, out revision int, out gives_receipts boolean, out shows_presence boolean,
    out is_renamed boolean, out is_shown_otherwise boolean
) language plpgsql as $$
declare
    old users;
begin
    select * into old from users u where u.id = p_user for no key update;
    display_name := case when p_display_name is null then old.display_name else nullif(p_display_name, '') end;
    gives_receipts := coalesce(p_gives_receipts, old.gives_receipts);
    shows_presence := coalesce(p_shows_presence, old.shows_presence);
    is_renamed := display_name is distinct from old.display_name;
    is_shown_otherwise := shows_presence <> old.shows_presence;
    revision := old.profile_revision + is_renamed::int;
    update users u
    set display_name = set_profile.display_name, gives_receipts = set_profile.gives_receipts,
        shows_presence = set_profile.shows_presence, profile_revision = set_profile.revision
    where u.id = p_user;
    if is_renamed then
        -- In key order, as marks and sends lock them.
        perform from participants p where p.user_id = p_user order by p.conversation_id for no key update;
        update participants p set changed = pg_current_xact_id() where p.user_id = p_user;
    end if;
end $$;

-- Other content for a message.
--
-- outcome: 'edited', 'again' (a retry of the same edit), or why not: 'stranger', 'unknown', 'foreign' (another's),
-- 'deleted', 'conflict' (it has another revision). members: whose devices are to be told; hidden_for: who blocks the sender,
-- and is shown a tombstone from now on: nothing that is written while one is blocked comes through.
drop function edit_message(uuid, uuid, bigint, bigint, text, bytea, bytea, bytea);
create function edit_message(
    p_user uuid, p_conversation uuid, p_seq bigint, p_revision bigint,
    p_content_type text, p_content bytea, p_nonce bytea, p_ephemeral_public_key bytea,
    out outcome text, out id uuid, out created bigint, out revision bigint, out edited bigint, out members uuid[],
    out reply_to bigint, out hidden_for uuid
) language plpgsql as $$
declare
    conversation conversations;
    floor bigint;
    old messages;
    stamp timestamptz;
begin
    select * into conversation from conversations c where c.id = p_conversation for no key update;
    select p.joined_seq into floor from participants p where p.conversation_id = p_conversation and p.user_id = p_user;
    if not found then
        outcome := 'stranger';
        return;
    end if;
    select m.* into old from messages m where m.conversation_id = p_conversation and m.seq = p_seq and m.seq > floor;
    outcome := case
        when not found then 'unknown'
        when old.sender_id <> p_user then 'foreign'
        when old.deleted is not null then 'deleted'
        when exists (select from hidden h
                     where h.user_id = p_user and h.conversation_id = p_conversation and h.seq = p_seq) then 'deleted'
        when old.revision = p_revision then 'edited'
        when old.revision = p_revision + 1
             and (old.content_type, old.content) = (p_content_type, p_content)
             and old.nonce is not distinct from p_nonce
             and old.ephemeral_public_key is not distinct from p_ephemeral_public_key then 'again'
        else 'conflict' end;
    stamp := old.edited;
    if outcome = 'edited' then
        stamp := greatest(clock_timestamp(), old.created, old.edited);
        update messages m
        set content_type = p_content_type, content = p_content, nonce = p_nonce,
            ephemeral_public_key = p_ephemeral_public_key, revision = old.revision + 1, edited = stamp
        where m.conversation_id = p_conversation and m.seq = p_seq;
        perform note_revision(p_conversation, p_seq);
        insert into hidden (user_id, conversation_id, seq)
        select p.user_id, p_conversation, p_seq from participants p
        where p.conversation_id = p_conversation and p.user_id <> p_user and not old.is_silent
          and is_blocker(conversation, p.user_id)
        on conflict do nothing
        returning hidden.user_id into hidden_for;
        members := case when old.is_silent then array[p_user] else (
            select array_agg(p.user_id) from participants p
            where p.conversation_id = p_conversation and p.joined_seq < p_seq and not exists (
                select from hidden h
                where h.user_id = p.user_id and h.conversation_id = p_conversation and h.seq = p_seq
            )
        ) end;
    end if;
    id := old.id;
    reply_to := old.reply_to;
    created := (extract(epoch from old.created) * 1000000)::bigint;
    revision := p_revision + 1;
    edited := (extract(epoch from stamp) * 1000000)::bigint;
end $$;

-- Whether a snapshot does not see what a transaction wrote; what is older than such numbers, everybody has seen.
create function unseen(p_changed xid8, p_snapshot pg_snapshot) returns boolean language sql immutable parallel safe as $$
    select coalesce(not pg_visible_in_snapshot(p_changed, p_snapshot), false)
$$;
