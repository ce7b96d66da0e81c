-- What the row files share, in a schema of its own that finish.sql drops. Sizes and seed come as settings
-- (atlas_demo.messages, .usage_logs, .seed). Everything derives from hashes of row numbers: the same seed gives the
-- same rows on every version and in every time zone, which random() does not promise.

CREATE SCHEMA demo_build;

-- 63 even bits for row `n`; each `stream` is a series of its own.
CREATE FUNCTION demo_build.bits(seed bigint, stream bigint, n bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN pg_catalog.hashint8extended(n, seed * 1000 + stream) & 9223372036854775807;

CREATE FUNCTION demo_build.uuid(seed bigint, kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN pg_catalog.md5(seed::text || kind || n::text)::uuid;

-- What users of a reflective chat write: plain words, and everything that breaks a careless copy of text.
CREATE FUNCTION demo_build.sentence(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN (ARRAY[
        'I keep coming back to the conversation we had last week.',
        'Could you help me put this into fewer words?',
        'That makes sense, although I am not sure it covers the second case.',
        'Let us look at it from the other side for a moment.',
        'Yesterday was hard, today feels a little lighter.',
        'Here are three small steps you could try before Friday.',
        'Thank you, that is exactly what I needed to hear.',
        'What would you tell a friend in the same situation?',
        'I slept badly again and could not say why.',
        'Perhaps the plan was too ambitious from the start.',
        'It helps to name the feeling before arguing with it.',
        'Grüße aus Köln – naïve façade, 東京, Ελλάδα 🌱.',
        E'First line.\nSecond line, after a break.\tAnd a tab.',
        'A "quoted" word, an ''apostrophe'', 100 % and {braces}.',
        E'C:\\temp\\new and \\N are not what they seem.',
        'Write it down, then read it aloud once.'
    ])[1 + (n & 15)];

CREATE TABLE demo_build.size AS
SELECT seed, messages, usage_logs,
       greatest(messages / 12, 100) AS conversations,
       greatest(messages / 100, 50) AS users,
       -- the instant at which usage_logs.created_at was added
       timestamptz '2026-10-27 09:15:00.123456+00' AS stamped_at
FROM (SELECT current_setting('atlas_demo.seed')::bigint AS seed,
             current_setting('atlas_demo.messages')::bigint AS messages,
             current_setting('atlas_demo.usage_logs')::bigint AS usage_logs) AS setting;

CREATE TABLE demo_build.month AS
SELECT k, starts AT TIME ZONE 'UTC' AS lower,
       (extract(epoch FROM (starts + interval '1 month') - starts) * 1000000)::bigint AS microseconds
FROM generate_series(0, 33) AS k, LATERAL (SELECT timestamp '2024-01-01' + k * interval '1 month' AS starts) AS s;

-- The instants that a careless bound, time zone or default loses. One row each.
CREATE TABLE demo_build.message_special AS
SELECT row_number() OVER () AS k, created_at
FROM (
    SELECT lower AS created_at FROM demo_build.month                                    -- exactly on a bound
    UNION ALL
    SELECT lower - interval '1 microsecond' FROM demo_build.month                       -- the last instant below it
    UNION ALL
    SELECT at FROM unnest(ARRAY[
        '2026-11-01 00:00:00+00', '2026-10-31 23:59:59.999999+00',                      -- the end of the history
        '2024-03-31 00:59:59.999999+00', '2024-03-31 01:00:00+00', '2025-03-30 01:30:00+00',  -- Europe, hour skipped
        '2024-10-27 00:30:00+00', '2024-10-27 01:30:00+00', '2025-10-26 00:59:59+00',   -- Europe, hour twice
        '2024-03-10 07:00:00+00', '2025-03-09 09:59:59+00',                             -- America, hour skipped
        '2024-11-03 05:30:00+00', '2024-11-03 06:30:00+00', '2025-11-02 09:00:00+00',   -- America, hour twice
        '1970-01-01 00:00:00+00', '1970-01-01 00:00:00.001+00',                         -- a client without a clock
        '2023-06-15 12:00:00+00', '2023-11-30 23:59:59.999999+00', '2023-12-01 00:00:00+00',
        '2027-01-01 00:00:00+00', '2031-05-05 05:05:05+00', '2031-05-05 05:05:06+00',   -- a client ahead of time
        'infinity', NULL, NULL, NULL
    ]::timestamptz[]) AS at
) AS instant;

CREATE TABLE demo_build.usage_special AS
SELECT row_number() OVER () AS k, at
FROM (
    SELECT lower AS at FROM demo_build.month
    UNION ALL
    SELECT lower - interval '1 microsecond' FROM demo_build.month WHERE k > 0
) AS instant;

-- Row numbers of each month: five in a hundred more than in the month before. Whole numbers only.
ALTER TABLE demo_build.month
    ADD COLUMN first_message bigint, ADD COLUMN last_message bigint,
    ADD COLUMN first_usage bigint, ADD COLUMN last_usage bigint;
UPDATE demo_build.month AS m
SET first_message = b.messages * share.below / share.total + 1,
    last_message = b.messages * (share.below + share.own) / share.total,
    first_usage = b.usage_logs * share.below / share.total + 1,
    last_usage = b.usage_logs * (share.below + share.own) / share.total
FROM (SELECT k, own, sum(own) OVER (ORDER BY k)::bigint - own AS below, sum(own) OVER ()::bigint AS total
      FROM (SELECT k, round(100000 * power(1.05, k))::bigint AS own FROM demo_build.month) AS w) AS share,
     (SELECT messages - (SELECT count(*) FROM demo_build.message_special) AS messages,
             usage_logs - (SELECT count(*) FROM demo_build.usage_special) AS usage_logs
      FROM demo_build.size) AS b
WHERE m.k = share.k;
ANALYZE demo_build.month;

-- Who writes in conversation `c`: users arrive over time, so early ones own more.
CREATE FUNCTION demo_build.owner(seed bigint, c bigint, conversations bigint, users bigint) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    RETURN demo_build.uuid(seed, 'user', 1 + demo_build.bits(seed, 1, c) % greatest(1, users * c / conversations));
