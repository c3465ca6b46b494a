-- Sets the address of a user and the mails that the user wants. An address that is not verified gets a mail with a
-- token.
--
-- p_digest_hour, p_zone: when a daily digest is due.
-- p_lifetime_s: how long the token is good.
-- p_window_s, p_most: in this time at most p_most mails for this user.
-- p_mailbox, p_mailbox_window_s, p_most_to_mailbox: in this time at most p_most_to_mailbox mails to this mailbox, for all
--     users together, whichever spellings of its address they give, and although they remove or change them. The mails
--     are counted when they go out (take_verification).
-- p_margin_s: if the mails to the mailbox are used up, and a token that went to the address is good for so much longer, no
--     mail follows: that token verifies the address of any user who has it.
-- p_source: of the security event (note_security_event).
-- outcome:
--   'put': sends_mail says whether a mail follows
--   'too_many': too many mails were asked for; wait_s seconds until the next is possible
--   'unknown': no such time zone
create or replace function put_email(
    p_user uuid, p_address text, p_wants_digest boolean, p_wants_device_notice boolean, p_digest_hour int, p_zone text,
    p_lifetime_s float8, p_window_s float8, p_most int, p_mailbox bytea, p_mailbox_window_s float8,
    p_most_to_mailbox int, p_margin_s float8, p_source jsonb,
    out outcome text, out wait_s float8, out sends_mail boolean
) language plpgsql as $$
declare
    old emails;
    is_other boolean;
    due timestamptz;
    stamp timestamptz := clock_timestamp();
    oldest timestamptz := stamp - make_interval(secs => p_window_s);
    used_up_since timestamptz;
begin
    begin
        due := digest_after(p_digest_hour, p_zone, stamp);
    exception when invalid_parameter_value then
        outcome := 'unknown';
        return;
    end;
    insert into emails (user_id) values (p_user) on conflict do nothing;
    select * into old from emails e where e.user_id = p_user for update;
    sends_mail := false;
    is_other := old.address is distinct from p_address;
    if is_other then
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
        used_up_since := (
            select m.sent_since from mailboxes m
            where m.mailbox_hash = p_mailbox and m.sent >= p_most_to_mailbox
              and m.sent_since > stamp - make_interval(secs => p_mailbox_window_s)
        );
        sends_mail := used_up_since is null or not has_sent_verification(p_address, p_margin_s);
        if sends_mail and sha256(convert_to(p_address, 'UTF8')) = p_mailbox then
            -- The plain spelling has a mail beyond the others.
            used_up_since := null;
        end if;
        if sends_mail and (old.asked >= p_most or used_up_since is not null) then
            outcome := 'too_many';
            wait_s := greatest(
                case when old.asked >= p_most then extract(epoch from old.asked_since - oldest) end,
                extract(epoch from used_up_since + make_interval(secs => p_mailbox_window_s) - stamp));
            return;
        end if;
        old.verification_expires := stamp + make_interval(secs => p_lifetime_s);
        if sends_mail then
            old.asked := old.asked + 1;
            perform enqueue('verify_email', jsonb_build_object('user', p_user), p_key => p_user::text);
        end if;
    end if;
    if is_other then
        perform void_resets(p_user);
    end if;
    update emails e
    set address = old.address, verified = old.verified, wants_digest = p_wants_digest,
        wants_device_notice = p_wants_device_notice, digest_hour = p_digest_hour, zone = p_zone,
        next_digest = case when old.verified is not null and p_wants_digest then due end,
        last_digest = old.last_digest, seed = old.seed, mailbox_hash = p_mailbox,
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
