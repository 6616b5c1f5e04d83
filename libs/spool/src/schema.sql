CREATE TABLE payloads (
    -- AUTOINCREMENT: an id is never given twice, so what is done is never mistaken for something newer.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Those of one push have one number.
    push INTEGER NOT NULL,
    -- 0: intermediate, 1: last.
    class INTEGER NOT NULL,
    points INTEGER NOT NULL,
    -- Nanoseconds of the spool's time.
    time INTEGER NOT NULL,
    -- Compressed as by gzip.
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX payloads_by_class ON payloads (class);
CREATE TABLE run (
    -- The boot of the machine, and the spool's time minus CLOCK_MONOTONIC.
    boot TEXT NOT NULL,
    offset INTEGER NOT NULL,
    -- The last push of earlier runs.
    earlier_push INTEGER NOT NULL
) STRICT;
