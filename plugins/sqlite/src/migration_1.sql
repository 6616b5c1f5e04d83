-- Copies the series of version 1 (renamed to `series_1`) into the table of schema.sql. Its points stay, and
-- each series' counter began at zero.
INSERT INTO series
    (id, metric, unit, kind, step, start_unix_nano, resource_type, resource_id, domain, origin,
    consumer_type, consumer_id, consumer_start_unix_nano, attributes)
SELECT
    id, metric, unit, kind, step, start_unix_nano, resource_type, resource_id, domain, origin,
    consumer_type, consumer_id, consumer_start_unix_nano, attributes
FROM series_1;
DROP TABLE series_1;
