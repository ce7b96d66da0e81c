-- Users, their profiles and their conversations, spread over the months as the messages are.

INSERT INTO auth.users (id, email, created_at)
SELECT demo_build.uuid(s.seed, 'user', u), 'user' || u || '@atlas.example', m.lower
FROM demo_build.size AS s
CROSS JOIN LATERAL generate_series(1, s.users) AS u
JOIN demo_build.month AS m ON 1 + (u - 1) * (s.messages / 2) / s.users BETWEEN m.first_message AND m.last_message;

INSERT INTO public.profiles (id, email, subscription_tier, created_at)
SELECT u.id, u.email, (ARRAY['free', 'free', 'free', 'core', 'studio'])[1 + (hashtextextended(u.email, 0) & 3)], u.created_at
FROM auth.users AS u;

INSERT INTO public.conversations (id, user_id, title, created_at, updated_at, deleted_at, is_personal_reflection)
SELECT demo_build.uuid(s.seed, 'conversation', c),
       demo_build.owner(s.seed, c, s.conversations, s.users),
       demo_build.sentence(c * 7),
       at,
       at + (h % 1728000) * interval '1 second',
       CASE WHEN h % 50 = 1 THEN at + interval '21 days' END,
       h % 20 = 3
FROM demo_build.size AS s
CROSS JOIN LATERAL generate_series(1, s.conversations) AS c
JOIN demo_build.month AS m ON 1 + (c - 1) * (s.messages / 2) / s.conversations BETWEEN m.first_message AND m.last_message
CROSS JOIN LATERAL (SELECT demo_build.bits(s.seed, 2, c) AS h) AS b
CROSS JOIN LATERAL (SELECT m.lower + (h % 2400000) * interval '1 second' AS at) AS t;
