-- The jobs of ours in pg_cron, each with its last run. Row security shows a role its own jobs only.
SELECT j.jobname::text AS name, j.schedule::text AS schedule, j.command::text AS command, j.active, j.database::text AS database, j.username::text AS role,
       d.status::text AS last_status, d.start_time AS last_started
FROM cron.job j
LEFT JOIN LATERAL (SELECT r.status, r.start_time FROM cron.job_run_details r WHERE r.jobid = j.jobid ORDER BY r.runid DESC LIMIT 1) d ON true
WHERE starts_with(j.jobname::text, 'atlas_ops ')
ORDER BY 1
