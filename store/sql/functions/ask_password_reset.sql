-- A user who does not know the password asks for a mail with a link that sets another one. Of the accounts that are found
-- those with a verified address and a password get one. If none is found, the same is written for nobody: neither the
-- answer nor its time tells whether there is an account.
--
-- p_username, p_address: one of them; the other is null.
-- p_lifetime_s: how long the link is good.
-- p_window_s, p_most: the most mails to one user in this time.
-- p_accounts: the most accounts with one address.
create or replace function ask_password_reset(
    p_username text, p_address text, p_lifetime_s float8, p_window_s float8, p_most int, p_accounts int
) returns void language plpgsql as $$
declare
    stamp timestamptz := clock_timestamp();
    owners uuid[];
    owner uuid;
    reset uuid;
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
        where p_most > (
            select count(*) from password_resets r
            where r.user_id = o and r.asked > stamp - make_interval(secs => p_window_s)
        )
    );
    if owners = '{}' then
        owners := array[null::uuid];
    end if;
    foreach owner in array owners loop
        reset := gen_random_uuid();
        insert into password_resets (id, user_id, token_hash, expires)
        values (reset, owner, case when owner is not null then sha256(mail_token(reset, 'reset')) end,
                stamp + make_interval(secs => p_lifetime_s));
        perform enqueue('password_reset', jsonb_build_object('reset', reset, 'user', owner), p_key => reset::text);
    end loop;
end $$;
