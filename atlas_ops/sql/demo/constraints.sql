-- Keys, checks and indexes, under the names PostgreSQL and the application's migrations give them.

ALTER TABLE auth.users ADD PRIMARY KEY (id);
ALTER TABLE public.profiles ADD PRIMARY KEY (id);
ALTER TABLE public.conversations ADD PRIMARY KEY (id);
ALTER TABLE public.messages ADD PRIMARY KEY (id);
ALTER TABLE public.usage_logs ADD PRIMARY KEY (id);
ALTER TABLE public.message_reactions ADD PRIMARY KEY (id);
ALTER TABLE public.content_reports ADD PRIMARY KEY (id);

CREATE INDEX idx_conversations_user_id ON public.conversations (user_id);

CREATE INDEX idx_messages_conversation_id ON public.messages (conversation_id);
CREATE INDEX idx_messages_created_at ON public.messages (created_at);
CREATE INDEX idx_messages_user_id ON public.messages (user_id);
CREATE INDEX idx_messages_deleted_at ON public.messages (deleted_at) WHERE deleted_at IS NULL;
CREATE INDEX idx_messages_conversation_active ON public.messages (conversation_id, created_at DESC)
    WHERE deleted_at IS NULL;

CREATE INDEX idx_usage_logs_created_at ON public.usage_logs (created_at);
CREATE INDEX idx_usage_logs_feature ON public.usage_logs (feature);
CREATE INDEX idx_usage_logs_tier ON public.usage_logs (tier);
CREATE INDEX idx_usage_logs_tier_created_at ON public.usage_logs (tier, created_at);
CREATE INDEX idx_usage_logs_user_event ON public.usage_logs (user_id, event);
CREATE INDEX idx_usage_logs_user_tier ON public.usage_logs (user_id, tier) WHERE user_id IS NOT NULL;

CREATE INDEX idx_message_reactions_message_id ON public.message_reactions (message_id);
CREATE INDEX idx_content_reports_message_id ON public.content_reports (reported_message_id);

ALTER TABLE public.profiles ADD FOREIGN KEY (id) REFERENCES auth.users ON DELETE CASCADE;
ALTER TABLE public.conversations ADD FOREIGN KEY (user_id) REFERENCES public.profiles ON DELETE CASCADE;
ALTER TABLE public.messages
    ADD FOREIGN KEY (conversation_id) REFERENCES public.conversations ON DELETE CASCADE,
    ADD FOREIGN KEY (user_id) REFERENCES public.profiles ON DELETE CASCADE,
    ADD CHECK (role IN ('user', 'assistant', 'system')),
    ADD CHECK (deleted_by IN ('user', 'everyone'));
ALTER TABLE public.usage_logs
    ADD FOREIGN KEY (user_id) REFERENCES auth.users ON DELETE CASCADE,
    ADD CHECK (tier IS NULL OR tier IN ('free', 'core', 'studio'));
ALTER TABLE public.message_reactions
    ADD FOREIGN KEY (message_id) REFERENCES public.messages ON DELETE CASCADE,
    ADD FOREIGN KEY (user_id) REFERENCES public.profiles ON DELETE CASCADE;
ALTER TABLE public.content_reports
    ADD FOREIGN KEY (reporter_id) REFERENCES auth.users ON DELETE CASCADE,
    ADD FOREIGN KEY (reported_message_id) REFERENCES public.messages ON DELETE CASCADE,
    ADD CHECK (status IN ('pending', 'reviewed', 'dismissed'));
