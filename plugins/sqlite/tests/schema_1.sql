-- What a Wattrace database holds, version 1. Another layout gets another version (schema.rs).

-- A metric about a subject. Each run of the agent adds rows of its own.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    metric TEXT NOT NULL,
    unit TEXT NOT NULL,
    kind TEXT NOT NULL,                 -- counter or gauge
    step REAL NOT NULL,                 -- a counter's units per step
    start_unix_nano INTEGER NOT NULL,   -- when the counter stood at zero
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    domain TEXT,                        -- for energy: which energy counter,
    origin TEXT,                        -- and measured, estimated or simulated
    consumer_type TEXT,                 -- NULL: about the hardware itself
    consumer_id TEXT,
    consumer_start_unix_nano INTEGER,
    attributes TEXT NOT NULL            -- a JSON object; after an exec, that of the new program
) STRICT;

-- Time leads the key, so that a commit appends to a few pages however many series there are.
CREATE TABLE points (
    time_unix_nano INTEGER NOT NULL,
    series_id INTEGER NOT NULL REFERENCES series (id),
    steps INTEGER,                      -- counters: exact, cumulative since the series' start
    value REAL,                         -- gauges; NULL if it is not a number
    PRIMARY KEY (time_unix_nano, series_id)
) STRICT, WITHOUT ROWID;

-- Points with their series, in the metric's unit. Dividing by the reciprocal rounds once:
-- 123456 steps of 1e-6 are 0.123456.
CREATE VIEW measurements AS
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
