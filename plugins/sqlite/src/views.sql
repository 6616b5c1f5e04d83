-- The views of the tables in schema.sql.

-- Points with their series, in the metric's unit. Dividing by the reciprocal rounds once:
-- 123456 steps of 1e-6 are 0.123456.
CREATE VIEW IF NOT EXISTS measurements AS
SELECT
    metric,
    CASE
        WHEN steps IS NULL THEN value
        WHEN step < 1 THEN steps / round(1 / step)
        ELSE steps * step
    END AS value,
    unit, kind, time_unix_nano, start_unix_nano, resource_type, resource_id, domain, origin,
    consumer_type, consumer_id, consumer_start_unix_nano, attributes, series_id, steps
FROM points JOIN series ON series.id = points.series_id;

-- Sums with their subjects, in the metric's unit; the mean of gauges.
CREATE VIEW IF NOT EXISTS history AS
SELECT
    metric,
    CASE
        WHEN steps IS NULL THEN value / points
        WHEN step < 1 THEN steps / round(1 / step)
        ELSE steps * step
    END AS value,
    unit, kind, seconds, end_unix_s, resource_type, resource_id, domain, origin,
    consumer_type, consumer_id, attributes, subject_id, steps
FROM sums JOIN subjects ON subjects.id = sums.subject_id;

-- The energy of each consumer in each domain, in joules, and half the width of its 95 % interval: NULL if
-- that is below a millijoule, or not known.
CREATE VIEW IF NOT EXISTS energy AS
WITH
last AS (SELECT series_id, max(time_unix_nano) AS time_unix_nano, steps, value FROM points GROUP BY series_id),
totals AS (
    SELECT series.*, time_unix_nano, steps / round(1 / step) AS joules
    FROM series JOIN last ON last.series_id = series.id WHERE metric = 'wattrace.consumer.energy'
),
half_widths AS (
    SELECT series.*, time_unix_nano, value
    FROM series JOIN last ON last.series_id = series.id
    WHERE metric = 'wattrace.consumer.energy.uncertainty'
)
SELECT
    t.consumer_type, t.consumer_id, t.consumer_start_unix_nano, t.domain, t.origin,
    t.start_unix_nano, t.time_unix_nano, joules, value AS half_width, t.attributes
FROM totals AS t LEFT JOIN half_widths AS h
    ON h.consumer_id = t.consumer_id AND h.consumer_type = t.consumer_type AND h.domain = t.domain
    AND h.consumer_start_unix_nano IS t.consumer_start_unix_nano
    -- Of the same run of the agent.
    AND h.time_unix_nano BETWEEN t.start_unix_nano AND t.time_unix_nano;
