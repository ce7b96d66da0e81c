-- The tables without keys, indexes, triggers and policies: those come after the rows, which is several times faster.

CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth, public TO anon, authenticated, service_role;

-- Supabase's default privileges: whatever is made in public is open to the application's roles, new partitions too.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role;

CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE SET search_path = ''
    RETURN NULLIF(current_setting('request.jwt.claims', true), '')::jsonb;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE SET search_path = ''
    RETURN (auth.jwt() ->> 'sub')::uuid;
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE SET search_path = ''
    RETURN auth.jwt() ->> 'role';

CREATE TABLE auth.users (
    id uuid NOT NULL,
    email text,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE public.profiles (
    id uuid NOT NULL,
    email text,
    subscription_tier text DEFAULT 'free',
    created_at timestamptz DEFAULT now()
);

CREATE TABLE public.conversations (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id uuid,
    title text,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    deleted_at timestamptz,
    is_personal_reflection boolean DEFAULT false
);

-- Two columns are dropped later on: the physical order of the rest has gaps, as in production.
CREATE TABLE public.messages (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    legacy_id bigint,
    user_id uuid,
    conversation_id uuid,
    role text NOT NULL,
    content text NOT NULL,
    created_at timestamptz DEFAULT now(),
    client_version text,
    image_url text,
    message_type text,
    attachments jsonb DEFAULT '[]',
    metadata jsonb,
    deleted_at timestamptz,
    edited_at timestamptz,
    deleted_by text
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE public.messages DROP COLUMN legacy_id;

-- created_at comes late, see usage_logs.sql.
CREATE TABLE public.usage_logs (
    id bigserial,
    user_id uuid,
    event text NOT NULL,
    session_hint text,
    data jsonb NOT NULL DEFAULT '{}',
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    tier text,
    feature text,
    tokens_used integer DEFAULT 0,
    estimated_cost numeric(10, 4) DEFAULT 0,
    metadata jsonb DEFAULT '{}'
);

CREATE TABLE public.message_reactions (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    message_id uuid NOT NULL,
    user_id uuid,
    emoji text NOT NULL,
    created_at timestamptz DEFAULT now()
);

CREATE TABLE public.content_reports (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    reporter_id uuid,
    reported_message_id uuid,
    report_reason text NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    created_at timestamptz DEFAULT now()
);
