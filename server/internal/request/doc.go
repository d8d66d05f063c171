// Package request holds what the server knows of one HTTP request and how the server refuses one.
//
//	request.go    Info: the operation, the caller and the URL of a request, carried in its context
//	refusal.go    Refusal: an error with the status and the body of its answer, and the codes of such errors
//	id.go         the request id: X-Request-Id in the answer, in the log and in the trace
//	client_ip.go  the address of the client, behind trusted proxies too
//	network.go    the network that counts as one address
//
// It is the lowest package of the server: all others may import it, and it imports only store and gen.
package request
