-- The scratch goes; nothing of it may be seen in the demo database.
DROP SCHEMA demo_build CASCADE;
