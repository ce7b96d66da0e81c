-- Row security as production has it: on, not forced, redundant policies among them; and the grants that are not by default.

ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.messages ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.usage_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.message_reactions ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.content_reports ENABLE ROW LEVEL SECURITY;

CREATE POLICY "Users can view own profile" ON public.profiles FOR SELECT USING (id = (SELECT auth.uid()));
CREATE POLICY "Users can manage own conversations" ON public.conversations USING (user_id = (SELECT auth.uid()));
CREATE POLICY "Users can manage own reactions" ON public.message_reactions USING (user_id = (SELECT auth.uid()));
CREATE POLICY "Users can file reports" ON public.content_reports FOR INSERT
    WITH CHECK (reporter_id = (SELECT auth.uid()));

CREATE POLICY "Users can view messages in own conversations" ON public.messages FOR SELECT
    USING (conversation_id IN (SELECT id FROM public.conversations WHERE user_id = (SELECT auth.uid())));
CREATE POLICY "Users can insert messages in own conversations" ON public.messages FOR INSERT
    WITH CHECK (conversation_id IN (SELECT id FROM public.conversations WHERE user_id = (SELECT auth.uid())));
CREATE POLICY "Users can create messages in own conversations" ON public.messages FOR INSERT
    WITH CHECK (conversation_id IN (SELECT id FROM public.conversations WHERE user_id = (SELECT auth.uid())));
CREATE POLICY "Users can update messages in own conversations" ON public.messages FOR UPDATE
    USING (conversation_id IN (SELECT id FROM public.conversations WHERE user_id = (SELECT auth.uid())));
CREATE POLICY "Users can delete messages in own conversations" ON public.messages FOR DELETE
    USING (conversation_id IN (SELECT id FROM public.conversations WHERE user_id = (SELECT auth.uid())));
CREATE POLICY "Users can manage messages in own conversations" ON public.messages
    USING (conversation_id IN (SELECT id FROM public.conversations WHERE user_id = (SELECT auth.uid())));
CREATE POLICY "Users can access own and assistant messages" ON public.messages TO authenticated
    USING (auth.uid() = user_id
           OR (role = 'assistant'
               AND conversation_id IN (SELECT id FROM public.conversations WHERE user_id = (SELECT auth.uid()))));
CREATE POLICY "Service role can manage all messages" ON public.messages TO service_role USING (true);
CREATE POLICY "service_role_messages_all" ON public.messages TO service_role USING (true) WITH CHECK (true);

CREATE POLICY "Service role can manage all usage logs" ON public.usage_logs USING (auth.role() = 'service_role');
CREATE POLICY "Service role can insert usage logs" ON public.usage_logs FOR INSERT TO service_role WITH CHECK (true);
CREATE POLICY "Users can insert own usage logs" ON public.usage_logs FOR INSERT
    WITH CHECK (user_id = (SELECT auth.uid()));
CREATE POLICY "Users can view own usage logs" ON public.usage_logs FOR SELECT USING (user_id = (SELECT auth.uid()));

GRANT SELECT (id, conversation_id, created_at) ON public.messages TO authenticator;
GRANT SELECT ON public.usage_logs TO service_role WITH GRANT OPTION;
