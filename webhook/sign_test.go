package webhook

import (
	"encoding/base64"
	"errors"
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

// The signature is of the content as a receiver gets it: the body of a POST, the raw query of a GET with the URL's own
// part.
func TestRequestsAreSigned(t *testing.T) {
	current, previous, other := NewSecret(), NewSecret(), NewSecret()
	for _, method := range []gen.RequestMethod{gen.RequestMethodGET, gen.RequestMethodPOST} {
		d := Delivery{
			WebhookID: "msg_1", URL: "http://crm.example/hook?a=%20b", Method: method,
			Secrets: []string{current, previous},
			Data: gen.AgentEventData{
				AgentID: "136", AgentType: gen.AgentTypeLocal, ExtensionName: "000*094@ringme.ru",
			},
		}
		req, err := NewRequest(t.Context(), d, "agentevents/test", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		content := req.URL.RawQuery
		if method == gen.RequestMethodPOST {
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

// Nothing is signed or verified with a malformed secret.
func TestMalformedSecretIsRefused(t *testing.T) {
	short := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 23))
	long := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 65))
	for _, secret := range []string{"", "whsec_", "whsec_!", short, long, strings.TrimSuffix(vectorSecret, "w")} {
		_, err := Sign(vectorID, time.Now(), "", secret)
		if !errors.Is(err, ErrSecret) || strings.Contains(err.Error(), "!") {
			t.Errorf("sign with %q: %v", secret, err)
		}
		if err := Verify(http.Header{}, "", secret); !errors.Is(err, ErrSecret) {
			t.Errorf("verify with %q: %v", secret, err)
		}
	}
	if err := Verify(http.Header{}, ""); !errors.Is(err, ErrSecret) {
		t.Errorf("verify without a secret: %v", err)
	}
	if err := Verify(http.Header{}, "", vectorSecret); err == nil || errors.Is(err, ErrSecret) {
		t.Errorf("a forged request is refused with %v", err)
	}
}
