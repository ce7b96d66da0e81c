-- A leftover that takes the name of the next month's partition, in both schemas where one might be made.
CREATE SCHEMA partitions;
CREATE TABLE partitions.messages_2026_11 (
    id uuid PRIMARY KEY,
    conversation_id uuid,
    user_id uuid,
    role text NOT NULL,
    content text NOT NULL,
    created_at timestamptz NOT NULL,
    metadata jsonb
);
CREATE TABLE public.messages_2026_11 (LIKE partitions.messages_2026_11 INCLUDING ALL);
