-- +goose Up
-- The URLs and methods that an event has had. Its deliveries and their attempts refer to them.
CREATE TABLE event_versions (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id INTEGER NOT NULL,
    url      TEXT NOT NULL,
    method   TEXT NOT NULL CHECK (method IN ('GET', 'POST')),
    past     INTEGER NOT NULL DEFAULT 0 -- 1 if the event has another version by now, or is deleted
) STRICT;
CREATE INDEX event_versions_event ON event_versions (event_id);
CREATE INDEX event_versions_past ON event_versions (event_id) WHERE past = 1;
INSERT INTO event_versions (event_id, url, method)
    SELECT id, url, method FROM agent_events
    UNION SELECT event_id, url, method FROM deliveries
    UNION SELECT d.event_id, a.url, a.method FROM attempts a JOIN deliveries d ON d.id = a.delivery_id
        WHERE a.url <> '';

ALTER TABLE agent_events ADD COLUMN version_id INTEGER NOT NULL DEFAULT 0;
UPDATE agent_events SET version_id = (SELECT v.id FROM event_versions v
    WHERE v.event_id = agent_events.id AND v.url = agent_events.url AND v.method = agent_events.method);
UPDATE event_versions SET past = 1 WHERE id NOT IN (SELECT version_id FROM agent_events);
ALTER TABLE deliveries ADD COLUMN version_id INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET version_id = (SELECT v.id FROM event_versions v
    WHERE v.event_id = deliveries.event_id AND v.url = deliveries.url AND v.method = deliveries.method);
ALTER TABLE attempts ADD COLUMN version_id INTEGER NOT NULL DEFAULT 0;
UPDATE attempts SET version_id = (SELECT CASE attempts.url WHEN '' THEN d.version_id ELSE
    (SELECT v.id FROM event_versions v WHERE v.event_id = d.event_id AND v.url = attempts.url
        AND v.method = attempts.method)
    END FROM deliveries d WHERE d.id = attempts.delivery_id);
ALTER TABLE deliveries DROP COLUMN url;
ALTER TABLE deliveries DROP COLUMN method;
ALTER TABLE attempts DROP COLUMN url;
ALTER TABLE attempts DROP COLUMN method;

-- +goose Down
ALTER TABLE attempts ADD COLUMN method TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN url TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN method TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN url TEXT NOT NULL DEFAULT '';
UPDATE deliveries SET url = (SELECT v.url FROM event_versions v WHERE v.id = version_id),
    method = (SELECT v.method FROM event_versions v WHERE v.id = version_id);
UPDATE attempts SET url = (SELECT v.url FROM event_versions v WHERE v.id = version_id),
    method = (SELECT v.method FROM event_versions v WHERE v.id = version_id);
ALTER TABLE attempts DROP COLUMN version_id;
ALTER TABLE deliveries DROP COLUMN version_id;
ALTER TABLE agent_events DROP COLUMN version_id;
DROP TABLE event_versions;
