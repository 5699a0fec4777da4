"""The tables of the ledger, and how a ledger with older ones is brought up to date."""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 3
SCHEMA = """
CREATE TABLE identity (ledger BLOB NOT NULL, boots INTEGER NOT NULL);
CREATE TABLE model (
    task TEXT NOT NULL, name TEXT NOT NULL, layout BLOB NOT NULL, memory INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE updates (
    entry INTEGER PRIMARY KEY,
    device TEXT NOT NULL, outbox BLOB NOT NULL, sequence INTEGER NOT NULL,
    base_version INTEGER NOT NULL, examples INTEGER NOT NULL, steps INTEGER NOT NULL,
    train_s REAL NOT NULL, codec TEXT NOT NULL, bytes INTEGER NOT NULL,
    refusal TEXT, detail TEXT, norm REAL, metrics BLOB NOT NULL, judged_at REAL NOT NULL,
    aside INTEGER NOT NULL DEFAULT 0,
    UNIQUE (device, outbox, sequence)
);
CREATE TABLE versions (
    version INTEGER PRIMARY KEY, made_at REAL NOT NULL, rule TEXT, note TEXT, metrics BLOB
);
CREATE TABLE contributions (
    entry INTEGER PRIMARY KEY REFERENCES updates,
    version INTEGER NOT NULL REFERENCES versions, position INTEGER NOT NULL,
    staleness INTEGER NOT NULL, scale REAL NOT NULL, weight REAL NOT NULL,
    clip REAL NOT NULL DEFAULT 1, outlier INTEGER NOT NULL DEFAULT 0, known INTEGER,
    UNIQUE (version, position)
);
CREATE TABLE refusals (
    device TEXT NOT NULL, reason TEXT NOT NULL, times INTEGER NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (device, reason)
);
CREATE INDEX refused ON updates (device, entry) WHERE refusal IS NOT NULL;
"""
# Before there were robust rules (1), versions were made by the mean, and refusals had no counts;
# then (2) no device had a memory.
MIGRATIONS: dict[int, str] = {
    1: """
ALTER TABLE updates ADD COLUMN aside INTEGER NOT NULL DEFAULT 0;
ALTER TABLE contributions ADD COLUMN clip REAL NOT NULL DEFAULT 1;
ALTER TABLE contributions ADD COLUMN outlier INTEGER NOT NULL DEFAULT 0;
CREATE TABLE refusals (
    device TEXT NOT NULL, reason TEXT NOT NULL, times INTEGER NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (device, reason)
);
INSERT INTO refusals SELECT device, refusal, count(*), coalesce(max(detail), '')
    FROM updates WHERE refusal IS NOT NULL GROUP BY device, refusal;
CREATE INDEX refused ON updates (device, entry) WHERE refusal IS NOT NULL;
UPDATE versions SET rule = json_set(rule, '$.combine', 'mean') WHERE rule IS NOT NULL;
""",
    2: """
ALTER TABLE model ADD COLUMN memory INTEGER NOT NULL DEFAULT 0;
ALTER TABLE contributions ADD COLUMN known INTEGER;
""",
}


def bring_up_to_date(copy: sqlite3.Connection) -> None:
    """Make the tables of a copy of a ledger those of today; it is for reading only, so not durable.

    Raises:
        sqlite3.Error: it is no ledger.
    """
    (found,) = copy.execute("PRAGMA user_version").fetchone()
    for older in range(found, SCHEMA_VERSION):
        copy.executescript(MIGRATIONS.get(older, ""))
