-- The two tables that reference messages: a foreign key that a rename leaves with the old table.

INSERT INTO public.message_reactions (id, message_id, user_id, emoji, created_at)
SELECT demo_build.uuid(s.seed, 'reaction', g),
       demo_build.uuid(s.seed, 'message', 1 + demo_build.bits(s.seed, 31, g) % (s.messages - 200)),
       demo_build.uuid(s.seed, 'user', 1 + demo_build.bits(s.seed, 32, g) % s.users),
       (ARRAY['👍', '❤️', '🙏', '😂'])[1 + (g & 3)],
       timestamptz '2026-01-01 00:00:00+00' + g * interval '1 minute'
FROM demo_build.size AS s, LATERAL generate_series(1, s.messages / 50) AS g;

INSERT INTO public.content_reports (id, reporter_id, reported_message_id, report_reason, status, created_at)
SELECT demo_build.uuid(s.seed, 'report', g),
       demo_build.uuid(s.seed, 'user', 1 + demo_build.bits(s.seed, 33, g) % s.users),
       CASE WHEN g % 10 > 0 THEN demo_build.uuid(s.seed, 'message', 1 + demo_build.bits(s.seed, 34, g) % (s.messages - 200)) END,
       (ARRAY['spam', 'harassment', 'wrong advice'])[1 + g % 3],
       (ARRAY['pending', 'reviewed', 'dismissed'])[1 + g % 3],
       timestamptz '2026-01-01 00:00:00+00' + g * interval '1 hour'
FROM demo_build.size AS s, LATERAL generate_series(1, s.messages / 200) AS g;
