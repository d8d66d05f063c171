// Package auth identifies the caller of a request, checks its access, and limits its rate.
//
//	access.go         token and x-access: 401 and 403; @me is the client of the token
//	token_cache.go    the callers of recent tokens, for a second without a read of the store
//	token_form.go     the forms of a request for a token; token_refusal.go: OAuth's form of errors
//	token_rate.go     429 after too many tokens of an application, or of a client
//	throttle.go       429 after too many failed token requests
//	rate_limit.go     429 after too many requests of a client in an hour, and the headers X-RateLimit-*; 429 with too
//	                  many pending deliveries
//
// Most of it is middlewares of Echo and their state. LevelOf returns the access level of an operation. The handler that
// issues tokens refuses with TokenRefusal. The package imports server/internal/contract and server/internal/request,
// store and gen.
package auth
