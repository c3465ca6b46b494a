-- name: set_suspended
-- See set_suspended() in functions/.
select set_suspended(%(user)s::uuid, %(is_suspended)s, %(source)s::jsonb);

-- name: is_suspended
-- A row if the user is suspended.
select 1 from users u where u.id = %(user)s::uuid and u.suspended is not null;
