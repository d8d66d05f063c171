package benchfill

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// cloneSQL gives the agents 2 to :agents the registrations of agent 1, with their own number in the URL.
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

UPDATE clients SET agents = (SELECT count(*) FROM agents), events = (SELECT count(*) FROM agent_events)`

// CloneAgent turns a store that has one agent, with the id 1, into one with n agents of the same client and with the
// same registrations: a registration at .../1 is one at .../AGENT for each of the others. No process may have the store
// open.
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
