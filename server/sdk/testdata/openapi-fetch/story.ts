// The calls of all programs, through openapi-fetch with the types of openapi-typescript.

import createClient, { type Middleware } from 'openapi-fetch';
import type { components, paths } from './schema.js';

const CLIENT = '35';
const LOCAL = 136;
const REMOTE = 7;
const EXTENSION = '000*094@ringme.ru';
const NUMBER = 'Доб. *7@Юг';

function env(name: string): string {
    const value = process.env[name];
    if (value === undefined) {
        throw new Error(`${name} is not set`);
    }
    return value;
}

/** Returns the answer, and throws it if it is an error. */
function ok<T>(answer: { data?: T; error?: unknown }): T {
    if (answer.data === undefined) {
        throw new Error(`refused: ${JSON.stringify(answer.error)}`);
    }
    return answer.data;
}

/** Throws the answer if it is an error. */
function done(answer: { error?: unknown }): void {
    if (answer.error !== undefined) {
        throw new Error(`refused: ${JSON.stringify(answer.error)}`);
    }
}

function sayStatus(agent: string, status: components['schemas']['AgentStatus']): void {
    const changed = status.changed ? 'changed' : 'unchanged';
    console.log(`status of ${agent}: ${status.agent_status}, ${changed}, deliveries ${status.deliveries}`);
}

const api = createClient<paths>({ baseUrl: env('BASE_URL') });

const token = ok(await api.POST('/oauth/token', {
    body: { grant_type: 'client_credentials', client_id: env('CLIENT_ID'), client_secret: env('CLIENT_SECRET') },
    headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
}));
console.log(`token: ${token.token_type}, for ${token.expires_in} s`);

const authorize: Middleware = {
    onRequest({ request }) {
        request.headers.set('Authorization', `Bearer ${token.access_token}`);
        return request;
    },
};
api.use(authorize);

const path = { client_id: CLIENT };
const local = { path: { client_id: CLIENT, agent_id: LOCAL } };
const remote = { path: { client_id: CLIENT, agent_id: REMOTE } };

const client = ok(await api.PUT('/client/{client_id}', { params: { path }, body: { name: 'Ромашка' } }));
console.log(`client: ${client.id} ${client.name}`);
const localAgent = ok(await api.PUT('/client/{client_id}/agent/local/{agent_id}', {
    params: local, body: { extension_name: EXTENSION },
}));
console.log(`local agent: ${localAgent.id} ${localAgent.extension_name} ${localAgent.agent_status}`);
const remoteAgent = ok(await api.PUT('/client/{client_id}/agent/remote/{agent_id}', {
    params: remote, body: { agent_number: NUMBER },
}));
console.log(`remote agent: ${remoteAgent.id} ${remoteAgent.agent_number} ${remoteAgent.agent_status}`);
const locals = ok(await api.GET('/client/{client_id}/agent/local/', { params: { path } }));
console.log(`local agents: ${locals.map((a) => `${a.id} ${a.extension_name}`).join(', ')}`);
const remotes = ok(await api.GET('/client/{client_id}/agent/remote/', { params: { path } }));
console.log(`remote agents: ${remotes.map((a) => `${a.id} ${a.agent_number}`).join(', ')}`);

const login: components['schemas']['AgentEventCreate'] = {
    url: env('RECEIVER_URL'), method: 'POST', event_type: 'agent-login',
};
const localEvent = ok(await api.POST('/client/{client_id}/agent/local/{agent_id}/event/', { params: local, body: login }));
console.log(`event of local agent ${LOCAL}: ${localEvent.method} ${localEvent.event_type}`);
const remoteEvent = ok(await api.POST('/client/{client_id}/agent/remote/{agent_id}/event/', { params: remote, body: login }));
console.log(`event of remote agent ${REMOTE}: ${remoteEvent.method} ${remoteEvent.event_type}`);

sayStatus(`local agent ${LOCAL}`, ok(await api.PUT('/client/{client_id}/agent/local/{agent_id}/status', {
    params: local, body: { agent_status: 'available' },
})));
sayStatus(`remote agent ${REMOTE}`, ok(await api.PUT('/client/{client_id}/agent/remote/{agent_id}/status', {
    params: remote, body: { agent_status: 'available' },
})));

const since = new Date(Date.now() - 3_600_000).toISOString();
let delivered: components['schemas']['Delivery'][] = [];
for (let i = 0; i < 100 && delivered.length !== 2; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    delivered = ok(await api.GET('/client/{client_id}/delivery/', { params: { path, query: { state: 'delivered', since } } }));
}
console.log(`delivered: ${delivered.length}`);

let page = ok(await api.GET('/client/{client_id}/delivery/', { params: { path, query: { limit: 1 } } }));
while (page.length > 0) {
    console.log(`page: ${page.map((d) => `${d.agent_type} ${d.agent_id}`).join(', ')}`);
    const before = page.at(-1)?.id;
    page = ok(await api.GET('/client/{client_id}/delivery/', { params: { path, query: { limit: 1, before } } }));
}
console.log('page: empty');

const feed = ok(await api.GET('/client/{client_id}/status_change/', { params: { path } }));
console.log(`feed: ${feed.map((c) => `${c.agent_type} ${c.agent_id} ${c.agent_status}`).join(', ')}`);

for (const delivery of delivered.reverse()) {
    const { data } = ok(await api.GET('/client/{client_id}/delivery/{delivery_id}', {
        params: { path: { client_id: CLIENT, delivery_id: delivery.id } },
    })).request;
    const name = data.extension_name ?? data.agent_number;
    console.log(`data: ${data.agent_status} ${data.agent_type} ${data.event_source} ${data.agent_id} ${name}`);
}

const missing = await api.GET('/client/{client_id}/agent/local/{agent_id}', {
    params: { path: { client_id: CLIENT, agent_id: 999 } },
});
console.log(`error: ${missing.response.status} ${missing.error?.status}`);

done(await api.DELETE('/client/{client_id}/agent/local/{agent_id}/event/{event_id}', {
    params: { path: { ...local.path, event_id: localEvent.id } },
}));
done(await api.DELETE('/client/{client_id}/agent/remote/{agent_id}/event/{event_id}', {
    params: { path: { ...remote.path, event_id: remoteEvent.id } },
}));
done(await api.DELETE('/client/{client_id}/agent/local/{agent_id}', { params: local }));
done(await api.DELETE('/client/{client_id}/agent/remote/{agent_id}', { params: remote }));
done(await api.DELETE('/client/{client_id}', { params: { path } }));
console.log('deleted: events, agents, client');
