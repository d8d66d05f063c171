package webhook

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// errCutOff is the error of an attempt that this server ended.
var errCutOff = errors.New("cut off before there was an answer: the server is stopping")

// timeoutError means that an exchange did not end within this time.
type timeoutError time.Duration

func (e timeoutError) Error() string {
	return fmt.Sprintf("there was no complete answer within %s", time.Duration(e))
}

// Judge returns the verdict on a delivery. err is the reason for an incomplete answer: it means Retry, unless it is a
// *RefusedError, which is final. Without an err the status decides: 2xx is Delivered, 410 is Gone; 408, 425, 429 and
// 5xx are Retry; any other is Failed, even a redirect, since none is followed. A status outside 100-599 counts as a 5xx
// (RFC 9110, section 15). The verdict on 3xx, 401, 403, 404 and 405 is Failed here, but until Delivery.DeployingUntil a
// Sender makes it Retry.
func Judge(status int, err error) Verdict {
	switch {
	case err != nil:
		return judgeError(err)
	case status >= 200 && status <= 299:
		return Delivered
	case status == http.StatusGone:
		return Gone
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests,
		status >= 500, status < 100:
		return Retry
	}
	return Failed
}

// judge is Judge, except that an answer of a receiver in deployment is tried again until DeployingUntil.
func (d Delivery) judge(status int, err error) Verdict {
	verdict := Judge(status, err)
	if verdict == Failed && deploying(status) && time.Now().Before(d.DeployingUntil) {
		return Retry
	}
	return verdict
}

// deploying reports whether receivers, or proxies in front of them, answer a status during their deployment: they lack
// their routes or users yet, or redirect all requests.
func deploying(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return status >= 300 && status <= 399
}

func judgeError(err error) Verdict {
	if is[*RefusedError](err) {
		return Failed
	}
	return Retry
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// describe returns the reason for an incomplete answer in plain words. It has at most the host of the URL, and nothing
// that the receiver sent.
func describe(err error) string {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Reason
	}
	if unresolved, ok := errors.AsType[*unresolvedError](err); ok {
		return unresolved.Error()
	}
	switch {
	case errors.Is(err, errCutOff), is[timeoutError](err):
		return err.Error()
	case errors.Is(err, errLeaseOver):
		return errLeaseOver.Error()
	case isTLS(err):
		return describeTLS(err)
	}
	return describeConnection(err)
}

// detail returns what describe leaves out because it is about the inner network.
func detail(err error) string {
	refused, isRefused := errors.AsType[*RefusedError](err)
	unresolved, isUnresolved := errors.AsType[*unresolvedError](err)
	switch {
	case isRefused:
		return refused.detail
	case isUnresolved:
		return unresolved.detail
	}
	return ""
}

// isTLS checks the text too, because not all errors of crypto/tls have a type.
func isTLS(err error) bool {
	return is[*tls.CertificateVerificationError](err) || is[tls.RecordHeaderError](err) ||
		is[*net.OpError](err) && strings.Contains(err.Error(), "tls: ") || strings.HasPrefix(err.Error(), "tls: ")
}

func describeTLS(err error) string {
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case is[x509.UnknownAuthorityError](err):
		return "the receiver's TLS certificate is signed by an unknown authority"
	case is[x509.HostnameError](err):
		return "the receiver's TLS certificate is for another host"
	case isInvalid && invalid.Reason == x509.Expired:
		return "the receiver's TLS certificate has expired or is not valid yet"
	case is[*tls.CertificateVerificationError](err):
		return "the receiver's TLS certificate is not valid"
	case is[tls.RecordHeaderError](err):
		return "the receiver does not speak TLS on this port"
	}
	return "the TLS handshake with the receiver failed"
}

func describeConnection(err error) string {
	errno, isErrno := errors.AsType[syscall.Errno](err)
	netErr, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the receiver refused the connection"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the receiver reset the connection before its answer was complete"
	case isNet && netErr.Timeout():
		return "the connection timed out"
	case isErrno:
		return "the connection failed: " + errno.Error()
	case is[*net.OpError](err):
		return "the connection failed"
	case isClosed(err):
		return "the receiver closed the connection before its answer was complete"
	}
	return "the receiver's answer was not valid HTTP"
}

// isClosed checks the text too, because net/http exports no error for a connection that was closed before its use.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "server closed idle connection")
}
