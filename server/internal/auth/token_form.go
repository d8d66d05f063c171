package auth

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

	"github.com/agentevents/agentevents/server/internal/contract"
	"github.com/agentevents/agentevents/server/internal/request"
)

const (
	// MaxTokenBody is the maximum number of bytes in the body of a token request. The forms of all known clients are
	// far smaller.
	MaxTokenBody = 16 << 10
	// maxTokenFields is the maximum number of fields in the body: parsing each costs time.
	maxTokenFields = 20
)

// TokenForm accepts every form of a token request, and converts it to the form that the generated binding parses. It
// takes each field from the first source that has it: the body (a form or multipart/form-data), HTTP Basic, the query.
func TokenForm(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		form, err := bodyForm(c)
		if err != nil {
			return err
		}
		sources := []url.Values{form, basicForm(r.Header), r.URL.Query()}
		form = url.Values{}
		for _, name := range []string{"grant_type", "client_id", "client_secret", "scope"} {
			form.Set(name, firstValue(sources, name))
		}
		r.URL.RawQuery, r.Form, r.PostForm, r.MultipartForm = "", nil, nil, nil
		r.Header.Set(echo.HeaderContentType, echo.MIMEApplicationForm)
		r.Body = io.NopCloser(strings.NewReader(form.Encode()))
		err = next(c)
		recordApplication(r.Context(), form.Get("client_id"), err)
		return err
	}
}

// recordApplication records, for the log, the application that requested a token. It omits unknown ids: they may be
// secrets in the wrong field.
func recordApplication(ctx context.Context, id string, err error) {
	info := request.From(ctx)
	if refusal, refused := errors.AsType[*TokenRefusal](err); refused {
		info.TokenApplication = refusal.application
	} else if err == nil {
		info.TokenApplication = id
	}
}

func firstValue(sources []url.Values, name string) string {
	for _, values := range sources {
		if values.Get(name) != "" {
			return values.Get(name)
		}
	}
	return ""
}

// bodyForm parses the form in the body. Only an empty body may have another Content-Type.
func bodyForm(c echo.Context) (url.Values, error) {
	r := c.Request()
	body, err := contract.ReadBody(c, MaxTokenBody)
	if err != nil {
		return nil, toTokenRefusal(err)
	}
	media, params, _ := mime.ParseMediaType(r.Header.Get(echo.HeaderContentType))
	switch media {
	case echo.MIMEApplicationForm:
		if bytes.Count(body, []byte("&")) >= maxTokenFields {
			return nil, tooManyFields()
		}
		form, _ := url.ParseQuery(string(body)) // malformed fields are ignored
		return form, nil
	case echo.MIMEMultipartForm:
		return multipartForm(body, params["boundary"])
	}
	if len(body) > 0 {
		return nil, refuseForm(http.StatusUnsupportedMediaType,
			"the Content-Type must be application/x-www-form-urlencoded")
	}
	return nil, nil
}

// toTokenRefusal converts a refusal of the body to OAuth's form, if openapi.yaml has that form for its status.
func toTokenRefusal(err error) error {
	refusal, ok := errors.AsType[*request.Refusal](err)
	if !ok || refusal.Status != http.StatusBadRequest && refusal.Status != http.StatusUnsupportedMediaType {
		return err
	}
	return refuseForm(refusal.Status, refusal.Body.Message)
}

// refuseForm refuses a body that is not a form.
func refuseForm(status int, message string) *TokenRefusal {
	return &TokenRefusal{Status: status, code: CodeInvalidRequest, message: message}
}

// multipartForm parses parts up to the bound, and ignores files.
func multipartForm(body []byte, boundary string) (url.Values, error) {
	if len(body) == 0 {
		return nil, nil
	}
	form := url.Values{}
	parts := multipart.NewReader(bytes.NewReader(body), boundary)
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		switch {
		case err == io.EOF: //nolint:errorlint // an error that wraps EOF means that the end is missing
			return form, nil
		case err == nil && n == maxTokenFields:
			return nil, tooManyFields()
		case err == nil:
			err = addPart(form, part)
		}
		if err != nil {
			return nil, RefuseToken(CodeInvalidRequest, "the body must be valid multipart/form-data")
		}
	}
}

func addPart(form url.Values, part *multipart.Part) error {
	value, err := io.ReadAll(part)
	if part.FileName() == "" {
		form.Add(part.FormName(), string(value))
	}
	return err
}

func tooManyFields() error {
	return RefuseToken(CodeInvalidRequest, fmt.Sprintf("the body may have at most %d fields", maxTokenFields))
}

// basicForm parses the credentials of HTTP Basic, which are encoded as the values of a form (RFC 6749, section 2.3.1).
// The credentials of a client that does not encode them are the same, since no id or secret contains % or +.
func basicForm(h http.Header) url.Values {
	scheme, text, _ := strings.Cut(h.Get(echo.HeaderAuthorization), " ")
	plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if !strings.EqualFold(scheme, "Basic") || err != nil {
		return nil
	}
	id, secret, _ := strings.Cut(string(plain), ":")
	return url.Values{"client_id": {unescapeForm(id)}, "client_secret": {unescapeForm(secret)}}
}

// unescapeForm returns a malformed text unchanged.
func unescapeForm(text string) string {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return text
	}
	return plain
}
