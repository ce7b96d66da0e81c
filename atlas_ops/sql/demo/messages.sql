-- The messages: one row a number, in the order of time as an application appends them.
-- A view, so that 10 million rows need no more memory than ten.

CREATE VIEW demo_build.message AS
SELECT s.seed, s.conversations, s.users, numbered.n, numbered.created_at,
       demo_build.bits(s.seed, 11, numbered.n) AS h,
       demo_build.bits(s.seed, 12, numbered.n) AS w,
       -- nine of ten go to one of the forty newest conversations, the tenth to any that exists by then
       greatest(1, CASE WHEN demo_build.bits(s.seed, 13, numbered.n) % 10 > 0
                        THEN numbered.n * s.conversations / s.messages - demo_build.bits(s.seed, 14, numbered.n) % 40
                        ELSE 1 + demo_build.bits(s.seed, 14, numbered.n) % greatest(1, numbered.n * s.conversations / s.messages)
                   END) AS c
FROM demo_build.size AS s,
     (SELECT n, m.lower + ((n - m.first_message) * pace + demo_build.bits(seed, 10, n) % pace) * interval '1 microsecond'
             AS created_at
      FROM demo_build.size
      CROSS JOIN demo_build.month AS m
      CROSS JOIN LATERAL generate_series(m.first_message, m.last_message) AS n
      CROSS JOIN LATERAL (SELECT m.microseconds / (m.last_message - m.first_message + 1) AS pace) AS p
      UNION ALL
      SELECT messages - (SELECT count(*) FROM demo_build.message_special) + k, created_at
      FROM demo_build.size, demo_build.message_special) AS numbered;

INSERT INTO public.messages (id, user_id, conversation_id, role, content, created_at, client_version, image_url,
                             message_type, attachments, metadata, deleted_at, edited_at, deleted_by)
SELECT demo_build.uuid(m.seed, 'message', m.n),
       CASE WHEN r.role = 'user' THEN demo_build.owner(m.seed, m.c, m.conversations, m.users) END,
       CASE WHEN m.h % 211 <> 3 THEN demo_build.uuid(m.seed, 'conversation', m.c) END,
       r.role,
       demo_build.sentence(m.w) || ' ' || demo_build.sentence(m.w >> 4)
           || CASE WHEN m.w & 256 > 0 THEN ' ' || demo_build.sentence(m.w >> 9) ELSE '' END
           || CASE WHEN m.w & 8192 > 0 THEN ' ' || demo_build.sentence(m.w >> 14) || ' ' || demo_build.sentence(m.w >> 18)
                   ELSE '' END
           || ' ' || demo_build.sentence(m.w >> 22),
       CASE WHEN m.h % 2003 <> 5 THEN m.created_at END,
       CASE WHEN m.h % 3 = 0 THEN '1.' || (m.h >> 7) % 40 END,
       CASE WHEN m.h % 97 = 8 THEN 'https://images.atlas.example/' || m.n || '.webp' END,
       CASE WHEN m.h % 97 = 8 THEN 'image' WHEN m.h % 5 < 3 THEN 'text' END,
       CASE WHEN m.h % 89 = 2 THEN NULL
            WHEN m.h % 97 = 8 THEN jsonb_build_array(jsonb_build_object('kind', 'image', 'bytes', (m.h >> 9) % 900000))
            ELSE '[]' END,
       -- 1.10 and 1.1 are equal, and are not the same content
       CASE WHEN m.h % 101 = 4 THEN '{"score": 1.10}' WHEN m.h % 101 = 5 THEN '{"score": 1.1}'
            WHEN r.role = 'assistant' THEN jsonb_build_object('model', 'atlas-' || 1 + (m.h >> 5) % 3,
                                                              'tokens', 20 + (m.h >> 8) % 900) END,
       CASE WHEN m.h % 67 = 1 THEN d.at + ((m.h >> 11) % 864000 + 60) * interval '1 second' END,
       CASE WHEN m.h % 31 = 6 THEN d.at + ((m.h >> 13) % 3600 + 5) * interval '1 second' END,
       CASE WHEN m.h % 67 = 1 THEN CASE WHEN m.h % 2 = 0 THEN 'user' ELSE 'everyone' END END
FROM demo_build.message AS m
CROSS JOIN LATERAL (SELECT CASE WHEN (m.h >> 20) % 100 < 50 THEN 'user'
                                WHEN (m.h >> 20) % 100 < 98 THEN 'assistant' ELSE 'system' END AS role) AS r
CROSS JOIN LATERAL (SELECT coalesce(m.created_at, timestamptz '2025-07-01 00:00:00+00') AS at) AS d;

ALTER TABLE public.messages DROP COLUMN client_version;
