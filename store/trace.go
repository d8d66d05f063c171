package store

import "context"

// Tracer begins the part of a trace that is a status change, in the trace of the request that ctx is of. It returns what
// the change is known by there, a W3C traceparent or nothing, and what is called once: with the sequence number when the
// change is committed, or also with the error of why it is not, when another change will have that number. It holds up
// the writer and must not block.
type Tracer func(ctx context.Context) (traceparent string, ended func(sequence int64, err error))

func untraced(context.Context) (string, func(int64, error)) { return "", func(int64, error) {} }
