package contract

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"

	"github.com/labstack/echo/v4"

	"github.com/agentevents/agentevents/server/internal/request"
)

// A reader of the body may refuse the request while the body arrives.
func TestRefusalOfABodyIsTheAnswer(t *testing.T) {
	busy := request.Refuse(http.StatusServiceUnavailable, "no room")
	for err, want := range map[error]int{busy: busy.Status, io.ErrUnexpectedEOF: http.StatusBadRequest} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", iotest.ErrReader(err))
		_, err := ReadBody(echo.New().NewContext(r, httptest.NewRecorder()), 10)
		if refusal, is := errors.AsType[*request.Refusal](err); !is || refusal.Status != want {
			t.Errorf("%v, want %d", err, want)
		}
	}
}
