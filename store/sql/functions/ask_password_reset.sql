-- A user who does not know the password asks for a mail with a link that sets another one. An account that is found
-- gets one if it has a verified address and a password. If none is found, the same is written for nobody: neither the
-- answer nor its time tells whether there is an account.
--
-- Anybody may ask. So no mail follows while the link of an earlier one is good for p_margin_s longer, and from the third
-- mail in p_window_s on each link is good for twice as long as the one before: at most 7 mails in a day, and at all times
-- the user has a good link, or gets one for asking. A device of the user, which shows its token, has p_most mails of its
-- own.
--
-- p_username, p_address: one of them; the other is null.
-- p_known: the user whose device asks; null: the request shows no token of a device.
-- p_lifetime_s: how long a link is good, at least.
-- p_accounts: the most accounts with one address.
create or replace function ask_password_reset(
    p_username text, p_address text, p_known uuid, p_lifetime_s float8, p_margin_s float8, p_window_s float8, p_most int,
    p_accounts int
) returns void language plpgsql as $$
declare
    stamp timestamptz := clock_timestamp();
    since timestamptz := stamp - make_interval(secs => p_window_s);
    owners uuid[];
    owner uuid;
    reset uuid;
    mails int;
begin
    owners := array(
        select u.id from users u join emails e on e.user_id = u.id
        where u.username = p_username and u.deleted is null and e.verified is not null and u.password_hash is not null
        union
        (select e.user_id from emails e join users u on u.id = e.user_id
         where e.address = p_address and e.verified is not null and u.password_hash is not null limit p_accounts)
    );
    -- One after the other for each user, so that each counts the ones before.
    perform from emails e where e.user_id = any(owners) order by e.user_id for no key update;
    owners := array(
        select o from unnest(owners) o
        where case when o = p_known
            then p_most > (
                select count(*) from password_resets r where r.user_id = o and r.is_own and r.asked > since)
            else not exists (
                select from password_resets r
                where r.user_id = o and r.asked > since and not r.is_own and r.token_hash is not null
                  and r.expires > stamp + make_interval(secs => p_margin_s)) end
    );
    if owners = '{}' then
        owners := array[null::uuid];
    end if;
    foreach owner in array owners loop
        mails := (
            select count(*) from password_resets r where r.user_id = owner and not r.is_own and r.asked > since);
        reset := gen_random_uuid();
        insert into password_resets (id, user_id, token_hash, is_own, expires)
        values (reset, owner, case when owner is not null then sha256(mail_token(reset, 'reset')) end,
                coalesce(owner = p_known, false),
                stamp + make_interval(secs => case when owner = p_known then p_lifetime_s
                    else least(p_lifetime_s * 2 ^ greatest(0, mails - 2), p_window_s) end));
        perform enqueue('password_reset', jsonb_build_object('reset', reset, 'user', owner), p_key => reset::text);
    end loop;
end $$;
