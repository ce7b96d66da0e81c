-- The application of the proof: one table that is to be partitioned by month, a table of outcomes, functions that write by name.
-- UNIQUE (id, at) stands beside the primary key because a partitioned table can have no unique key on id alone, and ON CONFLICT
-- must find the same key before and after.
CREATE TABLE public.item (
    id     bigint           NOT NULL PRIMARY KEY,
    at     timestamptz      NOT NULL,
    body   text,
    amount numeric,
    data   jsonb,
    ratio  double precision,
    CONSTRAINT item_id_at_key UNIQUE (id, at)
);

-- One row for each transaction that wrote: whoever lost the reply to COMMIT asks here.
CREATE TABLE public.outcome (tx uuid PRIMARY KEY);

CREATE FUNCTION public.item_put(
    new_id bigint, new_at timestamptz, new_body text, new_amount numeric, new_data jsonb, new_ratio double precision
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    done bigint;
BEGIN
    UPDATE item SET at = new_at, body = new_body, amount = new_amount, data = new_data, ratio = new_ratio WHERE id = new_id;
    GET DIAGNOSTICS done = ROW_COUNT;
    IF done = 0 THEN
        INSERT INTO item (id, at, body, amount, data, ratio)
        VALUES (new_id, new_at, new_body, new_amount, new_data, new_ratio);
        GET DIAGNOSTICS done = ROW_COUNT;
    END IF;
    RETURN done;
END
$$;

CREATE FUNCTION public.item_drop(old_id bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    done bigint;
BEGIN
    DELETE FROM item WHERE id = old_id;
    GET DIAGNOSTICS done = ROW_COUNT;
    RETURN done;
END
$$;

-- Writes in a subtransaction, and takes it back.
CREATE FUNCTION public.item_undo(some_id bigint, other_at timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    done bigint;
BEGIN
    BEGIN
        UPDATE item SET at = other_at, body = 'taken back' WHERE id = some_id;
        GET DIAGNOSTICS done = ROW_COUNT;
        DELETE FROM item WHERE id = some_id;
        RAISE EXCEPTION 'take it back' USING ERRCODE = 'P0001';
    EXCEPTION WHEN SQLSTATE 'P0001' THEN
        RETURN done;
    END;
END
$$;

GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON public.item TO proof_app;
GRANT SELECT, INSERT ON public.outcome TO proof_app;
