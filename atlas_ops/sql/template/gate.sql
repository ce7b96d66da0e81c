DO $gate$
BEGIN
    PERFORM set_config('lock_timeout', {wait}, true);
    {lock};
END
$gate$
