-- All times are milliseconds since 1970 in UTC, but for a duration, which is in microseconds.

-- +goose Up
CREATE TABLE clients (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id    TEXT    NOT NULL REFERENCES clients (id),
    kind         TEXT    NOT NULL CHECK (kind IN ('local', 'remote')),
    agent_id     INTEGER NOT NULL,
    name         TEXT    NOT NULL, -- extension_name or agent_number
    extension_id INTEGER,
    status       TEXT    NOT NULL CHECK (status IN ('available', 'logged_out')),
    event_source TEXT    NOT NULL CHECK (event_source IN ('api', 'phone')),
    sequence     INTEGER NOT NULL DEFAULT 0, -- of the change that led to the status
    changed_at   INTEGER NOT NULL,
    reported_at  INTEGER NOT NULL DEFAULT 0, -- the latest time of a change, or that the PBX gave without one
    UNIQUE (client_id, kind, agent_id)
) STRICT;
CREATE INDEX agents_extension ON agents (client_id, kind, extension_id) WHERE extension_id IS NOT NULL;

-- Where requests go to: a breaker and the bounds are per client and scheme, host and port.
CREATE TABLE receivers (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id TEXT    NOT NULL,
    scheme    TEXT    NOT NULL,
    host      TEXT    NOT NULL,
    port      INTEGER NOT NULL,
    failures  INTEGER NOT NULL DEFAULT 0, -- in a row; from 5 on the breaker is open
    probes    INTEGER NOT NULL DEFAULT 0, -- that failed since it opened
    waits     INTEGER,                    -- until when no lane of it is claimed: the breaker's wait, or a 429's
    probe     INTEGER,                    -- the lane that tries whether it is back
    UNIQUE (client_id, scheme, host, port)
) STRICT;

-- What a client's deliveries are signed with. It outlives the client, since deliveries do.
CREATE TABLE secrets (
    client_id      TEXT NOT NULL PRIMARY KEY,
    secret         TEXT NOT NULL,
    previous       TEXT NOT NULL DEFAULT '', -- signs too, until
    previous_until INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- One agent and one receiver: what keeps the order. The agent is named by its own id, so that one that was deleted
-- and made again stays in order.
CREATE TABLE lanes (
    id          INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
    receiver_id INTEGER NOT NULL REFERENCES receivers (id),
    kind        TEXT    NOT NULL,
    agent_id    INTEGER NOT NULL,
    pending     INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    due_at      INTEGER,                    -- when a claim should look at it: its head is due, or its lease ends
    lease_until INTEGER,                    -- NULL when nobody holds it
    claim       INTEGER NOT NULL DEFAULT 0, -- fences results
    delivery_id INTEGER,                    -- what the holder of the lease was given
    UNIQUE (receiver_id, kind, agent_id)
) STRICT;
CREATE INDEX lanes_due ON lanes (receiver_id, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE agent_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    agent      INTEGER NOT NULL REFERENCES agents (id),
    url        TEXT    NOT NULL,
    method     TEXT    NOT NULL CHECK (method IN ('GET', 'POST')),
    event_type TEXT    NOT NULL CHECK (event_type IN ('agent-login', 'agent-logout')),
    lane_id    INTEGER NOT NULL REFERENCES lanes (id),
    state      TEXT    NOT NULL DEFAULT 'enabled' CHECK (state IN ('enabled', 'disabled')),
    reason     TEXT    NOT NULL DEFAULT '', -- why it is disabled
    since      INTEGER NOT NULL             -- when it got this state
) STRICT;
CREATE INDEX agent_events_agent ON agent_events (agent);
CREATE INDEX agent_events_lane ON agent_events (lane_id);

-- The id is the sequence number. The agent is a copy, as it was then.
CREATE TABLE status_changes (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    client_id    TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    agent_id     INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    old_status   TEXT    NOT NULL,
    new_status   TEXT    NOT NULL,
    event_source TEXT    NOT NULL,
    changed_at   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX status_changes_client ON status_changes (client_id, id);
CREATE INDEX status_changes_agent ON status_changes (client_id, kind, agent_id, id);

-- One registration and one change. URL and method are a copy, since the registration may be gone before they are used.
CREATE TABLE deliveries (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id  TEXT    NOT NULL,
    change_id   INTEGER NOT NULL REFERENCES status_changes (id),
    event_id    INTEGER NOT NULL,
    lane_id     INTEGER NOT NULL REFERENCES lanes (id),
    moved_to    INTEGER REFERENCES lanes (id), -- where it follows its registration to, when it comes back unsent
    url         TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('pending', 'parked', 'delivered', 'failed', 'cancelled')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    due_at      INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL, -- the retry window's end
    created_at  INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX deliveries_lane ON deliveries (lane_id, change_id, id) WHERE state = 'pending';
CREATE INDEX deliveries_event ON deliveries (event_id) WHERE state IN ('pending', 'parked');
CREATE INDEX deliveries_moved ON deliveries (moved_to) WHERE moved_to IS NOT NULL;
CREATE INDEX deliveries_change ON deliveries (change_id);

CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    delivery_id INTEGER NOT NULL REFERENCES deliveries (id),
    number      INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    duration    INTEGER NOT NULL,
    status      INTEGER NOT NULL, -- of the answer, 0 without one
    error       TEXT    NOT NULL,
    excerpt     TEXT    NOT NULL,
    verdict     TEXT    NOT NULL
) STRICT;
CREATE INDEX attempts_delivery ON attempts (delivery_id);

-- One row, which readiness writes.
CREATE TABLE probes (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;
INSERT INTO probes (id, at) VALUES (1, 0);

-- +goose Down
DROP TABLE probes;
DROP TABLE attempts;
DROP TABLE deliveries;
DROP TABLE status_changes;
DROP TABLE agent_events;
DROP TABLE lanes;
DROP TABLE secrets;
DROP TABLE receivers;
DROP TABLE agents;
DROP TABLE clients;
