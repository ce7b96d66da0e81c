-- The usage log, and the trap in it: created_at was added late, so one instant stamps the whole history.

CREATE VIEW demo_build.usage AS
SELECT s.seed, s.stamped_at, numbered.n, numbered.at, demo_build.bits(s.seed, 21, numbered.n) AS h,
       demo_build.bits(s.seed, 22, numbered.n) AS w,
       1 + demo_build.bits(s.seed, 23, numbered.n) % greatest(1, s.users * numbered.n / s.usage_logs) AS u
FROM demo_build.size AS s,
     (SELECT n, m.lower + ((n - m.first_usage) * pace + demo_build.bits(seed, 20, n) % pace) * interval '1 microsecond' AS at
      FROM demo_build.size
      CROSS JOIN demo_build.month AS m
      CROSS JOIN LATERAL generate_series(m.first_usage, m.last_usage) AS n
      CROSS JOIN LATERAL (SELECT m.microseconds / (m.last_usage - m.first_usage + 1) AS pace) AS p
      UNION ALL
      SELECT usage_logs - (SELECT count(*) FROM demo_build.usage_special) + k, at
      FROM demo_build.size, demo_build.usage_special) AS numbered;

CREATE VIEW demo_build.usage_row AS
SELECT n AS id,
       CASE WHEN h % 20 > 0 THEN demo_build.uuid(seed, 'user', u) END AS user_id,
       (ARRAY['chat_message', 'chat_message', 'chat_message', 'chat_message', 'reflection', 'insight', 'login', 'export',
              'voice_input', 'image_analysis', 'limit_reached', 'upgrade_prompt'])[1 + h % 12] AS event,
       jsonb_build_object('session', (h >> 9) % 100000, 'ok', (h >> 4) & 7 > 0) AS data,
       at AS "timestamp",
       (ARRAY['free', 'free', 'free', 'core', 'studio', NULL])[1 + w % 6] AS tier,
       (ARRAY['chat', 'chat', 'journal', 'voice', 'images', NULL])[1 + (w >> 4) % 6] AS feature,
       CASE WHEN w % 23 > 0 THEN ((w >> 8) % 8000)::integer END AS tokens_used,
       CASE WHEN w % 29 > 0 THEN ((w >> 12) % 2000000)::numeric / 10.0 ^ (w % 5) / 10000 END AS estimated_cost,
       CASE WHEN w % 31 = 0 THEN NULL WHEN w % 7 = 0 THEN jsonb_build_object('rate', 1.10, 'retry', (w >> 3) % 3)
            ELSE '{}' END AS metadata,
       CASE WHEN h % 37 > 0 THEN at END AS created_at,
       stamped_at
FROM demo_build.usage;

INSERT INTO public.usage_logs (id, user_id, event, session_hint, data, "timestamp", tier, feature, tokens_used,
                               estimated_cost, metadata)
SELECT id, user_id, event, 'before', data, "timestamp", tier, feature, tokens_used, estimated_cost, metadata
FROM demo_build.usage_row
WHERE "timestamp" < stamped_at;

ALTER TABLE public.usage_logs DROP COLUMN session_hint;
ALTER TABLE public.usage_logs ADD COLUMN created_at timestamptz DEFAULT timestamptz '2026-10-27 09:15:00.123456+00';
ALTER TABLE public.usage_logs ALTER COLUMN created_at SET DEFAULT now();

INSERT INTO public.usage_logs (id, user_id, event, data, "timestamp", tier, feature, tokens_used, estimated_cost,
                               metadata, created_at)
SELECT id, user_id, event, data, "timestamp", tier, feature, tokens_used, estimated_cost, metadata, created_at
FROM demo_build.usage_row
WHERE "timestamp" >= stamped_at;

-- A client that sends its own created_at, and sends null.
UPDATE public.usage_logs SET created_at = NULL WHERE id > (SELECT max(id) - 3 FROM public.usage_logs);

SELECT setval('public.usage_logs_id_seq', (SELECT max(id) FROM public.usage_logs));
