package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	_ "github.com/jackc/pgx/v5/stdlib" // to clone rows on PostgreSQL

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
)

// programs are the program on each engine, with a store that has the contest's agents.
func (x *contest) programs(ctx context.Context) (all []subject, err error) {
	engines, err := x.engines(ctx)
	for _, e := range engines {
		x.say("%s: registers %d agents, %s", x.workload, x.agents, e.name)
		url, err := e.create(ctx, x.workload)
		if err == nil {
			err = errors.Join(x.fill(ctx, url), x.clone(ctx, e, url))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, program{house: x.house, engine: e, prepared: url})
	}
	return all, err
}

// fill makes a store with the first agent of a contest, and its registrations: one of its login and one of its logout at
// each receiver.
func (x *contest) fill(ctx context.Context, url string) (err error) {
	s, err := store.Open(ctx, store.Options{URL: url, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, _, err := s.PutClient(ctx, x.workload, gen.ClientUpdate{}); err != nil {
		return err
	}
	many := gen.ClientLimitUpdate{Limit: new(int64(10_000_000))}
	if _, err := s.SetLimits(ctx, x.workload, gen.ClientLimitsUpdate{Agent: many, AgentEvent: many}); err != nil {
		return err
	}
	k := store.AgentKey{Client: x.workload, Type: gen.AgentTypeLocal, ID: 1}
	if _, err := s.CreateAgent(ctx, k, store.AgentUpdate{Name: new(extension(1))}); err != nil {
		return err
	}
	for _, url := range x.urls[:x.each] {
		for _, kind := range []gen.EventType{gen.EventTypeAgentLogin, gen.EventTypeAgentLogout} {
			url := fmt.Sprintf("%s/%s/1", url, x.workload)
			if _, err := s.CreateEvent(ctx, k, gen.AgentEventCreate{URL: url, Method: gen.RequestMethodPOST, EventType: kind}); err != nil {
				return err
			}
		}
	}
	return nil
}

// clones makes of the one agent of a store, whose id is 1, so many with the same registrations: a call for each of them
// would take a disk of any kind minutes.
var clones = []string{
	`INSERT INTO agents (client_id, kind, agent_id, name, status, event_source, changed_at)
	WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < :agents)
	SELECT client_id, kind, i, i || '@example.com', status, event_source, changed_at FROM agents, n WHERE i <= :agents`,
	`INSERT INTO lanes (receiver_id, kind, agent_id)
	SELECT l.receiver_id, l.kind, a.agent_id FROM agents a, lanes l WHERE a.agent_id > 1`,
	`INSERT INTO agent_events (agent, url, method, event_type, lane_id, since)
	SELECT a.id, substr(e.url, 1, length(e.url) - 1) || a.agent_id, e.method, e.event_type, l.id, e.since
	FROM agents a, agent_events e JOIN lanes one ON one.id = e.lane_id, lanes l
	WHERE a.agent_id > 1 AND l.receiver_id = one.receiver_id AND l.kind = a.kind AND l.agent_id = a.agent_id
	ORDER BY a.id, e.id`,
	`UPDATE clients SET agents = (SELECT count(*) FROM agents), events = (SELECT count(*) FROM agent_events)`,
}

// clone makes all the others of the first agent.
func (x *contest) clone(ctx context.Context, e *engine, url string) (err error) {
	driver, last := "pgx", "VACUUM (ANALYZE)"
	if e.name == sqliteName {
		driver, last, url = "sqlite3", "PRAGMA wal_checkpoint(TRUNCATE)", "file:"+sqliteFile(url)
	}
	db, err := sql.Open(driver, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, s := range append(clones, last) {
		if _, err := db.ExecContext(ctx, strings.ReplaceAll(s, ":agents", fmt.Sprint(x.agents))); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}
