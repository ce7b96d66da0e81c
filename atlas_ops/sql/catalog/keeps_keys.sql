-- Whether a trigger of that name keeps the keys of a partitioned table in its registry; before the cut-over it is off, and the drain does.
SELECT EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = %(oid)s AND g.tgname = %(trigger)s AND g.tgenabled <> 'D') AS keeps_keys
