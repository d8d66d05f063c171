package store

import "context"

// Tracer begins the part of a trace that is a status change, in the trace of the request that ctx is of. It returns what
// the change is known by there, a W3C traceparent or nothing, and what is called with its sequence number when it is
// written, even if it is not committed after all.
type Tracer func(ctx context.Context) (traceparent string, written func(sequence int64))

func untraced(context.Context) (string, func(int64)) { return "", func(int64) {} }
