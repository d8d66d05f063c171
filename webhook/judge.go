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

// errCutOff stands for an attempt that its own side broke off.
var errCutOff = errors.New("cut off before there was an answer: the server is stopping")

// timeoutError says that an exchange was not over within this time.
type timeoutError time.Duration

func (e timeoutError) Error() string {
	return fmt.Sprintf("there was no complete answer within %s", time.Duration(e))
}

// Judge says what becomes of a delivery. err is why there was no complete answer: retry, unless it is a
// *RefusedError, with which trying again is hopeless. Without an err the status counts: 2xx delivered, 410 gone, 408,
// 425, 429 and 5xx retry, anything else failed, redirects included, since they are not followed. A status outside
// 100-599 is taken for a 5xx, as RFC 9110, section 15, has it. What a receiver may answer while it is deployed is
// failed here; see Delivery.judge.
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

// judge is Judge, but for what the receiver may answer while it is deployed, until DeployingUntil: that is tried again.
func (d Delivery) judge(status int, err error) Verdict {
	verdict := Judge(status, err)
	if verdict == Failed && deploying(status) && time.Now().Before(d.DeployingUntil) {
		return Retry
	}
	return verdict
}

// deploying says whether a status is one that receivers, and proxies before them, answer while they are deployed: their
// routes are not there yet, nor are their users, or they send everybody elsewhere. It says nothing of the event.
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

// describe puts into plain words why there was no complete answer. Of the URL it holds the host at most, and
// nothing that the receiver said.
func describe(err error) string {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Reason
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Sprintf("the host name %s could not be resolved", dns.Name)
	}
	switch {
	case errors.Is(err, errCutOff), is[timeoutError](err):
		return err.Error()
	case errors.Is(err, errHeldUp):
		return errHeldUp.Error()
	case isTLS(err):
		return describeTLS(err)
	}
	return describeConnection(err)
}

// isTLS looks at the text too: not all errors of crypto/tls have a type.
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

// isClosed looks at the text too: net/http exports no error for a connection that was closed before it was used.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "server closed idle connection")
}
