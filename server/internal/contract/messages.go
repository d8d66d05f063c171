package contract

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// schemaMessage returns what a value must be, by the rule that it violates.
func schemaMessage(e *openapi3.SchemaError) string {
	s := e.Schema
	if e.Value == nil {
		return insteadOf("null", kindMessage(s))
	}
	switch e.SchemaField {
	case "required":
		return "is required"
	case "properties":
		return unknownMessage(s)
	case "format":
		return formatMessage(s.Format)
	case "pattern":
		return patternMessage(s.Pattern)
	case "minLength", "maxLength":
		return lengthMessage(s)
	case "maxItems":
		return maxItemsMessage(s)
	}
	return kindMessage(s)
}

// unknownMessage is about a field that an object may not have.
func unknownMessage(s *openapi3.Schema) string {
	return "is not a field of this request; allowed are: " +
		strings.Join(slices.Sorted(maps.Keys(s.Properties)), ", ")
}

func maxItemsMessage(s *openapi3.Schema) string {
	return fmt.Sprintf("must have at most %d items", *s.MaxItems)
}

// insteadOf returns what a value must be instead of null or empty.
func insteadOf(given, allowed string) string {
	return "must not be " + given + ", but " + strings.TrimPrefix(allowed, "must be ")
}

// kindMessage returns the values that a schema allows: those of its enum, otherwise those of its type.
func kindMessage(s *openapi3.Schema) string {
	if len(s.Enum) > 0 {
		return "must be one of: " + strings.Trim(strings.ReplaceAll(fmt.Sprint(s.Enum), " ", ", "), "[]")
	}
	return typeMessage(s)
}

// parseMessage returns what a parameter must be if its text is not of its type.
func parseMessage(s *openapi3.Schema) string {
	if s.Type.Is(openapi3.TypeArray) {
		return "each " + kindMessage(s.Items.Value)
	}
	return kindMessage(s)
}

// typeMessage returns the message of a type, with its bounds and its format.
func typeMessage(s *openapi3.Schema) string {
	switch {
	case s.Type.Is(openapi3.TypeInteger) && s.Min != nil && s.Max != nil:
		return "must be an integer from " + rangeText(*s.Min, *s.Max)
	case s.Type.Is(openapi3.TypeInteger) && s.Min != nil:
		return fmt.Sprintf("must be an integer of at least %.0f", *s.Min)
	case s.Type.Is(openapi3.TypeString) && s.Format != textFormat:
		return formatMessage(s.Format)
	case s.Type.Is(openapi3.TypeString):
		return "must be a string"
	case s.Type.Is(openapi3.TypeBoolean):
		return "must be true or false"
	case s.Type.Is(openapi3.TypeInteger), s.Type.Is(openapi3.TypeArray), s.Type.Is(openapi3.TypeObject):
		return "must be an " + s.Type.Slice()[0]
	}
	return "is not valid"
}

func lengthMessage(s *openapi3.Schema) string {
	if s.MinLength == 0 {
		return fmt.Sprintf("must be at most %d characters long", *s.MaxLength)
	}
	return fmt.Sprintf("must be %d to %d characters long", s.MinLength, *s.MaxLength)
}

func rangeText(from, to float64) string { return fmt.Sprintf("%.0f to %.0f", from, to) }

func formatMessage(format string) string {
	switch format {
	case "uri":
		return "must be an absolute URL, such as https://example.com/path"
	case "date-time":
		return "must be an RFC 3339 time, such as 2017-05-30T15:07:50.000Z"
	case textFormat:
		return noControlsMessage
	}
	return "must be a string"
}

const noControlsMessage = "must not contain control characters"

// patternMessage describes the patterns of openapi.yaml. A test checks that it has all of them.
func patternMessage(pattern string) string {
	switch pattern {
	case `^([A-Za-z0-9._-]{1,64}|@me)$`:
		return "must be 1 to 64 characters of A-Z a-z 0-9 . _ -"
	case `^[0-9a-f]{32}$`:
		return "must be 32 characters of 0-9 a-f"
	case `^[0-9a-f]{16}$`:
		return "must be 16 characters of 0-9 a-f"
	case `^[^\x00-\x1f\x7f]*$`:
		return noControlsMessage
	}
	return "must match " + pattern
}
