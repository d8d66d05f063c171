package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
)

// given is the value of a parameter, zero when it is not given.
func given[T any](parameter *T) (value T) {
	if parameter != nil {
		value = *parameter
	}
	return value
}

// pageSize is how many a page has, also when nobody says how many that may be.
func pageSize(limit *int) int { return cmp.Or(given(limit), 100) }

// nextPage is the header Link to the same URL with a parameter set anew.
func nextPage(ctx context.Context, parameter string, value int64) *string {
	return linkTo(ctx, map[string]string{parameter: strconv.FormatInt(value, 10)})
}

func linkTo(ctx context.Context, parameters map[string]string) *string {
	u := askedOf(ctx).url
	if u == nil {
		return nil
	}
	query := u.Query()
	for name, value := range parameters {
		query.Set(name, value)
	}
	return new(fmt.Sprintf(`<%s?%s>; rel="next"`, u.EscapedPath(), query.Encode()))
}

// paged cuts what is one too many off a list, which says that there is a next page, and links to that.
func paged[T any](ctx context.Context, list []T, limit int, id func(T) int64) ([]T, *string) {
	if len(list) <= limit {
		return list, nil
	}
	list = list[:limit]
	return list, nextPage(ctx, "before", id(list[limit-1]))
}
