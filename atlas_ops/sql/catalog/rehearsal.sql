-- Whether a rehearsal can begin: what a killed one left, what has its names but is not ours, publications that would carry the scratch copy.
SELECT coalesce((SELECT array_agg(n.nspname::text ORDER BY n.nspname) FROM pg_namespace n
                 WHERE n.nspname = ANY (%(schemas)s) AND obj_description(n.oid, 'pg_namespace') = %(mark)s), '{}') AS left_over,
       coalesce((SELECT array_agg(n.nspname::text ORDER BY n.nspname) FROM pg_namespace n
                 WHERE n.nspname = ANY (%(schemas)s) AND obj_description(n.oid, 'pg_namespace') IS DISTINCT FROM %(mark)s), '{}') AS taken,
       coalesce((SELECT array_agg(p.pubname::text ORDER BY p.pubname) FROM pg_publication p WHERE p.puballtables), '{}') AS published_by
