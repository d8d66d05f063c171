// The calls of all programs, through the SDK of openapi-generator for Java.

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.stream.Collectors;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.*;
import org.openapitools.client.auth.HttpBearerAuth;
import org.openapitools.client.model.*;

public class Story {
    static final String CLIENT = "35";
    static final long LOCAL = 136;
    static final long REMOTE = 7;
    static final String EXTENSION = "000*094@ringme.ru";
    static final String NUMBER = "Доб. *7@Юг";
    static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    static void say(String format, Object... values) {
        OUT.println(String.format(format, values));
    }

    static void sayStatus(String agent, AgentStatus status) {
        say("status of %s: %s, %s, deliveries %d", agent, status.getAgentStatus(),
            status.getChanged() ? "changed" : "unchanged", status.getDeliveries());
    }

    public static void main(String[] args) throws Exception {
        ApiClient api = new ApiClient();
        api.setBasePath(System.getenv("BASE_URL"));

        Token token = new AccessApi(api).requestToken(
            "client_credentials", System.getenv("CLIENT_ID"), System.getenv("CLIENT_SECRET"), null);
        say("token: %s, for %d s", token.getTokenType(), token.getExpiresIn());

        ((HttpBearerAuth) api.getAuthentication("bearer")).setBearerToken(token.getAccessToken());
        ClientApi clients = new ClientApi(api);
        AgentApi agents = new AgentApi(api);
        EventApi events = new EventApi(api);
        StatusApi statuses = new StatusApi(api);
        DeliveryApi deliveries = new DeliveryApi(api);

        ClientAccount client = clients.putClient(CLIENT, new ClientUpdate().name("Ромашка"));
        say("client: %s %s", client.getId(), client.getName());
        LocalAgent local = agents.putLocalAgent(CLIENT, LOCAL, new LocalAgentUpdate().extensionName(EXTENSION));
        say("local agent: %d %s %s", local.getId(), local.getExtensionName(), local.getAgentStatus());
        RemoteAgent remote = agents.putRemoteAgent(CLIENT, REMOTE, new RemoteAgentUpdate().agentNumber(NUMBER));
        say("remote agent: %d %s %s", remote.getId(), remote.getAgentNumber(), remote.getAgentStatus());
        say("local agents: %s", agents.listLocalAgents(CLIENT, null, null, null).stream()
            .map(a -> a.getId() + " " + a.getExtensionName()).collect(Collectors.joining(", ")));
        say("remote agents: %s", agents.listRemoteAgents(CLIENT, null, null, null).stream()
            .map(a -> a.getId() + " " + a.getAgentNumber()).collect(Collectors.joining(", ")));

        AgentEventCreate login = new AgentEventCreate().url(java.net.URI.create(System.getenv("RECEIVER_URL")))
            .method(RequestMethod.POST).eventType(EventType.AGENT_LOGIN);
        AgentEvent localEvent = events.createLocalAgentEvent(CLIENT, LOCAL, login, null);
        say("event of local agent %d: %s %s", LOCAL, localEvent.getMethod(), localEvent.getEventType());
        AgentEvent remoteEvent = events.createRemoteAgentEvent(CLIENT, REMOTE, login, null);
        say("event of remote agent %d: %s %s", REMOTE, remoteEvent.getMethod(), remoteEvent.getEventType());

        AgentStatusUpdate available = new AgentStatusUpdate().agentStatus(AgentStatusValue.AVAILABLE);
        sayStatus("local agent " + LOCAL, statuses.putLocalAgentStatus(CLIENT, LOCAL, available));
        sayStatus("remote agent " + REMOTE, statuses.putRemoteAgentStatus(CLIENT, REMOTE, available));

        OffsetDateTime since = OffsetDateTime.now().minusHours(1);
        List<Delivery> delivered = List.of();
        for (int i = 0; i < 100 && delivered.size() != 2; i++) {
            Thread.sleep(100);
            delivered = deliveries.listDeliveries(
                CLIENT, DeliveryState.DELIVERED, null, null, null, since, null, null, null);
        }
        say("delivered: %d", delivered.size());

        List<Delivery> page = deliveries.listDeliveries(CLIENT, null, null, null, null, null, null, 1, null);
        while (!page.isEmpty()) {
            say("page: %s", page.stream()
                .map(d -> d.getAgentType() + " " + d.getAgentId()).collect(Collectors.joining(", ")));
            Long last = page.get(page.size() - 1).getId();
            page = deliveries.listDeliveries(CLIENT, null, null, null, null, null, null, 1, last);
        }
        say("page: empty");

        say("feed: %s", statuses.listStatusChanges(CLIENT, null, null, null, null, null).stream()
            .map(c -> c.getAgentType() + " " + c.getAgentId() + " " + c.getAgentStatus())
            .collect(Collectors.joining(", ")));

        List<Delivery> oldestFirst = new ArrayList<>(delivered);
        Collections.reverse(oldestFirst);
        for (Delivery delivery : oldestFirst) {
            AgentEventData data = deliveries.getDelivery(CLIENT, delivery.getId()).getRequest().getData();
            String name = data.getExtensionName() != null ? data.getExtensionName() : data.getAgentNumber();
            say("data: %s %s %s %s %s",
                data.getAgentStatus(), data.getAgentType(), data.getEventSource(), data.getAgentId(), name);
        }

        try {
            agents.getLocalAgent(CLIENT, 999L);
        } catch (ApiException e) {
            say("error: %d %s", e.getCode(), ErrorResponse.fromJson(e.getResponseBody()).getStatus());
        }

        events.deleteLocalAgentEvent(CLIENT, LOCAL, localEvent.getId());
        events.deleteRemoteAgentEvent(CLIENT, REMOTE, remoteEvent.getId());
        agents.deleteLocalAgent(CLIENT, LOCAL);
        agents.deleteRemoteAgent(CLIENT, REMOTE);
        clients.deleteClient(CLIENT);
        say("deleted: events, agents, client");
    }
}
