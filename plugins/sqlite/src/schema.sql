-- What a Wattrace database holds, version 2. Another layout gets another version (schema.rs).

-- A metric about a subject. Each run of the agent adds rows of its own.
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
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
    attributes TEXT NOT NULL,           -- a JSON object; after an exec, that of the new program
    own_attributes TEXT NOT NULL DEFAULT '{}',  -- of these, what is not known of the consumer
    base_steps INTEGER NOT NULL DEFAULT 0,      -- what it counted before its first point in `points`
    summed_unix_nano INTEGER,           -- the last of its points that is in `sums`; NULL: none
    end_unix_nano INTEGER               -- NULL: it lives, or the agent was killed
) STRICT;

CREATE INDEX series_end ON series (end_unix_nano) WHERE end_unix_nano IS NOT NULL;

-- Kept by a migration. Time leads the key, so that a commit appends to a few pages however many series there are.
CREATE TABLE IF NOT EXISTS points (
    time_unix_nano INTEGER NOT NULL,
    series_id INTEGER NOT NULL REFERENCES series (id),
    steps INTEGER,                      -- counters: exact, cumulative since the series' start
    value REAL,                         -- gauges; NULL if it is not a number
    PRIMARY KEY (time_unix_nano, series_id)
) STRICT, WITHOUT ROWID;

-- What older points are summed up for: a series without its run, and a program instead of its processes.
-- Texts are '' where there is nothing to say.
CREATE TABLE subjects (
    id INTEGER PRIMARY KEY,
    metric TEXT NOT NULL,
    unit TEXT NOT NULL,
    kind TEXT NOT NULL,
    step REAL NOT NULL,
    resource_type TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    domain TEXT NOT NULL,
    origin TEXT NOT NULL,
    consumer_type TEXT NOT NULL,        -- as in `series`, and program
    consumer_id TEXT NOT NULL,          -- of a program: its executable's name
    attributes TEXT NOT NULL,
    last_unix_s INTEGER NOT NULL,       -- the last of its sums ends then, or within the hour after
    UNIQUE (metric, resource_type, resource_id, domain, origin, consumer_type, consumer_id, attributes)
) STRICT;

-- What was counted in a minute or in an hour. A point is either in `points` or in one of these sums.
CREATE TABLE sums (
    seconds INTEGER NOT NULL,           -- its length, 60 or 3600
    end_unix_s INTEGER NOT NULL,        -- it holds the points after its begin, up to its end
    subject_id INTEGER NOT NULL REFERENCES subjects (id),
    steps INTEGER,                      -- counters: by how many steps they grew
    value REAL,                         -- gauges: the sum of their values,
    points INTEGER,                     -- and of how many
    begun INTEGER NOT NULL,             -- programs: processes that began to use something,
    others INTEGER NOT NULL,            -- and those that had begun before
    PRIMARY KEY (seconds, end_unix_s, subject_id)
) STRICT, WITHOUT ROWID;
