// The calls of all programs, through the Go client of this repository.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/client"
)

const (
	account   = "35"
	local     = 136
	remote    = 7
	extension = "000*094@ringme.ru"
	number    = "Доб. *7@Юг"
)

// answer is the answer of an operation.
type answer interface {
	StatusCode() int
	GetBody() []byte
}

// ok returns an answer, and ends the program if it is an error.
func ok[A answer](a A, err error) A {
	if err != nil {
		log.Fatal(err)
	}
	if a.StatusCode() >= 300 {
		log.Fatalf("refused: %d %s", a.StatusCode(), a.GetBody())
	}
	return a
}

func listed[T any](items []T, text func(T) string) string {
	var all []string
	for _, item := range items {
		all = append(all, text(item))
	}
	return strings.Join(all, ", ")
}

func printStatus(agent string, status *gen.AgentStatus) {
	changed := "unchanged"
	if status.Changed {
		changed = "changed"
	}
	fmt.Printf("status of %s: %s, %s, deliveries %d\n", agent, status.AgentStatus, changed, status.Deliveries)
}

func main() {
	ctx := context.Background()
	base := os.Getenv("BASE_URL")
	anyone, err := client.NewClientWithResponses(base)
	if err != nil {
		log.Fatal(err)
	}
	token := ok(anyone.RequestTokenWithFormdataBodyWithResponse(ctx, gen.TokenRequest{
		GrantType:    gen.TokenRequestGrantTypeClientCredentials,
		ClientID:     os.Getenv("CLIENT_ID"),
		ClientSecret: os.Getenv("CLIENT_SECRET"),
	})).JSON200
	fmt.Printf("token: %s, for %d s\n", token.TokenType, token.ExpiresIn)
	api, err := client.NewClientWithResponses(base,
		client.WithRequestEditorFn(func(_ context.Context, req *http.Request) error {
			req.Header.Set("Authorization", "Bearer "+token.AccessToken)
			return nil
		}))
	if err != nil {
		log.Fatal(err)
	}

	name, extensionName, agentNumber := "Ромашка", extension, number
	put := ok(api.PutClientWithResponse(ctx, account, gen.ClientUpdate{Name: &name}))
	made := cmp.Or(put.JSON201, put.JSON200) // created or updated
	fmt.Println("client:", made.ID, made.Name)
	putLocal := ok(
		api.PutLocalAgentWithResponse(ctx, account, local, gen.LocalAgentUpdate{ExtensionName: &extensionName}),
	)
	localAgent := cmp.Or(putLocal.JSON201, putLocal.JSON200)
	fmt.Println("local agent:", localAgent.ID, localAgent.ExtensionName, localAgent.AgentStatus)
	putRemote := ok(
		api.PutRemoteAgentWithResponse(ctx, account, remote, gen.RemoteAgentUpdate{AgentNumber: &agentNumber}),
	)
	remoteAgent := cmp.Or(putRemote.JSON201, putRemote.JSON200)
	fmt.Println("remote agent:", remoteAgent.ID, remoteAgent.AgentNumber, remoteAgent.AgentStatus)
	fmt.Println("local agents:", listed(*ok(api.ListLocalAgentsWithResponse(ctx, account, nil)).JSON200,
		func(a gen.LocalAgent) string { return fmt.Sprint(a.ID, " ", a.ExtensionName) }))
	fmt.Println("remote agents:", listed(*ok(api.ListRemoteAgentsWithResponse(ctx, account, nil)).JSON200,
		func(a gen.RemoteAgent) string { return fmt.Sprint(a.ID, " ", a.AgentNumber) }))

	login := gen.AgentEventCreate{
		URL: os.Getenv("RECEIVER_URL"), Method: gen.RequestMethodPOST, EventType: gen.EventTypeAgentLogin,
	}
	localEvent := ok(api.CreateLocalAgentEventWithResponse(ctx, account, local, nil, login)).JSON201
	fmt.Printf("event of local agent %d: %s %s\n", local, localEvent.Method, localEvent.EventType)
	remoteEvent := ok(api.CreateRemoteAgentEventWithResponse(ctx, account, remote, nil, login)).JSON201
	fmt.Printf("event of remote agent %d: %s %s\n", remote, remoteEvent.Method, remoteEvent.EventType)

	available := gen.AgentStatusUpdate{AgentStatus: gen.AgentStatusValueAvailable}
	printStatus(fmt.Sprint("local agent ", local),
		ok(api.PutLocalAgentStatusWithResponse(ctx, account, local, available)).JSON200)
	printStatus(fmt.Sprint("remote agent ", remote),
		ok(api.PutRemoteAgentStatusWithResponse(ctx, account, remote, available)).JSON200)

	var delivered []gen.Delivery
	since := time.Now().Add(-time.Hour)
	for i := 0; i < 100 && len(delivered) != 2; i++ {
		time.Sleep(100 * time.Millisecond)
		delivered = *ok(api.ListDeliveriesWithResponse(ctx, account,
			&gen.ListDeliveriesParams{State: new(gen.DeliveryStateDelivered), Since: &since})).JSON200
	}
	fmt.Println("delivered:", len(delivered))

	one := 1
	page := *ok(api.ListDeliveriesWithResponse(ctx, account, &gen.ListDeliveriesParams{Limit: &one})).JSON200
	for len(page) > 0 {
		fmt.Println("page:", listed(page, func(d gen.Delivery) string {
			return fmt.Sprint(d.AgentType, " ", d.AgentID)
		}))
		before := page[len(page)-1].ID
		page = *ok(
			api.ListDeliveriesWithResponse(ctx, account, &gen.ListDeliveriesParams{Limit: &one, Before: &before}),
		).JSON200
	}
	fmt.Println("page: empty")

	fmt.Println("feed:", listed(*ok(api.ListStatusChangesWithResponse(ctx, account, nil)).JSON200,
		func(c gen.StatusChange) string {
			return fmt.Sprint(c.AgentType, " ", c.AgentID, " ", c.AgentStatus)
		}))

	for _, delivery := range slices.Backward(delivered) {
		data := ok(api.GetDeliveryWithResponse(ctx, account, delivery.ID)).JSON200.Request.Data
		name := data.ExtensionName + data.AgentNumber // one of them is empty
		fmt.Println("data:", data.AgentStatus, data.AgentType, data.EventSource, data.AgentID, name)
	}

	missing, err := api.GetLocalAgentWithResponse(ctx, account, 999)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("error:", missing.StatusCode(), missing.JSON404.Status)

	ok(api.DeleteLocalAgentEventWithResponse(ctx, account, local, localEvent.ID))
	ok(api.DeleteRemoteAgentEventWithResponse(ctx, account, remote, remoteEvent.ID))
	ok(api.DeleteLocalAgentWithResponse(ctx, account, local))
	ok(api.DeleteRemoteAgentWithResponse(ctx, account, remote))
	ok(api.DeleteClientWithResponse(ctx, account))
	fmt.Println("deleted: events, agents, client")
}
