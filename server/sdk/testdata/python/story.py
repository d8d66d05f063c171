"""The calls of all programs, through the SDK of openapi-generator for Python."""

import os
import time
from datetime import datetime, timedelta, timezone

import openapi_client as sdk

CLIENT, LOCAL, REMOTE = "35", 136, 7
EXTENSION, NUMBER = "000*094@ringme.ru", "Доб. *7@Юг"

base_url = os.environ["BASE_URL"]
receiver = os.environ["RECEIVER_URL"]

with sdk.ApiClient(sdk.Configuration(host=base_url)) as anyone:
    token = sdk.AccessApi(anyone).request_token(
        grant_type="client_credentials",
        client_id=os.environ["CLIENT_ID"],
        client_secret=os.environ["CLIENT_SECRET"],
    )
print(f"token: {token.token_type}, for {token.expires_in} s")

api = sdk.ApiClient(sdk.Configuration(host=base_url, access_token=token.access_token))
clients, agents, events = sdk.ClientApi(api), sdk.AgentApi(api), sdk.EventApi(api)
statuses, deliveries = sdk.StatusApi(api), sdk.DeliveryApi(api)

client = clients.put_client(CLIENT, sdk.ClientUpdate(name="Ромашка"))
print(f"client: {client.id} {client.name}")
local = agents.put_local_agent(CLIENT, LOCAL, sdk.LocalAgentUpdate(extension_name=EXTENSION))
print(f"local agent: {local.id} {local.extension_name} {local.agent_status}")
remote = agents.put_remote_agent(CLIENT, REMOTE, sdk.RemoteAgentUpdate(agent_number=NUMBER))
print(f"remote agent: {remote.id} {remote.agent_number} {remote.agent_status}")
print("local agents:", ", ".join(f"{a.id} {a.extension_name}" for a in agents.list_local_agents(CLIENT)))
print("remote agents:", ", ".join(f"{a.id} {a.agent_number}" for a in agents.list_remote_agents(CLIENT)))

login = sdk.AgentEventCreate(url=receiver, method=sdk.RequestMethod.POST, event_type=sdk.EventType.AGENT_MINUS_LOGIN)
local_event = events.create_local_agent_event(CLIENT, LOCAL, login)
print(f"event of local agent {LOCAL}: {local_event.method} {local_event.event_type}")
remote_event = events.create_remote_agent_event(CLIENT, REMOTE, login)
print(f"event of remote agent {REMOTE}: {remote_event.method} {remote_event.event_type}")


def print_status(agent: str, status: sdk.AgentStatus) -> None:
    changed = "changed" if status.changed else "unchanged"
    print(f"status of {agent}: {status.agent_status}, {changed}, deliveries {status.deliveries}")


available = sdk.AgentStatusUpdate(agent_status=sdk.AgentStatusValue.AVAILABLE)
print_status(f"local agent {LOCAL}", statuses.put_local_agent_status(CLIENT, LOCAL, available))
print_status(f"remote agent {REMOTE}", statuses.put_remote_agent_status(CLIENT, REMOTE, available))

since = datetime.now(timezone.utc) - timedelta(hours=1)
delivered: list[sdk.Delivery] = []
for _ in range(100):
    delivered = deliveries.list_deliveries(CLIENT, state=sdk.DeliveryState.DELIVERED, since=since)
    if len(delivered) == 2:
        break
    time.sleep(0.1)
print(f"delivered: {len(delivered)}")

page = deliveries.list_deliveries(CLIENT, limit=1)
while page:
    print("page:", ", ".join(f"{d.agent_type} {d.agent_id}" for d in page))
    page = deliveries.list_deliveries(CLIENT, limit=1, before=page[-1].id)
print("page: empty")

feed = statuses.list_status_changes(CLIENT)
print("feed:", ", ".join(f"{c.agent_type} {c.agent_id} {c.agent_status}" for c in feed))

for delivery in reversed(delivered):
    data = deliveries.get_delivery(CLIENT, delivery.id).request.data
    name = data.extension_name or data.agent_number
    print(f"data: {data.agent_status} {data.agent_type} {data.event_source} {data.agent_id} {name}")

try:
    agents.get_local_agent(CLIENT, 999)
except sdk.ApiException as e:
    assert isinstance(e.data, sdk.ErrorResponse)
    print(f"error: {e.status} {e.data.status}")

events.delete_local_agent_event(CLIENT, LOCAL, local_event.id)
events.delete_remote_agent_event(CLIENT, REMOTE, remote_event.id)
agents.delete_local_agent(CLIENT, LOCAL)
agents.delete_remote_agent(CLIENT, REMOTE)
clients.delete_client(CLIENT)
print("deleted: events, agents, client")
