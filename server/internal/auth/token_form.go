package auth

import (
	"bytes"
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
	// MaxTokenBody is more than the form of any client has.
	MaxTokenBody = 16 << 10
	// maxTokenFields is, too.
	maxTokenFields = 20
)

// TokenForm makes one form of all that a token may be asked for with: a body of either type, else HTTP Basic, else the
// query string.
func TokenForm(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		form, err := bodyForm(c)
		if err != nil {
			return err
		}
		given := []url.Values{form, basicForm(r.Header), r.URL.Query()}
		form = url.Values{}
		for _, name := range []string{"grant_type", "client_id", "client_secret", "scope"} {
			form.Set(name, firstValue(given, name))
		}
		r.URL.RawQuery, r.Form, r.PostForm, r.MultipartForm = "", nil, nil, nil
		r.Header.Set(echo.HeaderContentType, echo.MIMEApplicationForm)
		r.Body = io.NopCloser(strings.NewReader(form.Encode()))
		err = next(c)
		var refused *TokenRefusal
		if errors.As(err, &refused) { // with the id of an application, if there is such a one: else it may be a secret
			request.From(r.Context()).TokenApplication = refused.application
		} else if err == nil {
			request.From(r.Context()).TokenApplication = form.Get("client_id")
		}
		return err
	}
}

func firstValue(given []url.Values, name string) string {
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
		form, _ := url.ParseQuery(string(body)) // what is no form holds no credentials
		return form, nil
	case echo.MIMEMultipartForm:
		return multipartForm(body, params["boundary"])
	}
	if len(body) > 0 {
		return nil, refuseForm("the Content-Type must be application/x-www-form-urlencoded")
	}
	return nil, nil
}

// toTokenRefusal gives those refusals of a body OAuth's form that openapi.yaml has in it.
func toTokenRefusal(err error) error {
	var refused *request.Refusal
	if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest && refused.Status != http.StatusUnsupportedMediaType {
		return err
	}
	r := RefuseToken(CodeInvalidRequest, refused.Body.Message)
	r.Status = refused.Status
	return r
}

// refuseForm refuses a body that no form can be read from.
func refuseForm(words string) *TokenRefusal {
	refused := RefuseToken(CodeInvalidRequest, words)
	refused.Status = http.StatusUnsupportedMediaType
	return refused
}

func multipartForm(body []byte, boundary string) (url.Values, error) {
	if len(body) == 0 {
		return nil, nil
	}
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(MaxTokenBody)
	if err != nil {
		return nil, RefuseToken(CodeInvalidRequest, "the body is no multipart/form-data")
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
	return RefuseToken(CodeInvalidRequest, fmt.Sprintf("the body may have at most %d fields", maxTokenFields))
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
	return url.Values{"client_id": {unescapeForm(id)}, "client_secret": {unescapeForm(secret)}}
}

// unescapeForm leaves what is not encoded as it is.
func unescapeForm(text string) string {
	plain, err := url.QueryUnescape(text)
	if err != nil {
		return text
	}
	return plain
}
