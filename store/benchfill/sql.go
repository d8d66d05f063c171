package benchfill

// countSQL defines the number i of each row of the statement after it. An agent and its lane have the same i. For a
// change, its delivery and its attempt, i % :busy is the number of the agent, and i / :busy the number of the change
// among the agent's.
const countSQL = "WITH RECURSIVE n (i) AS (SELECT CAST(%d AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < %d) "

const clientsSQL = `INSERT INTO clients (id, name, created_at, agents, events, agent_limit, event_limit)
SELECT CAST(:first + i AS TEXT), 'Client ' || i, :begin, (:agents - i + :clients - 1) / :clients,
	2 * ((:pairs - i + :clients - 1) / :clients), 1000000, 1000000
FROM n`

const secretsSQL = `INSERT INTO secrets (client_id, secret) SELECT CAST(:first + i AS TEXT), ':secret' FROM n`

const receiversSQL = `INSERT INTO receivers (id, client_id, scheme, host, port)
SELECT i + 1, CAST(:first + i AS TEXT), 'https', 'crm' || i || '.example', 443 FROM n`

const agentsSQL = `INSERT INTO agents (id, client_id, kind, agent_id, name, status, event_source, sequence, changed_at)
SELECT i + 1, CAST(:first + i % :clients AS TEXT), 'local', i / :clients + 1,
	'000*' || (i / :clients + 1) || '@pbx.example', 'logged_out', 'api',
	CASE WHEN i < :busy THEN :deliveries - :busy + i + 1 ELSE 0 END,
	CASE WHEN i < :busy THEN :begin + (:deliveries - :busy + i) * :span / :deliveries ELSE :begin END
FROM n`

const lanesSQL = `INSERT INTO lanes (id, receiver_id, kind, agent_id, claim)
SELECT i + 1, i % :clients + 1, 'local', i / :clients + 1, CASE WHEN i < :busy THEN :deliveries / :busy ELSE 0 END
FROM n`

const eventsSQL = `INSERT INTO agent_events (id, version_id, agent, url, method, event_type, lane_id, since)
SELECT i + 1, i + 1, i / 2 + 1, 'https://crm' || (i / 2 % :clients) || '.example/agents/' || (i / 2 / :clients + 1),
	'POST', CASE i % 2 WHEN 0 THEN 'agent-login' ELSE 'agent-logout' END, i / 2 + 1, :begin
FROM n`

const versionsSQL = `INSERT INTO event_versions (id, event_id, url, method)
SELECT i + 1, i + 1, 'https://crm' || (i / 2 % :clients) || '.example/agents/' || (i / 2 / :clients + 1), 'POST'
FROM n`

const changesSQL = `INSERT INTO status_changes (id, client_id, kind, agent_id, name, old_status, new_status,
	event_source, changed_at, created_at, fired, skipped)
SELECT i + 1, CAST(:first + i % :busy % :clients AS TEXT), 'local', i % :busy / :clients + 1,
	'000*' || (i % :busy / :clients + 1) || '@pbx.example',
	CASE i / :busy % 2 WHEN 0 THEN 'logged_out' ELSE 'available' END,
	CASE i / :busy % 2 WHEN 0 THEN 'available' ELSE 'logged_out' END, 'api', :begin + i * :span / :deliveries,
	:begin + i * :span / :deliveries, CAST(i % :busy * 2 + 1 + i / :busy % 2 AS TEXT),
	CAST(i % :busy * 2 + 2 - i / :busy % 2 AS TEXT)
FROM n`

const deliveriesSQL = `INSERT INTO deliveries (id, webhook_id, change_id, event_id, lane_id, version_id, state,
	attempts, due_at, expires_at, created_at, finished_at, client_id, kind, agent_id, new_status, changed_at,
	last_attempt)
SELECT i + 1, 'msg_' || CAST(10000000000000 + i AS TEXT) || 'ABCDEFGHIJKL', i + 1, i % :busy * 2 + 1 + i / :busy % 2,
	i % :busy + 1, i % :busy * 2 + 1 + i / :busy % 2,
	CASE (i / :busy / 2 + i % :busy) % 10 WHEN 0 THEN 'failed' ELSE 'delivered' END, 1,
	:begin + i * :span / :deliveries,
	:begin + i * :span / :deliveries + 86400000, :begin + i * :span / :deliveries,
	:begin + i * :span / :deliveries + 20, CAST(:first + i % :busy % :clients AS TEXT), 'local',
	i % :busy / :clients + 1,
	CASE i / :busy % 2 WHEN 0 THEN 'available' ELSE 'logged_out' END, :begin + i * :span / :deliveries, i + 1
FROM n`

const attemptsSQL = `INSERT INTO attempts (id, delivery_id, number, started_at, duration, status, error, excerpt,
	verdict, signature, version_id)
SELECT i + 1, i + 1, 1, :begin + i * :span / :deliveries, 15000,
	CASE (i / :busy / 2 + i % :busy) % 10 WHEN 0 THEN 404 ELSE 200 END,
	'', 'ok', CASE (i / :busy / 2 + i % :busy) % 10 WHEN 0 THEN 'failed' ELSE 'delivered' END,
	'v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=', i % :busy * 2 + 1 + i / :busy % 2
FROM n`
