-- Sets the address of a user and the mails that the user wants. An address that is not verified gets a mail with a
-- token.
--
-- p_digest_hour, p_zone: when a daily digest is due.
-- p_lifetime_s: how long the token is good.
-- p_window_s, p_most: in this time at most p_most mails for this user.
-- p_mailbox, p_mailbox_window_s, p_most_to_mailbox: in this time at most p_most_to_mailbox mails to this mailbox, for all
--     users together, whichever spellings of its address they give, and although they remove or change them.
-- p_source: of the security event (note_security_event).
-- outcome:
--   'put'
--   'too_many': too many mails were asked for; wait_s seconds until the next is possible
--   'unknown': no such time zone
create or replace function put_email(
    p_user uuid, p_address text, p_wants_digest boolean, p_wants_device_notice boolean, p_digest_hour int, p_zone text,
    p_lifetime_s float8, p_window_s float8, p_most int, p_mailbox bytea, p_mailbox_window_s float8,
    p_most_to_mailbox int, p_source jsonb,
    out outcome text, out wait_s float8
) language plpgsql as $$
declare
    old emails;
    is_other boolean;
    due timestamptz;
    stamp timestamptz := clock_timestamp();
    oldest timestamptz := stamp - make_interval(secs => p_window_s);
    mailbox mailboxes;
    oldest_of_mailbox timestamptz := stamp - make_interval(secs => p_mailbox_window_s);
begin
    begin
        due := digest_after(p_digest_hour, p_zone, stamp);
    exception when invalid_parameter_value then
        outcome := 'unknown';
        return;
    end;
    insert into emails (user_id) values (p_user) on conflict do nothing;
    select * into old from emails e where e.user_id = p_user for update;
    is_other := old.address is distinct from p_address;
    if is_other then
        old.address := p_address;
        old.verified := null;
        old.last_digest := null;
        old.seed := gen_random_uuid();
        perform void_resets(p_user);
    end if;
    if old.verified is null then
        if old.asked_since < oldest then
            old.asked := 0;
            old.asked_since := stamp;
        end if;
        insert into mailboxes (mailbox_hash) values (p_mailbox) on conflict do nothing;
        select * into mailbox from mailboxes m where m.mailbox_hash = p_mailbox for update;
        if mailbox.asked_since < oldest_of_mailbox then
            mailbox.asked := 0;
            mailbox.asked_since := stamp;
        end if;
        if old.asked >= p_most or mailbox.asked >= p_most_to_mailbox then
            outcome := 'too_many';
            wait_s := greatest(
                case when old.asked >= p_most then extract(epoch from old.asked_since - oldest) end,
                case when mailbox.asked >= p_most_to_mailbox then
                    extract(epoch from mailbox.asked_since - oldest_of_mailbox) end);
            return;
        end if;
        update mailboxes m set asked = mailbox.asked + 1, asked_since = mailbox.asked_since
        where m.mailbox_hash = p_mailbox;
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
    if is_other or old.wants_device_notice <> p_wants_device_notice then
        perform note_security_event(
            'email_set', p_user, p_source,
            jsonb_build_object('is_other_address', is_other, 'wants_device_notice', p_wants_device_notice));
    end if;
    outcome := 'put';
end $$;
