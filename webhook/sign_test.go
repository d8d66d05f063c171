package webhook

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentevents/agentevents/gen"
)

// The example of the Standard Webhooks specification's own libraries.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorContent   = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func TestSignVector(t *testing.T) {
	got, err := Sign(vectorID, time.Unix(1614265330, 0), vectorContent, vectorSecret)
	if err != nil || got != vectorSignature {
		t.Errorf("signature %q, want %q (%v)", got, vectorSignature, err)
	}
}

func TestNewSecret(t *testing.T) {
	one, two := NewSecret(), NewSecret()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(one, "whsec_"))
	if err != nil || len(key) != 32 || one == two {
		t.Errorf("secrets %q, %q (%v)", one, two, err)
	}
}

// What a receiver has in hand is what was signed: the body of a POST, the raw query of a GET with the URL's own part.
func TestRequestsAreSigned(t *testing.T) {
	current, previous, other := NewSecret(), NewSecret(), NewSecret()
	for _, method := range []gen.Method{gen.MethodGET, gen.MethodPOST} {
		d := Delivery{
			WebhookID: "msg_1", URL: "http://crm.example/hook?a=%20b", Method: method, Secrets: []string{current, previous},
			Data: gen.AgentEventData{AgentID: "136", AgentType: gen.AgentTypeLocal, ExtensionName: "000*094@ringme.ru"},
		}
		req, err := NewRequest(t.Context(), d, "agentevents/test")
		if err != nil {
			t.Fatal(err)
		}
		content := req.URL.RawQuery
		if method == gen.MethodPOST {
			content = Encode(d.Data)
		}
		for _, secret := range d.Secrets {
			if err := Verify(req.Header, content, secret); err != nil {
				t.Errorf("%s: %v", method, err)
			}
		}
		if err := Verify(req.Header, content, other, previous); err != nil {
			t.Errorf("%s, one of two secrets: %v", method, err)
		}
		if Verify(req.Header, content, other) == nil || Verify(req.Header, content+"x", current) == nil ||
			Verify(req.Header, content) == nil || Verify(http.Header{}, content, current) == nil {
			t.Errorf("%s: verified what was not signed", method)
		}
		req.Header.Set("webhook-timestamp", "1614265330")
		if Verify(req.Header, content, current) == nil {
			t.Errorf("%s: verified what is too old", method)
		}
	}
}

func TestBadSecret(t *testing.T) {
	if _, err := Sign("msg_1", time.Now(), "", "whsec_!"); err == nil || strings.Contains(err.Error(), "whsec_!") {
		t.Errorf("error %v", err)
	}
}
