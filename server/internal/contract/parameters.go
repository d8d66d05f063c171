package contract

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// UnescapePath unescapes path parameters. Echo routes by the escaped path, so an escaped slash separates nothing.
func UnescapePath(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		u := c.Request().URL
		if u.RawPath == "" {
			return next(c)
		}
		values := slices.Clone(c.ParamValues())
		for i, value := range values {
			if plain, err := url.PathUnescape(value); err == nil {
				values[i] = plain
			}
		}
		c.SetParamValues(values...)
		u.RawPath = "" // otherwise the generated binding would unescape them again
		return next(c)
	}
}

// ParsePHPArrays accepts arrays in the form of PHP: extension_id[0]=5&extension_id[1]=6 or extension_id[]=5.
func ParsePHPArrays(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		u := c.Request().URL
		if strings.ContainsAny(u.RawQuery, "[%") {
			u.RawQuery = phpArrays(u.Query()).Encode()
		}
		return next(c)
	}
}

// phpArrays removes the brackets of array items from names. It does not change other names.
func phpArrays(query url.Values) url.Values {
	plain := url.Values{}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		name, index, ok := strings.Cut(key, "[")
		if !ok || name == "" || strings.Trim(index, "0123456789") != "]" {
			name = key
		}
		plain[name] = append(plain[name], query[key]...)
	}
	return plain
}
