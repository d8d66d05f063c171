package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/gen"
	"github.com/agentevents/agentevents/server/internal/request"
	"github.com/agentevents/agentevents/server/internal/telemetry"
	"github.com/agentevents/agentevents/server/lab"
	"github.com/agentevents/agentevents/store"
)

const internal = `{"message":"internal error"}`

// handleError answers an error, and returns the answer and the log.
func handleError(err error) (rec *httptest.ResponseRecorder, log string) {
	var lines lab.Log
	e := echo.New()
	c := e.NewContext(httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder())
	c.Response().Header().Set(echo.HeaderXRequestID, "id-1")
	errorHandler(telemetry.NewLog(&lines, slog.LevelInfo, false))(err, c)
	return c.Response().Writer.(*httptest.ResponseRecorder), lines.String()
}

func TestErrorsBecomeAnswers(t *testing.T) {
	field := gen.FieldError{Field: "url", Message: "must be short"}
	for name, c := range map[string]struct {
		err    error
		status int
		body   string
		logged string
	}{
		"not found": {
			&store.Error{Kind: store.NotFound, Message: "there is no client 1", Status: "client_not_found"},
			404, `{"message":"there is no client 1","status":"client_not_found"}`, "",
		},
		"conflict": {
			&store.Error{Kind: store.Conflict, Message: "taken", Status: "conflict", Fields: []gen.FieldError{field}},
			409, `{"message":"taken","status":"conflict","errors":[{"field":"url","message":"must be short"}]}`, "",
		},
		"key reused": {
			&store.Error{Kind: store.KeyReused, Message: "no", Status: "x"}, 422, `{"message":"no","status":"x"}`, "",
		},
		"over quota": {&store.Error{Kind: store.OverQuota, Message: "no"}, 429, `{"message":"no"}`, ""},
		"invalid":    {&store.Error{Kind: store.Invalid, Message: "no"}, 400, `{"message":"no"}`, ""},
		"unavailable": {
			&store.Error{Kind: store.Unavailable, Message: "try again"}, 503, `{"message":"try again"}`, "status=503",
		},
		"no kind": {&store.Error{Message: "hm"}, 500, internal, "hm"},
		"wrapped": {
			fmt.Errorf("here: %w", &store.Error{Kind: store.Invalid, Message: "no"}), 400, `{"message":"no"}`, "",
		},
		"refused": {request.Refuse(415, "no"), 415, `{"message":"no"}`, ""},
		"fields": {
			request.Invalid(field), 400,
			`{"message":"the request is not valid","errors":[{"field":"url","message":"must be short"}]}`, "",
		},
		"not routed": {echo.ErrNotFound, 404, `{"message":"this path does not exist"}`, ""},
		"not bound": {
			echo.NewHTTPError(400, "strconv.ParseInt: oh"), 400, `{"message":"the request is not valid"}`, "",
		},
		"Echo's own":  {echo.NewHTTPError(500, "secret"), 500, internal, "secret"},
		"unknown":     {errors.New("sql: no rows in /var/lib/x.db"), 500, internal, "sql: no rows in /var/lib/x.db"},
		"canceled":    {context.Canceled, statusClientClosedRequest, "", ""},
		"out of time": {context.DeadlineExceeded, 500, internal, "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			rec, log := handleError(c.err)
			if body := strings.TrimSpace(rec.Body.String()); rec.Code != c.status || c.body != "" && body != c.body {
				t.Errorf("got %d %s\nwant %d %s", rec.Code, body, c.status, c.body)
			}
			if !strings.Contains(log, c.logged) || (log == "") != (c.logged == "") || log != "" &&
				!strings.Contains(log, "id-1") {
				t.Errorf("logged %q, want %q", log, c.logged)
			}
			if retry := rec.Header().Get("Retry-After"); (retry == "1") != (c.status == 503) {
				t.Errorf("Retry-After is %q", retry)
			}
		})
	}
}

// An error does not replace an answer that has begun.
func TestErrorDoesNotReplaceAnAnswer(t *testing.T) {
	e := echo.New()
	rec := httptest.NewRecorder()
	c := e.NewContext(httptest.NewRequest(http.MethodGet, "/", nil), rec)
	if err := c.String(http.StatusOK, "done"); err != nil {
		t.Fatal(err)
	}
	errorHandler(telemetry.NewLog(&lab.Log{}, slog.LevelInfo, false))(errors.New("late"), c)
	if rec.Code != http.StatusOK || rec.Body.String() != "done" {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}

func TestPanicsAreInternalErrors(t *testing.T) {
	err := recoverPanics(func(echo.Context) error { panic("a secret") })(nil)
	rec, log := handleError(err)
	if rec.Code != http.StatusInternalServerError || strings.TrimSpace(rec.Body.String()) != internal {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
	if !strings.Contains(log, "a secret") || !strings.Contains(log, "errors_test.go") {
		t.Errorf("the log lacks the stack: %s", log)
	}
}
