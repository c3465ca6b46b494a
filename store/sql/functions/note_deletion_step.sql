-- A step of the deletion of an account begins, which changes what devices of others hold. No cursor passes it before the
-- nodes are told (take_cursor_snapshot in sync.sql). Locks the row, so that no two workers delete one account.
create or replace function note_deletion_step(p_user uuid) returns account_deletions language sql as $$
    update account_deletions d
    set steps = d.steps + 1, untold_since = coalesce(d.untold_since, clock_timestamp())
    where d.user_id = p_user
    returning d.*;
$$;
