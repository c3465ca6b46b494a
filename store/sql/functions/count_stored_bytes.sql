-- Keeps the stored bytes of each user, and of the deployment, equal to the sums of the sizes of their rows, whichever
-- statement adds or removes rows, and the total of complete files, too. So they are never below 0, and no caller counts.
-- The functions that complete a file, or change its size, count that themselves.
create or replace function count_stored_bytes() returns trigger language plpgsql as $$
declare
    bytes bigint;
    -- Complete ones, and their bytes.
    files bigint;
    file_bytes bigint;
begin
    select sum(c.size_bytes), count(c.completed), coalesce(sum(c.size_bytes) filter (where c.completed is not null), 0)
    into bytes, files, file_bytes from changed c;
    if bytes is null then
        return null;
    end if;
    -- In this order everywhere: attachments, usage by user, total, figures.
    if tg_op = 'INSERT' then
        insert into attachment_usage as u (user_id, stored_bytes)
        select c.user_id, sum(c.size_bytes) from changed c group by c.user_id order by c.user_id
        on conflict (user_id) do update set stored_bytes = u.stored_bytes + excluded.stored_bytes;
    else
        bytes := -bytes;
        files := -files;
        file_bytes := -file_bytes;
        perform from attachment_usage u where u.user_id = any(array(select c.user_id from changed c))
        order by u.user_id for no key update;
        -- A deleted account has no row.
        update attachment_usage u
        set stored_bytes = u.stored_bytes - (select sum(c.size_bytes) from changed c where c.user_id = u.user_id)
        where u.user_id = any(array(select c.user_id from changed c));
    end if;
    update attachment_total t
    set stored_bytes = t.stored_bytes + bytes,
        complete_files = t.complete_files + files,
        complete_bytes = t.complete_bytes + file_bytes;
    return null;
end $$;

create or replace trigger attachments_added after insert on attachments referencing new table as changed
for each statement execute function count_stored_bytes();

create or replace trigger attachments_removed after delete on attachments referencing old table as changed
for each statement execute function count_stored_bytes();
