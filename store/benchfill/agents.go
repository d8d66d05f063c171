package benchfill

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// cloneSQL creates the agents 2 to :agents with the events of agent 1, whose URLs get the number of the agent.
const cloneSQL = `
INSERT INTO agents (client_id, kind, agent_id, name, status, event_source, changed_at)
WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < :agents)
SELECT client_id, kind, i, i || '@example.com', status, event_source, changed_at FROM agents, n WHERE i <= :agents;

INSERT INTO lanes (receiver_id, kind, agent_id)
SELECT l.receiver_id, l.kind, a.agent_id FROM agents a, lanes l WHERE a.agent_id > 1;

INSERT INTO agent_events (agent, url, method, event_type, lane_id, since)
SELECT a.id, substr(e.url, 1, length(e.url) - 1) || a.agent_id, e.method, e.event_type, l.id, e.since
FROM agents a, agent_events e JOIN lanes one ON one.id = e.lane_id, lanes l
WHERE a.agent_id > 1 AND l.receiver_id = one.receiver_id AND l.kind = a.kind AND l.agent_id = a.agent_id
ORDER BY a.id, e.id;

INSERT INTO event_versions (event_id, url, method) SELECT id, url, method FROM agent_events WHERE version_id = 0;

UPDATE agent_events SET version_id = (SELECT v.id FROM event_versions v WHERE v.event_id = agent_events.id)
WHERE version_id = 0;

UPDATE clients SET agents = (SELECT count(*) FROM agents), events = (SELECT count(*) FROM agent_events)`

// CloneAgent clones the only agent of a store, which has the id 1, until there are n agents of its client. The clones
// have the same events: an event at .../1 becomes an event at .../AGENT. No process may have the store open.
func CloneAgent(ctx context.Context, url string, n int) (err error) {
	db, postgres, err := connect(url, filling)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	last := "PRAGMA wal_checkpoint(TRUNCATE)"
	if postgres {
		last = "VACUUM (ANALYZE)"
	}
	return run(ctx, db, append(strings.Split(strings.ReplaceAll(cloneSQL, ":agents", fmt.Sprint(n)), ";"), last))
}
