-- name: begin
-- See begin_history() in functions/.
select changed_table, changed_rows from begin_history();

-- name: current
-- The id of this history; see history_id() in functions/.
select history_id();
