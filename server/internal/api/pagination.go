package api

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/agentevents/agentevents/server/internal/request"
)

// valueOf is the value of a parameter, zero when it is not given.
func valueOf[T any](parameter *T) (value T) {
	if parameter != nil {
		value = *parameter
	}
	return value
}

// pageSize is how many a page has, also when nobody says how many that may be.
func pageSize(limit *int) int { return cmp.Or(valueOf(limit), 100) }

// limitPlusOne is how many of a list the store is asked for, so that it shows whether there is a next page. 0 means all.
func limitPlusOne(limit *int) int {
	if limit == nil {
		return 0
	}
	return *limit + 1
}

// pageAfter cuts a list that has one more than limit, and links to the page after that. Without a limit it has all.
func pageAfter[T any](ctx context.Context, list []T, limit *int, id func(T) string) ([]T, *string) {
	if limit == nil || len(list) <= *limit {
		return list, nil
	}
	list = list[:*limit]
	return list, linkTo(ctx, map[string]string{"after": id(list[*limit-1])})
}

// nextPage is the header Link to the same URL with a parameter set anew.
func nextPage(ctx context.Context, parameter string, value int64) *string {
	return linkTo(ctx, map[string]string{parameter: strconv.FormatInt(value, 10)})
}

// linkTo links to what was asked for with other parameters; an empty one is left out.
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

// pageBefore cuts what is one too many off a list, which says that there is a next page, and links to that.
func pageBefore[T any](ctx context.Context, list []T, limit int, id func(T) int64) ([]T, *string) {
	if len(list) <= limit {
		return list, nil
	}
	list = list[:limit]
	return list, nextPage(ctx, "before", id(list[limit-1]))
}
