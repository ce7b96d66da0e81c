-- The abandoned attempt that production holds: seven columns, 36 partitions, no row security, no rows.
CREATE TABLE public.messages_partitioned (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    conversation_id uuid,
    user_id uuid,
    role text NOT NULL,
    content text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    metadata jsonb,
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
DO $partitions$
DECLARE
    starts timestamp;
BEGIN
    FOR starts IN SELECT timestamp '2024-01-01' + k * interval '1 month' FROM generate_series(0, 35) AS k LOOP
        EXECUTE format('CREATE TABLE public.%I PARTITION OF public.messages_partitioned FOR VALUES FROM (%L) TO (%L)',
                       'messages_' || to_char(starts, 'YYYY_MM'),
                       starts AT TIME ZONE 'UTC', (starts + interval '1 month') AT TIME ZONE 'UTC');
    END LOOP;
END
$partitions$;
