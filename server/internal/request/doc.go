// Package request has the data of one HTTP request, and the type of its refusals.
//
//	request.go    Info: the operation, the caller and the URL of a request, carried in its context
//	refusal.go    Refusal: an error with the status and the body of its answer, and codes of errors
//	id.go         the request id: X-Request-Id in the answer, in the log and in the trace
//	client_ip.go  the address of the client, also behind trusted proxies
//	network.go    the network that counts as one address
//
// It is the lowest package of the server: all others may import it, and it imports only store and gen.
package request
