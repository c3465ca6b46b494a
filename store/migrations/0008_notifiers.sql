-- How users want to be told that something waits for them, and when not.

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
    -- The notice that it took last: once more, it is not sent again.
    notice text,
    -- Since the last that it took: when and how often it failed, and how it did last.
    failing_since timestamptz,
    failures int not null default 0,
    last_error text check (length(last_error) <= 200),
    check ((failing_since is null) = (last_error is null)),
    constraint notifiers_target unique (user_id, target_hash)
) with (fillfactor = 70);
create index notifiers_device on notifiers (device_id) where device_id is not null;
create index notifiers_hash on notifiers (target_hash);

-- When a user wants no notices, each day: from one minute of the day to another, perhaps over midnight.
create table quiet_hours (
    user_id uuid primary key references users,
    from_minute smallint not null check (from_minute between 0 and 1439),
    until_minute smallint not null check (until_minute between 0 and 1439),
    -- Of the IANA database.
    zone text not null check (length(zone) between 1 and 64),
    check (from_minute <> until_minute)
);

-- A user wants to be told in this way, too. Under the same hash it is the same notifier, with a new target. A device at a
-- push service is its last user's: others lose it.
-- outcome: 'added', 'again', or why not: 'full', 'revoked' (the device).
create function add_notifier(
    p_id uuid, p_user uuid, p_device uuid, p_kind text, p_target jsonb, p_target_hash bytea, p_limit int,
    out outcome text, out id uuid
) language plpgsql as $$
declare
    former notifiers;
begin
    -- Those of one user come one after the other: the limit counts what the others have committed.
    perform from users u where u.id = p_user for no key update;
    if p_device is not null then
        perform from devices d where d.id = p_device and d.user_id = p_user and d.revoked is null for share;
        if not found then
            outcome := 'revoked';
            return;
        end if;
        delete from notifiers n where n.target_hash = p_target_hash and n.user_id <> p_user;
    end if;
    select * into former from notifiers n where n.user_id = p_user and n.target_hash = p_target_hash;
    if found then
        outcome := 'again';
        id := former.id;
        update notifiers n
        set target = p_target, device_id = p_device, failing_since = null, failures = 0, last_error = null
        where n.id = former.id;
        return;
    end if;
    if (select count(*) from notifiers n where n.user_id = p_user) >= p_limit then
        outcome := 'full';
        return;
    end if;
    outcome := 'added';
    id := p_id;
    insert into notifiers (id, user_id, device_id, kind, target, target_hash)
    values (p_id, p_user, p_device, p_kind, p_target, p_target_hash);
end $$;

-- Notices for a user that are put off are due at once: what they wait for may be over.
create function hurry_notices(p_user uuid) returns void language sql as $$
    with waiting as (
        select j.id from jobs j
        where (j.task = 'offline_notice' and j.key = p_user::text
               or j.task = 'notify' and j.key = any(array(
                   select n.id::text from notifiers n where n.user_id = p_user
                   union all select 'deployment-' || p_user)))
          and not j.is_handed and j.claimed_until is null and j.due > clock_timestamp()
        order by j.id for update
    )
    update jobs j set due = clock_timestamp() from waiting where j.id = waiting.id
$$;
