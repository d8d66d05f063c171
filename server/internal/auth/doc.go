// Package auth identifies the caller of a request, and decides what it may do and how often.
//
//	access.go         token and x-access: 401 and 403; @me is the client of the token
//	token_cache.go    which application a token is of, for a second without the store
//	token_form.go     the forms in which a client may request a token; token_refusal.go: OAuth's form of errors
//	throttle.go       429 after too many failed requests for a token
//	rate_limit.go     429 after too many requests of a client in an hour, and the headers X-RateLimit-*
//
// Most of it is middlewares of Echo, and what is behind them. LevelOf reads what access an operation requires. The
// handler that issues tokens refuses with TokenRefusal. The package imports server/internal/contract and
// server/internal/request, store and gen.
package auth
