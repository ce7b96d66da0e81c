-- Asks for a lock and lets it go as the statement ends: meanwhile it stands in the queue of the table, and holds nothing.
DO $gate$
BEGIN
    PERFORM set_config('lock_timeout', {wait}, true);
    {lock};
END
$gate$
