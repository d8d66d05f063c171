package api

import (
	"context"
	"strconv"

	"github.com/oapi-codegen/nullable"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/store"
)

func (h handlers) GetUser(ctx context.Context, _ api.GetUserRequestObject) (api.GetUserResponseObject, error) {
	return api.GetUser200JSONResponse(userOf(request.Caller(ctx))), nil
}

// userOf returns an application in the form of a user of the original API. Its client_id is null unless the client's id
// is a number.
func userOf(c store.Caller) gen.User {
	null := nullable.NewNullNullable[int64]()
	u := gen.User{
		ID: c.Number, Login: c.Name, ClientID: null, DealerID: null, ExtensionID: null,
		Admin: c.Access == store.Operator, Access: "full", Timezone: "UTC",
	}
	if id, err := strconv.ParseInt(c.Client, 10, 64); err == nil && strconv.FormatInt(id, 10) == c.Client {
		u.ClientID = nullable.NewNullableWithValue(id)
	}
	if c.Access == gen.AccessLevelReadOnly {
		u.Access = "read_only"
	}
	return u
}
