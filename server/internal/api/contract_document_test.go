package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// document is openapi.yaml.
type document struct {
	base       string // path of the API
	spec       *openapi3.T
	strict     *openapi3.T // see makeStrict
	operations []*apiOperation
}

// apiOperation is an operation of openapi.yaml.
type apiOperation struct {
	id, method, path   string
	spec               *openapi3.Operation
	route, strictRoute *routers.Route
}

// readDocument reads the file once, not the server's embedded copy: make check ensures that both are equal.
var readDocument = sync.OnceValues(func() (*document, error) {
	spec, err := openapi3.NewLoader().LoadFromFile("../../../openapi.yaml")
	if err != nil {
		return nil, err
	}
	closed, err := openapi3.NewLoader().LoadFromFile("../../../openapi.yaml")
	if err != nil {
		return nil, err
	}
	for _, schema := range closed.Components.Schemas {
		makeStrict(schema)
	}
	c := &document{base: spec.Servers[0].URL, spec: spec, strict: closed}
	for path, item := range spec.Paths.Map() {
		for method, operation := range item.Operations() {
			twin := closed.Paths.Value(path)
			c.operations = append(c.operations, &apiOperation{
				id: operation.OperationID, method: method, path: path, spec: operation,
				route: &routers.Route{Spec: spec, Path: path, PathItem: item, Method: method, Operation: operation},
				strictRoute: &routers.Route{
					Spec: closed, Path: path, PathItem: twin, Method: method, Operation: twin.GetOperation(method),
				},
			})
		}
	}
	slices.SortFunc(c.operations, func(a, b *apiOperation) int { return strings.Compare(a.id, b.id) })
	return c, nil
})

func testDocument(t testing.TB) *document {
	t.Helper()
	c, err := readDocument()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// makeStrict forbids what openapi.yaml reserves for later versions, so that this version does not use it. It closes
// objects, x-extensible-enum and x-pattern.
func makeStrict(ref *openapi3.SchemaRef) {
	if ref == nil || ref.Value == nil {
		return
	}
	s := ref.Value
	if no := false; s.Type.Is(openapi3.TypeObject) && s.AdditionalProperties.Schema == nil {
		s.AdditionalProperties = openapi3.AdditionalProperties{Has: &no}
	}
	if values, ok := s.Extensions["x-extensible-enum"].([]any); ok {
		s.Enum = values
	}
	if pattern, ok := s.Extensions["x-pattern"].(string); ok {
		s.Pattern = pattern
	}
	for _, property := range s.Properties {
		if property.Ref == "" {
			makeStrict(property)
		}
	}
}

// tokenAtRoot is the path at which clients of the original API request tokens. openapi.yaml has it only in prose.
const tokenAtRoot = "/oauth/token"

// operationAt returns the operation of a request, or nil. A path with fewer parameters takes precedence.
func (c *document) operationAt(method string, u *url.URL) *apiOperation {
	path := ""
	if strings.TrimSuffix(u.Path, "/") == tokenAtRoot {
		path = tokenAtRoot
	}
	for _, e := range c.operations {
		if _, ok := e.pathParams(c.base, u); ok &&
			(path == "" || strings.Count(e.path, "{") < strings.Count(path, "{")) {
			path = e.path
		}
	}
	for _, e := range c.operations {
		if e.path == path && e.method == method {
			return e
		}
	}
	return nil
}

// pathParams returns the parameters in a path, with or without a trailing slash.
func (e *apiOperation) pathParams(base string, u *url.URL) (map[string]string, bool) {
	path, ok := strings.CutPrefix(u.EscapedPath(), base)
	template := strings.Split(strings.Trim(e.path, "/"), "/")
	segments := strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
	if !ok || len(segments) != len(template) {
		return nil, false
	}
	params := map[string]string{}
	for i, name := range template {
		if !strings.HasPrefix(name, "{") {
			ok = ok && name == segments[i]
			continue
		}
		value, err := url.PathUnescape(segments[i])
		ok = ok && err == nil
		params[strings.Trim(name, "{}")] = value
	}
	return params, ok
}

// jsonBody returns the JSON body of the operation, or nil.
func (e *apiOperation) jsonBody() *openapi3.MediaType {
	if e.spec.RequestBody == nil {
		return nil
	}
	return e.spec.RequestBody.Value.Content["application/json"]
}

// apiResponse is an answer and its request.
type apiResponse struct {
	operation   *apiOperation // nil if openapi.yaml has no such operation
	request     *http.Request
	requestBody string
	status      int
	header      http.Header
	body        []byte
}

func (resp *apiResponse) validationInput(c *document, route *routers.Route) *openapi3filter.RequestValidationInput {
	r := resp.request.Clone(context.Background())
	r.Body, r.GetBody = http.NoBody, nil
	if resp.requestBody != "" {
		r.Body = io.NopCloser(strings.NewReader(resp.requestBody))
	}
	params, _ := resp.operation.pathParams(c.base, r.URL)
	return &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route, Options: &openapi3filter.Options{
			MultiError: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
			SchemaValidationOptions: []openapi3.SchemaValidationOption{sentTimes},
		},
	}
}

// sentTimes checks times in requests: RFC 3339, also without the colon. openapi.yaml has this form only in prose.
var sentTimes = openapi3.WithStringFormatValidators(map[string]openapi3.StringFormatValidator{
	"date-time": openapi3.NewRegexpFormatValidator(
		`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)$`),
})

// checkRequest returns an error if openapi.yaml forbids the request.
func (c *document) checkRequest(resp *apiResponse) error {
	return openapi3filter.ValidateRequest(context.Background(), resp.validationInput(c, resp.operation.route))
}

// checkCallback returns an error if the callbacks of an operation forbid a request to a receiver.
func (c *document) checkCallback(operation string, r *http.Request) error {
	for _, callback := range c.operationByID(operation).strictRoute.Operation.Callbacks {
		for expression, item := range callback.Value.Map() {
			route := &routers.Route{
				Spec: c.strict, Path: expression, PathItem: item, Method: r.Method,
				Operation: item.GetOperation(r.Method),
			}
			return openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
				Request: r, Route: route, Options: &openapi3filter.Options{MultiError: true},
			})
		}
	}
	return fmt.Errorf("%s has no callbacks", operation)
}

// check returns an error if openapi.yaml forbids the answer.
func (c *document) check(resp *apiResponse) error {
	errs := []error{c.checkAnswer(resp), checkType(resp), checkTimes(resp)}
	if id := resp.header.Get("X-Request-Id"); id == "" || len(id) > 64 {
		errs = append(errs, fmt.Errorf("X-Request-Id is %q", id))
	}
	if strings.HasPrefix(resp.request.URL.Path, c.base) {
		errs = append(errs, checkLimitHeaders(resp))
	}
	if resp.status >= 400 {
		errs = append(errs, checkLeaks(resp))
	}
	return errors.Join(errs...)
}

func (c *document) checkAnswer(resp *apiResponse) error {
	options := []openapi3.SchemaValidationOption{openapi3.EnableFormatValidation(), openapi3.MultiErrors()}
	if resp.operation == nil { // an error of routing
		var value any
		if err := json.Unmarshal(resp.body, &value); err != nil {
			return fmt.Errorf("the body is not JSON: %w", err)
		}
		return c.strict.Components.Schemas["ErrorResponse"].Value.VisitJSON(value, options...)
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: resp.validationInput(c, resp.operation.strictRoute),
		Status:                 resp.status,
		Header:                 resp.header,
		Body:                   io.NopCloser(bytes.NewReader(resp.body)),
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true, SchemaValidationOptions: options,
		},
	})
}

// checkType is stricter than the validator, which accepts text after the JSON value.
func checkType(resp *apiResponse) error {
	typ := resp.header.Get("Content-Type")
	if resp.status == http.StatusNoContent {
		if len(resp.body) != 0 || typ != "" {
			return fmt.Errorf("204 has a body of %d bytes and Content-Type %q", len(resp.body), typ)
		}
		return nil
	}
	media, params, err := mime.ParseMediaType(typ)
	charset, ok := params["charset"]
	if err != nil || media != "application/json" || ok && !strings.EqualFold(charset, "utf-8") {
		return fmt.Errorf("Content-Type is %q", typ)
	}
	if !json.Valid(resp.body) {
		return fmt.Errorf("the body is not one JSON value: %.200q", resp.body)
	}
	return nil
}

var (
	likeTime = regexp.MustCompile(`"\d{4}-\d\d-\d\dT[^"]*"`)
	ourTime  = regexp.MustCompile(`^"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"$`)
)

// checkTimes requires UTC and milliseconds, which openapi.yaml has only in prose.
func checkTimes(resp *apiResponse) error {
	for _, t := range likeTime.FindAll(resp.body, -1) {
		if !ourTime.Match(t) {
			return fmt.Errorf("the time %s is not in UTC with milliseconds", t)
		}
	}
	return nil
}

// leaks matches words of the implementation.
var leaks = regexp.MustCompile(
	`(?i)sql|gorm|strconv|panic|(?-i)json: |(?i)echo|schema|openapi|goroutine|\.go\b|unmarshal|reflect|runtime|code=`)

// checkLeaks returns an error if the body has a word of the implementation that the request does not have.
func checkLeaks(resp *apiResponse) error {
	for _, word := range leaks.FindAllString(string(resp.body), -1) {
		if !strings.Contains(resp.request.URL.Path+resp.requestBody, word) {
			return fmt.Errorf("the body leaks %q: %.300q", word, resp.body)
		}
	}
	return nil
}

// tokens returns the tokens of a JSON text for a comparison that ignores spaces and escapes, but not the order of
// fields.
func tokens(text []byte) (all []json.Token, err error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, token)
	}
}
