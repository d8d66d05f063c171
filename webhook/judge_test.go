package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestJudgeEveryStatus(t *testing.T) {
	retry := map[int]bool{408: true, 425: true, 429: true}
	for status := 100; status <= 599; status++ {
		want := Failed
		switch {
		case status >= 200 && status < 300:
			want = Delivered
		case status == 410:
			want = Gone
		case status >= 500 || retry[status]:
			want = Retry
		}
		if got := Judge(status, nil); got != want {
			t.Errorf("Judge(%d) = %s, want %s", status, got, want)
		}
	}
}

func TestJudgeStatusOutsideTheStandard(t *testing.T) {
	for _, status := range []int{-1, 0, 1, 99, 600, 999} {
		if got := Judge(status, nil); got != Retry {
			t.Errorf("Judge(%d) = %s, want %s: RFC 9110 takes it for a 5xx", status, got, Retry)
		}
	}
}

func TestJudgeAndDescribeErrors(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	call := func(errno syscall.Errno) error { return dial(os.NewSyscallError("connect", errno)) }
	verify := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	certificate := &x509.Certificate{DNSNames: []string{"elsewhere.example"}}

	cases := []struct {
		name    string
		err     error
		verdict Verdict
		text    string
	}{
		{
			"forbidden address", dial(&RefusedError{Reason: "the address is not allowed"}), Failed,
			"the address is not allowed",
		},
		{"timeout", timeoutError(10 * time.Second), Retry, "there was no complete answer within 10s"},
		{"cut off", errCutOff, Retry, "cut off before there was an answer: the server is stopping"},
		{
			"no such host", &unresolvedError{name: "no.example", detail: "no such host"}, Retry,
			"the host name no.example could not be resolved to an allowed address: " + allowedAddresses,
		},
		{"refused", call(syscall.ECONNREFUSED), Retry, "the receiver refused the connection"},
		{"reset", call(syscall.ECONNRESET), Retry, "the receiver reset the connection before its answer was complete"},
		{"broken pipe", call(syscall.EPIPE), Retry, "the receiver reset the connection before its answer was complete"},
		{"kernel's timeout", call(syscall.ETIMEDOUT), Retry, "the connection timed out"},
		{"unreachable", call(syscall.EHOSTUNREACH), Retry, "the connection failed: no route to host"},
		{"no descriptors", call(syscall.EMFILE), Retry, "the connection failed: too many open files"},
		{"unknown network error", dial(errors.New("?")), Retry, "the connection failed"},
		{"closed", io.EOF, Retry, "the receiver closed the connection before its answer was complete"},
		{
			"truncated", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), Retry,
			"the receiver closed the connection before its answer was complete",
		},
		{
			"unknown authority", verify(x509.UnknownAuthorityError{}), Retry,
			"the receiver's TLS certificate is signed by an unknown authority",
		},
		{
			"another host", verify(x509.HostnameError{Certificate: certificate, Host: "here.example"}), Retry,
			"the receiver's TLS certificate is for another host",
		},
		{
			"expired", verify(x509.CertificateInvalidError{Reason: x509.Expired}), Retry,
			"the receiver's TLS certificate has expired or is not valid yet",
		},
		{
			"bad certificate", verify(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}), Retry,
			"the receiver's TLS certificate is not valid",
		},
		{
			"no TLS",
			tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"},
			Retry,
			"the receiver does not speak TLS on this port",
		},
		{
			"TLS alert", &net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}, Retry,
			"the TLS handshake with the receiver failed",
		},
		{
			"TLS version", errors.New("tls: server selected unsupported protocol version 301"), Retry,
			"the TLS handshake with the receiver failed",
		},
		{"malformed", errors.New(`malformed HTTP response "hello"`), Retry, "the receiver's answer was not valid HTTP"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, status := range []int{0, 200, 302, 404, 410, 500} {
				if got := Judge(status, c.err); got != c.verdict {
					t.Errorf("Judge(%d, err) = %s, want %s", status, got, c.verdict)
				}
			}
			if got := describe(c.err); got != c.text {
				t.Errorf("describe = %q, want %q", got, c.text)
			}
		})
	}
}

// Text of the receiver must not appear in the error.
func TestDescribeHoldsNothingOfTheReceiver(t *testing.T) {
	for _, err := range []error{
		fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w",
			errors.New(`malformed HTTP status code "s3cret"`)),
		&tls.CertificateVerificationError{Err: errors.New("x509: s3cret")},
		&net.OpError{Op: "read", Err: errors.New("s3cret")},
		tls.RecordHeaderError{Msg: "s3cret"},
		context.DeadlineExceeded,
	} {
		if text := describe(err); strings.Contains(text, "s3cret") || text == "" {
			t.Errorf("describe(%v) = %q", err, text)
		}
	}
}
