-- The mail that asks a user to verify the address, just before it goes out: it is counted for its mailbox, and its token is
-- noted. The job that sends it may run again: the same mail counts once.
--
-- p_window_s, p_most: in this time at most p_most mails to one mailbox, for all users together, whichever spellings of its
--     address they give. Beyond them a mail goes to the mailbox's plain spelling, unless a token that went there is good
--     for p_margin_s longer: its owner can verify the address by that one.
-- address, token: null: no mail is to go out.
create or replace function take_verification(
    p_user uuid, p_window_s float8, p_most int, p_margin_s float8, out address text, out token bytea
) language plpgsql as $$
declare
    mine emails;
    of_mailbox mailboxes;
    stamp timestamptz := clock_timestamp();
    own_hash bytea;
begin
    select e.* into mine from emails e join users u on u.id = e.user_id and not u.is_closed
    where e.user_id = p_user and e.verified is null and e.verification_expires > stamp;
    if not found then
        return;
    end if;
    own_hash := sha256(convert_to(mine.address, 'UTF8'));
    if not exists (
        select from sent_verifications s
        where s.token_hash = mine.verification_hash and s.expires = mine.verification_expires
    ) then
        insert into mailboxes (mailbox_hash) values (coalesce(mine.mailbox_hash, own_hash)) on conflict do nothing;
        select * into of_mailbox from mailboxes m
        where m.mailbox_hash = coalesce(mine.mailbox_hash, own_hash) for update;
        if of_mailbox.sent_since < stamp - make_interval(secs => p_window_s) then
            of_mailbox.sent := 0;
            of_mailbox.sent_since := stamp;
        end if;
        if of_mailbox.sent >= p_most
            and (own_hash <> of_mailbox.mailbox_hash or has_sent_verification(mine.address, p_margin_s))
        then
            return;
        end if;
        update mailboxes m set sent = of_mailbox.sent + 1, sent_since = of_mailbox.sent_since
        where m.mailbox_hash = of_mailbox.mailbox_hash;
        insert into sent_verifications (token_hash, address_hash, expires)
        values (mine.verification_hash, own_hash, mine.verification_expires)
        on conflict (token_hash) do update set expires = excluded.expires;
    end if;
    address := mine.address;
    token := mail_token(mine.seed, 'verify');
end $$;
