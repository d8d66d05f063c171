// Package benchfill fills a store with much of everything that grows, so that it can be measured whether what is asked of a
// large store takes longer than what is asked of a small one.
package benchfill
