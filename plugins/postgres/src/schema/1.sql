-- What a Wattrace schema holds, version 1. A later version is a file of its own (schema.rs).

-- One row for each run of an agent.
CREATE TABLE {schema}.runs (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key text NOT NULL UNIQUE,           -- chosen by the agent, so that it gets one row however often it asks
    host text NOT NULL,
    agent text NOT NULL,
    started timestamptz NOT NULL
);

-- A metric about a subject. Each run of an agent has rows of its own.
CREATE TABLE {schema}.series (
    id bigint PRIMARY KEY,              -- run_id * 2^32 + its number in the run
    run_id integer NOT NULL REFERENCES {schema}.runs (id),
    metric text NOT NULL,
    unit text NOT NULL,
    kind text NOT NULL,                 -- counter or gauge
    step double precision NOT NULL,     -- a counter's units per step
    start timestamptz NOT NULL,         -- when the counter stood at zero
    resource_type text NOT NULL,
    resource_id text NOT NULL,
    domain text,                        -- for energy: which energy counter,
    origin text,                        -- measured, estimated or simulated,
    in_totals boolean NOT NULL,         -- and whether a total over all domains counts it
    consumer_type text,                 -- NULL: about the hardware itself
    consumer_id text,
    consumer_start timestamptz,
    attributes jsonb NOT NULL           -- after an exec, those of the new program
);
CREATE INDEX series_metric ON {schema}.series (metric, consumer_type);
CREATE INDEX series_run ON {schema}.series (run_id);

-- With TimescaleDB a hypertable. A point that is sent again replaces itself.
CREATE TABLE {schema}.points (
    series_id bigint NOT NULL,
    time timestamptz NOT NULL,
    steps bigint,                       -- counters: exact, cumulative since the series' start
    value double precision,             -- gauges
    PRIMARY KEY (series_id, time)
);
CREATE INDEX points_time ON {schema}.points USING brin (time);

-- Steps in the metric's unit. Dividing by the reciprocal rounds once: 123456 steps of 1e-6 are 0.123456.
CREATE FUNCTION {schema}.in_units(steps bigint, step double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN step < 1 THEN steps / round(1 / step) ELSE steps * step END
$$;

-- Points with their series, in the metric's unit.
CREATE VIEW {schema}.measurements AS
SELECT
    time, host, metric, coalesce({schema}.in_units(steps, step), value) AS value, unit, kind, start,
    resource_type, resource_id, domain, origin, in_totals, consumer_type, consumer_id, consumer_start,
    attributes, series_id, steps
FROM {schema}.points
JOIN {schema}.series ON series.id = points.series_id
JOIN {schema}.runs ON runs.id = series.run_id;

-- Joules of each consumer in each domain from one time to another.
CREATE FUNCTION {schema}.energy_between(since timestamptz, until timestamptz)
RETURNS TABLE (
    host text, consumer_type text, consumer_id text, consumer_start timestamptz, program text,
    domain text, origin text, in_totals boolean, joules double precision, attributes jsonb
)
LANGUAGE sql STABLE AS $$
    SELECT
        runs.host, series.consumer_type, series.consumer_id, series.consumer_start,
        series.attributes ->> 'process.executable.name', series.domain, series.origin, series.in_totals,
        {schema}.in_units(after.steps - coalesce(before.steps, 0), series.step), series.attributes
    FROM {schema}.series
    JOIN {schema}.runs ON runs.id = series.run_id
    CROSS JOIN LATERAL (
        SELECT points.steps FROM {schema}.points
        WHERE points.series_id = series.id AND points.time > since AND points.time <= until
        ORDER BY points.time DESC LIMIT 1
    ) AS after
    LEFT JOIN LATERAL (
        SELECT points.steps FROM {schema}.points
        WHERE points.series_id = series.id AND points.time <= since
        ORDER BY points.time DESC LIMIT 1
    ) AS before ON true
    WHERE series.metric = 'wattrace.consumer.energy' AND series.start < until
$$;

-- The same since the beginning.
CREATE VIEW {schema}.energy AS SELECT * FROM {schema}.energy_between('-infinity', 'infinity');

-- Joules by program, and how many processes ran it.
CREATE VIEW {schema}.energy_by_program AS
SELECT
    host, program, origin, sum(joules) AS joules,
    count(DISTINCT (consumer_id, consumer_start)) AS processes
FROM {schema}.energy
WHERE consumer_type = 'process' AND in_totals
GROUP BY host, program, origin;
