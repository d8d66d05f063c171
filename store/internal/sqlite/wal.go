package sqlite

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// What SQLite's description of its file format says of a write-ahead log: numbers have four bytes, the first is the
// highest.
const (
	walHeader   = 32      // bytes; two numbers from walSalt on name the round in which it is written
	walSalt     = 16      // of the header
	frameHeader = 24      // bytes before a page: its number, and the round from frameSalt on
	frameSalt   = 8       // of the header of a frame
	lockByte    = 1 << 30 // its page is never written
)

// walLacks says whether one of the pages behind the first ones is not in a log. A page that is there too early does not
// matter: it can only be of a transaction after the one that asks.
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

// walPages returns the pages that a log has.
func walPages(log string, pageBytes int64) (map[int64]bool, error) {
	f, err := os.Open(log) // SQLite has no locks on this file that closing it could end
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
