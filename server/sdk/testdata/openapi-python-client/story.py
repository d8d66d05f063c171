"""The calls of all programs, through the SDK of openapi-python-client."""

import os
import time
from datetime import datetime, timedelta, timezone
from http import HTTPStatus
from typing import TypeVar

from agentevents_client import AuthenticatedClient, Client
from agentevents_client.api.access import request_token
from agentevents_client.api.agent import (
    delete_local_agent,
    delete_remote_agent,
    get_local_agent,
    list_local_agents,
    list_remote_agents,
    put_local_agent,
    put_remote_agent,
)
from agentevents_client.api.client import delete_client, put_client
from agentevents_client.api.delivery import get_delivery, list_deliveries
from agentevents_client.api.event import (
    create_local_agent_event,
    create_remote_agent_event,
    delete_local_agent_event,
    delete_remote_agent_event,
)
from agentevents_client.api.status import list_status_changes, put_local_agent_status, put_remote_agent_status
from agentevents_client.models import (
    AgentEventCreate,
    AgentStatus,
    AgentStatusUpdate,
    AgentStatusValue,
    ClientUpdate,
    DeliveryState,
    ErrorResponse,
    EventType,
    LocalAgentUpdate,
    RemoteAgentUpdate,
    RequestMethod,
    TokenError,
    TokenRequest,
    TokenRequestGrantType,
)

CLIENT, LOCAL, REMOTE = "35", 136, 7
EXTENSION, NUMBER = "000*094@ringme.ru", "Доб. *7@Юг"

T = TypeVar("T")


def ok(answer: T | ErrorResponse | TokenError | None) -> T:
    """Returns the answer, unless it is an error."""
    if answer is None or isinstance(answer, (ErrorResponse, TokenError)):
        raise RuntimeError(f"refused: {answer}")
    return answer


base_url = os.environ["BASE_URL"]
receiver = os.environ["RECEIVER_URL"]

token = ok(
    request_token.sync(
        client=Client(base_url=base_url),
        body=TokenRequest(
            grant_type=TokenRequestGrantType.CLIENT_CREDENTIALS,
            client_id=os.environ["CLIENT_ID"],
            client_secret=os.environ["CLIENT_SECRET"],
        ),
    )
)
print(f"token: {token.token_type}, for {token.expires_in} s")

api = AuthenticatedClient(base_url=base_url, token=token.access_token)

client = ok(put_client.sync(CLIENT, client=api, body=ClientUpdate(name="Ромашка")))
print(f"client: {client.id} {client.name}")
local = ok(put_local_agent.sync(CLIENT, LOCAL, client=api, body=LocalAgentUpdate(extension_name=EXTENSION)))
print(f"local agent: {local.id} {local.extension_name} {local.agent_status}")
remote = ok(put_remote_agent.sync(CLIENT, REMOTE, client=api, body=RemoteAgentUpdate(agent_number=NUMBER)))
print(f"remote agent: {remote.id} {remote.agent_number} {remote.agent_status}")
locals_ = ok(list_local_agents.sync(CLIENT, client=api))
print("local agents:", ", ".join(f"{a.id} {a.extension_name}" for a in locals_))
remotes = ok(list_remote_agents.sync(CLIENT, client=api))
print("remote agents:", ", ".join(f"{a.id} {a.agent_number}" for a in remotes))

login = AgentEventCreate(url=receiver, method=RequestMethod.POST, event_type=EventType.AGENT_LOGIN)
local_event = ok(create_local_agent_event.sync(CLIENT, LOCAL, client=api, body=login))
print(f"event of local agent {LOCAL}: {local_event.method} {local_event.event_type}")
remote_event = ok(create_remote_agent_event.sync(CLIENT, REMOTE, client=api, body=login))
print(f"event of remote agent {REMOTE}: {remote_event.method} {remote_event.event_type}")


def print_status(agent: str, status: AgentStatus) -> None:
    changed = "changed" if status.changed else "unchanged"
    print(f"status of {agent}: {status.agent_status}, {changed}, deliveries {status.deliveries}")


available = AgentStatusUpdate(agent_status=AgentStatusValue.AVAILABLE)
print_status(f"local agent {LOCAL}", ok(put_local_agent_status.sync(CLIENT, LOCAL, client=api, body=available)))
print_status(f"remote agent {REMOTE}", ok(put_remote_agent_status.sync(CLIENT, REMOTE, client=api, body=available)))

since = datetime.now(timezone.utc) - timedelta(hours=1)
for _ in range(100):
    delivered = ok(list_deliveries.sync(CLIENT, client=api, state=DeliveryState.DELIVERED, since=since))
    if len(delivered) == 2:
        break
    time.sleep(0.1)
print(f"delivered: {len(delivered)}")

page = ok(list_deliveries.sync(CLIENT, client=api, limit=1))
while page:
    print("page:", ", ".join(f"{d.agent_type} {d.agent_id}" for d in page))
    page = ok(list_deliveries.sync(CLIENT, client=api, limit=1, before=page[-1].id))
print("page: empty")

feed = ok(list_status_changes.sync(CLIENT, client=api))
print("feed:", ", ".join(f"{c.agent_type} {c.agent_id} {c.agent_status}" for c in feed))

for delivery in reversed(delivered):
    data = ok(get_delivery.sync(CLIENT, delivery.id, client=api)).request.data
    name = data.extension_name or data.agent_number
    print(f"data: {data.agent_status} {data.agent_type} {data.event_source} {data.agent_id} {name}")

missing = get_local_agent.sync_detailed(CLIENT, 999, client=api)
if isinstance(missing.parsed, ErrorResponse):
    print(f"error: {int(missing.status_code)} {missing.parsed.status}")

for deleted in (
    delete_local_agent_event.sync_detailed(CLIENT, LOCAL, local_event.id, client=api),
    delete_remote_agent_event.sync_detailed(CLIENT, REMOTE, remote_event.id, client=api),
    delete_local_agent.sync_detailed(CLIENT, LOCAL, client=api),
    delete_remote_agent.sync_detailed(CLIENT, REMOTE, client=api),
    delete_client.sync_detailed(CLIENT, client=api),
):
    if deleted.status_code != HTTPStatus.NO_CONTENT:
        raise RuntimeError(f"refused: {deleted.parsed}")
print("deleted: events, agents, client")
