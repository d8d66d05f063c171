package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const (
	secretPrefix = "whsec_"
	secretBytes  = 32
)

// ErrSecret says that a secret is malformed, so that nothing may be signed or verified with it. For a receiver it means
// that its own configuration is wrong; it says nothing about the request.
var ErrSecret = errors.New("a secret must be whsec_ and 24 to 64 bytes in base64")

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
		key, err := keyOf(secret)
		if err != nil {
			return "", err
		}
		signatures[i] = sign(key, id, timestamp, content)
	}
	return strings.Join(signatures, " "), nil
}

// sign computes what the verifying library expects, with fewer allocations than that library signs.
func sign(key []byte, id string, timestamp time.Time, content string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + strconv.FormatInt(timestamp.Unix(), 10) + "." + content))
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Verify is for receivers. It returns nil if one of the secrets has signed the request and its webhook-timestamp is
// within 5 minutes of now. The content is the body of a POST, or the raw query of a GET, as it arrived. Secrets are as
// the API returns them; without any, or with an invalid one, the error is ErrSecret. A receiver that also drops each
// webhook-id that it has seen before is safe from replayed requests.
func Verify(header http.Header, content string, secrets ...string) error {
	err := ErrSecret
	for _, secret := range secrets {
		key, bad := keyOf(secret)
		if bad != nil {
			return bad
		}
		verifier, _ := standardwebhooks.NewWebhookRaw(key) // takes any
		if err = verifier.Verify([]byte(content), header); err == nil {
			return nil
		}
	}
	return err
}

// keyOf refuses what the library takes: an empty secret, with which anybody could sign.
func keyOf(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil || len(key) < 24 || len(key) > 64 { // the specification's bounds
		return nil, ErrSecret
	}
	return key, nil
}
