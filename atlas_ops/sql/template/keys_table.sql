-- The registry of the keys of a partitioned table: unique over all partitions, which no index of theirs can be.
BEGIN
    IF to_regclass({literal}) IS NULL THEN
        CREATE TABLE {keys} AS SELECT {primary}, {key} FROM {table} WITH NO DATA;
        ALTER TABLE {keys} ADD PRIMARY KEY ({primary});
    END IF;
END
