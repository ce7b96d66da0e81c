-- Nothing differs any more: writers are kept out, and the drain has committed. Tried again if a key is left.
DO $do$
BEGIN
    IF EXISTS (SELECT FROM {log}) THEN
        RAISE EXCEPTION 'keys are left in the key log' USING ERRCODE = 'lock_not_available',
            HINT = 'Two rows of the partitioned table may share a primary key, of which the original can hold one: 03 Verify counts names them.';
    END IF;
END $do$
