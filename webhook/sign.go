package webhook

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	secretPrefix = "whsec_"
	secretBytes  = 32
)

// NewSecret returns a new secret: 256 random bits, as whsec_ and base64.
func NewSecret() string {
	key := make([]byte, secretBytes)
	_, _ = rand.Read(key) // never fails: the program ends if there is no randomness
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// Sign returns the value of webhook-signature: a signature by each secret, separated by spaces, as the Standard
// Webhooks specification has it. The content is the body of a POST and the whole query string of a GET, as sent,
// without the question mark.
func Sign(id string, timestamp time.Time, content string, secrets ...string) (string, error) {
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		signer, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			return "", errors.New("a secret is not base64 after whsec_")
		}
		if signatures[i], err = signer.Sign(id, timestamp, []byte(content)); err != nil {
			return "", err
		}
	}
	return strings.Join(signatures, " "), nil
}

// Verify is for receivers. It returns nil when one of the secrets has signed the request and its webhook-timestamp is
// within 5 minutes of now. The content is the body of a POST and the raw query of a GET, as it came in; secrets are
// as the API gives them out. Who drops a webhook-id that it knows is also safe from requests that are played back.
func Verify(header http.Header, content string, secrets ...string) error {
	err := errors.New("there is no secret to verify with")
	for _, secret := range secrets {
		verifier, bad := standardwebhooks.NewWebhook(secret)
		if bad != nil {
			return errors.New("a secret is not base64 after whsec_")
		}
		if err = verifier.Verify([]byte(content), header); err == nil {
			return nil
		}
	}
	return err
}
