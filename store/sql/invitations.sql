-- name: add
-- Adds an invitation.
with made as (
    insert into invitations (id, code_hash, expires, most_uses)
    values (%(invitation)s::uuid, %(code_hash)s, clock_timestamp() + make_interval(secs => %(lifetime_s)s), %(uses)s)
    returning id, (extract(epoch from expires) * 1000000)::bigint as expires
), noted as (
    select note_security_event(
        'invitation_made', null, %(source)s::jsonb,
        jsonb_build_object('invitation', made.id, 'uses', %(uses)s::int::text))
    from made
)
select made.expires from made left join noted on true;

-- name: check
-- Whether a user can register with the invitation. No row: there is none with this code, or it has expired or has no use
-- left.
select 1 from invitations i where i.code_hash = %(code_hash)s and i.uses < i.most_uses and i.expires > clock_timestamp();

-- name: open
-- Those with which a user can register, the first to expire first.
select i.id, (extract(epoch from i.created) * 1000000)::bigint, (extract(epoch from i.expires) * 1000000)::bigint,
       i.most_uses, i.uses
from invitations i where i.uses < i.most_uses and i.expires > clock_timestamp()
order by i.expires limit %(limit)s;

-- name: revoke
-- Removes an invitation. No row: there is none with this id.
with gone as (
    delete from invitations i where i.id = %(invitation)s::uuid returning i.id
), noted as (
    select note_security_event(
        'invitation_revoked', null, %(source)s::jsonb, jsonb_build_object('invitation', gone.id))
    from gone
)
select gone.id from gone left join noted on true;

-- name: forget
-- Deletes those that have expired, a batch at a time. One row: how many.
with old as (
    select i.id from invitations i where i.expires < now() order by i.expires limit %(limit)s for update skip locked
), gone as (
    delete from invitations i where i.id = any(array(select o.id from old o)) returning 1
)
select count(*) from gone;
