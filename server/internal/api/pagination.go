package api

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/agentevents/agentevents/server/internal/request"
)

// valueOf is the value of an optional parameter, zero if it is absent.
func valueOf[T any](parameter *T) (value T) {
	if parameter != nil {
		value = *parameter
	}
	return value
}

// pageSize is how many items a page has: 100 without a limit.
func pageSize(limit *int) int { return cmp.Or(valueOf(limit), 100) }

// limitPlusOne is how many items to read for a page, so that one too many shows that there is a next page. 0 means all.
func limitPlusOne(limit *int) int {
	if limit == nil {
		return 0
	}
	return *limit + 1
}

// pageAfter cuts a list of limitPlusOne items to a page, with the link to the next one. Without a limit the page has
// all.
func pageAfter[T any](ctx context.Context, list []T, limit *int, id func(T) string) ([]T, *string) {
	if limit == nil || len(list) <= *limit {
		return list, nil
	}
	list = list[:*limit]
	return list, linkTo(ctx, map[string]string{"after": id(list[*limit-1])})
}

// nextPage is the header Link to the URL of the request with another value of a parameter.
func nextPage(ctx context.Context, parameter string, value int64) *string {
	return linkTo(ctx, map[string]string{parameter: strconv.FormatInt(value, 10)})
}

// linkTo is the header Link to the URL of the request with other values of parameters. An empty value removes one.
func linkTo(ctx context.Context, parameters map[string]string) *string {
	u := request.From(ctx).URL
	if u == nil {
		return nil
	}
	query := u.Query()
	for name, value := range parameters {
		query.Set(name, value)
		if value == "" {
			query.Del(name)
		}
	}
	return new(fmt.Sprintf(`<%s?%s>; rel="next"`, u.EscapedPath(), query.Encode()))
}

// pageBefore cuts a list of limit+1 items to a page, with the link to the next one. The newest items come first.
func pageBefore[T any](ctx context.Context, list []T, limit int, id func(T) int64) ([]T, *string) {
	if len(list) <= limit {
		return list, nil
	}
	list = list[:limit]
	return list, nextPage(ctx, "before", id(list[limit-1]))
}
