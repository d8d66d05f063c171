// The calls of all programs, through the SDK of openapi-generator for TypeScript with fetch.

import {
    AccessApi, AgentApi, AgentStatusValue, ClientApi, Configuration, DeliveryApi, DeliveryState, ErrorResponseFromJSON,
    EventApi, EventType, RequestMethod, RequestTokenGrantTypeEnum, ResponseError, StatusApi,
    type AgentStatus, type Delivery,
} from './sdk';

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

function sayStatus(agent: string, status: AgentStatus): void {
    const changed = status.changed ? 'changed' : 'unchanged';
    console.log(`status of ${agent}: ${status.agentStatus}, ${changed}, deliveries ${status.deliveries}`);
}

async function main(): Promise<void> {
    const basePath = env('BASE_URL');
    const token = await new AccessApi(new Configuration({ basePath })).requestToken({
        grantType: RequestTokenGrantTypeEnum.ClientCredentials,
        clientId: env('CLIENT_ID'),
        clientSecret: env('CLIENT_SECRET'),
    });
    console.log(`token: ${token.tokenType}, for ${token.expiresIn} s`);

    const config = new Configuration({ basePath, accessToken: token.accessToken });
    const clients = new ClientApi(config);
    const agents = new AgentApi(config);
    const events = new EventApi(config);
    const statuses = new StatusApi(config);
    const deliveries = new DeliveryApi(config);
    const local = { clientId: CLIENT, agentId: LOCAL };
    const remote = { clientId: CLIENT, agentId: REMOTE };

    const client = await clients.putClient({ clientId: CLIENT, clientUpdate: { name: 'Ромашка' } });
    console.log(`client: ${client.id} ${client.name}`);
    const localAgent = await agents.putLocalAgent({ ...local, localAgentUpdate: { extensionName: EXTENSION } });
    console.log(`local agent: ${localAgent.id} ${localAgent.extensionName} ${localAgent.agentStatus}`);
    const remoteAgent = await agents.putRemoteAgent({ ...remote, remoteAgentUpdate: { agentNumber: NUMBER } });
    console.log(`remote agent: ${remoteAgent.id} ${remoteAgent.agentNumber} ${remoteAgent.agentStatus}`);
    const locals = await agents.listLocalAgents({ clientId: CLIENT });
    console.log(`local agents: ${locals.map((a) => `${a.id} ${a.extensionName}`).join(', ')}`);
    const remotes = await agents.listRemoteAgents({ clientId: CLIENT });
    console.log(`remote agents: ${remotes.map((a) => `${a.id} ${a.agentNumber}`).join(', ')}`);

    const login = { url: env('RECEIVER_URL'), method: RequestMethod.Post, eventType: EventType.AgentLogin };
    const localEvent = await events.createLocalAgentEvent({ ...local, agentEventCreate: login });
    console.log(`event of local agent ${LOCAL}: ${localEvent.method} ${localEvent.eventType}`);
    const remoteEvent = await events.createRemoteAgentEvent({ ...remote, agentEventCreate: login });
    console.log(`event of remote agent ${REMOTE}: ${remoteEvent.method} ${remoteEvent.eventType}`);

    const available = { agentStatus: AgentStatusValue.Available };
    sayStatus(`local agent ${LOCAL}`, await statuses.putLocalAgentStatus({ ...local, agentStatusUpdate: available }));
    sayStatus(`remote agent ${REMOTE}`, await statuses.putRemoteAgentStatus({ ...remote, agentStatusUpdate: available }));

    const since = new Date(Date.now() - 3_600_000);
    let delivered: Delivery[] = [];
    for (let i = 0; i < 100 && delivered.length !== 2; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        delivered = await deliveries.listDeliveries({ clientId: CLIENT, state: DeliveryState.Delivered, since });
    }
    console.log(`delivered: ${delivered.length}`);

    let page = await deliveries.listDeliveries({ clientId: CLIENT, limit: 1 });
    while (page.length > 0) {
        console.log(`page: ${page.map((d) => `${d.agentType} ${d.agentId}`).join(', ')}`);
        page = await deliveries.listDeliveries({ clientId: CLIENT, limit: 1, before: page.at(-1)?.id });
    }
    console.log('page: empty');

    const feed = await statuses.listStatusChanges({ clientId: CLIENT });
    console.log(`feed: ${feed.map((c) => `${c.agentType} ${c.agentId} ${c.agentStatus}`).join(', ')}`);

    for (const delivery of delivered.reverse()) {
        const { data } = (await deliveries.getDelivery({ clientId: CLIENT, deliveryId: delivery.id })).request;
        const name = data.extensionName ?? data.agentNumber;
        console.log(`data: ${data.agentStatus} ${data.agentType} ${data.eventSource} ${data.agentId} ${name}`);
    }

    try {
        await agents.getLocalAgent({ clientId: CLIENT, agentId: 999 });
    } catch (e) {
        if (!(e instanceof ResponseError)) {
            throw e;
        }
        const error = ErrorResponseFromJSON(await e.response.json());
        console.log(`error: ${e.response.status} ${error.status}`);
    }

    await events.deleteLocalAgentEvent({ ...local, eventId: localEvent.id });
    await events.deleteRemoteAgentEvent({ ...remote, eventId: remoteEvent.id });
    await agents.deleteLocalAgent(local);
    await agents.deleteRemoteAgent(remote);
    await clients.deleteClient({ clientId: CLIENT });
    console.log('deleted: events, agents, client');
}

main().catch((e) => {
    console.error(e);
    process.exit(1);
});
