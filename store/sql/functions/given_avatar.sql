-- The avatar after a change that names one: p_given, or none if that is the nil UUID, or the former one if it is null.
create or replace function given_avatar(p_given uuid, p_former uuid) returns uuid language sql immutable as $$
    select case when p_given is null then p_former else nullif(p_given, '00000000-0000-0000-0000-000000000000') end
$$;
