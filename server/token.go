package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/gen/api"
	"github.com/agentevents/agentevents/store"
)

const (
	// maxTokenBody is more than the form of any client has.
	maxTokenBody = 16 << 10
	// maxTokenFields is, too.
	maxTokenFields = 20
)

// What is wrong with a request for a token: RFC 6749, section 5.2, and one of ours.
const (
	errInvalidClient        = "invalid_client"
	errInvalidRequest       = "invalid_request"
	errUnsupportedGrantType = "unsupported_grant_type"
	errRateLimitExceeded    = "rate_limit_exceeded"
)

// tokenRefusal is why there is no token. OAuth has a form of its own for that.
type tokenRefusal struct {
	status      int
	code        string
	words       string
	application string // whose secret was wrong, empty for none
	given       string // the id that was given, which may be anything
}

func (r *tokenRefusal) Error() string { return r.words }

func (r *tokenRefusal) body() gen.TokenError {
	return gen.TokenError{Error: r.code, ErrorDescription: r.words, Message: r.words}
}

func refuseToken(code string, words string) *tokenRefusal {
	return &tokenRefusal{status: http.StatusBadRequest, code: code, words: words}
}

// tokenForm makes one form of all that a token may be asked for with: a body of either type, else HTTP Basic, else the
// query string.
func tokenForm(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		form, err := bodyForm(c)
		if err != nil {
			return err
		}
		given := []url.Values{form, basicForm(r.Header), r.URL.Query()}
		form = url.Values{}
		for _, name := range []string{"grant_type", "client_id", "client_secret", "scope"} {
			form.Set(name, first(given, name))
		}
		r.URL.RawQuery, r.Form, r.PostForm, r.MultipartForm = "", nil, nil, nil
		r.Header.Set(echo.HeaderContentType, echo.MIMEApplicationForm)
		r.Body = io.NopCloser(strings.NewReader(form.Encode()))
		err = next(c)
		var refused *tokenRefusal
		if errors.As(err, &refused) { // with the id of an application, if there is such a one: else it may be a secret
			askedOf(r.Context()).application = refused.application
		} else if err == nil {
			askedOf(r.Context()).application = form.Get("client_id")
		}
		return err
	}
}

func first(given []url.Values, name string) string {
	for _, values := range given {
		if values.Get(name) != "" {
			return values.Get(name)
		}
	}
	return ""
}

// bodyForm reads the body, whatever of the two its type says it is; any other type has no body.
func bodyForm(c echo.Context) (url.Values, error) {
	r := c.Request()
	body, err := readBody(c, maxTokenBody)
	if err != nil {
		return nil, asTokenRefusal(err)
	}
	media, params, _ := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType))
	switch media {
	case echo.MIMEApplicationForm:
		if bytes.Count(body, []byte("&")) >= maxTokenFields {
			return nil, tooManyFields()
		}
		form, _ := url.ParseQuery(string(body)) // what is no form holds no credentials
		return form, nil
	case echo.MIMEMultipartForm:
		return multipartForm(body, params["boundary"])
	}
	if len(body) > 0 {
		return nil, noForm("the Content-Type must be application/x-www-form-urlencoded")
	}
	return nil, nil
}

// asTokenRefusal gives those refusals of a body OAuth's form that openapi.yaml has in it.
func asTokenRefusal(err error) error {
	var refused *refusal
	if !errors.As(err, &refused) || refused.status != http.StatusBadRequest && refused.status != http.StatusUnsupportedMediaType {
		return err
	}
	r := refuseToken(errInvalidRequest, refused.body.Message)
	r.status = refused.status
	return r
}

// noForm refuses a body that no form can be read from.
func noForm(words string) *tokenRefusal {
	refused := refuseToken(errInvalidRequest, words)
	refused.status = http.StatusUnsupportedMediaType
	return refused
}

func multipartForm(body []byte, boundary string) (url.Values, error) {
	if len(body) == 0 {
		return nil, nil
	}
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(maxTokenBody)
	if err != nil {
		return nil, refuseToken(errInvalidRequest, "the body is no multipart/form-data")
	}
	parts := 0
	for _, values := range form.Value {
		parts += len(values)
	}
	for _, files := range form.File {
		parts += len(files)
	}
	if parts > maxTokenFields {
		return nil, tooManyFields()
	}
	return form.Value, nil
}

func tooManyFields() error {
	return refuseToken(errInvalidRequest, fmt.Sprintf("the body may have at most %d fields", maxTokenFields))
}

// basicForm is what HTTP Basic says. Its two parts are encoded like those of a form (RFC 6749, 2.3.1); whoever does not
// do that changes nothing, since no id and no secret has a % or a +.
func basicForm(h http.Header) url.Values {
	scheme, text, _ := strings.Cut(h.Get(echo.HeaderAuthorization), " ")
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if !strings.EqualFold(scheme, "Basic") || err != nil {
		return nil
	}
	id, secret, _ := strings.Cut(string(plain), ":")
	return url.Values{"client_id": {decoded(id)}, "client_secret": {decoded(secret)}}
}

// decoded leaves what is not encoded as it is.
func decoded(text string) string {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return text
	}
	return plain
}

func (h handlers) RequestToken(
	ctx context.Context, r api.RequestTokenRequestObject,
) (api.RequestTokenResponseObject, error) {
	switch form := r.Body; {
	case form.GrantType == "":
		return nil, refuseToken(errInvalidRequest, "grant_type is missing, it must be client_credentials")
	case form.GrantType != gen.TokenRequestGrantTypeClientCredentials:
		return nil, refuseToken(errUnsupportedGrantType, "grant_type must be client_credentials")
	}
	token, err := h.store.IssueToken(ctx, r.Body.ClientID, r.Body.ClientSecret)
	if errors.Is(err, store.ErrCredentials) {
		return nil, wrongCredentials(err, r.Body.ClientID)
	}
	if err != nil {
		return nil, err
	}
	var answer api.RequestToken200JSONResponse
	answer.Headers.CacheControl = "no-store"
	answer.Body = gen.Token{
		AccessToken: token, TokenType: "Bearer", ExpiresIn: int(store.TokenLife.Seconds()), Scope: "all",
	}
	return answer, nil
}

func wrongCredentials(err error, id string) *tokenRefusal {
	refused := refuseToken(errInvalidClient, err.Error())
	refused.given = id
	if !errors.Is(err, store.ErrApplication) {
		refused.application = id
	}
	return refused
}
