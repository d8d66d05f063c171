package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/store"
	"github.com/agentevents/agentevents/store/benchfill"
)

// list is a page of a log or of a feed that somebody asks for.
type list struct {
	of   string
	path string // below that of its client
	read func(context.Context, *store.Store) (rows int, err error)
}

// lists are pages of the log of some client and of one of its agents, of the feed, and of the log of any client.
func (g *grown) lists() []list {
	clients := g.size.Clients()
	k, event := g.agent(clients/2 + g.random.IntN(g.size.Busy()/clients)%fewBusy*clients)
	middle := int64(g.size.Deliveries/4 + g.random.IntN(fewBusy)*g.size.Deliveries/20)
	failed := gen.DeliveryStateFailed
	return []list{
		deliveries("the newest deliveries of a client", k.Client, store.DeliveryFilter{}, 0),
		deliveries("those before one in the middle", k.Client, store.DeliveryFilter{}, middle),
		deliveries("those of an agent", k.Client, store.DeliveryFilter{AgentType: k.Type, AgentID: k.ID}, 0),
		deliveries("those of an event", k.Client, store.DeliveryFilter{EventID: event}, 0),
		deliveries("those that failed", k.Client, store.DeliveryFilter{State: failed}, 0),
		deliveries("those of an agent that failed", k.Client, store.DeliveryFilter{State: failed, AgentType: k.Type, AgentID: k.ID}, 0),
		deliveries("those until a time", k.Client, store.DeliveryFilter{Until: time.Now().Add(-10 * 24 * time.Hour)}, 0),
		feed(k.Client, middle), changes(k),
		deliveries("the newest deliveries of any client", benchfill.Client(g.random.IntN(clients)), store.DeliveryFilter{}, 0),
	}
}

func deliveries(of, client string, f store.DeliveryFilter, before int64) list {
	q := url.Values{"limit": {strconv.Itoa(page)}}
	for name, value := range map[string]string{"state": string(f.State), "agent_type": string(f.AgentType)} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for name, n := range map[string]int64{"before": before, "agent_id": f.AgentID, "event_id": f.EventID} {
		if n != 0 {
			q.Set(name, strconv.FormatInt(n, 10))
		}
	}
	if !f.Until.IsZero() {
		q.Set("until", f.Until.UTC().Format(time.RFC3339))
	}
	return list{of, client + "/delivery/?" + q.Encode(), func(ctx context.Context, s *store.Store) (int, error) {
		rows, err := s.Deliveries(ctx, client, f, before, page)
		return len(rows), err
	}}
}

func feed(client string, after int64) list {
	path := fmt.Sprintf("%s/status_change/?after=%d&limit=%d", client, after, page)
	return list{"changes of the feed", path, func(ctx context.Context, s *store.Store) (int, error) {
		feed, err := s.StatusChanges(ctx, client, &after, "", page)
		return len(feed.Changes), err
	}}
}

func changes(k store.AgentKey) list {
	path := fmt.Sprintf("%s/agent/%s/%d/status_change/?limit=%d", k.Client, k.Type, k.ID, page)
	return list{"changes of an agent", path, func(ctx context.Context, s *store.Store) (int, error) {
		rows, err := s.AgentStatusChanges(ctx, k, 0, page)
		return len(rows), err
	}}
}

// page times what lists rows, of which there must be some.
func (g *grown) page(of string, list func() (rows int, err error)) (err error) {
	rows := 0
	g.time(of, func() { rows, err = list() })
	if err == nil && rows == 0 {
		err = errors.New(of + ": there is none")
	}
	return err
}

// ask asks servers on two stores for the same pages, in turn.
func (h *house) ask(ctx context.Context, small, large *grown, rounds int) error {
	if err := errors.Join(small.close(), large.close()); err != nil {
		return err
	}
	const all = "AGENTEVENTS_KEEP_ROWS=1000000000"
	return h.serve(ctx, small.url, func(few *caller) error {
		return h.serve(ctx, large.url, func(many *caller) error {
			for range rounds {
				if err := errors.Join(small.ask(ctx, few), large.ask(ctx, many)); err != nil {
					return err
				}
			}
			return nil
		}, all)
	}, all)
}

// ask asks a server for each page.
func (g *grown) ask(ctx context.Context, c *caller) error {
	for _, l := range g.lists() {
		err := g.page("by the API: "+l.of, func() (int, error) { return rowsOf(ctx, c.asks, c.url+base+l.path) })
		if err != nil {
			return err
		}
	}
	return nil
}

// rowsOf asks for a page and counts its rows.
func rowsOf(ctx context.Context, c *http.Client, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return bytes.Count(body, []byte(`"agent_id":`)), err
}
