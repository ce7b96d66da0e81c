-- What hangs on messages: the trigger, the function that names it, the view and publication that bind it by OID, comments.

CREATE FUNCTION public.touch_conversation() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    UPDATE public.conversations SET updated_at = now() WHERE id = NEW.conversation_id;
    RETURN NEW;
END
$function$;
CREATE TRIGGER messages_touch_conversation AFTER INSERT ON public.messages
    FOR EACH ROW EXECUTE FUNCTION public.touch_conversation();

CREATE FUNCTION public.delete_conversation_soft(p_user uuid, p_conversation uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $function$
BEGIN
    UPDATE conversations SET deleted_at = now() WHERE id = p_conversation AND user_id = p_user;
    IF FOUND THEN
        UPDATE messages SET deleted_at = now(), deleted_by = 'user'
        WHERE conversation_id = p_conversation AND deleted_at IS NULL;
    END IF;
END
$function$;

CREATE VIEW public.active_messages WITH (security_invoker = true) AS
SELECT id, conversation_id, user_id, role, content, created_at FROM public.messages WHERE deleted_at IS NULL;

ALTER TABLE public.messages REPLICA IDENTITY FULL;
ALTER TABLE public.conversations REPLICA IDENTITY FULL;
CREATE PUBLICATION supabase_realtime FOR TABLE public.messages, public.conversations;

COMMENT ON TABLE public.messages IS 'What users and assistants said. Content is personal data.';
COMMENT ON COLUMN public.messages.created_at IS 'Sent by the client in upserts: may be NULL, in the past or in the future.';
COMMENT ON COLUMN public.messages.deleted_at IS 'Soft delete: the row stays and must stay hidden.';
COMMENT ON COLUMN public.usage_logs."timestamp" IS 'When it happened. Every reader filters on this column.';
COMMENT ON COLUMN public.usage_logs.created_at IS 'Added late: the history carries the instant of the ALTER TABLE.';
