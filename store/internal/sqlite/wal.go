package sqlite

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// The layout of a write-ahead log, by SQLite's description of its file format. Numbers have four bytes, big-endian.
const (
	walHeader   = 32      // bytes; the two numbers at walSalt identify the generation of the log
	walSalt     = 16      // offset in the header of the log
	frameHeader = 24      // bytes before a page: its number, and the generation at frameSalt
	frameSalt   = 8       // offset in the header of a frame
	lockByte    = 1 << 30 // the page with this byte is never written
)

// walLacks reports whether the log lacks one of the pages from first+1 to pages. A copy of a page that a later
// transaction wrote counts, too.
func walLacks(log string, first, pages, pageBytes int64) (bool, error) {
	has, err := walPages(log, pageBytes)
	if err != nil {
		return false, err
	}
	for page := first + 1; page <= pages; page++ {
		if !has[page] && page != lockByte/pageBytes+1 {
			return true, nil
		}
	}
	return false, nil
}

// walPages returns the page numbers in a log.
func walPages(log string, pageBytes int64) (map[int64]bool, error) {
	f, err := os.Open(log) // SQLite has no lock on this file that a close could end
	if err != nil {
		return nil, err
	}
	defer f.Close()
	has := map[int64]bool{}
	var header [walHeader]byte
	_, err = f.ReadAt(header[:], 0)
	for at := int64(walHeader); err == nil; at += frameHeader + pageBytes {
		var frame [frameHeader]byte
		if _, err = f.ReadAt(frame[:], at); err != nil || [8]byte(frame[frameSalt:]) != [8]byte(header[walSalt:]) {
			break
		}
		has[int64(binary.BigEndian.Uint32(frame[:]))] = true
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return has, nil
}
