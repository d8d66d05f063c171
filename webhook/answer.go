package webhook

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// readBody returns the beginning of the body as text and reads the rest, up to the bound, so that the connection can be
// used again. Its error means that a part of the announced answer did not arrive. It does not depend on whether the
// body can be decoded. After a 1xx there is no body, only the bare connection.
func readBody(resp *http.Response) (string, error) {
	if resp.StatusCode < 200 || resp.Body == http.NoBody {
		return "", nil
	}
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxExcerpt+utf8.UTFMax))
	if err == nil {
		_, err = io.CopyN(io.Discard, resp.Body, maxBody-int64(len(head)))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return excerpt(decoded(head, resp.Header)), err
}

// decoded decodes the beginning of a body by its Content-Encoding. A body that is text already stays as it is, whatever
// the header says. A body that cannot be decoded is left out.
func decoded(head []byte, h http.Header) []byte {
	coding := strings.ToLower(strings.Join(h.Values("Content-Encoding"), ","))
	if coding == "" || coding == "identity" || isText(head) {
		return head
	}
	for _, open := range decoders[coding] {
		if text := decode(head, open); len(text) > 0 {
			return text
		}
	}
	return nil
}

// decoders are tried in order for a coding: some servers send deflate without its envelope (RFC 9110, section 8.4.1.2).
var decoders = map[string][]decoder{
	"gzip":    {openGzip},
	"x-gzip":  {openGzip},
	"deflate": {zlib.NewReader, openFlate},
}

type decoder func(io.Reader) (io.ReadCloser, error)

func openGzip(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }

func openFlate(r io.Reader) (io.ReadCloser, error) { return flate.NewReader(r), nil }

// decode decodes as much of a beginning as it can, and little more than an excerpt has room for.
func decode(head []byte, open decoder) []byte {
	r, err := open(bytes.NewReader(head))
	if err != nil {
		return nil
	}
	defer r.Close()
	text, _ := io.ReadAll(io.LimitReader(r, maxExcerpt+utf8.UTFMax)) // an error is expected: the head is cut off
	return text
}

// isText reports whether a beginning is UTF-8. Its last rune may be cut off.
func isText(head []byte) bool {
	for range utf8.UTFMax - 1 {
		if utf8.Valid(head) {
			return true
		}
		head = head[:len(head)-1]
	}
	return utf8.Valid(head)
}

// excerpt returns at most maxExcerpt bytes of valid UTF-8 without control characters, except tabs and line ends.
func excerpt(head []byte) string {
	text := strings.Map(printable, strings.ToValidUTF8(string(head), string(utf8.RuneError)))
	end := min(len(text), maxExcerpt)
	for end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

func printable(r rune) rune {
	if unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) {
		return utf8.RuneError
	}
	return r
}
