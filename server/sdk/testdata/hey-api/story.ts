// The calls of all programs, through the SDK of @hey-api/openapi-ts.

import { client as http } from './sdk/client.gen.js';
import {
    createLocalAgentEvent, createRemoteAgentEvent, deleteClient, deleteLocalAgent, deleteLocalAgentEvent, deleteRemoteAgent,
    deleteRemoteAgentEvent, getDelivery, getLocalAgent, listDeliveries, listLocalAgents, listRemoteAgents, listStatusChanges,
    putClient, putLocalAgent, putLocalAgentStatus, putRemoteAgent, putRemoteAgentStatus, requestToken,
    type AgentEventCreate, type AgentStatus, type Delivery,
} from './sdk/index.js';

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

function sayStatus(agent: string, status: AgentStatus): void {
    const changed = status.changed ? 'changed' : 'unchanged';
    console.log(`status of ${agent}: ${status.agent_status}, ${changed}, deliveries ${status.deliveries}`);
}

http.setConfig({ baseUrl: env('BASE_URL') });

const token = ok(await requestToken({
    body: { grant_type: 'client_credentials', client_id: env('CLIENT_ID'), client_secret: env('CLIENT_SECRET') },
}));
console.log(`token: ${token.token_type}, for ${token.expires_in} s`);

http.setConfig({ auth: () => token.access_token });

const path = { client_id: CLIENT };
const local = { client_id: CLIENT, agent_id: LOCAL };
const remote = { client_id: CLIENT, agent_id: REMOTE };

const client = ok(await putClient({ path, body: { name: 'Ромашка' } }));
console.log(`client: ${client.id} ${client.name}`);
const localAgent = ok(await putLocalAgent({ path: local, body: { extension_name: EXTENSION } }));
console.log(`local agent: ${localAgent.id} ${localAgent.extension_name} ${localAgent.agent_status}`);
const remoteAgent = ok(await putRemoteAgent({ path: remote, body: { agent_number: NUMBER } }));
console.log(`remote agent: ${remoteAgent.id} ${remoteAgent.agent_number} ${remoteAgent.agent_status}`);
const locals = ok(await listLocalAgents({ path }));
console.log(`local agents: ${locals.map((a) => `${a.id} ${a.extension_name}`).join(', ')}`);
const remotes = ok(await listRemoteAgents({ path }));
console.log(`remote agents: ${remotes.map((a) => `${a.id} ${a.agent_number}`).join(', ')}`);

const login: AgentEventCreate = { url: env('RECEIVER_URL'), method: 'POST', event_type: 'agent-login' };
const localEvent = ok(await createLocalAgentEvent({ path: local, body: login }));
console.log(`event of local agent ${LOCAL}: ${localEvent.method} ${localEvent.event_type}`);
const remoteEvent = ok(await createRemoteAgentEvent({ path: remote, body: login }));
console.log(`event of remote agent ${REMOTE}: ${remoteEvent.method} ${remoteEvent.event_type}`);

sayStatus(`local agent ${LOCAL}`, ok(await putLocalAgentStatus({ path: local, body: { agent_status: 'available' } })));
sayStatus(`remote agent ${REMOTE}`, ok(await putRemoteAgentStatus({ path: remote, body: { agent_status: 'available' } })));

const since = new Date(Date.now() - 3_600_000).toISOString();
let delivered: Delivery[] = [];
for (let i = 0; i < 100 && delivered.length !== 2; i++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    delivered = ok(await listDeliveries({ path, query: { state: 'delivered', since } }));
}
console.log(`delivered: ${delivered.length}`);

let page = ok(await listDeliveries({ path, query: { limit: 1 } }));
while (page.length > 0) {
    console.log(`page: ${page.map((d) => `${d.agent_type} ${d.agent_id}`).join(', ')}`);
    const before = page.at(-1)?.id;
    page = ok(await listDeliveries({ path, query: { limit: 1, before } }));
}
console.log('page: empty');

const feed = ok(await listStatusChanges({ path }));
console.log(`feed: ${feed.map((c) => `${c.agent_type} ${c.agent_id} ${c.agent_status}`).join(', ')}`);

for (const delivery of delivered.reverse()) {
    const { data } = ok(await getDelivery({ path: { client_id: CLIENT, delivery_id: delivery.id } })).request;
    const name = data.extension_name ?? data.agent_number;
    console.log(`data: ${data.agent_status} ${data.agent_type} ${data.event_source} ${data.agent_id} ${name}`);
}

const missing = await getLocalAgent({ path: { client_id: CLIENT, agent_id: 999 } });
console.log(`error: ${missing.response?.status} ${missing.error?.status}`);

done(await deleteLocalAgentEvent({ path: { ...local, event_id: localEvent.id } }));
done(await deleteRemoteAgentEvent({ path: { ...remote, event_id: remoteEvent.id } }));
done(await deleteLocalAgent({ path: local }));
done(await deleteRemoteAgent({ path: remote }));
done(await deleteClient({ path }));
console.log('deleted: events, agents, client');
