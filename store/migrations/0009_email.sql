-- E-mail: addresses of users, whether they are theirs, and what they want to be told by mail.

-- What makes the tokens in mails unguessable; see mail_token().
create table mail_key (
    is_only boolean primary key default true check (is_only),
    key bytea not null check (length(key) = 32)
);
insert into mail_key (key)
select sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

create table emails (
    user_id uuid primary key references users,
    -- Null: taken away. The row stays, and with it how many mails were asked for.
    address text check (octet_length(address) between 3 and 254),
    -- When somebody showed that they read what is sent there.
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
-- Who else asks for mail to an address.
create index emails_address on emails (address) where verified is null;

-- A token for a mail, of 256 bits. It is made again whenever the mail is written again, so that a mail that was sent twice
-- has one link, and the links of mails from years ago still work; it is kept nowhere, only its hash is, to find it by.
create function mail_token(p_seed uuid, p_purpose text) returns bytea language sql stable as $$
    select sha256(k.key || uuid_send(p_seed) || convert_to(p_purpose, 'UTF8')) from mail_key k
$$;

-- The first time after p_after at which it is that hour there. An hour that a change of the clocks leaves out comes as
-- soon as it would have ended; one that it repeats comes once.
create function digest_after(p_hour int, p_zone text, p_after timestamptz) returns timestamptz language sql stable as $$
    select min(t) from generate_series(0, 1) d
    cross join lateral (
        select (date_trunc('day', p_after at time zone p_zone) + make_interval(days => d, hours => p_hour))
               at time zone p_zone
    ) at(t)
    where t > p_after
$$;

-- A user's unread messages, as their list of conversations counts them, where it is not muted.
create function unread_of(p_user uuid, out unread bigint, out conversations bigint) language sql stable as $$
    select coalesce(sum(n), 0)::bigint, count(*) from participants me
    -- The limit has each looked up: where few conversations are stored, they would be read from end to end.
    cross join lateral (select * from conversations c where c.id = me.conversation_id limit 1) c
    cross join lateral (
        select c.last_seq - greatest(me.read_seq, me.private_read_seq, me.joined_seq, c.floor_seq) as n
    ) counted
    where me.user_id = p_user and n > 0 and coalesce(me.muted_until, '-infinity') < clock_timestamp()
$$;

-- A user gives an address, or says anew what is wanted there. To one that is not verified a mail is to be sent.
--
-- outcome: 'put', or why not: 'too_many' mails were asked for (by this user, or to this address by others; wait_s: until
-- when), 'unknown' time zone.
create function put_email(
    p_user uuid, p_address text, p_wants_digest boolean, p_wants_device_notice boolean, p_digest_hour int, p_zone text,
    p_lifetime_s float8, p_window_s float8, p_most int, p_most_others int,
    out outcome text, out wait_s float8
) language plpgsql as $$
declare
    old emails;
    due timestamptz;
    stamp timestamptz := clock_timestamp();
    oldest timestamptz := stamp - make_interval(secs => p_window_s);
begin
    begin
        due := digest_after(p_digest_hour, p_zone, stamp);
    exception when invalid_parameter_value then
        outcome := 'unknown';
        return;
    end;
    insert into emails (user_id) values (p_user) on conflict do nothing;
    select * into old from emails e where e.user_id = p_user for update;
    if old.address is distinct from p_address then
        old.address := p_address;
        old.verified := null;
        old.last_digest := null;
        old.seed := gen_random_uuid();
    end if;
    if old.verified is null then
        if old.asked_since < oldest then
            old.asked := 0;
            old.asked_since := stamp;
        end if;
        if old.asked >= p_most or p_most_others <= (
            select count(*) from emails e
            where e.address = p_address and e.verified is null and e.user_id <> p_user and e.asked_since > oldest
        ) then
            outcome := 'too_many';
            wait_s := extract(epoch from old.asked_since - oldest);
            return;
        end if;
        old.asked := old.asked + 1;
        old.verification_expires := stamp + make_interval(secs => p_lifetime_s);
        perform enqueue('verify_email', jsonb_build_object('user', p_user), p_key => p_user::text);
    end if;
    update emails e
    set address = old.address, verified = old.verified, wants_digest = p_wants_digest,
        wants_device_notice = p_wants_device_notice, digest_hour = p_digest_hour, zone = p_zone,
        next_digest = case when old.verified is not null and p_wants_digest then due end,
        last_digest = old.last_digest, seed = old.seed,
        verification_hash = sha256(mail_token(old.seed, 'verify')),
        verification_expires = old.verification_expires,
        unsubscribe_hash = sha256(mail_token(old.seed, 'unsubscribe')), asked = old.asked, asked_since = old.asked_since
    where e.user_id = p_user;
    outcome := 'put';
end $$;

-- Somebody has a token that was sent to an address. Once is as good as twice.
--
-- outcome: 'verified', or why not: 'expired', 'unknown'.
create function verify_email(p_hash bytea, out outcome text) language plpgsql as $$
declare
    old emails;
begin
    select * into old from emails e where e.verification_hash = p_hash for update;
    outcome := case
        when not found then 'unknown'
        when old.verified is null and old.verification_expires <= clock_timestamp() then 'expired'
        else 'verified' end;
    if outcome = 'verified' and old.verified is null then
        update emails e
        set verified = clock_timestamp(),
            next_digest = case when e.wants_digest then digest_after(e.digest_hour, e.zone, clock_timestamp()) end
        where e.user_id = old.user_id;
    end if;
end $$;
