// The calls of all programs, through the SDK of openapi-generator for Go.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	openapi "github.com/GIT_USER_ID/GIT_REPO_ID"
)

const (
	client    = "35"
	local     = 136
	remote    = 7
	extension = "000*094@ringme.ru"
	number    = "Доб. *7@Юг"
)

// ok returns an answer, and ends the program if it is an error.
func ok[T any](answer T, _ *http.Response, err error) T {
	done(nil, err)
	return answer
}

func done(_ *http.Response, err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func listed[T any](items []T, text func(T) string) string {
	var all []string
	for _, item := range items {
		all = append(all, text(item))
	}
	return strings.Join(all, ", ")
}

func printStatus(agent string, status *openapi.AgentStatus) {
	changed := "unchanged"
	if status.Changed {
		changed = "changed"
	}
	fmt.Printf("status of %s: %s, %s, deliveries %d\n", agent, status.AgentStatus, changed, status.Deliveries)
}

func main() {
	config := openapi.NewConfiguration()
	config.Servers = openapi.ServerConfigurations{{URL: os.Getenv("BASE_URL")}}
	api := openapi.NewAPIClient(config)

	token := ok(api.AccessAPI.RequestToken(context.Background()).GrantType("client_credentials").
		ClientId(os.Getenv("CLIENT_ID")).ClientSecret(os.Getenv("CLIENT_SECRET")).Execute())
	fmt.Printf("token: %s, for %d s\n", token.TokenType, token.ExpiresIn)
	ctx := context.WithValue(context.Background(), openapi.ContextAccessToken, token.AccessToken)

	account := ok(
		api.ClientAPI.PutClient(ctx, client).ClientUpdate(openapi.ClientUpdate{
			Name: openapi.PtrString("Ромашка"),
		}).Execute(),
	)
	fmt.Println("client:", account.Id, account.GetName())
	localAgent := ok(api.AgentAPI.PutLocalAgent(ctx, client, local).
		LocalAgentUpdate(openapi.LocalAgentUpdate{ExtensionName: openapi.PtrString(extension)}).Execute())
	fmt.Println("local agent:", localAgent.Id, localAgent.ExtensionName, localAgent.AgentStatus)
	remoteAgent := ok(api.AgentAPI.PutRemoteAgent(ctx, client, remote).
		RemoteAgentUpdate(openapi.RemoteAgentUpdate{AgentNumber: openapi.PtrString(number)}).Execute())
	fmt.Println("remote agent:", remoteAgent.Id, remoteAgent.AgentNumber, remoteAgent.AgentStatus)
	fmt.Println("local agents:", listed(ok(api.AgentAPI.ListLocalAgents(ctx, client).Execute()),
		func(a openapi.LocalAgent) string { return fmt.Sprint(a.Id, " ", a.ExtensionName) }))
	fmt.Println("remote agents:", listed(ok(api.AgentAPI.ListRemoteAgents(ctx, client).Execute()),
		func(a openapi.RemoteAgent) string { return fmt.Sprint(a.Id, " ", a.AgentNumber) }))

	login := *openapi.NewAgentEventCreate(os.Getenv("RECEIVER_URL"), openapi.POST, openapi.AGENT_LOGIN)
	localEvent := ok(api.EventAPI.CreateLocalAgentEvent(ctx, client, local).AgentEventCreate(login).Execute())
	fmt.Printf("event of local agent %d: %s %s\n", local, localEvent.Method, localEvent.EventType)
	remoteEvent := ok(api.EventAPI.CreateRemoteAgentEvent(ctx, client, remote).AgentEventCreate(login).Execute())
	fmt.Printf("event of remote agent %d: %s %s\n", remote, remoteEvent.Method, remoteEvent.EventType)

	available := *openapi.NewAgentStatusUpdate(openapi.AVAILABLE)
	printStatus(fmt.Sprint("local agent ", local),
		ok(api.StatusAPI.PutLocalAgentStatus(ctx, client, local).AgentStatusUpdate(available).Execute()))
	printStatus(fmt.Sprint("remote agent ", remote),
		ok(api.StatusAPI.PutRemoteAgentStatus(ctx, client, remote).AgentStatusUpdate(available).Execute()))

	var delivered []openapi.Delivery
	for i := 0; i < 100 && len(delivered) != 2; i++ {
		time.Sleep(100 * time.Millisecond)
		delivered = ok(api.DeliveryAPI.ListDeliveries(ctx, client).
			State(openapi.DELIVERED).Since(time.Now().Add(-time.Hour)).Execute())
	}
	fmt.Println("delivered:", len(delivered))

	page := ok(api.DeliveryAPI.ListDeliveries(ctx, client).Limit(1).Execute())
	for len(page) > 0 {
		fmt.Println("page:", listed(page, func(d openapi.Delivery) string {
			return fmt.Sprint(d.AgentType, " ", d.AgentId)
		}))
		page = ok(api.DeliveryAPI.ListDeliveries(ctx, client).Limit(1).Before(page[len(page)-1].Id).Execute())
	}
	fmt.Println("page: empty")

	fmt.Println("feed:", listed(ok(api.StatusAPI.ListStatusChanges(ctx, client).Execute()),
		func(c openapi.StatusChange) string {
			return fmt.Sprint(c.AgentType, " ", c.AgentId, " ", c.AgentStatus)
		}))

	for _, delivery := range slices.Backward(delivered) {
		data := ok(api.DeliveryAPI.GetDelivery(ctx, client, delivery.Id).Execute()).Request.Data
		name := data.GetExtensionName() + data.GetAgentNumber() // one of them is empty
		fmt.Println("data:", data.AgentStatus, data.AgentType, data.EventSource, data.AgentId, name)
	}

	_, resp, err := api.AgentAPI.GetLocalAgent(ctx, client, 999).Execute()
	var refused *openapi.GenericOpenAPIError
	if errors.As(err, &refused) {
		answer := refused.Model().(openapi.ErrorResponse)
		fmt.Println("error:", resp.StatusCode, answer.GetStatus())
	}

	done(api.EventAPI.DeleteLocalAgentEvent(ctx, client, local, localEvent.Id).Execute())
	done(api.EventAPI.DeleteRemoteAgentEvent(ctx, client, remote, remoteEvent.Id).Execute())
	done(api.AgentAPI.DeleteLocalAgent(ctx, client, local).Execute())
	done(api.AgentAPI.DeleteRemoteAgent(ctx, client, remote).Execute())
	done(api.ClientAPI.DeleteClient(ctx, client).Execute())
	fmt.Println("deleted: events, agents, client")
}
