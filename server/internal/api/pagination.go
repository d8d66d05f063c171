package api

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/agentevents/agentevents/server/internal/request"
)

// valueOf returns the value of an optional parameter, or zero if it is absent.
func valueOf[T any](parameter *T) (value T) {
	if parameter != nil {
		value = *parameter
	}
	return value
}

// pageSize returns the number of items in a page: 100 without a limit.
func pageSize(limit *int) int { return cmp.Or(valueOf(limit), 100) }

// limitPlusOne returns the number of items to read for a page: one surplus item proves that there is a next page. 0
// means all items.
func limitPlusOne(limit *int) int {
	if limit == nil {
		return 0
	}
	return *limit + 1
}

// pageAfter cuts a list of limitPlusOne items to a page, and returns the link to the next page. Without a limit, the
// page has all items.
func pageAfter[T any](ctx context.Context, list []T, limit *int, id func(T) string) ([]T, *string) {
	if limit == nil || len(list) <= *limit {
		return list, nil
	}
	list = list[:*limit]
	return list, linkTo(ctx, map[string]string{"after": id(list[*limit-1])})
}

// nextPage returns a Link header with the request's URL, in which a parameter has another value.
func nextPage(ctx context.Context, parameter string, value int64) *string {
	return linkTo(ctx, map[string]string{parameter: strconv.FormatInt(value, 10)})
}

// linkTo returns a Link header with the request's URL, in which parameters have other values. An empty value removes a
// parameter.
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

// pageBefore cuts a list of limit+1 items, newest first, to a page, and returns the link to the next page.
func pageBefore[T any](ctx context.Context, list []T, limit int, id func(T) int64) ([]T, *string) {
	if len(list) <= limit {
		return list, nil
	}
	list = list[:limit]
	return list, nextPage(ctx, "before", id(list[limit-1]))
}
