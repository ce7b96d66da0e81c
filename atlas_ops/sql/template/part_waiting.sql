-- Rows of one part that are not the same on both sides: those whose key waits in the key log, and those that are in no log, which are lost.
SELECT count(*) FILTER (WHERE in_log) AS waiting, count(*) FILTER (WHERE NOT in_log) AS lost
FROM ({differing}) AS d
