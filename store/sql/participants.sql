-- name: add
-- See add_participant() in the migrations.
select outcome, members from add_participant(%(user)s::uuid, %(conversation)s::uuid, %(other)s::uuid, %(limit)s);

-- name: remove
-- See remove_participant() in the migrations.
select outcome, members from remove_participant(%(user)s::uuid, %(conversation)s::uuid, %(other)s::uuid);

-- name: set_role
-- See set_role() in the migrations.
select outcome, members from set_role(%(user)s::uuid, %(conversation)s::uuid, %(other)s::uuid, %(role)s);

-- name: mute
-- No offline notices of a conversation until then. No row: the user does not take part in it.
update participants set muted_until = case when %(seconds)s > 0 then now() + make_interval(secs => %(seconds)s) end,
                        changed = pg_current_xact_id()
where conversation_id = %(conversation)s::uuid and user_id = %(user)s::uuid
returning user_id;
